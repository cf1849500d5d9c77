"""Rates of every group before and after compression, their changes, gaps between groups, and what chance gives."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from remnant.analyses.comparison import Comparison, Exchange, Null, exchange, stream
from remnant.analyses.group_columns import Groups
from remnant.stats import groups as stats
from remnant.stats.equivalence import normal_quantile, tango_interval
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import mcnemar_exact
from remnant.stats.resampling import permutation_p
from remnant.stats.two_way import two_way_mean

Span = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Settings:
    """What is asked of every compressed side."""

    positive: int | None
    """Index of the class that is looked for; None of several classes without one."""
    least_examples: int
    null: Null
    num_permutations: int
    num_bootstrap: int
    seed: int


@dataclass(frozen=True)
class Rate:
    """One rate in every group; arrays of shape (group,) unless said otherwise, NaN where no example counts."""

    size: NDArray[np.int64]
    """Examples that count."""
    tested: NDArray[np.bool_]
    """Enough examples count."""
    before: NDArray[np.float64]
    """Mean over reference models."""
    after: NDArray[np.float64]
    change: NDArray[np.float64]
    """Compressed minus reference."""
    each: Span
    """95 % interval of `change`."""
    simultaneous: Span
    """Intervals that hold for all tested groups together."""
    after_simultaneous: Span
    """The same of `after`."""
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    between_seeds: NDArray[np.float64]
    """Mean absolute difference of two reference models; NaN with one."""
    gap: NDArray[np.float64]
    """Shape (2, partition): largest minus smallest rate of the tested groups of a partition, before and after."""
    gap_interval: Span
    """Of the change of the gap, shape (partition,)."""
    gap_simultaneous: Span
    null: NDArray[np.float64] | None
    """Shape (2, rearrangement, group): both sides when models are rearranged; None with one reference model."""

    @property
    def gap_change(self) -> NDArray[np.float64]:
        """Shape (partition,); NaN where a partition has fewer than 2 tested groups."""
        return self.gap[1] - self.gap[0]


@dataclass(frozen=True)
class Amplification:
    """Directional bias amplification by each attribute; arrays of shape (attribute,)."""

    columns: tuple[str, ...]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    interval: Span
    """95 % interval of the change."""
    simultaneous: Span
    between_seeds: NDArray[np.float64]
    null: NDArray[np.float64] | None
    """Shape (2, rearrangement, attribute)."""


@dataclass(frozen=True)
class Part:
    """One compressed side against the reference."""

    comparison: Comparison
    groups: Groups
    rates: dict[str, Rate]
    amplification: Amplification
    exchange: Exchange | None
    """How models are rearranged; None with one reference model."""
    exact: bool
    """All rearrangements were made."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs of models."""
        return len(self.comparison.pairs)


def measure(comparison: Comparison, label: NDArray[np.integer], found: Groups, settings: Settings) -> Part:
    """Rates, gaps and bias amplification of one compressed side with their intervals and nulls."""
    indices = [slicing.index for slicing in found.slicings]
    cells = stats.cells([*indices, label, *comparison.first, *comparison.second])
    at = cells.rows
    models = _Models(
        first=comparison.first[:, at].astype(np.intp),
        second=comparison.second[:, at].astype(np.intp),
        pairs=comparison.pairs,
        label=label[at].astype(np.intp),
        cells=cells,
        groups=stats.indicators([index[at] for index in indices], found.sizes),
    )
    scheme, seed = comparison.scheme, settings.seed
    how = ways = None
    if comparison.num_first >= 2:
        how = exchange(comparison, settings.null, stream(seed, "exchange", scheme))
        ways = how.rearrangements(comparison, settings.num_permutations, stream(seed, "groups", scheme))
    in_first, rng = ways.in_first if ways else None, stream(seed, "bootstrap", scheme)
    return Part(
        comparison,
        found,
        _rates(models, found, settings, in_first, rng),
        _amplification(models, found, settings, in_first, rng),
        how,
        bool(ways and ways.exact),
    )


@dataclass(frozen=True)
class _Models:
    """Predictions of both sides on the cells."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    pairs: list[tuple[int, int]]
    label: NDArray[np.intp]
    cells: stats.Cells
    groups: sparse.csr_array

    @property
    def paired(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Predictions of both sides pair by pair."""
        one, two = zip(*self.pairs, strict=True)
        return self.first[list(one)], self.second[list(two)]


