"""Agreement of attribution maps: reference against compressed models of the same seed, and against other seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import comparisons
from remnant.finding import NotApplicable
from remnant.population import SchemaError, probed, reference_of
from remnant.probes.attribution import METHODS, ROUTES
from remnant.stats.attribution import Part, normalized, rank_correlation, top_overlap, weighted_jaccard

PROBE = "attribution"
MEASURES = ("similarity", "rank_correlation", "top_overlap")
"""Weighted Jaccard, Spearman's correlation and overlap of the highest pixels; fields of `Agreement`."""
_ALL_PAIRS = 6
"""Up to so many reference models, each is compared with each other one; of more, with its next three."""


@dataclass(frozen=True)
class Agreement:
    """One method, on pairs of models. Arrays have shape (pair, example); NaN where a measure is undefined."""

    scheme: str
    method: str
    routes: tuple[str, str]
    """How maps of the two sides came about; see `remnant.probes.attribution.ROUTES`."""
    pairs: tuple[tuple[int, int], ...]
    """Trials of the probed population that make the pairs, reference first."""
    similarity: NDArray[np.float64]
    """Weighted Jaccard of the maps for the class that each model predicts itself."""
    rank_correlation: NDArray[np.float64]
    top_overlap: NDArray[np.float64]
    same_class: NDArray[np.float64]
    """Weighted Jaccard of the maps for the class that the reference predicts."""
    floor: NDArray[np.float64]
    """Weighted Jaccard of the reference's map of one example and the compressed model's map of another."""
    differ: NDArray[np.bool_]
    """The two models predict different classes."""
    between_seeds: bool = False
    """The pairs are of different models of the reference, not of a reference and a compressed model."""

    def means(self, measure: str) -> NDArray[np.float64]:
        """Mean of a measure over examples for each pair, of the pairs in which it is defined."""
        found = mean_known(getattr(self, measure), axis=1)
        return found[np.isfinite(found)]

    @property
    def usable(self) -> bool:
        """Whether the maps can be compared at all."""
        return "none" not in self.routes and bool(np.isfinite(self.similarity).any())


@dataclass(frozen=True)
class Measured:
    """All that was measured on the maps of a population."""

    data: xr.Dataset
    """What was probed, with `prediction`, the classes that were predicted on the probed examples."""
    reference: str
    schemes: tuple[Agreement, ...]
    """Scheme by scheme, and method by method."""
    seeds: tuple[Agreement, ...]
    """Models of the reference against each other; empty with one model."""
    method: str
    """The method that claims and galleries are of."""

    def of(self, scheme: str, method: str | None = None) -> Agreement | None:
        """A scheme's agreement by the method of the claims, or another one; None if there is none."""
        wanted = (scheme, method or self.method)
        return next((a for a in (*self.schemes, *self.seeds) if (a.scheme, a.method) == wanted and a.usable), None)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the compressed schemes."""
        return tuple(dict.fromkeys(a.scheme for a in self.schemes))


def measure(
    population: xr.Dataset, *, reference: str | None = None, method: str | None = None, part: Part, share: float
) -> Measured:
    """Agreement of the maps of each compressed scheme with the reference, by every method that was measured.

    Models are paired by seed, where both sides have it. `method` is that of the claims; default the first of
    `remnant.probes.attribution.METHODS` that gives maps for the most schemes.

    Raises
    ------
    NotApplicable
        If there is no reference, no compressed scheme or no pair of the same seed, or no method gave maps.
    SchemaError
        If the population was not probed.
    """
    data = probed(population, PROBE)
    known = [str(name) for name in data["method"].values]
    if method is not None and method not in known:
        raise ValueError(f"Expected `method` to be one of {known}, but got {method!r}.")
    data = data.assign(prediction=(("trial", "example"), data["target"].values))
    found = comparisons(data, reference_of(population) if reference is None else reference)
    reference = found[0].reference_label
    place = {str(key): row for row, key in enumerate(data["trial"].values)}
    rows = {str(c.scheme): [place[str(key)] for key in c.compressed["trial"].values] for c in found}
    base = [place[str(key)] for key in found[0].reference["trial"].values]
    order = [name for name in METHODS if name in known] + [name for name in known if name not in METHODS]
    options = {"part": part, "share": share}
    compared: list[Agreement] = []
    for scheme, members in rows.items():
        pairs = same_seed_pairs(data["seed"].values, base, members)
        if not pairs:
            raise NotApplicable(
                f"Expected models of {reference!r} and {scheme!r} of the same seed with attribution maps, but they "
                "have none in common. Probe the models of the same seeds: `remnant probe STORE attribution`."
            )
        compared += [_agreement(data, scheme, name, pairs, **options) for name in order]
    null = seed_pairs(base)
    seeds = [_agreement(data, reference, name, null, between_seeds=True, **options) for name in order] if null else []
    chosen = _headline(compared, order) if method is None else method
    return Measured(data, reference, tuple(compared), tuple(seeds), chosen)


def same_seed_pairs(
    seeds: NDArray[np.integer], first: Sequence[int], second: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Trials of two sides with the same seed, in order of their seeds."""
    by_seed = {int(seeds[row]): row for row in first}
    return tuple((by_seed[int(seeds[row])], row) for row in second if int(seeds[row]) in by_seed)


