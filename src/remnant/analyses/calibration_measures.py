"""Calibration of models and pairs of models: errors, proper scores, and the confidence of answers that flip."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, stream
from remnant.stats import calibration as stats
from remnant.stats.agreement import mismatches
from remnant.stats.calibration import Bins
from remnant.stats.trial_intervals import mean_interval

MEASURES = {
    "accuracy": "share of right answers",
    "mean_confidence": "mean probability of the answer",
    "overconfidence": "mean confidence minus accuracy: > 0 where a model is surer than it is right",
    "ece": "expected calibration error, bins of equal width",
    "ece_equal_mass": "expected calibration error, bins of as many examples each",
    "ece_debiased": "expected calibration error, bins of equal width, minus its bias",
    "brier": "Brier score over all classes, in [0, 2]",
    "nll": "negative log-likelihood in nats",
    "ece_classwise": "calibration error of the probability of every class, mean over classes",
}
"""Measure to what it is. Lower is better for all but the first two; overconfidence is best at 0."""
BY_EXAMPLE = ("accuracy", "mean_confidence", "overconfidence", "brier", "nll")
"""Measures that are means over examples."""
KINDS = {
    "cie": "the two answer differently",
    "cie_u": "right answer lost",
    "cie_c": "right answer gained",
    "cie_w": "another wrong answer",
    "same": "the same answer",
}
_BLOCK = 2**22


@dataclass(frozen=True)
class Model:
    """What one model says about every example; arrays of shape (example,)."""

    answer: NDArray[np.integer]
    confidence: NDArray[np.float32]
    true: NDArray[np.float32]
    """Probability of the true class."""
    loss: NDArray[np.float32]
    brier: NDArray[np.float32]
    correct: NDArray[np.bool_]
    edges: dict[str, NDArray[np.float64]]
    """Edges of the bins of "ece" and "ece_equal_mass"."""
    bins: dict[str, Bins]
    values: dict[str, float]
    """Each of `MEASURES`."""
    class_gaps: NDArray[np.float64]
    """See `remnant.stats.calibration.class_gaps`."""

    def by_example(self, measure: str) -> NDArray[np.float64]:
        """What one of `BY_EXAMPLE` is the mean of."""
        found = {
            "accuracy": self.correct,
            "mean_confidence": self.confidence,
            "overconfidence": self.confidence - self.correct,
            "brier": self.brier,
            "nll": self.loss,
        }
        return found[measure].astype(np.float64)


def read(side: xr.Dataset, row: int, num_bins: int) -> Model:
    """The model of one trial, from its logits in blocks of examples: they may be larger than memory."""
    label = side["label"].values
    num_examples, num_classes = side["logits"].shape[1:]
    answer, correct = np.empty(num_examples, np.int32), np.empty(num_examples, bool)
    kept = np.empty((4, num_examples), np.float32)
    gaps = np.zeros((num_classes, num_bins))
    size = max(1, _BLOCK // num_classes)
    for start in range(0, num_examples, size):
        part = slice(start, start + size)
        logits = side["logits"][row, part].values
        found = stats.scores(logits, label[part])
        gaps += stats.class_gaps(logits, label[part], num_bins)
        answer[part], correct[part] = found.answer, found.answer == label[part]
        kept[:, part] = found.confidence, found.true, found.loss, found.brier
    confidence = kept[0]
    edges = {"ece": stats.equal_width(num_bins), "ece_equal_mass": stats.equal_mass(confidence, num_bins)}
    bins = {name: stats.binned(confidence, correct, found) for name, found in edges.items()}
    values = {
        "accuracy": float(correct.mean()),
        "mean_confidence": float(confidence.mean(dtype=np.float64)),
        "overconfidence": float(confidence.mean(dtype=np.float64) - correct.mean()),
        **{name: stats.expected_calibration_error(found) for name, found in bins.items()},
        "ece_debiased": stats.debiased_calibration_error(bins["ece"]),
        "brier": float(kept[3].mean(dtype=np.float64)),
        "nll": float(kept[2].mean(dtype=np.float64)),
        "ece_classwise": stats.classwise_calibration_error(gaps, num_examples),
    }
    return Model(answer, kept[0], kept[1], kept[2], kept[3], correct, edges, bins, values, gaps)


def by_chance(model: Model, measure: str, rng: np.random.Generator) -> tuple[float, float]:
    """Calibration error that a perfectly calibrated model with these confidences has, and p of perfect calibration."""
    null = stats.calibrated_errors(model.confidence, model.edges[measure], rng)
    p = (1 + np.count_nonzero(null >= model.values[measure] - 1e-12)) / (1 + len(null))
    return float(null.mean()), float(p)


@dataclass(frozen=True)
class Change:
    """One measure of the compressed models minus that of the reference models, pair by pair."""

    values: NDArray[np.float64]
    """Shape (pair,)."""
    low: float | None
    high: float | None
    """Of the mean: over pairs where there are several, else over examples. None without spread, or for an error of
    one pair that is debiased or class by class."""
    over: str
    """"pair" or "example"."""


def change(pairs: list[tuple[Model, Model]], measure: str, rng: np.random.Generator) -> Change:
    """The change of one of `MEASURES` with its interval."""
    values = np.array([second.values[measure] - first.values[measure] for first, second in pairs])
    if len(pairs) > 1:
        found = mean_interval(values)
        known = bool(np.ptp(values) > 0)
        return Change(values, float(found.low) if known else None, float(found.high) if known else None, "pair")
    low, high = _over_examples(*pairs[0], measure, rng)
    return Change(values, low, high, "example")


def _over_examples(
    first: Model, second: Model, measure: str, rng: np.random.Generator
) -> tuple[float | None, float | None]:
    if measure in BY_EXAMPLE:
        difference = second.by_example(measure) - first.by_example(measure)
        found = mean_interval(difference)
        spread = len(difference) > 1 and np.ptp(difference) > 0
        return (float(found.low), float(found.high)) if spread else (None, None)
    if measure not in first.edges or np.array_equal(first.confidence, second.confidence):
        return None, None
    sides = [(m.confidence, m.correct, m.edges[measure]) for m in (first, second)]
    return stats.change_of_error(sides[0], sides[1], rng)[1:]


def between_seeds(models: list[Model]) -> dict[str, float]:
    """Mean absolute difference of each measure between two models of the reference; {} with one model."""
    if len(models) < 2:
        return {}
    upper = np.triu_indices(len(models), 1)
    found = {}
    for name in MEASURES:
        values = np.array([model.values[name] for model in models])
        found[name] = float(np.abs(values[:, None] - values)[upper].mean())
    return found


@dataclass(frozen=True)
class Flips:
    """Confidence on the examples of one kind, shape (pair,); NaN for pairs without any."""

    examples: NDArray[np.int64]
    first: NDArray[np.float64]
    """Mean confidence of the first model in its answer."""
    second: NDArray[np.float64]
    """Mean confidence of the second model in its answer."""
    true: NDArray[np.float64]
    """Mean change of the probability of the true class."""
    shift: tuple[float, float] | None
    """95 % interval of the mean of `second` - `first`: over pairs, or over the examples of one pair; None with
    fewer than two of them."""

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Pairs with such examples."""
        return self.examples > 0


