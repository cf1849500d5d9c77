"""What the analyses of memorization and influence read from trials on random training subsets."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.finding import NotApplicable
from remnant.population import schemes, subsets
from remnant.stats.influence import Estimate, memorization
from remnant.stats.influence_null import pair_counts
from remnant.stats.influence_tiles import TOLERANCE

MEMORIZED, SAME_CLASS, ANY = "memorized, same class", "same class", "any"
KINDS = (MEMORIZED, SAME_CLASS, ANY)
"""Kinds of pairs of a training and a test example: of one class, the training example memorized; of one class; all."""

_VALUES = 2**24
"""Logits held at a time: 64 MB of float32."""


@dataclass(frozen=True)
class SubsetTrials:
    """The subset trials of one scheme."""

    label: str
    trials: xr.Dataset
    correct: NDArray[np.bool_]
    """Right on the test examples, shape (trial, example)."""
    included: NDArray[np.bool_]
    labels: NDArray[np.integer]
    train_labels: NDArray[np.integer]
    memorization: Estimate
    memorized: NDArray[np.bool_]
    """Training examples with memorization above the threshold."""
    names: NDArray[np.object_]
    """Names of the classes."""

    @staticmethod
    def of(label: str, trials: xr.Dataset, memorized: float) -> "SubsetTrials":
        included = trials["included"].values
        estimate = memorization(trials["train_correct"].values, included)
        return SubsetTrials(
            label=label,
            trials=trials,
            correct=correctness(trials),
            included=included,
            labels=trials["label"].values,
            train_labels=trials["train_label"].values,
            memorization=estimate,
            memorized=np.nan_to_num(estimate.value, nan=-1) >= memorized - TOLERANCE,
            names=np.array(class_names(trials), dtype=object),
        )

    @property
    def num_trials(self) -> int:
        return len(self.correct)

    @cached_property
    def margin(self) -> NDArray[np.float32]:
        """Margins on the test examples, shape (trial, example)."""
        return margins(self.trials)

    def pair_counts(self, kind: str) -> NDArray[np.float64]:
        """Numbers of pairs of a kind by n1 and d: see `remnant.stats.influence_null.pair_counts`."""
        right, num_in = self.correct.sum(axis=0), self.included.sum(axis=0)
        if kind == ANY:
            return pair_counts(right, num_in, self.num_trials)
        keep = self.memorized if kind == MEMORIZED else slice(None)
        return pair_counts(
            right, num_in[keep], self.num_trials, labels=self.labels, train_labels=self.train_labels[keep]
        )


def schemes_with_subsets(population: xr.Dataset, *, least: int = 4) -> list[str]:
    """Labels of the schemes with trials on random subsets, "dense" first.

    Raises
    ------
    NotApplicable
        If no scheme has at least `least` of them.
    """
    subset, scheme = population["subset"].values, population["scheme"].values
    found = [label for label in schemes(population) if np.count_nonzero((subset >= 0) & (scheme == label)) >= least]
    if not found:
        most = int((subset >= 0).sum())
        raise NotApplicable(
            f"Needs at least {least} trials of one scheme on random training subsets, but the population has {most}. "
            "Train some: `[subsets] trials = 200` in the study, or `remnant.subsets(recipe, 200)`."
        )
    return found


def reference_subsets(population: xr.Dataset, scheme: str | None) -> tuple[str, xr.Dataset]:
    """Label and subset trials of `scheme`, or of the first scheme that has some ("dense" if it has).

    Raises
    ------
    NotApplicable
        If there are none.
    """
    found = schemes_with_subsets(population)
    label = found[0] if scheme is None else scheme
    if label not in found:
        raise NotApplicable(
            f"Expected `scheme` to be one with trials on training subsets, {found}, but got {scheme!r}."
        )
    return label, subsets(population, label)


def correctness(population: xr.Dataset) -> NDArray[np.bool_]:
    """Whether each trial is right on each test example, shape (trial, example). The first of equal logits counts."""
    label = population["label"].values
    if "prediction" in population:
        return population["prediction"].values == label
    return _by_trials(population, lambda logits: logits.argmax(axis=-1) == label, bool)


def margins(population: xr.Dataset) -> NDArray[np.float32]:
    """Logit of the true class minus the highest other logit, shape (trial, example)."""
    label = population["label"].values[None, :, None]

    def margin(logits: NDArray) -> NDArray:
        true = np.take_along_axis(logits, label, axis=-1)[..., 0]
        others = logits.copy()
        np.put_along_axis(others, np.broadcast_to(label, (*logits.shape[:2], 1)), -np.inf, axis=-1)
        return true - others.max(axis=-1)

    return _by_trials(population, margin, np.float32)


def class_names(population: xr.Dataset) -> list[str]:
    """Names of the classes; their numbers where the population has no names."""
    if "class" in population.coords:
        return [str(name) for name in population["class"].values]
    highest = max(int(population[name].max()) for name in ("label", "train_label") if name in population)
    return [str(number) for number in range(highest + 1)]


def _by_trials(population: xr.Dataset, function: Callable[[NDArray], NDArray], dtype: type) -> NDArray:
    """`function` of the logits, some trials at a time: logits may be larger than memory."""
    logits = population["logits"]
    num_trials, num_examples, num_classes = logits.shape
    found = np.empty((num_trials, num_examples), dtype)
    size = max(1, _VALUES // max(1, num_examples * num_classes))
    for start in range(0, num_trials, size):
        found[start : start + size] = function(logits[start : start + size].values)
    return found
