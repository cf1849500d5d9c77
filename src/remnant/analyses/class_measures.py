"""Accuracy by class or group of a reference population and a compressed one, and the tests of their change."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from remnant.analyses.comparison import Comparison, Exchange
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import paired_t
from remnant.stats.rates import group_sizes, rate_by_group
from remnant.stats.resampling import permutation_p
from remnant.stats.two_sample import hedges_g, hedges_g_paired, permuted_welch, welch

LEVEL = 0.05
"""p up to which Hooker et al. (2019) call a class significant."""


@dataclass(frozen=True)
class Slices:
    """A partition of the test examples."""

    attribute: str
    """"class", or the name of an attribute."""
    names: tuple[str, ...]
    index: NDArray[np.integer]
    """Shape (example,): the slice of each example."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of examples of each slice."""
        return group_sizes(self.index, len(self.names))


@dataclass(frozen=True)
class Part:
    """One scheme against the reference, on one partition. Arrays have shape (slice,) unless said otherwise."""

    comparison: Comparison
    exchange: Exchange
    slices: Slices
    reference: NDArray[np.float64]
    """Mean accuracy over the reference models."""
    compressed: NDArray[np.float64]
    absolute: NDArray[np.float64]
    """Mean accuracy of the compressed models minus that of the reference models."""
    relative: NDArray[np.float64]
    """Relative recall difference (equation 3) minus 1; NaN where a reference model is never right."""
    normalized: NDArray[np.float64]
    """The same, with each accuracy over the accuracy of its model on all examples."""
    shifted: NDArray[np.float64]
    """Difference of the mean-shifted accuracies."""
    t: NDArray[np.float64]
    p: NDArray[np.float64]
    """Of Welch's test on the mean-shifted accuracies."""
    q: NDArray[np.float64]
    paired_p: NDArray[np.float64]
    """Of the paired t test on the same; NaN unless models are paired."""
    paired_q: NDArray[np.float64]
    permutation_p: NDArray[np.float64]
    g: NDArray[np.float64]
    """Hedges' g of the mean-shifted accuracies, with its 95 % interval."""
    g_low: NDArray[np.float64]
    g_high: NDArray[np.float64]
    null_counts: NDArray[np.int64]
    """Shape (permutation,): number of slices with Welch's p <= 0.05 in each rearrangement of the trials."""
    count_p: float
    """Share of the rearrangements with at least as many significant slices as observed."""
    worst: int | None
    """The slice with the smallest relative recall difference."""
    worst_interval: tuple[float, float] | None
    """Its interval at a level that holds for all slices together; None without spread."""

    @property
    def significant(self) -> int:
        """Number of slices with Welch's p <= 0.05, without correction, as in Hooker et al. (2019)."""
        return int((self.p <= LEVEL).sum())


def measure(
    comparison: Comparison,
    exchange: Exchange,
    slices: Slices,
    *,
    num_permutations: int,
    rng: np.random.Generator,
    num_compared: int | None = None,
) -> Part:
    """Tests of the change of every slice's accuracy relative to the accuracy on all examples.

    `num_compared` is the number of slices among which the worst is picked, if it is more than those here.
    """
    label = comparison.reference["label"].values
    right, right_after = comparison.first == label, comparison.second == label
    num = len(slices.names)
    recall, recall_after = rate_by_group(right, slices.index, num), rate_by_group(right_after, slices.index, num)
    overall, overall_after = right.mean(axis=1, keepdims=True), right_after.mean(axis=1, keepdims=True)
    first, second = recall - overall, recall_after - overall_after
    t, _, p = welch(second, first)
    counts, count_p, by_permutation = _chance(comparison, exchange, first, second, num_permutations, rng)
    is_paired = exchange.kind == "paired"
    paired_p = paired_t(second, first)[1] if is_paired else np.full(p.shape, np.nan)
    g, g_low, g_high = (hedges_g_paired if is_paired else hedges_g)(second, first)
    pairs = comparison.same_seeds
    ratios = _ratios(recall, recall_after, pairs)
    worst, interval = _worst(ratios, recall, recall_after, pairs=pairs, num_compared=num_compared or num)
    return Part(
        comparison=comparison,
        exchange=exchange,
        slices=slices,
        reference=recall.mean(axis=0),
        compressed=recall_after.mean(axis=0),
        absolute=recall_after.mean(axis=0) - recall.mean(axis=0),
        relative=ratios - 1,
        normalized=_ratios(_over(recall, overall), _over(recall_after, overall_after), pairs) - 1,
        shifted=second.mean(axis=0) - first.mean(axis=0),
        t=t,
        p=p,
        q=benjamini_hochberg(p),
        paired_p=paired_p,
        paired_q=benjamini_hochberg(paired_p),
        permutation_p=np.where(np.isnan(p), np.nan, by_permutation),
        g=g,
        g_low=g_low,
        g_high=g_high,
        null_counts=counts,
        count_p=count_p,
        worst=worst,
        worst_interval=interval,
    )


