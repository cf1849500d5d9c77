"""How certain the answers of a number of trials will be, and how many trials a certainty takes."""

from collections.abc import Callable
from dataclasses import dataclass

from remnant.stats.influence import worst_standard_error
from remnant.stats.planning import (
    AccuracyDistribution,
    expected_standard_error,
    false_positive_rate,
    memorization_standard_error,
    never,
    power,
    trials_needed,
)

EQUAL_COLUMNS = ("pairs", "balanced", "doubly-balanced")
"""Designs in which every training example is in as many subsets, up to one."""

DEFAULT_ACCURACY = AccuracyDistribution(0.8, 1.0)
"""What is taken before any model was seen. False pairs come from examples on which models disagree: at a concentration
of 1 accuracies are spread about as between models on CIFAR-100 (ours)."""


@dataclass(frozen=True)
class Target:
    """What is asked of the high-influence pairs."""

    threshold: float = 0.15
    """Influence from which on a pair counts."""
    effect: float = 0.3
    """A true influence that should not be missed."""
    power: float = 0.8
    """How likely it should be found."""
    false_pairs: float = 1.0
    """Expected number of pairs of one class above the threshold, if nothing had any influence."""
    standard_error: float = 0.05
    """Largest standard error of one influence."""
    false_discovery: float = 0.05
    """Share of the pairs found that may be there by chance."""

    def __post_init__(self) -> None:
        for name in ("threshold", "effect", "power", "standard_error", "false_discovery"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise ValueError(f"Expected `{name}` in (0, 1), but got {value!r}.")
        if not self.false_pairs > 0:
            raise ValueError(f"Expected `false_pairs` > 0, but got {self.false_pairs!r}.")
        if self.effect <= self.threshold:
            raise ValueError(
                f"Expected `effect` above `threshold` = {self.threshold!r}, but got {self.effect!r}: an effect at the "
                "threshold is found half of the time, however many trials."
            )


@dataclass(frozen=True)
class Setting:
    """What decides the certainty beside the number of trials."""

    design: str
    fraction: float
    num_train: int
    same_class_pairs: float
    """Pairs of a training and a test example of one class."""
    accuracy: AccuracyDistribution


@dataclass(frozen=True)
class Certainty:
    """How certain memorization and influence are after a number of trials on random subsets."""

    trials: int
    influence_error: float
    """Mean standard error of an influence, over test examples."""
    worst_influence_error: float
    """That of a test example on which half of the models are right: no other has a larger one."""
    memorization_error: float
    """Mean standard error of memorization, for models that are always right on what they were trained on."""
    worst_memorization_error: float
    """That of a training example on which half of the models are right that were not trained on it."""
    false_pairs: float
    """Expected number of pairs of one class above the threshold if nothing had any influence."""
    power: float
    """Chance to find the target's effect above the threshold where it is hardest to see."""
    never_in: float
    """Expected number of training examples that no trial saw."""
    never_out: float
    """Expected number of training examples that all trials saw: they have no memorization and no influence."""


def certainty(setting: Setting, target: Target, num_trials: int) -> Certainty:
    """How certain the answers of `num_trials` trials will be."""
    p, accuracy = setting.fraction, setting.accuracy
    balanced = setting.design in EQUAL_COLUMNS
    never_in, never_out = (0.0, 0.0) if balanced else never(setting.num_train, num_trials, p)
    rate = false_positive_rate(target.threshold, accuracy, num_trials, p, balanced=balanced)
    return Certainty(
        trials=num_trials,
        influence_error=expected_standard_error(accuracy, num_trials, p),
        worst_influence_error=worst_standard_error(num_trials, p),
        memorization_error=memorization_standard_error(accuracy, num_trials, p),
        worst_memorization_error=0.5 / (num_trials * (1 - p)) ** 0.5,
        false_pairs=setting.same_class_pairs * rate,
        power=power(target.threshold, target.effect, num_trials, p),
        never_in=never_in,
        never_out=never_out,
    )


def needed(setting: Setting, target: Target) -> dict[str, int | None]:
    """Number of trials from which on each target is met; None for more than 100,000."""
    p, balanced = setting.fraction, setting.design in EQUAL_COLUMNS

    def false_pairs(t: int) -> float:
        rate = false_positive_rate(target.threshold, setting.accuracy, t, p, balanced=balanced)
        return setting.same_class_pairs * rate

    enough: dict[str, Callable[[int], bool]] = {
        "standard_error": lambda t: worst_standard_error(t, p) <= target.standard_error,
        "power": lambda t: power(target.threshold, target.effect, t, p) >= target.power,
        "false_pairs": lambda t: false_pairs(t) <= target.false_pairs,
    }
    if not balanced:
        enough["never_out"] = lambda t: sum(never(setting.num_train, t, p)) <= 0.5
    return {name: trials_needed(condition) for name, condition in enough.items()}
