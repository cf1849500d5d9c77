"""Many tests at once: adjusted p-values.

A test that is undefined (p = NaN) is not a test: it stays NaN and does not count.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """q-values: rejecting all with q <= 0.05 keeps the expected share of false rejections at 0.05.

    Holds for independent tests and for the usual positive dependence. q is never below p.

    Raises
    ------
    ValueError
        If a p-value lies outside [0, 1].

    References
    ----------
    benjamini1995controlling
    """
    return _step_up(p, correction=lambda m: 1.0)


def benjamini_yekutieli(p: ArrayLike) -> NDArray[np.float64]:
    """q-values that hold under any dependence; larger than Benjamini-Hochberg's by 1 + 1/2 + ... + 1/m.

    References
    ----------
    benjamini2001control, theorem 1.3
    """
    return _step_up(p, correction=lambda m: float(np.sum(1 / np.arange(1, m + 1))))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values: rejecting all <= 0.05 makes any false rejection at most 5 % likely.

    References
    ----------
    holm1979simple
    """
    values, tested, order = _sorted(p)
    m = len(order)
    adjusted = np.maximum.accumulate(values[tested][order] * (m - np.arange(m)))
    return _restored(values, tested, order, adjusted)


def _step_up(p: ArrayLike, correction) -> NDArray[np.float64]:
    values, tested, order = _sorted(p)
    m = len(order)
    raised = values[tested][order] * m * correction(m) / np.arange(1, m + 1)
    adjusted = np.minimum.accumulate(raised[::-1])[::-1]
    return _restored(values, tested, order, adjusted)


def _sorted(p: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]]:
    values = np.asarray(p, float)
    if values.ndim != 1:
        raise ValueError(f"Expected `p` with one dimension, but got shape {values.shape}.")
    tested = ~np.isnan(values)
    if np.any((values[tested] < 0) | (values[tested] > 1)):
        raise ValueError("Expected `p` in [0, 1], but some values lie outside.")
    return values, tested, np.argsort(values[tested], kind="stable")


def _restored(values: NDArray, tested: NDArray, order: NDArray, adjusted: NDArray) -> NDArray[np.float64]:
    unsorted = np.empty(len(order))
    unsorted[order] = np.minimum(adjusted, 1)
    result = np.full(values.shape, np.nan)
    result[tested] = unsorted
    return result
