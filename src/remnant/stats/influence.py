"""Influence and memorization by the subset estimator, with standard errors, from one count matrix.

t models are trained on random subsets of the training set. With included[k, i] (training example i was in
subset k) and outcome[k, j] (model k was right on test example j, or its margin there), the one product

    c = outcome.T @ included

holds everything: with n1 = included.sum(0), n0 = t - n1 and d = outcome.sum(0),

    influence = c / n1 - (d - c) / n0 = (t c - d n1) / (n1 n0).

c is a sum over trials, so it adds up over shards of a population. 0/1 outcomes are counted in float32, where sums
are exact up to 2^24 trials: results do not depend on tiling, threads or the order of trials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

MOST_TRIALS = 2**24
"""Counts in float32 are exact up to here."""

Real = NDArray[np.floating]


@dataclass(frozen=True)
class Estimate:
    """Estimated effects of training examples, with their uncertainty."""

    value: NDArray[np.float64]
    """Mean outcome with the training example minus mean outcome without it; NaN where one of them is missing."""
    standard_error: NDArray[np.float64]
    """Standard error of `value`. For 0/1 outcomes too small (even 0) where both proportions are 0 or 1: use an
    interval there."""
    z: NDArray[np.float64]
    """`value` over its standard deviation if membership were unrelated; NaN where the outcome never varies."""
    num_in: NDArray[np.int64]
    """Number of trials with the training example, shape (train_example,)."""
    num_out: NDArray[np.int64]
    """Number of trials without it."""


def influence(outcome: NDArray, included: NDArray[np.bool_]) -> Estimate:
    """Effect of each training example on each test example, shape (example, train_example).

    mean(outcome | trained on i) - mean(outcome | not trained on i); for correctness in [-1, 1], 0 = no effect,
    > 0 = training on i helps. NaN for training examples that are in all or none of the subsets. Standard errors:

    - bool outcomes: sqrt(p1 (1 - p1) / n1 + p0 (1 - p0) / n0);
    - real outcomes: Student's, from the variance within the two groups.

    z divides by the exact standard deviation over random permutations of the trials, sqrt(s^2 t / (n1 n0)) with
    the sample variance s^2 of the outcome, so that z = sqrt(t - 1) times Pearson's correlation of membership and
    outcome. The whole matrix is held in memory: for large sets use `remnant.stats.influence_tiles`.

    Parameters
    ----------
    outcome
        Shape (trial, example); bool for correctness, floating for margins.
    included
        Shape (trial, train_example).

    Raises
    ------
    ValueError
        If the shapes differ in the number of trials, there are fewer than 2, or an outcome is not finite.

    References
    ----------
    feldman2020what, section 2
    """
    check_trials(outcome, included)
    num_in = included.sum(axis=0)
    total, variance = moments(outcome)
    sums = counts(outcome, included).astype(np.float64)
    return _estimate(sums, total[:, None], variance[:, None], num_in, len(outcome), outcome.dtype == bool)


def memorization(correct: NDArray, included: NDArray[np.bool_]) -> Estimate:
    """Effect of each training example on itself, shape (train_example,).

    mean(correct | trained on it) - mean(correct | not); for correctness in [-1, 1], 0 = not memorized. NaN where
    all or none of the trials saw the example, never a false "fully memorized".

    Parameters
    ----------
    correct
        Shape (trial, train_example); bool for correctness, floating for margins.

    References
    ----------
    feldman2020what, section 2
    """
    check_trials(correct, included)
    if correct.shape != included.shape:
        raise ValueError(f"Expected `correct` and `included` of one shape, but got {correct.shape}, {included.shape}.")
    num_in = included.sum(axis=0)
    total, variance = moments(correct)
    binary = correct.dtype == bool
    both = correct & included if binary else centred(correct) * included
    sums = both.sum(axis=0, dtype=np.float64)
    return _estimate(sums, total, variance, num_in, len(correct), binary)


def influence_of_pairs(
    outcome: NDArray, included: NDArray[np.bool_], examples: NDArray[np.integer], train_examples: NDArray[np.integer]
) -> Estimate:
    """`influence` of chosen pairs only: examples[l] with train_examples[l]; all fields have shape (pair,)."""
    check_trials(outcome, included)
    chosen, member = outcome[:, examples], included[:, train_examples]
    return memorization(chosen, member)


def counts(outcome: NDArray, included: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The count matrix outcome.T @ included, float32 (example, train_example).

    Exact integers for bool outcomes. Real outcomes are centred first (their mean over trials is taken off), which
    keeps the rounding error of the sums far below their standard error.
    """
    left = outcome if outcome.dtype == bool else centred(outcome)
    return left.astype(np.float32).T @ included.astype(np.float32)