def flips(pairs: list[tuple[Model, Model]], label: NDArray[np.integer]) -> dict[str, Flips]:
    """Confidence by kind of mismatch; kinds as of `KINDS`."""
    rows: dict[str, list[tuple[int, float, float, float]]] = {kind: [] for kind in KINDS}
    shifts: dict[str, NDArray[np.float64]] = {}
    for first, second in pairs:
        kinds = mismatches(first.answer, second.answer, label)
        kinds["same"] = ~kinds["cie"]
        for kind, flag in kinds.items():
            one, two = (m.confidence[flag].astype(np.float64) for m in (first, second))
            moved = second.true[flag].astype(np.float64) - first.true[flag]
            shifts[kind] = two - one
            means = [float(x.mean()) if len(x) else np.nan for x in (one, two, moved)]
            rows[kind].append((len(one), means[0], means[1], means[2]))
    found = {}
    for kind, values in rows.items():
        number, one, two, true = (np.array(column) for column in zip(*values, strict=True))
        over_pairs = (two - one)[number > 0]
        found[kind] = Flips(number, one, two, true, _interval(over_pairs if len(pairs) > 1 else shifts[kind]))
    return found


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    found = mean_interval(values)
    return float(found.low), float(found.high)


def models_of(comparison: Comparison, known: dict[str, Model], num_bins: int) -> list[tuple[Model, Model]]:
    """The pairs of a comparison; reference models are read once and kept in `known`, by trial."""
    pairs = []
    for j, k in comparison.pairs:
        name = str(comparison.reference["trial"].values[j])
        if name not in known:
            known[name] = read(comparison.reference, j, num_bins)
        pairs.append((known[name], read(comparison.compressed, k, num_bins)))
    return pairs


def random(seed: int, *names: str) -> np.random.Generator:
    """A random stream of this analysis."""
    return stream(seed, "calibration", *names)
