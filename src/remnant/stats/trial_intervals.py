"""Intervals whose unit of replication is the trial."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error and 95 % interval; NaN where there are too few trials."""

    estimate: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def mean_interval(values: NDArray[np.floating], *, level: float = 0.95) -> Interval:
    """Mean over the first axis with Student's interval; interval NaN for one value."""
    num = len(values)
    mean = np.asarray(values.mean(axis=0, dtype=np.float64))
    if num < 2:
        unknown = np.full(mean.shape, np.nan)
        return Interval(mean, unknown, unknown, unknown)
    return _interval(mean, values.std(axis=0, ddof=1, dtype=np.float64) / np.sqrt(num), num - 1, level)


def block_jackknife(
    statistic: Callable[[NDArray[np.intp]], NDArray[np.float64]],
    num_trials: int,
    *,
    blocks: int = 20,
    level: float = 0.95,
) -> Interval:
    """A statistic of all trials, with the interval from leaving out one block of neighbouring trials at a time.

    SE^2 = (B - 1) / B * sum_b (estimate_b - mean estimate_b)^2, and Student's quantile with B - 1 degrees of
    freedom. Blocks make the jackknife hold for shares above a threshold, where leaving out single trials fails.
    From 8 trials on, trials 2i and 2i + 1 stay together, which may hold complementary halves of the training set.
    NaN where the statistic is NaN without some block.

    Parameters
    ----------
    statistic
        From indices of trials to an array of statistics.

    References
    ----------
    kunsch1989jackknife
    """
    if num_trials < 2:
        raise ValueError(f"Expected at least 2 trials for a jackknife, but got {num_trials}.")
    every = np.arange(num_trials)
    unit = every // 2 if num_trials >= 8 else every
    blocks = min(blocks, int(unit[-1]) + 1)
    block_of = unit * blocks // (unit[-1] + 1)
    estimate = np.asarray(statistic(every), np.float64)
    left_out = np.stack([statistic(every[block_of != block]) for block in range(blocks)]).astype(np.float64)
    deviation = left_out - left_out.mean(axis=0)
    error = np.sqrt((blocks - 1) / blocks * (deviation**2).sum(axis=0))
    return _interval(estimate, error, blocks - 1, level)


def _interval(estimate: NDArray, error: NDArray, degrees: int, level: float) -> Interval:
    reach = stdtrit(degrees, 0.5 + level / 2) * error
    return Interval(estimate, error, estimate - reach, estimate + reach)
