"""Shares of examples: accuracy by group, intervals for one share, for a difference of two, and for a quantile."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Interval = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper ends, of the shape of the estimates."""


_ROWS = 2**20
"""Examples that are counted at a time: `bincount` makes 8 bytes of each index."""


def rate_by_group(flags: ArrayLike, group: ArrayLike, num_groups: int) -> NDArray[np.float64]:
    """Share of True flags among the examples of each group, shape (trial, group).

    With `flags` = prediction is right and `group` = true label, the recall of each class. NaN for a
    group without examples.

    Parameters
    ----------
    flags
        Shape (trial, example), bool.
    group
        Shape (example,), index of each example's group in [0, num_groups).
    num_groups
        Number of groups.
    """
    sizes = group_sizes(group, num_groups)
    totals = counts_by_group(flags, group, num_groups)
    return np.divide(totals, sizes, out=np.full(totals.shape, np.nan), where=sizes > 0)


def counts_by_group(flags: ArrayLike, group: ArrayLike, num_groups: int) -> NDArray[np.int64]:
    """Number of True flags among the examples of each group, shape (trial, group); parameters as `rate_by_group`."""
    flags, group = np.asarray(flags), np.asarray(group)
    counts = np.zeros((len(flags), num_groups), np.int64)
    for start in range(0, len(group), _ROWS):
        part = group[start : start + _ROWS]
        for row, flagged in zip(counts, flags[:, start : start + _ROWS], strict=True):
            row += np.bincount(part[flagged], minlength=num_groups)
    return counts


def group_sizes(group: ArrayLike, num_groups: int) -> NDArray[np.int64]:
    """Number of examples of each group, shape (group,)."""
    group = np.asarray(group)
    sizes = np.zeros(num_groups, np.int64)
    for start in range(0, len(group), _ROWS):
        sizes += np.bincount(group[start : start + _ROWS], minlength=num_groups)
    return sizes


def quantile_interval(ordered: NDArray[np.floating], share: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval of a quantile by the values of a sample, whatever their distribution.

    From the l-th to the u-th smallest of n values, where a Binomial(n, share) number is below l, and is u or
    more, each with a probability of at most (1 - level) / 2: so many values lie below the quantile. Never below
    its level. NaN for an end that no value is far enough out for.

    Parameters
    ----------
    ordered
        Independent values in rising order.
    share
        Share of the population below the quantile, such as 0.9.

    References
    ----------
    wilks1948order
    """
    n, tail = len(ordered), (1 - _checked(level)) / 2
    low, high = _binomial_quantile(tail, n, share), _binomial_quantile(1 - tail, n, share) + 1
    return float(ordered[low - 1]) if low >= 1 else np.nan, float(ordered[high - 1]) if high <= n else np.nan


def wilson(successes: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Interval for a binomial share by inverting the score test.

    Close to its level on average and never empty: 0 of n has an upper end above 0.

    Raises
    ------
    ValueError
        If `successes` is not in [0, n] or `n` is 0.

    References
    ----------
    wilson1927probable; newcombe1998two, method 3
    """
    x, n = _counts(successes, n)
    z = _z(level)
    share = x / n
    middle = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    # Rounding must not move the ends off 0 and 1, where they are exact.
    return np.where(x == 0, 0.0, np.maximum(low, 0)), np.where(x == n, 1.0, np.minimum(high, 1))


def clopper_pearson(successes: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Exact interval for a binomial share: never below its level, so wider than `wilson`.

    References
    ----------
    clopper1934use
    """
    x, n = _counts(successes, n)
    tail = (1 - _checked(level)) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(x == 0, 0.0, special.betaincinv(np.maximum(x, 1), n - x + 1, tail))
        high = np.where(x == n, 1.0, special.betaincinv(x + 1, np.maximum(n - x, 1), 1 - tail))
    return low, high


def newcombe(first: ArrayLike, n_first: ArrayLike, second: ArrayLike, n_second: ArrayLike) -> Interval:
    """95 % interval for the difference of two independent shares, first minus second.

    Wilson intervals of the two shares, put together by squares of their half widths.

    References
    ----------
    newcombe1998interval, method 10
    """
    (x1, n1), (x2, n2) = _counts(first, n_first), _counts(second, n_second)
    (low1, high1), (low2, high2) = wilson(x1, n1), wilson(x2, n2)
    p1, p2 = x1 / n1, x2 / n2
    return (
        p1 - p2 - np.sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2),
        p1 - p2 + np.sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2),
    )


def newcombe_paired(both: ArrayLike, only_first: ArrayLike, only_second: ArrayLike, neither: ArrayLike) -> Interval:
    """95 % interval for the difference of two shares of the same examples, first minus second.

    Parameters
    ----------
    both, only_first, only_second, neither
        Numbers of examples that count for both shares, for one of them, for none.

    References
    ----------
    newcombe1998improved, method 10
    """
    a, b, c, d = (np.asarray(x, float) for x in (both, only_first, only_second, neither))
    n = a + b + c + d
    if np.any(np.minimum(np.minimum(a, b), np.minimum(c, d)) < 0) or np.any(n == 0):
        raise ValueError("Expected numbers of examples >= 0 with a sum > 0.")
    p1, p2 = (a + b) / n, (a + c) / n
    (low1, high1), (low2, high2) = wilson(a + b, n), wilson(a + c, n)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    association = a * d - b * c
    # Newcombe's continuity correction pulls a positive association towards 0.
    association = np.where(association > 0, np.maximum(association - n / 2, 0), association)
    phi = np.divide(association, np.sqrt(product), out=np.zeros_like(n), where=product > 0)

    def half(left: NDArray, right: NDArray) -> NDArray:
        return np.sqrt(np.maximum(left**2 - 2 * phi * left * right + right**2, 0))

    return p1 - p2 - half(p1 - low1, high2 - p2), p1 - p2 + half(high1 - p1, p2 - low2)


def _binomial_quantile(q: float, n: int, share: float) -> int:
    """The smallest number that a Binomial(n, share) number exceeds with a probability of at most 1 - q."""
    above = int(np.ceil(special.bdtrik(q, n, share)))
    return above - 1 if above > 0 and special.bdtr(above - 1, n, share) >= q else above


def _counts(successes: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, n = np.asarray(successes, float), np.asarray(n, float)
    if np.any(n < 1):
        raise ValueError(f"Expected `n` >= 1, but got {n.min()!r}: a share of nothing is undefined.")
    if np.any((x < 0) | (x > n)):
        raise ValueError("Expected `successes` in [0, n], but some lie outside.")
    return x, n


def _z(level: float) -> float:
    return float(special.ndtri((1 + _checked(level)) / 2))


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` in (0, 1), but got {level!r}.")
    return level