def _rates(
    models: _Models, found: Groups, settings: Settings, in_first: NDArray[np.bool_] | None, rng: np.random.Generator
) -> dict[str, Rate]:
    positive = settings.positive
    before, after = (stats.rate_quantities(side, models.label, positive) for side in models.paired)
    quantities = [*before.values(), *after.values()]
    drawn = stats.resampled_means(quantities, models.cells, models.groups, rng, num=settings.num_bootstrap)
    by_model = [
        {name: stats.group_means(q, models.cells, models.groups) for name, q in rates.items()}
        for rates in (stats.rate_quantities(side, models.label, positive) for side in (models.first, models.second))
    ]
    rates = {}
    for place, name in enumerate(before):
        size = stats.group_sizes(before[name], models.cells, models.groups)
        p, unchanged = _tests(models, before[name], after[name], size)
        rates[name] = _rate(
            found,
            (by_model[0][name], by_model[1][name]),
            drawn[[place, len(before) + place]],
            size=size,
            tested=size >= settings.least_examples,
            p=p,
            unchanged=unchanged,
            in_first=in_first,
        )
    return rates


def _rate(
    found: Groups,
    by_model: tuple[NDArray[np.float64], NDArray[np.float64]],
    drawn: NDArray[np.float64],
    *,
    size: NDArray[np.int64],
    tested: NDArray[np.bool_],
    p: NDArray[np.float64],
    unchanged: NDArray[np.bool_],
    in_first: NDArray[np.bool_] | None,
) -> Rate:
    before, after = (mean.mean(axis=0) for mean in by_model)
    change, resampled = after - before, drawn[1] - drawn[0]
    level = 1 - 0.05 / max(int(tested.sum()), 1)
    each = _percentiles(resampled)
    wide = _normal(change, resampled, level)
    _where_unchanged(each, unchanged, size, 0.95)
    _where_unchanged(wide, unchanged, size, level)
    gaps = np.stack([_gaps(rate[None], tested, found)[0] for rate in (before, after)])
    gap_drawn = _gaps(drawn[1], tested, found) - _gaps(drawn[0], tested, found)
    num_gaps = max(int((~np.isnan(gaps[0])).sum()), 1)
    after_wide = _normal(after, drawn[1], level)
    return Rate(
        size=size,
        tested=tested,
        before=before,
        after=after,
        change=change,
        each=each,
        simultaneous=_only(tested, wide),
        after_simultaneous=(np.maximum(after_wide[0], 0), np.minimum(after_wide[1], 1)),
        p=p,
        q=benjamini_hochberg(np.where(tested, p, np.nan)),
        between_seeds=_between_seeds(by_model[0]),
        gap=gaps,
        gap_interval=_percentiles(gap_drawn),
        gap_simultaneous=_normal(gaps[1] - gaps[0], gap_drawn, 1 - 0.05 / num_gaps),
        null=_rearranged(np.concatenate(by_model), in_first),
    )


