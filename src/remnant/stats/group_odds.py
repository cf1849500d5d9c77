"""Whether groups are over- or under-represented among chosen examples: exact tests and odds ratios of many tables."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

_SLACK = 1e-7
"""Probabilities within this relative distance are equal, as in R's fisher.test."""
_FURTHEST = 60.0
"""Largest size of a logarithm of an odds ratio; that of any table of 10^12 examples is smaller."""
_STEPS = 200
_CLOSE = 1e-11
_NUMBERS = 2**17
"""Numbers in a block: 1 MiB."""


@dataclass(frozen=True)
class Representation:
    """How often groups occur among the chosen examples; arrays of shape (group,)."""

    expected: NDArray[np.float64]
    """Number of chosen examples of the group if the choice had nothing to do with it."""
    odds_ratio: NDArray[np.float64]
    """Odds of being chosen in the group over those outside: conditional maximum likelihood. 1: neither over- nor
    under-represented; 0 where none of the group is chosen, infinite where none outside is. NaN as `p`."""
    low: NDArray[np.float64]
    """Lower end of the interval of `odds_ratio`."""
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    """Two-sided, of Fisher's exact test. NaN where all or none of the examples are chosen, or in the group."""


def representation(
    chosen: ArrayLike, sizes: ArrayLike, *, num_chosen: int, total: int, level: float = 0.95, mid_p: bool = True
) -> Representation:
    """Exact test and odds ratio of each group against all other examples.

    With all margins fixed, the number of chosen examples of a group has the (noncentral) hypergeometric distribution.
    p sums the probabilities that are not above the observed one. Intervals invert the two one-sided exact tests:
    with `mid_p`, half the probability of the observed number counts, which makes them as often right as they say on
    average; without, they are right at least as often, and so wider.

    Parameters
    ----------
    chosen, sizes
        Shape (group,): chosen examples and all examples of each group.
    num_chosen, total
        Chosen examples and all examples.

    Raises
    ------
    ValueError
        If a group has more chosen examples than it, or the choice, can have.

    References
    ----------
    fisher1935design; agresti2001small, section 4 (mid-p intervals)
    """
    x, n = np.atleast_1d(np.asarray(chosen, np.int64)), np.atleast_1d(np.asarray(sizes, np.int64))
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` in (0, 1), but got {level!r}.")
    least, most = np.maximum(0, n + num_chosen - total), np.minimum(n, num_chosen)
    if not 0 <= num_chosen <= total or np.any((x < least) | (x > most)):
        raise ValueError("Expected numbers of chosen examples that the sizes of the groups allow, but some are not.")
    found = np.full((4, len(x)), np.nan)
    open_ = np.flatnonzero(most > least)
    for part in _blocks(open_, (most - least)[open_] + 1):
        mass = _normalized(_log_mass(n[part], num_chosen, total, least[part], most[part]))
        own = np.take_along_axis(mass, (x - least)[part, None], axis=1)
        found[0, part] = np.minimum(np.where(mass <= own * (1 + _SLACK), mass, 0).sum(axis=1), 1)
    # Numbers further from the observed one weigh nothing (e^-80) at any odds ratio between the ends of an interval:
    # they are sums of independent Bernoulli variables, of which there are at most `most`.
    reach = 8 * np.ceil(np.sqrt(most - least)).astype(np.int64) + 40
    least, most = np.maximum(least, x - reach), np.minimum(most, x + reach)
    for part in _blocks(open_, (most - least)[open_] + 1):
        log_mass = _log_mass(n[part], num_chosen, total, least[part], most[part])
        found[1:, part] = _ends(log_mass, (x - least)[part], (1 - level) / 2, 0.5 if mid_p else 1.0)
    expected = n * num_chosen / total if total else np.full(len(n), np.nan)
    with np.errstate(over="ignore"):
        ratio, low, high = np.exp(found[1:])
    return Representation(expected, ratio, low, high, found[0])


def weighted_odds_ratio(weight: NDArray[np.floating], group: NDArray[np.bool_]) -> float:
    """Odds of being chosen in the group over those outside, where an example is chosen with probability `weight`.

    From the mean weights p in and p out of the group: p_in (1 - p_out) / (p_out (1 - p_in)). NaN where it is 0 / 0
    or a side has no examples.

    Parameters
    ----------
    weight
        Shape (example,), in [0, 1].
    group
        Shape (example,).
    """
    if group.all() or not group.any():
        return float("nan")
    inside, outside = float(weight[group].mean()), float(weight[~group].mean())
    top, bottom = inside * (1 - outside), outside * (1 - inside)
    if bottom == 0:
        return float("inf") if top > 0 else float("nan")
    return top / bottom


def _blocks(tables: NDArray[np.intp], lengths: NDArray[np.int64]) -> Iterator[NDArray[np.intp]]:
    """Tables of like length together, so many that their padded distributions fit into `_NUMBERS`."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= _NUMBERS:
            end += 1
        yield tables[order[start:end]]
        start = end


def _log_mass(
    n: NDArray[np.int64], num_chosen: int, total: int, least: NDArray[np.int64], most: NDArray[np.int64]
) -> NDArray[np.float64]:
    """log C(n, x) C(total - n, chosen - x) for x from least to most, -inf beyond: shape (table, number)."""
    x = least[:, None] + np.arange(int((most - least).max()) + 1)
    inside = x <= most[:, None]
    x = np.minimum(x, most[:, None])
    size, rest = n[:, None], (total - n)[:, None]

    def log_choose(a: NDArray, b: NDArray) -> NDArray:
        return gammaln(a + 1) - gammaln(b + 1) - gammaln(a - b + 1)

    return np.where(inside, log_choose(size, x) + log_choose(rest, num_chosen - x), -np.inf)


def _ends(log_mass: NDArray[np.float64], place: NDArray[np.int64], tail: float, share: float) -> NDArray[np.float64]:
    """Logarithms of estimate, lower and upper end, shape (3, table)."""
    numbers = np.arange(log_mass.shape[1])
    last = np.isfinite(log_mass).sum(axis=1) - 1
    above, at = numbers > place[:, None], numbers == place[:, None]
    estimate = _root(log_mass, (numbers - place[:, None]).astype(np.float64), 0.0)
    low = _root(log_mass, np.where(above, 1.0, np.where(at, share, 0.0)), tail)
    high = _root(log_mass, np.where(above, 1.0, np.where(at, 1 - share, 0.0)), 1 - tail)
    first, final = place == 0, place == last
    estimate = np.where(first, -np.inf, np.where(final, np.inf, estimate))
    return np.stack([estimate, np.where(first, -np.inf, low), np.where(final, np.inf, high)])


def _root(log_mass: NDArray[np.float64], values: NDArray[np.floating], target: float) -> NDArray[np.float64]:
    """Logarithm of the odds ratio at which the mean of rising values of the number is the target.

    Newton's method, by halves where it leaves the bracket: the derivative is the covariance with the number.
    """
    low = np.full(len(log_mass), -_FURTHEST)
    high = -low
    numbers = np.arange(log_mass.shape[1], dtype=np.float64)
    middle = np.zeros(len(log_mass))
    for _ in range(_STEPS):
        mass = _normalized(log_mass + middle[:, None] * numbers)
        mean = (mass * values).sum(axis=1)
        off = mean - target
        low, high = np.where(off < 0, middle, low), np.where(off < 0, high, middle)
        slope = (mass * (values - mean[:, None])) @ numbers
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            proposed = middle - off / slope
        inside = (proposed > low) & (proposed < high)
        following = np.where(inside, proposed, (low + high) / 2)
        if np.max(np.abs(following - middle), initial=0) < _CLOSE:
            return following
        middle = following
    return middle


def _normalized(log_mass: NDArray[np.float64]) -> NDArray[np.float64]:
    mass = np.exp(log_mass - log_mass.max(axis=1, keepdims=True))
    return mass / mass.sum(axis=1, keepdims=True)
