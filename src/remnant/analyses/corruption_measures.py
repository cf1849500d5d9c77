"""What two models of a pair, and two populations, answer on corrupted images."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison
from remnant.population import predictions
from remnant.stats.agreement import disagreement
from remnant.stats.modal import modal_labels, tally
from remnant.stats.relative import Ratio, ratio

TOPS = (1, 5)


@dataclass(frozen=True)
class Clean:
    """Answers of the probed models on the probed examples without corruption, rows as the probe's."""

    prediction: NDArray[np.integer]
    """Shape (trial, example)."""
    rank: NDArray[np.integer] | None
    """Number of classes before the true one; None without logits."""


@dataclass(frozen=True)
class Scores:
    """Whether the true class is among the first ones, by unit: pairs of models, or the examples of a single pair."""

    first: NDArray[np.floating]
    """Of the reference: shares of shape (unit, corruption, severity)."""
    second: NDArray[np.floating]
    """Of the compressed models."""
    clean: tuple[NDArray[np.floating], NDArray[np.floating]] | None
    """Of both on clean images, shape (unit,)."""

    @property
    def relative(self) -> Ratio:
        """Accuracy of the compressed over that of the reference, by corruption: the mean over severities first."""
        return ratio(self.first.mean(axis=2), self.second.mean(axis=2))

    @property
    def overall(self) -> Ratio:
        """The same for the mean over corruptions and severities."""
        return ratio(self.first.mean(axis=(1, 2)), self.second.mean(axis=(1, 2)))

    @property
    def clean_relative(self) -> Ratio | None:
        """The same on clean images."""
        return None if self.clean is None else ratio(*self.clean)

    @property
    def error(self) -> Ratio:
        """Error of the compressed over that of the reference, by corruption: corruption error."""
        return ratio(1 - self.first.mean(axis=2), 1 - self.second.mean(axis=2))

    @property
    def relative_error(self) -> Ratio | None:
        """The same for the increase of the error over that on clean images."""
        if self.clean is None:
            return None
        one, two = ((1 - c)[:, None] for c in self.clean)
        return ratio(1 - self.first.mean(axis=2) - one, 1 - self.second.mean(axis=2) - two)


@dataclass(frozen=True)
class Part:
    """One scheme against the reference."""

    comparison: Comparison
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    unit: str
    """"pair" of models, or "example" of the only pair."""
    top: dict[int, Scores]
    """Of the first answer; of the first five where there are more than five classes."""
    mismatch: NDArray[np.floating]
    """Shape (unit, corruption, severity): share of answers that differ between the two models of a pair."""
    harmful: NDArray[np.floating]
    """Share that is right in the reference and wrong in the compressed model."""
    clean_mismatch: NDArray[np.floating] | None
    """Shape (unit,): the same on clean images."""
    by_example: dict[str, NDArray[np.float64]]
    """"mismatch", "harmful", "reference", "compressed": shares over pairs, corruptions and severities, by example."""
    exemplars: NDArray[np.bool_] | None
    """Shape (example, corruption, severity): the modal labels of the populations differ; None for single models."""
    clean_exemplars: NDArray[np.bool_] | None
    """Shape (example,)."""


@dataclass(frozen=True)
class Noise:
    """What different models of the reference differ in on corrupted images."""

    mismatch: NDArray[np.float64]
    """Shape (trial, trial, corruption, severity)."""
    top1: NDArray[np.float64]
    """Shape (trial,): accuracy over corruptions and severities."""
    exemplars: float | None
    """Share of (example, corruption, severity) on which the modal labels of two halves differ; None below 4 models."""


def clean_answers(population: xr.Dataset, found: xr.Dataset) -> Clean | None:
    """Clean answers of the trials and examples of a probe; None where the population lacks one of them."""
    trials = population.indexes["trial"].get_indexer(found.indexes["trial"])
    rows = population.indexes["example"].get_indexer(found.indexes["example"])
    if (trials < 0).any() or (rows < 0).any():
        return None
    answers = predictions(population)[np.ix_(trials, rows)]
    if "logits" not in population:
        return Clean(answers, None)
    label = found["label"].values
    earlier = np.arange(population.sizes["class"]) < label[:, None]
    ranks = np.empty(answers.shape, np.int32)
    for place, trial in enumerate(trials):
        logits = np.asarray(population["logits"][int(trial)].values)[rows]
        true = np.take_along_axis(logits, label[:, None], axis=1)
        ranks[place] = ((logits > true) | ((logits == true) & earlier)).sum(axis=1)
    return Clean(answers, ranks)


