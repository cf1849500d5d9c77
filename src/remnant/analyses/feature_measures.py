"""How alike the features of two models are, for pairs of models."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.feature_pairs import Ends, over_models, over_pairs, welch_interval
from remnant.stats.representation import (
    aligned_cosine,
    leading_components,
    linear_cka,
    nearest_neighbours,
    neighbour_overlap,
    procrustes_distance,
)
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import block_jackknife, mean_interval

Values = NDArray[np.float64]
_BLOCKS = 20
MEASURES = ("cka", "procrustes", "cosine", "neighbours")
BY_EXAMPLE = ("cosine", "neighbours")
"""The measures that each example has on its own."""


@dataclass(frozen=True)
class Models:
    """The probed models, and how they are compared."""

    measured: xr.Dataset
    """Of the probe of features."""
    answers: NDArray[np.integer]
    """Predicted classes, shape (probed trial, probed example)."""
    order: NDArray[np.integer]
    """The examples, by their places, in random order: it makes folds and blocks."""
    k: int = 10
    """Number of nearest neighbours."""
    folds: int = 5
    """Parts of the examples for the cross-fitted rotation."""
    components: int = 512
    """Models with more features are rotated onto so many principal components for all measures but CKA and
    neighbours."""
    _found: dict[tuple[str, int], NDArray] = field(default_factory=dict)

    def features(self, row: int) -> Values:
        """Features of a model, shape (example, feature)."""
        return self.measured["features"][row].values.astype(np.float64)

    def main_features(self, row: int) -> Values:
        """The same on the `components` leading principal components."""
        if self.measured.sizes["feature"] <= self.components:
            return self.features(row)
        if ("components", row) not in self._found:
            self._found["components", row] = leading_components(self.features(row), self.components)
        return self._found["components", row]

    def neighbours(self, row: int) -> NDArray[np.int32]:
        """The nearest neighbours of each example in the features of a model."""
        if ("neighbours", row) not in self._found:
            self._found["neighbours", row] = nearest_neighbours(self.features(row), self.k)
        return self._found["neighbours", row]


@dataclass(frozen=True)
class Agreement:
    """Pairs of models, and how alike their features are."""

    pairs: list[tuple[int, int]]
    """Rows of the two models among the probed trials."""
    share_models: bool
    """Models come in several pairs (reference against reference)."""
    values: dict[str, Values]
    """Measure to its values: shape (pair,), or (pair, example) for those of `BY_EXAMPLE`."""
    differ: NDArray[np.bool_]
    """Shape (pair, example): the two models answer differently."""
    jackknife: tuple[Ends, Ends] = (None, None)
    """Intervals over examples of "cka" and "procrustes", for a single pair."""

    def of_pairs(self, measure: str) -> Values:
        """Value of each pair; the mean over examples for the measures of `BY_EXAMPLE`."""
        values = self.values[measure]
        return _known_mean(values.T) if values.ndim == 2 else values

    def mean(self, measure: str) -> float:
        """Mean over pairs; NaN if no pair has a value."""
        values = self.of_pairs(measure)
        values = values[np.isfinite(values)]
        return float(values.mean()) if len(values) else float("nan")

    def interval(self, measure: str) -> Ends:
        """Of the mean: over pairs, over models where they are in several pairs, over examples for a single pair."""
        values = self.of_pairs(measure)
        if not np.isfinite(values).all():
            return None
        if self.share_models:
            return over_models(self.pairs, values)
        if len(values) > 1:
            return over_pairs(values)
        if measure not in BY_EXAMPLE:
            return self.jackknife[MEASURES.index(measure)]
        own = self.values[measure][0]
        own = own[np.isfinite(own)]
        if len(own) < 2 or float(np.ptp(own)) == 0:
            return None
        found = mean_interval(own)
        return float(found.low), float(found.high)

    def of_examples(self, measure: str) -> Values:
        """Mean over pairs of each example, shape (example,); NaN where no pair has a value."""
        return _known_mean(self.values[measure])


@dataclass(frozen=True)
class Contrast:
    """A measure on examples that two models answer differently, against those they answer alike."""

    differing: float
    """Mean over the pairs that have both."""
    alike: float
    interval: Ends
    """Of differing - alike."""
    pairs: int
    examples: int
    """Differing examples, summed over pairs."""

    @property
    def difference(self) -> float:
        return self.differing - self.alike


def agreement(models: Models, pairs: list[tuple[int, int]], *, share_models: bool = False) -> Agreement:
    """All measures on pairs of models, by their rows among the probed trials."""
    num = models.measured.sizes["example"]
    values = {name: np.empty((len(pairs), num) if name in BY_EXAMPLE else len(pairs)) for name in MEASURES}
    ends: tuple[Ends, Ends] = (None, None)
    for place, pair in enumerate(pairs):
        x, y = (models.features(row) for row in pair)
        small = models.main_features(pair[0]), models.main_features(pair[1])
        values["cka"][place] = linear_cka(x, y)
        values["procrustes"][place] = procrustes_distance(*small)
        values["cosine"][place] = aligned_cosine(*small, models.order % models.folds)
        values["neighbours"][place] = neighbour_overlap(models.neighbours(pair[0]), models.neighbours(pair[1]))
        if len(pairs) == 1 and not share_models and num >= 2 * _BLOCKS:
            ends = (
                _over_examples(linear_cka, x, y, models.order),
                _over_examples(procrustes_distance, *small, models.order),
            )
    answers = models.answers
    differ = np.stack([answers[a] != answers[b] for a, b in pairs]) if pairs else np.empty((0, num), bool)
    return Agreement(pairs, share_models, values, differ, ends)


def contrast(found: Agreement, measure: str) -> Contrast | None:
    """`measure` on examples that are answered differently and alike; None if no pair has both."""
    differing, alike, kept = [], [], []
    for place, (values, differ) in enumerate(zip(found.values[measure], found.differ, strict=True)):
        known = np.isfinite(values)
        if (known & differ).any() and (known & ~differ).any():
            differing.append(values[known & differ])
            alike.append(values[known & ~differ])
            kept.append(place)
    if not kept:
        return None
    one, two = (np.array([part.mean() for part in parts]) for parts in (differing, alike))
    if found.share_models:
        ends = over_models([found.pairs[place] for place in kept], one - two)
    elif len(kept) > 1:
        ends = over_pairs(one - two)
    else:
        ends = welch_interval(differing[0], alike[0])
    return Contrast(float(one.mean()), float(two.mean()), ends, len(kept), sum(map(len, differing)))


def change_over_seeds(found: Agreement, between: Agreement) -> tuple[float, Ends] | None:
    """(1 - mean cosine of the pairs) / (1 - mean cosine between reference models), with its jackknife interval.

    0: the features of the reference; 1: as far from them as those of another reference model. Each reference model is
    left out in turn with its pairs; no interval for fewer than 3. None if reference models do not differ.
    """
    own, other = 1 - found.of_pairs("cosine"), 1 - between.of_pairs("cosine")
    if not len(other) or not np.isfinite([*own, *other]).all() or other.mean() <= 1e-9:
        return None
    models = sorted({pair[0] for pair in found.pairs} | {row for pair in between.pairs for row in pair})

    def ratio(kept: NDArray[np.intp]) -> float:
        rows = np.array(models)[kept]
        one = own[np.isin([pair[0] for pair in found.pairs], rows)]
        two = other[np.isin(np.array(between.pairs), rows).all(axis=1)]
        return float(one.mean() / two.mean()) if len(one) and len(two) else np.nan

    every = np.arange(len(models))
    if len(models) < 3 or not all(np.isfinite(ratio(np.delete(every, k))) for k in every):
        return ratio(every), None
    ends = jackknife(ratio, len(models))
    # It is a ratio of what cannot be negative.
    return ratio(every), (max(0.0, float(ends.low)), float(ends.high))


def _known_mean(values: Values) -> Values:
    """Mean over the first axis of the values that are known; NaN where none is."""
    known = np.isfinite(values)
    total, number = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def _over_examples(
    statistic: Callable[[Values, Values], float], x: Values, y: Values, order: NDArray[np.integer]
) -> Ends:
    """Jackknife interval of a statistic of two models, leaving out blocks of examples drawn at random."""
    found = block_jackknife(
        lambda kept: np.array(statistic(x[order[kept]], y[order[kept]])), len(order), blocks=_BLOCKS
    )
    low, high = float(found.low), float(found.high)
    return (low, high) if low < high else None
