"""What the finished trials of a store already tell, and how many more a target takes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.answers import predicted
from remnant.planner.certainty import EQUAL_COLUMNS, Setting, Target
from remnant.stats.influence import influence, memorization
from remnant.stats.influence_null import expected_above, pair_counts
from remnant.stats.influence_tiles import TOLERANCE
from remnant.stats.planning import AccuracyDistribution, false_positive_rate, trials_needed
from remnant.store import Store
from remnant.stored_array import unpack_text
from remnant.trial import Trial

MEMORIZED = 0.25
"""Memorization from which on a training example can be in a high-influence pair (Feldman & Zhang 2020)."""


@dataclass(frozen=True)
class Outcomes:
    """What finished trials on random subsets were right on."""

    correct: NDArray[np.bool_]
    """On test examples, shape (trial, example)."""
    train_correct: NDArray[np.bool_]
    """On training examples, shape (trial, train_example)."""
    included: NDArray[np.bool_]
    labels: NDArray[np.integer]
    train_labels: NDArray[np.integer]
    num_classes: int

    @property
    def accuracy(self) -> AccuracyDistribution:
        return AccuracyDistribution.of_counts(self.correct.sum(axis=0), len(self.correct))

    @property
    def same_class_pairs(self) -> float:
        """Number of pairs of a training and a test example of one class."""
        return float(np.bincount(self.labels, minlength=self.num_classes) @ self._train_classes())

    def _train_classes(self) -> NDArray[np.integer]:
        return np.bincount(self.train_labels, minlength=self.num_classes)


@dataclass(frozen=True)
class Reached:
    """The certainty of the finished trials of one scheme."""

    trials: int
    influence_error: float
    """Mean standard error of an influence without effect, over test examples, from their own accuracies."""
    memorization_error: float
    """Mean standard error of memorization, over training examples."""
    memorized: int
    """Training examples with estimated memorization >= 0.25."""
    compared: int
    """Pairs of one class with such a training example."""
    pairs: int
    """Of these, with estimated influence at or above the threshold."""
    by_chance: float
    """Expected number of them if nothing had any influence (hypergeometric, exact)."""
    false_discovery: float
    """by_chance / pairs, at most 1; NaN without pairs."""
    needed: int | None
    """Number of trials at which `false_discovery` is expected to meet its target; None if not within 100,000."""


def outcomes(store: Store, trials: list[Trial]) -> Outcomes:
    """What finished trials were right on, read one trial at a time."""
    _, examples = store.dataset(store.manifest(trials[0])["dataset"])
    labels, train_labels = examples["test_labels"], examples["train_labels"]
    correct = np.empty((len(trials), len(labels)), bool)
    train_correct = np.empty((len(trials), len(train_labels)), bool)
    included = np.empty_like(train_correct)
    for row, trial in enumerate(trials):
        arrays = store.read(trial)
        correct[row] = predicted(arrays) == labels
        train_correct[row] = arrays["train_prediction"] == train_labels
        included[row] = np.unpackbits(arrays["included"], count=len(train_labels)).astype(bool)
    classes = len(unpack_text(examples["classes"]))
    return Outcomes(correct, train_correct, included, labels, train_labels, classes)


def reached(found: Outcomes, setting: Setting, target: Target) -> Reached:
    """The certainty that finished trials on random subsets give, and the number that the target takes.

    Pairs found beyond those expected by chance are taken to be real and to stay, at least one.
    """
    num_trials = len(found.correct)
    right, num_in = found.correct.sum(axis=0), found.included.sum(axis=0)
    own = memorization(found.train_correct, found.included)
    memorized = np.nan_to_num(own.value, nan=-1) >= MEMORIZED - TOLERANCE
    pairs = _pairs_above(found, memorized, target.threshold)
    table = pair_counts(
        right, num_in[memorized], num_trials, labels=found.labels, train_labels=found.train_labels[memorized]
    )
    by_chance = float(expected_above(table, np.array([target.threshold]))[0])
    compared = int(table.sum())
    real = max(pairs - by_chance, 1.0)
    balanced = setting.design in EQUAL_COLUMNS

    def clean(t: int) -> bool:
        rate = false_positive_rate(target.threshold, found.accuracy, t, setting.fraction, balanced=balanced)
        return compared * rate <= target.false_discovery * (real + compared * rate)

    q = right / num_trials
    error = np.sqrt(q * (1 - q) / (num_trials * setting.fraction * (1 - setting.fraction)))
    return Reached(
        trials=num_trials,
        influence_error=float(error.mean()),
        memorization_error=float(np.nanmean(own.standard_error)),
        memorized=int(memorized.sum()),
        compared=compared,
        pairs=pairs,
        by_chance=by_chance,
        false_discovery=min(1.0, by_chance / pairs) if pairs else float("nan"),
        needed=trials_needed(clean),
    )


def _pairs_above(found: Outcomes, memorized: NDArray[np.bool_], threshold: float) -> int:
    """Pairs of one class, the training example memorized, with influence >= threshold, class by class."""
    number = 0
    for label in range(found.num_classes):
        members = np.flatnonzero(memorized & (found.train_labels == label))
        value = influence(found.correct[:, found.labels == label], found.included[:, members]).value
        number += int(np.count_nonzero(value >= threshold - TOLERANCE))
    return number
