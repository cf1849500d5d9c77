"""Effects of training examples on outcomes, with the effects of all other training examples taken off.

The plain estimate of one training example's effect has the effects of all others as noise: each trial is another
random subset. A joint regression takes them off. With fewer trials than training examples it needs a prior, and
memorization gives one: what is not memorized itself has little effect on others (ours). For outcome j

    y = X b + e,   b_i ~ N(0, k w_i),   w_i = (memorization of i, at least 0.01)^2,   e ~ N(0, s)

with X the membership of the training examples, centred. The ratio of noise to effects is chosen for each outcome from
`RATIOS` by the marginal likelihood. The effect of i is then estimated by generalized least squares, its own prior
left out, so that it is not shrunk: with V = X diag(w) X' + ratio I

    b_i = x_i' V^-1 y / x_i' V^-1 x_i,    variance  s^2 (1 / x_i' V^-1 x_i - w_i),    s^2 = y' V^-1 y / (t - 1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.stats.influence import check_trials

Real = NDArray[np.float64]

RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0, 1000.0)
"""Noise over effects, as shares of the mean variance of an outcome; the last one takes nothing off."""

LEAST_MEMORIZATION = 0.01


@dataclass(frozen=True)
class Effects:
    """Estimated effects of training examples (columns) on examples (rows)."""

    value: Real
    standard_error: Real
    """Of a pair without any effect."""


@dataclass(frozen=True)
class Adjustment:
    """The subsets of a population with a prior of the effects, ready to estimate effects on any outcomes."""

    membership: Real
    """Centred membership X, shape (trial, train_example)."""
    share: Real
    """Of the trials that each training example is in, shape (train_example,)."""
    prior: Real
    """w_i, scaled so that the mean variance of X b is 1, shape (train_example,)."""
    eigenvalues: Real
    """Of X diag(w) X', shape (trial,)."""
    vectors: Real
    """Its eigenvectors in columns, shape (trial, trial)."""


def adjustment(included: NDArray[np.bool_], memorization: NDArray[np.floating]) -> Adjustment:
    """Prepare `adjusted_effects`. All training examples take part, whatever their class.

    Parameters
    ----------
    included
        Shape (trial, train_example).
    memorization
        Shape (train_example,); NaN counts as not memorized.
    """
    if memorization.shape != included.shape[1:]:
        raise ValueError(
            f"Expected `memorization` of one value for each of {included.shape[1]} training examples, but got the "
            f"shape {memorization.shape}."
        )
    share = included.mean(axis=0)
    membership = included - share
    prior = np.maximum(np.nan_to_num(memorization), LEAST_MEMORIZATION) ** 2
    kernel = (membership * prior) @ membership.T
    scale = np.trace(kernel) / len(kernel)
    eigenvalues, vectors = np.linalg.eigh(kernel / scale)
    return Adjustment(membership, share, prior / scale, np.maximum(eigenvalues, 0), vectors)


def adjusted_effects(outcome: NDArray, given: Adjustment, train_examples: NDArray[np.integer] | None = None) -> Effects:
    """Effect of each training example on each outcome, shape (example, train_example).

    For 0/1 outcomes an estimate of the influence, as memberships are nearly independent of each other. 0 where the
    outcome never varies; NaN for training examples in all or no trials.

    Parameters
    ----------
    outcome
        Shape (trial, example); bool for correctness, floating for margins.
    train_examples
        Those whose effects are wanted; default all.
    """
    check_trials(outcome, given.membership > 0)
    wanted = slice(None) if train_examples is None else train_examples
    num_trials = len(outcome)
    centred = outcome - outcome.mean(axis=0, dtype=np.float64)
    rotated = given.vectors.T @ centred
    turned = given.vectors.T @ given.membership[:, wanted]
    chosen = _best_ratio(rotated, given.eigenvalues)
    shape = (centred.shape[1], turned.shape[1])
    value, error = np.empty(shape), np.empty(shape)
    for place, ratio in enumerate(RATIOS):
        rows = np.flatnonzero(chosen == place)
        if len(rows) == 0:
            continue
        inverse = 1 / (given.eigenvalues + ratio)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = inverse @ turned**2
            precision = np.where(precision > 1e-12, precision, np.nan)
        weighted = inverse[:, None] * rotated[:, rows]
        scale = (weighted * rotated[:, rows]).sum(axis=0) / (num_trials - 1)
        value[rows] = (weighted.T @ turned) / precision
        error[rows] = np.sqrt(np.outer(scale, np.maximum(1 / precision - given.prior[wanted], 1e-12)))
    return Effects(value, error)


def _best_ratio(rotated: Real, eigenvalues: Real) -> NDArray[np.intp]:
    """Place in `RATIOS` of the largest marginal likelihood of each outcome, its scale profiled out."""
    num_trials = len(eigenvalues)
    likelihood = []
    for ratio in RATIOS:
        total = eigenvalues + ratio
        scale = ((rotated**2) / total[:, None]).sum(axis=0) / (num_trials - 1)
        # Of centred outcomes and columns: the constant direction, the least eigenvalue, holds no information.
        likelihood.append(-np.log(np.maximum(scale, 1e-300)) * (num_trials - 1) / 2 - np.log(total[1:]).sum() / 2)
    return np.argmax(likelihood, axis=0)
