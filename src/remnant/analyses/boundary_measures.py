"""Distances of the probed examples in two models: what changed, what stayed, and where answers differ."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, comparisons
from remnant.finding import NotApplicable
from remnant.population import probed, reference_of
from remnant.probes.boundary import FOUND, NOT_MEASURED
from remnant.stats.long_tail import auc
from remnant.stats.preservation import is_preserved, log_ratios, spearman, typical_factor

MEASURES = {
    "random": "distance to the decision boundary, mean over the random directions",
    "nearest": "smallest distance to the decision boundary that was found",
    "along_reference": "distance to the decision boundary along the worst direction of the dense model of the seed",
}
FACTORS = (1.05, 1.1, 1.25, 1.5, 2.0)


@dataclass(frozen=True)
class Distances:
    """A measure on the probed examples of some models."""

    values: NDArray[np.float64]
    """Shape (trial, example); where nothing was found within the limit, the limit."""
    known: NDArray[np.bool_]
    """Shape (trial, example): something was found (in a random direction at least)."""
    measured: NDArray[np.bool_]
    """Shape (trial,): the measure could be taken on the model."""


@dataclass(frozen=True)
class Change:
    """A measure in two models on the same examples."""

    reference_median: float
    compressed_median: float
    reference_mean: float
    """Over the examples where something was found."""
    compressed_mean: float
    log_ratio: NDArray[np.float64]
    """Of the examples on which both give the same answer and either found the boundary."""
    correlation: float
    """Rank correlation over these examples."""
    preserved: dict[float, float]
    """Factor to the share of the examples where either found the boundary that change by at most the factor and keep
    their answer."""
    num: int
    """Number of the examples where either found the boundary."""
    nearer: float
    """Probability that an example with another answer is nearer to the boundary of the first model than one with the
    same; NaN where there are none."""
    factor: float
    """Half of the examples of `log_ratio` change by at most this factor; NaN without any."""

    @property
    def median_ratio(self) -> float:
        """Median of compressed over reference; NaN without examples."""
        return float(np.exp(np.median(self.log_ratio))) if len(self.log_ratio) else float("nan")


@dataclass(frozen=True)
class Part:
    """One scheme against the reference in one measure."""

    comparison: Comparison
    measure: str
    changes: list[Change]
    """Of each pair of models in which both could be measured."""
    mismatch: NDArray[np.bool_]
    """Shape (pair, example): the answers differ."""
    ratio: NDArray[np.float64]
    """Shape (pair, example): compressed over reference; NaN where the answers differ or neither found the boundary."""
    reference: NDArray[np.float64]
    """Shape (pair, example)."""
    compressed: NDArray[np.float64]
    with_reference_direction: bool
    """`along_reference` was measured on the scheme too."""

    @property
    def scheme(self) -> str:
        """Label of the scheme."""
        return self.comparison.scheme


@dataclass(frozen=True)
class Sides:
    """The probed trials of a population and where their examples stand in it."""

    comparisons: list[Comparison]
    probe: xr.Dataset
    rows: NDArray[np.intp]

    @property
    def measures(self) -> list[str]:
        """What was measured; the way along the worst direction of the dense model where that is the reference."""
        named = self.comparisons[0].reference_label == "dense"
        return [name for name in MEASURES if name in self.probe and (named or name != "along_reference")]

    def distances(self, side: xr.Dataset, measure: str) -> Distances:
        """A measure on the trials of one side."""
        found = self.probe.sel(trial=side["trial"].values)
        values = found[measure].values.astype(float)
        if measure == "random":
            seen: NDArray[np.bool_] = found["random_found"].values.astype(bool)
            return Distances(values.mean(axis=2), np.array(seen.any(axis=2), bool), np.ones(len(values), bool))
        status: NDArray[np.integer] = found[f"{measure}_status"].values
        return Distances(values, np.isin(status, FOUND), np.array((status != NOT_MEASURED).all(axis=1), bool))


def sides(population: xr.Dataset, reference: str | None = None) -> Sides:
    """The reference and each compressed scheme, with those trials that were probed.

    Raises
    ------
    SchemaError
        If nothing was probed, or seeds differ.
    NotApplicable
        If no model of the reference or no compressed one was probed.
    """
    probe = probed(population, "boundary")
    reference = reference_of(population) if reference is None else reference
    having = np.isin(population["trial"].values, probe["trial"].values)
    if not having.any():
        raise NotApplicable("No model of the population was probed for `boundary`: `remnant probe STORE boundary`.")
    rows = population.indexes["example"].get_indexer(probe["example"].values)
    if (rows < 0).any():
        raise NotApplicable(
            f"Expected the probed examples among those of the population, but {(rows < 0).sum()} are not there."
        )
    return Sides(comparisons(population.isel(trial=np.flatnonzero(having)), reference, pairs=True), probe, rows)


def parts(found: Sides, factors: tuple[float, ...]) -> list[Part]:
    """Each scheme in each measure that could be taken on at least one pair."""
    made = [part(found, comparison, measure, factors) for comparison in found.comparisons for measure in found.measures]
    return [one for one in made if one.changes]


def part(found: Sides, comparison: Comparison, measure: str, factors: tuple[float, ...]) -> Part:
    """One scheme against the reference, pair by pair."""
    one, two = (found.distances(side, measure) for side in (comparison.reference, comparison.compressed))
    pairs = [(j, k) for j, k in comparison.pairs if one.measured[j] and two.measured[k]]
    changes, ratios = [], []
    other = [comparison.first[j, found.rows] != comparison.second[k, found.rows] for j, k in pairs]
    for (j, k), differs in zip(pairs, other, strict=True):
        known = one.known[j] | two.known[k]
        changes.append(change((one.values[j], two.values[k]), (one.known[j], two.known[k]), differs, factors))
        ratio = np.full(len(known), np.nan)
        use = known & ~differs
        ratio[use] = two.values[k][use] / one.values[j][use]
        ratios.append(ratio)
    shape = (len(pairs), len(found.rows))
    return Part(
        comparison,
        measure,
        changes,
        np.array(other, bool).reshape(shape),
        np.array(ratios, float).reshape(shape),
        np.array([one.values[j] for j, _ in pairs]).reshape(shape),
        np.array([two.values[k] for _, k in pairs]).reshape(shape),
        "along_reference" in found.measures
        and bool(found.distances(comparison.compressed, "along_reference").measured.any()),
    )


def between_seeds(found: Sides, measure: str, factors: tuple[float, ...]) -> dict[tuple[int, int], Change]:
    """The same of every two models of the reference, (first, second) to change; empty with one model.

    Directions of another model were not measured, so that `along_reference` has none.
    """
    side = found.comparisons[0]
    if side.num_first < 2 or measure == "along_reference":
        return {}
    own = found.distances(side.reference, measure)
    answers = side.first[:, found.rows]
    return {
        (j, k): change((own.values[j], own.values[k]), (own.known[j], own.known[k]), answers[j] != answers[k], factors)
        for j in range(side.num_first)
        for k in range(side.num_first)
        if j != k and own.measured[j] and own.measured[k]
    }


def change(
    values: tuple[NDArray[np.float64], NDArray[np.float64]],
    known: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    differs: NDArray[np.bool_],
    factors: tuple[float, ...],
) -> Change:
    """What a measure does from one model to another, each array of shape (example,)."""
    first, second = values
    either = known[0] | known[1]
    use = either & ~differs
    ratios = log_ratios(first[use], second[use])
    num = int(np.count_nonzero(either))
    return Change(
        float(np.median(first)),
        float(np.median(second)),
        *(float(side[here].mean()) if here.any() else float("nan") for side, here in zip(values, known, strict=True)),
        log_ratio=ratios,
        correlation=spearman(first[use], second[use]),
        preserved={f: float(np.count_nonzero(is_preserved(ratios, f)) / num) if num else np.nan for f in factors},
        num=num,
        nearer=auc(-first, differs, ~differs) if differs.any() and not differs.all() else float("nan"),
        factor=typical_factor(ratios),
    )