def seed_pairs(rows: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Pairs of different models of the reference: all of a few models; of many, each with the next three around."""
    number = len(rows)
    if number <= _ALL_PAIRS:
        return tuple(combinations(rows, 2))
    return tuple((rows[k], rows[(k + step) % number]) for step in (1, 2, 3) for k in range(number))


def mean_known(values: NDArray[np.float64], *, axis: int) -> NDArray[np.float64]:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    return np.divide(
        np.where(known, values, 0).sum(axis=axis), count, out=np.full(count.shape, np.nan), where=count > 0
    )


def _headline(compared: Sequence[Agreement], order: Sequence[str]) -> str:
    usable = [a.method for a in compared if a.usable]
    if not usable:
        raise NotApplicable(
            "No method gave attribution maps that can be compared: the models have no usable gradients. Measure what "
            'needs none: the probe "attribution" with methods = ["occlusion"].'
        )
    return max(order, key=lambda name: (usable.count(name), -order.index(name)))


def _agreement(
    data: xr.Dataset,
    scheme: str,
    method: str,
    pairs: tuple[tuple[int, int], ...],
    *,
    part: Part,
    share: float,
    between_seeds: bool = False,
) -> Agreement:
    column = [str(name) for name in data["method"].values].index(method)
    routes = _route(data, column, [i for i, _ in pairs]), _route(data, column, [j for _, j in pairs])
    shape = len(pairs), data.sizes["example"]
    values = {name: np.full(shape, np.nan) for name in (*MEASURES, "same_class", "floor")}
    target = data["target"].values
    differ = np.array([target[i] != target[j] for i, j in pairs])
    for row, (i, j) in enumerate(pairs if "none" not in routes else ()):
        one, two = (data["attribution"][k, :, column].values for k in (i, j))
        a, b = normalized(one, part), normalized(two, part)
        values["similarity"][row] = weighted_jaccard(a, b)
        values["top_overlap"][row] = top_overlap(a, b, share=share)
        signed = part == "positive"
        values["rank_correlation"][row] = rank_correlation(one, two) if signed else rank_correlation(a, b)
        values["floor"][row] = weighted_jaccard(a, np.roll(b, 1, axis=0)) if shape[1] > 1 else np.nan
        values["same_class"][row] = _same_class(data, (i, j), column, part, a, values["similarity"][row])
    return Agreement(scheme, method, routes, pairs, differ=differ, between_seeds=between_seeds, **values)


def _same_class(
    data: xr.Dataset,
    pair: tuple[int, int],
    column: int,
    part: Part,
    first: NDArray[np.float64],
    similarity: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Similarity of the maps for the class that the reference predicts; NaN where that class was not explained."""
    i, j = pair
    target, asked = data["target"].values, data["reference_target"].values[j]
    found = np.where(target[i] == target[j], similarity, np.nan)
    rows = np.flatnonzero((target[i] != target[j]) & (asked == target[i]))
    if len(rows):
        found[rows] = weighted_jaccard(first[rows], normalized(data["same_class"][j, :, column].values[rows], part))
    return found


def _route(data: xr.Dataset, column: int, rows: Sequence[int]) -> str:
    """How the maps of some trials came about; "none" if those of any trial cannot be used."""
    codes = set(np.unique(data["route"].values[sorted(set(rows))][:, :, column]).tolist())
    if unknown := codes - set(range(len(ROUTES))):
        raise SchemaError(f"Expected `route` in [0, {len(ROUTES)}), but got {sorted(unknown)}.")
    names = [ROUTES[int(code)] for code in sorted(codes)]
    return "none" if "none" in names else " and ".join(names)