def _chance(
    comparison: Comparison,
    exchange: Exchange,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    num_permutations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], float, NDArray[np.float64]]:
    """Numbers of significant slices over rearrangements, their p, and the permutation p of each slice."""
    ways = exchange.rearrangements(comparison, num_permutations, rng)
    observed = np.arange(ways.in_first.shape[1]) < comparison.num_first
    # The observed arrangement goes through the same arithmetic as the others. Under exchanges within pairs,
    # Welch's t rises with the difference of the means, as the paired t does: both give the same p.
    t, significant = permuted_welch(first, second, np.concatenate([observed[None], ways.in_first]), level=LEVEL)
    counts, size = significant.sum(axis=1), np.abs(t)
    count_p = float(permutation_p(counts[0], counts[1:], exact=ways.exact))
    return counts[1:], count_p, permutation_p(size[0], size[1:], exact=ways.exact)


def _ratios(first: NDArray[np.float64], second: NDArray[np.float64], pairs: bool) -> NDArray[np.float64]:
    """Equation 3 of Hooker et al. (2019): mean over models of compressed over reference accuracy, shape (slice,).

    Over pairs of the same seed, or over all pairs of a compressed and a reference model where seeds
    differ. NaN where a reference model has accuracy 0.
    """
    defined = (first > 0).all(axis=0)
    inverse = np.divide(1, first, out=np.full(first.shape, np.nan), where=first > 0)
    found = (second * inverse).mean(axis=0) if pairs else second.mean(axis=0) * inverse.mean(axis=0)
    return np.where(defined, found, np.nan)


def _over(recall: NDArray[np.float64], overall: NDArray[np.float64]) -> NDArray[np.float64]:
    """Accuracies over the accuracy of their model on all examples; a model that is never right has none."""
    return np.divide(recall, overall, out=np.full(recall.shape, np.nan), where=overall > 0)


def _worst(
    ratios: NDArray[np.float64],
    recall: NDArray[np.float64],
    recall_after: NDArray[np.float64],
    *,
    pairs: bool,
    num_compared: int,
) -> tuple[int | None, tuple[float, float] | None]:
    """The slice with the smallest ratio, and the interval of its ratio minus 1.

    The slice is picked for being the worst, so the interval has level 1 - 0.05 / `num_compared`: the
    intervals of all slices hold together (Bonferroni).
    """
    if np.isnan(ratios).all():
        return None, None
    worst = int(np.nanargmin(ratios))
    first, second = recall[:, worst], recall_after[:, worst]
    if pairs:
        error, df = (second / first).std(ddof=1) / np.sqrt(len(first)), len(first) - 1
    else:
        inverse = 1 / first
        error = np.hypot(
            inverse.mean() * second.std(ddof=1) / np.sqrt(len(second)),
            second.mean() * inverse.std(ddof=1) / np.sqrt(len(first)),
        )
        df = min(len(first), len(second)) - 1
    if error == 0:
        return worst, None
    half = float(special.stdtrit(df, 1 - LEVEL / 2 / num_compared) * error)
    return worst, (float(ratios[worst]) - 1 - half, float(ratios[worst]) - 1 + half)
