"""The same seeds or the same examples twice: tests of pairs."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def paired_t(first: ArrayLike, second: ArrayLike) -> tuple[NDArray, NDArray]:
    """Student t of the differences first - second over pairs (first axis), and its two-sided p.

    Pairs without any difference at all have t = 0 and p = 1; a difference that is the same in all
    pairs has an infinite t and p = 0.

    Raises
    ------
    ValueError
        If there are fewer than 2 pairs or the shapes differ.

    References
    ----------
    student1908probable
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.shape[0] < 2:
        raise ValueError(f"Expected at least 2 pairs of the same shape, but got {a.shape} and {b.shape}.")
    difference = a - b
    n = len(difference)
    mean = difference.mean(axis=0)
    t = studentized(mean, difference.var(axis=0, ddof=1) / n, scale=np.abs(a).max(axis=0) + np.abs(b).max(axis=0))
    return t, 2 * special.stdtr(n - 1, -np.abs(t))


def studentized(difference: NDArray, variance: NDArray, scale: NDArray | float = 1.0) -> NDArray[np.float64]:
    """difference / sqrt(variance), where 0 / 0 is 0 and x / 0 is infinite with the sign of x.

    Values are taken as 0 when they are within the rounding error of numbers of size `scale`.
    """
    rounding = 64 * np.finfo(float).eps * np.asarray(scale, float)
    error = np.sqrt(np.maximum(variance, 0))
    flat, same = error <= rounding, np.abs(difference) <= rounding
    t = np.divide(difference, error, out=np.where(same, 0.0, np.copysign(np.inf, difference)), where=~flat)
    return np.where(same, 0.0, t)


def mcnemar_exact(only_first: ArrayLike, only_second: ArrayLike) -> NDArray[np.float64]:
    """Two-sided p of McNemar's exact test: are b and c halves of b + c fair coins?

    p = min(1, 2 P(X <= min(b, c))), X ~ Binomial(b + c, 1/2). NaN where b + c = 0: without examples
    on which the two differ, the test is undefined.

    Parameters
    ----------
    only_first, only_second
        b and c: numbers of examples for which only the first, only the second is right.

    References
    ----------
    mcnemar1947note; fagerland2013mcnemar, equation for the exact conditional test
    """
    b, c = np.asarray(only_first, np.int64), np.asarray(only_second, np.int64)
    if np.any(b < 0) or np.any(c < 0):
        raise ValueError("Expected numbers of discordant examples >= 0, but some are negative.")
    least = np.minimum(b, c)
    # Exactly 1 where the two numbers differ by at most 1.
    p = np.where(np.abs(b - c) <= 1, 1.0, 2 * special.betainc(b + c - least, least + 1, 0.5))
    return np.where(b + c == 0, np.nan, p)
