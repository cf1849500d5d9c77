"""Which point to try next, from the mean and standard deviation of a Gaussian process. Higher is better."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

_KNOWN = 1e-9
"""Deviations below this part of the distance that counts are 0: the normal law is a step there."""


def upper_confidence_bound(mean: ArrayLike, deviation: ArrayLike, *, gamma: float = 0.5) -> Array:
    """(1 - gamma) deviation + gamma mean: what is high, or not known.

    gamma = 0 explores only, 1 exploits only. The order is that of mean + kappa deviation with
    kappa = (1 - gamma) / gamma.

    Raises
    ------
    ValueError
        If `gamma` is not in [0, 1].

    References
    ----------
    srinivas2010gaussian; garg2016tumor
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"Expected `gamma` in [0, 1], but got {gamma!r}.")
    return (1 - gamma) * np.asarray(deviation, float) + gamma * np.asarray(mean, float)


def domain_restricted(bound: ArrayLike, points: ArrayLike, sampled: ArrayLike, feasible: ArrayLike) -> Array:
    """`bound` at the points to the right of every feasible sample; -inf at the others and at sampled points.

    With `upper_confidence_bound` it is the DR-UCB (domain-restricted upper confidence bound) of Condensa:
    argmax_s (1 - gamma) sigma(s) + gamma mu(s) subject to s > s_i for all i whose sample meets the limit. A feasible
    strength makes all weaker ones uninteresting, because the accuracy falls with the strength, nearly. **The formula
    is reconstructed**: its authors published no code, and what could be read names it without defining it.

    Parameters
    ----------
    bound, points
        Shape (point,).
    sampled, feasible
        Points that were tried, and whether each met the limit, shape (sample,).

    References
    ----------
    joseph2020programmable
    """
    where, tried = np.asarray(points, float), np.asarray(sampled, float)
    met = tried[np.asarray(feasible, bool)]
    allowed = (where > met.max(initial=-np.inf)) & ~np.isin(where, tried)
    return np.where(allowed, np.asarray(bound, float), -np.inf)


def expected_improvement(mean: ArrayLike, deviation: ArrayLike, best: float) -> Array:
    """E[max(f - best, 0)] of a normal f: (mean - best) Phi(z) + deviation phi(z), z = (mean - best) / deviation.

    0 means that nothing can be gained. Where the deviation is 0 it is max(mean - best, 0).

    References
    ----------
    jones1998efficient, eq. 15
    """
    gain, spread = np.asarray(mean, float) - best, np.asarray(deviation, float)
    known = spread <= _KNOWN * np.abs(gain)
    z = gain / np.where(known, 1.0, spread)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    # Rounding far below the best may leave a number below 0.
    return np.where(known, np.maximum(gain, 0), np.maximum(gain * special.ndtr(z) + spread * density, 0))


def probability_of_feasibility(mean: ArrayLike, deviation: ArrayLike) -> Array:
    """P(margin >= 0) of a normal margin; 1 or 0 where the deviation is 0."""
    centre, spread = np.asarray(mean, float), np.asarray(deviation, float)
    known = spread <= _KNOWN * np.abs(centre)
    return np.where(known, (centre >= 0).astype(float), special.ndtr(centre / np.where(known, 1.0, spread)))


def constrained_expected_improvement(
    improvement: ArrayLike, margin_mean: ArrayLike, margin_deviation: ArrayLike
) -> Array:
    """Expected improvement times the probability that the constraint holds: E[max(f - best, 0) 1(margin >= 0)].

    For an objective and a margin that are independent given the samples.

    References
    ----------
    gardner2014bayesian, eq. 6
    """
    return np.asarray(improvement, float) * probability_of_feasibility(margin_mean, margin_deviation)