def _tests(
    models: _Models, before: stats.Quantity, after: stats.Quantity, size: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Two-sided p of the change in each group, and where no model changes on any example.

    McNemar's exact test of one pair; of several pairs, Student's t over pairs and examples.
    """
    sums, squares, example_squares = stats.change_moments(before, after, models.cells, models.groups)
    if len(sums) == 1:
        gained, lost = np.rint((squares + sums[0]) / 2), np.rint((squares - sums[0]) / 2)
        p = mcnemar_exact(gained, lost)
        return np.where(np.isnan(p) & (size > 0), 1.0, p), squares == 0
    p = np.where(size > 0, 1.0, np.nan)
    enough = np.flatnonzero(size >= 2)
    if len(enough):
        tests = two_way_mean(sums[:, enough], squares[enough], example_squares[enough], size[enough])
        p[enough] = np.where(np.isnan(tests.degrees), 1.0, tests.two_sided_p())
    return p, squares == 0


def _amplification(
    models: _Models, found: Groups, settings: Settings, in_first: NDArray[np.bool_] | None, rng: np.random.Generator
) -> Amplification:
    num_classes = 1 + max(int(side.max(initial=0)) for side in (models.first, models.second, models.label))
    # Labels of the cells come with their numbers of examples: signs are made from all examples.
    label = np.repeat(models.label, models.cells.counts)
    plain = [slicing for slicing in found.slicings if slicing.kind == "group"]
    before, after, drawn, by_model = [], [], [], []
    for slicing in plain:
        group, num = slicing.index[models.cells.rows], len(slicing.levels)
        signs = stats.amplification_signs(label, np.repeat(group, models.cells.counts), num, num_classes)
        levels = stats.indicators([group], [num])
        sides = [stats.amplification_quantity(side, models.label, group, signs) for side in models.paired]
        resampled = stats.resampled_means(sides, models.cells, levels, rng, num=settings.num_bootstrap)
        drawn.append(stats.amplification(resampled[1], num_classes) - stats.amplification(resampled[0], num_classes))
        every = stats.amplification_quantity(np.concatenate([models.first, models.second]), models.label, group, signs)
        by_model.append(stats.amplification(stats.group_means(every, models.cells, levels), num_classes))
        before.append(by_model[-1][: len(models.first)].mean())
        after.append(by_model[-1][len(models.first) :].mean())
    resampled, values = np.stack(drawn, axis=1), np.stack(by_model, axis=1)
    one, two = np.array(before), np.array(after)
    return Amplification(
        columns=tuple(slicing.column for slicing in plain),
        before=one,
        after=two,
        interval=_percentiles(resampled),
        simultaneous=_normal(two - one, resampled, 1 - 0.05 / len(plain)),
        between_seeds=_between_seeds(values[: len(models.first)]),
        null=_rearranged(values, in_first),
    )


def null_p(observed: float, null: NDArray[np.float64], part: Part) -> float:
    """Share of rearrangements with at least the observed value."""
    return float(permutation_p(observed, null, exact=part.exact))


def gap_null(rate: Rate, part: Part) -> NDArray[np.float64] | None:
    """Changes of gaps when models are rearranged, shape (rearrangement, partition)."""
    if rate.null is None:
        return None
    first, second = (_gaps(side, rate.tested, part.groups) for side in rate.null)
    return second - first


def _rearranged(values: NDArray[np.float64], in_first: NDArray[np.bool_] | None) -> NDArray[np.float64] | None:
    """Means of both sides under each rearrangement of the models, shape (2, rearrangement, ...)."""
    if in_first is None:
        return None
    return np.stack([side @ values / side.sum(axis=1, keepdims=True) for side in (in_first, ~in_first)])


def _gaps(rates: NDArray[np.float64], tested: NDArray[np.bool_], found: Groups) -> NDArray[np.float64]:
    """Largest minus smallest rate of the tested groups of each partition, shape (row, partition)."""
    gaps, start = np.full((len(rates), len(found.sizes)), np.nan), 0
    for place, size in enumerate(found.sizes):
        here = np.flatnonzero(tested[start : start + size]) + start
        if len(here) >= 2:
            gaps[:, place] = rates[:, here].max(axis=1) - rates[:, here].min(axis=1)
        start += size
    return gaps


def _between_seeds(by_model: NDArray[np.float64]) -> NDArray[np.float64]:
    num = len(by_model)
    if num < 2:
        return np.full(by_model.shape[1], np.nan)
    # Of sorted values, the k-th is the larger one in k pairs.
    weight = (2 * np.arange(num) - num + 1)[:, None]
    return (np.sort(by_model, axis=0) * weight).sum(axis=0) / (num * (num - 1) / 2)


def _percentiles(drawn: NDArray[np.float64]) -> Span:
    known = ~np.isnan(drawn).all(axis=0)
    found = np.full((2, drawn.shape[1]), np.nan)
    found[:, known] = np.nanquantile(drawn[:, known], [0.025, 0.975], axis=0)
    return found[0], found[1]


def _normal(estimate: NDArray[np.float64], drawn: NDArray[np.float64], level: float) -> Span:
    """Estimate and bootstrap standard error: percentiles far out would need many more samples."""
    known = ~np.isnan(drawn).all(axis=0)
    error = np.full(len(estimate), np.nan)
    error[known] = np.nanstd(drawn[:, known], axis=0)
    half = normal_quantile(level) * error
    return estimate - half, estimate + half


def _where_unchanged(span: Span, unchanged: NDArray[np.bool_], size: NDArray[np.int64], level: float) -> None:
    """Tango's interval where no answer changed, of which no bootstrap makes another one."""
    here = np.flatnonzero(unchanged & (size > 0))
    if len(here):
        none = np.zeros(len(here), np.int64)
        span[0][here], span[1][here] = tango_interval(none, none, size[here], level=level)


def _only(kept: NDArray[np.bool_], span: Span) -> Span:
    low, high = (np.where(kept, end, np.nan) for end in span)
    return low, high
