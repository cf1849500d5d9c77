"""Rearrangements of trials under a null hypothesis, bootstrap and jackknife."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from remnant.stats.trial_intervals import Interval


@dataclass(frozen=True)
class Rearrangements:
    """Ways to deal pooled trials to two populations that are equally likely under the null."""

    in_first: NDArray[np.bool_]
    """Shape (permutation, trial): True for those in the first population. The trials of the first
    population come first, then those of the second."""
    exact: bool
    """All distinct ways, the observed one among them; else a random sample of them, without it."""


def relabelings(num_first: int, num_second: int, num: int, rng: np.random.Generator) -> Rearrangements:
    """Free permutations of the population labels of independent trials.

    All of them if there are at most `num`, else `num` random ones.
    """
    total = num_first + num_second
    if math.comb(total, num_first) <= num:
        chosen = np.array(list(itertools.combinations(range(total), num_first)))
        in_first = np.zeros((len(chosen), total), bool)
        np.put_along_axis(in_first, chosen, True, axis=1)
        return Rearrangements(in_first, exact=True)
    return Rearrangements(rng.random((num, total)).argsort(axis=1) < num_first, exact=False)


def swaps(num_pairs: int, num: int, rng: np.random.Generator) -> Rearrangements:
    """Exchanges of the two trials within pairs, each pair on its own coin.

    All of them if there are at most `num`, else `num` random ones.
    """
    exact = num_pairs < 63 and 2**num_pairs <= num
    if exact:
        keep = (np.arange(2**num_pairs)[:, None] >> np.arange(num_pairs)) % 2 == 0
    else:
        keep = rng.random((num, num_pairs)) < 0.5
    return Rearrangements(np.concatenate([keep, ~keep], axis=1), exact)


def permutation_p(observed: ArrayLike, null: ArrayLike, *, exact: bool = False) -> NDArray[np.float64]:
    """Share of rearrangements whose statistic is at least the observed one.

    (b + 1) / (m + 1) for m random rearrangements, so never 0; b / m when all of them are given, the
    observed one included. Small values speak for a large statistic.

    Parameters
    ----------
    observed
        Shape (...).
    null
        Shape (permutation, ...).
    exact
        As `Rearrangements.exact`.

    References
    ----------
    phipson2010permutation
    """
    observed, null = np.asarray(observed, float), np.asarray(null, float)
    with np.errstate(invalid="ignore"):
        slack = 1e-9 * np.where(np.isfinite(observed), np.abs(observed), 0)
    at_least = np.count_nonzero(null >= observed - slack, axis=0)
    return at_least / len(null) if exact else (at_least + 1) / (len(null) + 1)


def bootstrap_mean(values: ArrayLike, *, rng: np.random.Generator, num: int = 2000) -> tuple[NDArray, NDArray]:
    """95 % bootstrap interval (bias-corrected and accelerated) of the mean over the first axis.

    For the difference of pairs, pass the differences. Columns are resampled together. With equal
    values the interval has width 0.

    References
    ----------
    efron1987better
    """
    x = np.asarray(values, float)
    _check_size(x)
    flat = x.reshape(len(x), -1)
    means = _weights(len(x), num, rng) @ flat
    low, high = _bca(means, flat.mean(axis=0), _skewness(flat))
    return low.reshape(x.shape[1:]), high.reshape(x.shape[1:])


def bootstrap_difference(
    first: ArrayLike, second: ArrayLike, *, rng: np.random.Generator, num: int = 2000
) -> tuple[NDArray, NDArray]:
    """95 % bootstrap interval (bias-corrected and accelerated) of mean(first) - mean(second).

    The two samples are independent and resampled each on its own; for pairs use `bootstrap_mean`.

    References
    ----------
    efron1987better
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    _check_size(a)
    _check_size(b)
    one, two = a.reshape(len(a), -1), b.reshape(len(b), -1)
    means = _weights(len(a), num, rng) @ one - _weights(len(b), num, rng) @ two
    # Influences of the difference: those of either mean, by the size of its sample.
    influence = np.concatenate([(one - one.mean(axis=0)) / len(one), (two.mean(axis=0) - two) / len(two)])
    low, high = _bca(means, one.mean(axis=0) - two.mean(axis=0), _acceleration(influence))
    return low.reshape(a.shape[1:]), high.reshape(a.shape[1:])


def jackknife(statistic: Callable[[NDArray[np.intp]], float], num_trials: int) -> Interval:
    """A statistic of all trials, with the interval from leaving out one trial at a time.

    se^2 = (n - 1) / n * sum of squared deviations of the n values; Student's quantile with n - 1
    degrees of freedom. For smooth statistics and means over pairs of trials; not for quantiles or
    counts of modal labels.

    Parameters
    ----------
    statistic
        From indices of trials to a number.
    num_trials
        n.

    Raises
    ------
    ValueError
        If there are fewer than 3 trials.

    References
    ----------
    tukey1958bias; arvesen1969jackknifing
    """
    if num_trials < 3:
        raise ValueError(f"Expected at least 3 trials for a jackknife, but got {num_trials}.")
    every = np.arange(num_trials)
    estimate = float(statistic(every))
    left_out = np.array([statistic(np.delete(every, k)) for k in range(num_trials)], float)
    error = np.sqrt((num_trials - 1) / num_trials * np.sum((left_out - left_out.mean()) ** 2))
    half = special.stdtrit(num_trials - 1, 0.975) * error
    return Interval(*(np.asarray(x) for x in (estimate, error, estimate - half, estimate + half)))


def _check_size(x: NDArray) -> None:
    if len(x) < 2:
        raise ValueError(f"Expected at least 2 values to resample, but got {len(x)}.")


def _weights(n: int, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Share of each value in each of `num` bootstrap samples, shape (num, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=num) / n


def _skewness(flat: NDArray) -> NDArray:
    return _acceleration((flat - flat.mean(axis=0)) / len(flat))


def _acceleration(influence: NDArray) -> NDArray:
    """Efron's acceleration from the influence of each value on the statistic."""
    bottom = 6 * np.sum(influence**2, axis=0) ** 1.5
    return np.divide(np.sum(influence**3, axis=0), bottom, out=np.zeros(influence.shape[1]), where=bottom > 0)


def _bca(resampled: NDArray, estimate: NDArray, acceleration: NDArray) -> tuple[NDArray, NDArray]:
    """Ends of the interval of each column of `resampled` (num, column)."""
    num = len(resampled)
    below = np.count_nonzero(resampled < estimate, axis=0) + np.count_nonzero(resampled == estimate, axis=0) / 2
    bias = special.ndtri(np.clip(below / num, 0.5 / num, 1 - 0.5 / num))
    ordered = np.sort(resampled, axis=0)
    ends = []
    for tail in (0.025, 0.975):
        z = bias + special.ndtri(tail)
        share = special.ndtr(bias + z / (1 - acceleration * z))
        place = np.clip(share * (num - 1), 0, num - 1)
        floor = np.floor(place).astype(int)
        above = np.minimum(floor + 1, num - 1)
        columns = np.arange(ordered.shape[1])
        part = place - floor
        ends.append((1 - part) * ordered[floor, columns] + part * ordered[above, columns])
    return ends[0], ends[1]