def contrasts(included: NDArray[np.bool_], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights of the trials whose product with an outcome is a group's mean influence, shape (trial, group).

    `outcome.T @ contrasts(included, members)` is the mean over the training examples of each group of
    `influence(outcome, included).value`, without the matrix: r = W G / |G| with W = M / n1 - (1 - M) / n0.
    All 0 for a group whose mean influence is 0 for every outcome, as that of all training examples is when every
    subset has one size and every example is in as many subsets. Training examples that are never in or never out
    are left out of their group; NaN for a group without any other.

    Parameters
    ----------
    members
        Shape (train_example, group).
    """
    num_trials, num_train = included.shape
    num_in = included.sum(axis=0)
    defined = (num_in > 0) & (num_in < num_trials)
    found = np.zeros((num_trials, members.shape[1]))
    for start in range(0, num_train, 4096):
        part = slice(start, start + 4096)
        keep = defined[part]
        found += weights(included[:, part][:, keep]) @ members[part][keep].astype(np.float64)
    size = members[defined].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, found / size, np.nan)


def weights(included: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The matrix W with influence = outcome.T @ W: 1 / n1 where included, -1 / n0 elsewhere."""
    num_in = included.sum(axis=0)
    return np.where(included, 1 / num_in, -1 / (len(included) - num_in))


def newcombe_interval(
    right_in: NDArray, num_in: NDArray, right_out: NDArray, num_out: NDArray, *, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of a difference of two independent proportions, right_in / num_in - right_out / num_out.

    Newcombe's hybrid of two Wilson intervals: it keeps a width where both proportions are 0 or 1, unlike the
    standard error. NaN where a number of trials is 0.

    References
    ----------
    newcombe1998interval, method 10
    """
    quantile = float(ndtri(0.5 + level / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        p1, low1, high1 = _wilson(np.asarray(right_in), np.asarray(num_in), quantile)
        p0, low0, high0 = _wilson(np.asarray(right_out), np.asarray(num_out), quantile)
        difference = p1 - p0
        low = difference - np.sqrt((p1 - low1) ** 2 + (high0 - p0) ** 2)
        high = difference + np.sqrt((high1 - p1) ** 2 + (p0 - low0) ** 2)
    return low, high


def worst_standard_error(num_trials: int, fraction: float) -> float:
    """Standard error of the influence of an example that is right half of the time: 0.5 / sqrt(t p (1 - p)).

    No other accuracy has a larger one. `fraction` is p, the share of the training set in a subset.
    """
    return 0.5 / float(np.sqrt(num_trials * fraction * (1 - fraction)))


def check_trials(outcome: NDArray, included: NDArray) -> None:
    """Refuse outcomes and subsets that do not belong together."""
    if included.dtype != bool:
        raise ValueError(f"Expected `included` of dtype bool, but got {included.dtype}.")
    if outcome.dtype != bool and outcome.dtype.kind != "f":
        raise ValueError(f"Expected outcomes of dtype bool (correctness) or floating (margins), got {outcome.dtype}.")
    if len(outcome) != len(included):
        raise ValueError(f"Expected one row of outcomes for each of {len(included)} subsets, but got {len(outcome)}.")
    if not 2 <= len(included) < MOST_TRIALS:
        raise ValueError(f"Expected from 2 to {MOST_TRIALS - 1} trials, but got {len(included)}.")
    if outcome.dtype != bool and not np.isfinite(outcome).all():
        raise ValueError("Expected finite outcomes, but got NaN or infinite ones. Leave their trials out.")


def moments(outcome: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and sample variance of each column over the trials."""
    total = outcome.sum(axis=0, dtype=np.float64)
    if outcome.dtype == bool:
        num_trials = len(outcome)
        return total, total * (num_trials - total) / (num_trials * (num_trials - 1))
    return total, centred(outcome).var(axis=0, ddof=1)


def centred(outcome: NDArray) -> NDArray[np.float64]:
    """The outcome minus its mean over the trials."""
    outcome = outcome.astype(np.float64)
    return outcome - outcome.mean(axis=0)


def estimate_of_counts(
    both: NDArray[np.integer], right: NDArray[np.integer], num_in: NDArray[np.integer], num_trials: int
) -> Estimate:
    """The estimate of 0/1 outcomes from counts of trials: with and right, right, with, all."""
    total = right.astype(np.float64)
    variance = total * (num_trials - total) / (num_trials * (num_trials - 1))
    return _estimate(both.astype(np.float64), total, variance, num_in, num_trials, True)


def _estimate(
    sums: NDArray, total: NDArray, variance: NDArray, num_in: NDArray, num_trials: int, binary: np.bool_ | bool
) -> Estimate:
    num_out = num_trials - num_in
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = num_trials / (num_in * num_out)
        if binary:
            value = (num_trials * sums - total * num_in) / (num_in * num_out)
            p1, p0 = sums / num_in, (total - sums) / num_out
            squared = p1 * (1 - p1) / num_in + p0 * (1 - p0) / num_out
        else:
            value = np.where(np.isfinite(spread), sums * spread, np.nan)
            within = ((num_trials - 1) * variance - value**2 / spread) / (num_trials - 2)
            squared = np.maximum(within, 0) * spread
        z = value / np.sqrt(variance * spread)
    return Estimate(value, np.sqrt(squared), np.where(np.isfinite(z), z, np.nan), num_in, num_out)


def _wilson(right: NDArray, num: NDArray, quantile: float) -> tuple[NDArray, NDArray, NDArray]:
    share = right / num
    centre = (share + quantile**2 / (2 * num)) / (1 + quantile**2 / num)
    half = quantile * np.sqrt(share * (1 - share) / num + quantile**2 / (4 * num**2)) / (1 + quantile**2 / num)
    return share, centre - half, centre + half