def with_clean(found: xr.Dataset, clean: Clean | None) -> xr.Dataset:
    """The probe's data with its clean answers beside them, so that they are chosen together."""
    if clean is None:
        return found
    found = found.assign(clean_prediction=(("trial", "example"), clean.prediction))
    return found if clean.rank is None else found.assign(clean_rank=(("trial", "example"), clean.rank))


def measure(comparison: Comparison) -> Part:
    """All that the analysis says on one scheme."""
    one, two = comparison.reference, comparison.compressed
    tops = [k for k in TOPS if k == 1 or one.sizes["class"] > k]
    clean = (one["clean_prediction"].values, two["clean_prediction"].values) if "clean_prediction" in one else None
    label = one["label"].values
    flags = [_flips(comparison.first[j], comparison.second[k], label) for j, k in comparison.pairs]
    single = len(flags) == 1
    by_example = {
        name: np.mean([f[place].mean(axis=(1, 2)) for f in flags], axis=0)
        for place, name in enumerate(("mismatch", "harmful", "reference", "compressed"))
    }
    mismatch, harmful = (
        flags[0][i].astype(float) if single else np.stack([f[i].mean(axis=0) for f in flags]) for i in (0, 1)
    )
    clean_mismatch = None
    if clean is not None:
        differ = [clean[0][j] != clean[1][k] for j, k in comparison.pairs]
        clean_mismatch = differ[0].astype(float) if single else np.array([d.mean() for d in differ])
    several = comparison.num_first > 1 and comparison.num_second > 1
    return Part(
        comparison,
        tuple(one["corruption"].values.tolist()),
        tuple(one["severity"].values.tolist()),
        "example" if single else "pair",
        {k: _scores(comparison, k) for k in tops},
        mismatch,
        harmful,
        clean_mismatch,
        by_example,
        modal_changes(comparison.first, comparison.second) if several else None,
        modal_changes(*clean) if several and clean is not None else None,
    )


def noise_between_seeds(comparison: Comparison) -> Noise | None:
    """What the models of the reference differ in; None with one model."""
    answers, label = comparison.first, comparison.reference["label"].values
    number = len(answers)
    if number < 2:
        return None
    cells = [
        [disagreement(answers[:, :, c, s], answers[:, :, c, s]) for s in range(answers.shape[3])]
        for c in range(answers.shape[2])
    ]
    right = np.array([(row == label[:, None, None]).mean() for row in answers])
    halves = modal_changes(answers[::2], answers[1::2]).mean() if number >= 4 else None
    return Noise(np.moveaxis(np.array(cells), (2, 3), (0, 1)), right, None if halves is None else float(halves))


def modal_changes(first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether the modal labels of two populations differ, shape (example, ...); ties go to the lowest class."""
    shape = first.shape[1:]
    wide = [side.reshape(len(side), shape[0], -1) for side in (first, second)]
    out = np.empty((shape[0], wide[0].shape[2]), bool)
    for column in range(out.shape[1]):
        one, two = (modal_labels(tally(side[:, :, column])).label for side in wide)
        out[:, column] = one != two
    return out.reshape(shape)


def _scores(comparison: Comparison, k: int) -> Scores:
    pairs = np.array(comparison.pairs)
    sides, clean = [], []
    for place, side in enumerate((comparison.reference, comparison.compressed)):
        kept = pairs[:, place]
        ranks = side["rank"].values
        single = len(pairs) == 1
        sides.append((ranks[kept[0]] < k).astype(float) if single else np.stack([(ranks[i] < k).mean(0) for i in kept]))
        if "clean_rank" in side or (k == 1 and "clean_prediction" in side):
            right = side["clean_rank"].values < k if "clean_rank" in side else _right(side)
            clean.append(right[kept[0]].astype(float) if single else right[kept].mean(axis=1))
    return Scores(sides[0], sides[1], (clean[0], clean[1]) if clean else None)


def _right(side: xr.Dataset) -> NDArray[np.bool_]:
    return side["clean_prediction"].values == side["label"].values


def _flips(first: NDArray, second: NDArray, label: NDArray) -> tuple[NDArray[np.bool_], ...]:
    """Answers that differ, harmful flips, right answers of either; shape (example, corruption, severity)."""
    right_first, right_second = first == label[:, None, None], second == label[:, None, None]
    return first != second, right_first & ~right_second, right_first, right_second
