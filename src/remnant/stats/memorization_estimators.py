"""Memorization from fewer trials: the share of right answers, and the margins behind them, combined.

Memorization is a difference of two probabilities, of which that without the example is the uncertain one. The share of
right answers among the trials without it is unbiased. The margins of the same trials say how near each answer was:
if they were normal, the probability would be Phi(mean / standard deviation), with less noise but a bias. Both are
weighed so that the estimated squared error is least, a James-Stein estimate: with more trials the bias stays, its
weight vanishes, and the estimate goes to the one by definition.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from remnant.stats.influence import check_trials

_PRIOR_TRIALS = 4
"""The median variance of the margins counts for each example as much as so many trials: a handful of trials
without the example has no variance of its own (ours)."""

_COLUMNS = 2**12
"""Training examples at a time: of thousands of trials little is then held in double precision."""


@dataclass(frozen=True)
class CombinedMemorization:
    """Memorization from answers and margins."""

    value: NDArray[np.float64]
    """P(right | trained on it) - P(right | not), shape (train_example,); NaN where all or none of the trials saw it."""
    weight: float
    """Share of the estimate by margins, in [0, 1], where answers without the example differ; 0 is the plain one."""


def combined_memorization(
    correct: NDArray[np.bool_], margin: NDArray[np.floating], included: NDArray[np.bool_]
) -> CombinedMemorization:
    """Memorization of each training example with a smaller expected squared error than the plain estimate.

        value = c1 / n1 - ((1 - w) c0 / n0 + w Phi(m / s))

    c and n count right answers and trials with (1) and without (0) the example; m and s are mean and standard
    deviation of its margins in the n0 trials. One weight for all examples,

        w = sum(var(c0 / n0) - cov(c0 / n0, Phi(m / s))) / sum((c0 / n0 - Phi(m / s))^2), kept within [0, 1],

    estimates what minimises the mean squared error, as c0 / n0 is unbiased. The covariance comes from the influence
    function of Phi(m / s). Where all trials without the example are right the value is the plain one: no example
    becomes memorized by its margins alone.

    Parameters
    ----------
    correct, margin, included
        Shape (trial, train_example); margins are > 0 where the answer is right.

    Raises
    ------
    ValueError
        If the shapes differ, there are fewer than 2 trials, or a margin is not finite.

    References
    ----------
    feldman2020what, section 2; green1991james, for the weight
    """
    check_trials(correct, included)
    check_trials(margin, included)
    if not correct.shape == margin.shape == included.shape:
        raise ValueError(
            f"Expected `correct`, `margin` and `included` of one shape, but got {correct.shape}, {margin.shape}, "
            f"{included.shape}."
        )
    blocks = [slice(start, start + _COLUMNS) for start in range(0, included.shape[1], _COLUMNS)]
    num_in = included.sum(axis=0)
    num_out = len(included) - num_in
    with np.errstate(invalid="ignore", divide="ignore"):
        variances = np.concatenate([_variance(margin[:, one], ~included[:, one]) for one in blocks])
        typical = np.median(variances[num_out > 1]) if (num_out > 1).any() else np.nan
        with_it = np.concatenate([(correct[:, one] & included[:, one]).sum(axis=0) for one in blocks]) / num_in
        parts = [_by_margins(correct[:, one], margin[:, one], ~included[:, one], typical) for one in blocks]
        share, by_margin, covariance = (np.concatenate(part) for part in zip(*parts, strict=True))
        variance = share * (1 - share) / (num_out - 1)
    mixed = (share < 1) & (num_out > 1) & (num_in > 0)
    gain, distance = (variance - covariance)[mixed].sum(), ((share - by_margin)[mixed] ** 2).sum()
    weight = float(np.clip(gain / distance, 0, 1)) if distance > 0 else 0.0
    without = np.where(mixed, share + weight * (by_margin - share), share)
    return CombinedMemorization(with_it - without, weight)


def _variance(margin: NDArray[np.floating], outside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sample variance of the margins outside, of each column."""
    num_out = outside.sum(axis=0)
    margin = margin.astype(np.float64)
    mean = np.where(outside, margin, 0).sum(axis=0) / num_out
    return (np.where(outside, margin - mean, 0) ** 2).sum(axis=0) / (num_out - 1)


def _by_margins(
    correct: NDArray[np.bool_], margin: NDArray[np.floating], outside: NDArray[np.bool_], typical: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Share of right answers outside, Phi(mean / standard deviation) of the margins there, and their covariance."""
    num_out = outside.sum(axis=0)
    share = (correct & outside).sum(axis=0) / num_out
    margin = margin.astype(np.float64)
    mean = np.where(outside, margin, 0).sum(axis=0) / num_out
    deviation = np.where(outside, margin - mean, 0)
    degrees = num_out - 1 + _PRIOR_TRIALS
    deviation_of = np.sqrt(((deviation**2).sum(axis=0) + _PRIOR_TRIALS * typical) / degrees)
    quantile = mean / deviation_of
    density = np.exp(-(quantile**2) / 2) / np.sqrt(2 * np.pi)
    unit = deviation / deviation_of
    # Influence function of Phi(mean / s): how much each trial moves it.
    pull = density * (unit - quantile * (unit**2 - 1) / 2 * (num_out - 1) / degrees)
    covariance = np.where(outside, (correct - share) * pull, 0).sum(axis=0) / (num_out * (num_out - 1))
    return share, ndtr(quantile), covariance
