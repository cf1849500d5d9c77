"""Which probed models make pairs: compressed with the reference of the same seed, and references with each other."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.finding import NotApplicable
from remnant.population import SchemaError, predictions, reference_of
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import mean_interval

Ends = tuple[float, float] | None
"""A 95 % interval, or None where there is none."""


@dataclass(frozen=True)
class Pairs:
    """The probed models of one scheme beside the reference models of their seeds. Arrays over pairs."""

    scheme: str
    seeds: NDArray[np.int64]
    first: NDArray[np.intp]
    """Rows of the reference models among the probed trials."""
    second: NDArray[np.intp]
    """Rows of the compressed models."""

    @property
    def rows(self) -> list[tuple[int, int]]:
        """Reference and compressed row of each pair."""
        return list(zip(self.first.tolist(), self.second.tolist(), strict=True))


def seed_pairs(measured: xr.Dataset, population: xr.Dataset, reference: str | None = None) -> list[Pairs]:
    """The pairs of each compressed scheme, in order of their seeds; seeds that one side lacks are left out.

    Raises
    ------
    NotApplicable
        If no model of the reference, or no compressed one was probed.
    SchemaError
        If a scheme has no seed in common with the reference.
    """
    reference = reference_of(population) if reference is None else reference
    scheme, seed = measured["scheme"].values, measured["seed"].values
    rows = np.flatnonzero(measured["subset"].values < 0)
    by_scheme = {
        label: {int(seed[row]): int(row) for row in rows if scheme[row] == label}
        for label in dict.fromkeys(scheme[rows].tolist())
    }
    if reference not in by_scheme or len(by_scheme) < 2:
        raise NotApplicable(
            f"Expected probed models of the reference {reference!r} and of a compressed scheme, but the probe has seen "
            f"{list(by_scheme) or 'none'}. Add what is missing to the study, run it, and probe the store again."
        )
    base, found = by_scheme.pop(reference), []
    for label, own in by_scheme.items():
        seeds = sorted(base.keys() & own.keys())
        if not seeds:
            raise SchemaError(
                f"Expected {label!r} to have a seed of the reference, but its seeds are {sorted(own)} and those of "
                f"{reference!r} are {sorted(base)}. Train and probe the same seeds."
            )
        one, two = (np.array([side[s] for s in seeds], np.intp) for side in (base, own))
        found.append(Pairs(label, np.array(seeds, np.int64), one, two))
    return found


def reference_pairs(
    measured: xr.Dataset, population: xr.Dataset, reference: str | None, most: int
) -> list[tuple[int, int]]:
    """Rows of two reference models of different seeds: all pairs, or `most` in which every model comes as often."""
    reference = reference_of(population) if reference is None else reference
    chosen = (measured["scheme"].values == reference) & (measured["subset"].values < 0)
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(measured["seed"].values[rows], kind="stable")].tolist()
    places = list(combinations(range(len(rows)), 2))
    # Neighbours on a circle of models first: each model is then in as many pairs as every other, as far as they go.
    places.sort(key=lambda pair: (min(pair[1] - pair[0], len(rows) - pair[1] + pair[0]), pair))
    return [(rows[i], rows[j]) for i, j in sorted(places[: max(most, 0)])]


def answers_of(population: xr.Dataset, measured: xr.Dataset) -> NDArray[np.integer]:
    """Predicted class of each probed trial on each probed example, shape (trial, example).

    Raises
    ------
    SchemaError
        If a probed trial or example is not in the population.
    """
    rows = {dim: population.indexes[dim].get_indexer(measured[dim].values) for dim in ("trial", "example")}
    for dim, found in rows.items():
        if (found < 0).any():
            lost = measured[dim].values[found < 0]
            raise SchemaError(
                f"Expected probed {dim}s to be in the population, but {len(lost)} are not, such as {str(lost[0])!r}. "
                "Load the population of the store that was probed."
            )
    return predictions(population.isel(trial=rows["trial"], example=rows["example"]))


def over_pairs(values: NDArray[np.floating]) -> Ends:
    """Student's interval of the mean over pairs of models; None for one pair or without spread."""
    if len(values) < 2 or float(np.ptp(values)) == 0:
        return None
    found = mean_interval(np.asarray(values, float))
    return float(found.low), float(found.high)


def over_models(pairs: list[tuple[int, int]], values: NDArray[np.floating]) -> Ends:
    """Jackknife interval of the mean over pairs that share models, one model left out at a time.

    None for fewer than 3 models, where a model is in all pairs, or without spread.
    """
    models = sorted({row for pair in pairs for row in pair})
    place = np.array([[models.index(a), models.index(b)] for a, b in pairs], np.intp).reshape(-1, 2)
    weights = [np.count_nonzero((place != k).all(axis=1)) for k in range(len(models))]
    if len(models) < 3 or min(weights) == 0 or float(np.ptp(values)) == 0:
        return None
    found = jackknife(_mean_among(place, np.asarray(values, float)), len(models))
    return float(found.low), float(found.high)


def _mean_among(place: NDArray[np.intp], values: NDArray[np.float64]) -> Callable[[NDArray[np.intp]], float]:
    def mean(kept: NDArray[np.intp]) -> float:
        return float(values[np.isin(place, kept).all(axis=1)].mean())

    return mean


def welch_interval(first: NDArray[np.floating], second: NDArray[np.floating]) -> Ends:
    """Welch's interval of mean(first) - mean(second); None for fewer than 2 values or without spread."""
    from scipy import stats

    if min(len(first), len(second)) < 2 or float(np.ptp(first)) == 0 == float(np.ptp(second)):
        return None
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)  # pyright: ignore
    return float(found.low), float(found.high)
