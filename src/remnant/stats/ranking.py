"""How sure an order of several methods is, from resampled values of all of them. Small values come first."""

import numpy as np
from numpy.typing import NDArray


def ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Place of each of several values, 1 for the smallest; equal values share the mean of their places."""
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return below + (equal + 1) / 2


def smaller_probability(resampled: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of resamples in which one method has a smaller value than another, shape (method, method).

    Equal values count half, so that entries (a, b) and (b, a) add up to 1; 1/2 on the diagonal. A bootstrap
    probability is not a p-value: for two methods that are equally good in truth it is anything between 0 and 1.

    Parameters
    ----------
    resampled
        Shape (resample, method).

    References
    ----------
    efron1998problem
    """
    num_methods = resampled.shape[1]
    found = np.full((num_methods, num_methods), 0.5)
    for a in range(num_methods):
        for b in range(a):
            less = np.count_nonzero(resampled[:, a] < resampled[:, b])
            equal = np.count_nonzero(resampled[:, a] == resampled[:, b])
            found[a, b] = (less + equal / 2) / len(resampled)
            found[b, a] = 1 - found[a, b]
    return found


def best_probability(resampled: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of resamples in which each method has the smallest value, shape (method,); those that tie share it."""
    first = resampled == resampled.min(axis=1, keepdims=True)
    return (first / first.sum(axis=1, keepdims=True)).mean(axis=0)


def rank_intervals(
    values: NDArray[np.floating], resampled: NDArray[np.floating], *, level: float = 0.95
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last place that each method may hold, shape (method,).

    A method is surely before or after another if their difference exceeds c standard errors, with c the `level`
    quantile of the largest of its studentized differences from all others over the resamples. Unlike the percentiles
    of resampled places, this holds its level when methods tie.

    Parameters
    ----------
    values, resampled
        Shapes (method,) and (resample, method).

    References
    ----------
    mogstad2024inference
    """
    num_methods = len(values)
    low, high = np.ones(num_methods, np.int64), np.full(num_methods, num_methods, np.int64)
    for j in range(num_methods):
        others = np.arange(num_methods) != j
        if not others.any():
            continue
        difference = (values - values[j])[others]
        noise = (resampled - resampled[:, [j]])[:, others] - difference
        error = noise.std(axis=0)
        studentized = np.divide(np.abs(noise), error, out=np.zeros(noise.shape), where=error > 0)
        reach = np.quantile(studentized.max(axis=1), level) * error
        low[j] += np.count_nonzero(difference < -reach)
        high[j] -= np.count_nonzero(difference > reach)
    return low, high
