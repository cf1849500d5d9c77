"""Gaussian process regression for a handful of costly samples: Matérn 5/2 kernel, marginal likelihood, Cholesky."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, optimize

Array = NDArray[np.float64]

BOUNDS = ((1e-2, 1e2), (5e-2, 5.0), (1e-4, 1.0))
"""Least and largest variance, length and noise that `fit` tries: for values of variance 1 on points in [0, 1]."""
_JITTER = 1e-10
"""Added to the diagonal, relative to the variance: equal points would make the matrix singular."""
_STARTS = ((1.0, 0.2, 1e-2), (1.0, 1.0, 1e-3), (1.0, 0.5, 0.1))


@dataclass(frozen=True)
class Kernel:
    """Matérn 5/2: variance (1 + r + r^2 / 3) exp(-r) with r = sqrt(5) |x - x'| / length, and noise on the diagonal."""

    variance: float = 1.0
    """Of the function at a point."""
    length: float = 0.5
    """Distance over which values are alike, in the unit of the points."""
    noise: float = 1e-4
    """Variance of a measured value about the function."""

    def __call__(self, first: Array, second: Array) -> Array:
        """Covariance of the function (without noise) between points of shape (n, d) and (m, d); shape (n, m)."""
        r = math.sqrt(5) * _distances(first, second) / self.length
        return self.variance * (1 + r + r**2 / 3) * np.exp(-r)


@dataclass(frozen=True)
class GaussianProcess:
    """The posterior of a function after some noisy values of it; `fit` makes one."""

    kernel: Kernel
    points: Array
    """Where values are known, shape (sample, dimension)."""
    centre: float
    """Mean of the values, which is the prior mean."""
    scale: float
    """Standard deviation of the values; the kernel is about values divided by it."""
    cholesky: Array
    weights: Array
    log_likelihood: float
    """Log marginal likelihood of the standardized values."""

    def predict(self, points: ArrayLike) -> tuple[Array, Array]:
        """Mean and standard deviation of the function (without noise) at points, each of shape (point,).

        mean = k K^-1 y and variance = k(x, x) - k K^-1 k', with K = kernel + noise on the diagonal.

        References
        ----------
        rasmussen2006gaussian, eq. 2.25 and 2.26
        """
        cross = self.kernel(self.points, _as_points(points))
        solved = linalg.solve_triangular(self.cholesky, cross, lower=True)
        variance = np.maximum(self.kernel.variance - (solved**2).sum(axis=0), 0)
        return self.centre + self.scale * (cross.T @ self.weights), self.scale * np.sqrt(variance)


def fit(points: ArrayLike, values: ArrayLike, *, kernel: Kernel | None = None) -> GaussianProcess:
    """The Gaussian process that explains `values` at `points` best.

    Values are standardized first; constant ones have scale 1. The kernel maximizes the log marginal likelihood plus
    the log of a normal prior on the logarithm of the length (mean log 0.5, standard deviation 1) and of the noise
    (mean log 0.001, standard deviation 2), within `BOUNDS`: two or three samples alone say nothing about it.

    Parameters
    ----------
    points
        Shape (sample,) or (sample, dimension), best in [0, 1].
    kernel
        Taken as it is instead.

    Raises
    ------
    ValueError
        If there is no sample, the numbers differ, or one is NaN or infinite.
    """
    x, y = _as_points(points), np.asarray(values, np.float64)
    if y.ndim != 1 or len(x) != len(y) or not len(y):
        raise ValueError(f"Expected one of `values` for each of the `points`, but got {y.shape} and {x.shape}.")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("Expected finite `points` and `values`, but some are NaN or infinite.")
    centre = float(y.mean())
    scale = float(y.std()) if np.ptp(y) > 1e-12 * max(1.0, float(np.abs(y).max())) else 1.0
    standard = (y - centre) / scale
    chosen = _most_likely(x, standard) if kernel is None else kernel
    value, cholesky, weights, _ = _likelihood(chosen, x, standard)
    return GaussianProcess(chosen, x, centre, scale, cholesky, weights, value)


def log_likelihood(kernel: Kernel, points: ArrayLike, values: ArrayLike) -> tuple[float, Array]:
    """Log marginal likelihood of values (taken as they are) and its gradient by log variance, length and noise.

    -1/2 y' K^-1 y - 1/2 log |K| - n/2 log 2 pi; gradient 1/2 tr((a a' - K^-1) dK) with a = K^-1 y.

    References
    ----------
    rasmussen2006gaussian, eq. 5.8 and 5.9
    """
    value, _, _, gradient = _likelihood(kernel, _as_points(points), np.asarray(values, np.float64))
    return value, gradient


def _likelihood(kernel: Kernel, x: Array, y: Array) -> tuple[float, Array, Array, Array]:
    """Log marginal likelihood, Cholesky factor, K^-1 y and the gradient."""
    num, clean = len(x), kernel(x, x)
    noise = kernel.noise + _JITTER * kernel.variance
    cholesky = linalg.cholesky(clean + noise * np.eye(num), lower=True)
    weights = linalg.cho_solve((cholesky, True), y)
    value = -0.5 * y @ weights - np.log(np.diag(cholesky)).sum() - num / 2 * math.log(2 * math.pi)
    inner = np.outer(weights, weights) - linalg.cho_solve((cholesky, True), np.eye(num))
    r = math.sqrt(5) * _distances(x, x) / kernel.length
    by_length = kernel.variance * np.exp(-r) * (r**2 + r**3) / 3
    gradient = 0.5 * np.array([(inner * clean).sum(), (inner * by_length).sum(), kernel.noise * np.trace(inner)])
    return float(value), cholesky, weights, gradient


def _most_likely(x: Array, y: Array) -> Kernel:
    centres, widths = np.log([0.5, 1e-3]), np.array([1.0, 2.0])

    def cost(logs: Array) -> tuple[float, Array]:
        value, _, _, gradient = _likelihood(Kernel(*np.exp(logs)), x, y)
        off = (logs[1:] - centres) / widths
        return -value + 0.5 * float(off @ off), -gradient + np.concatenate([[0.0], off / widths])

    bounds = [tuple(np.log(pair)) for pair in BOUNDS]
    found = [optimize.minimize(cost, np.log(start), jac=True, method="L-BFGS-B", bounds=bounds) for start in _STARTS]
    return Kernel(*(float(value) for value in np.exp(min(found, key=lambda one: one.fun).x)))


def _as_points(points: ArrayLike) -> Array:
    found = np.asarray(points, np.float64)
    return found[:, None] if found.ndim == 1 else found


def _distances(first: Array, second: Array) -> Array:
    return np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1))
