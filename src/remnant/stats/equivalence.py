"""Are two models as accurate as each other, within a margin? Tests and intervals on the same examples.

Of n examples, `lost` are those on which only the first model (the reference) is right, `gained` those on which only
the second is. The change of accuracy is (gained - lost) / n; below 0, the second model is less accurate.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Interval = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper ends, of the shape of the estimates."""

_HALVINGS = 44
"""Of a bracket no wider than 2: to 1e-13."""


def tango_z(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, change: ArrayLike) -> NDArray[np.float64]:
    """Score statistic of the hypothesis that the change of accuracy is `change`, standard normal if it is.

    z = (gained - lost - n change) / sqrt(n (2 q + change (1 - change))), with q the most likely share of lost
    examples among those that the hypothesis allows. Above 0 where the observed change is larger. At `change` = 0 it is
    McNemar's statistic without correction; 0 where nothing differs.

    Raises
    ------
    ValueError
        If counts are negative or larger than n, or `change` is not in (-1, 1).

    References
    ----------
    tango1998equivalence
    """
    b, c, n = _counts(lost, gained, n)
    change = np.asarray(change, float)
    if np.any(np.abs(change) >= 1):
        raise ValueError("Expected `change` in (-1, 1), but some values lie outside.")
    return _z(b, c, n, change)


def tango_interval(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Interval for the change of accuracy: all values that the score test at 1 - `level` does not refuse.

    Holds its level where few examples differ, and has a width where none does.

    References
    ----------
    tango1998equivalence
    """
    b, c, n = np.broadcast_arrays(*_counts(lost, gained, n))
    quantile = normal_quantile(level)
    estimate = (c - b) / n
    # tango_z falls as the change rises: its value is +quantile at the lower end, -quantile at the upper one.
    target = np.stack([np.full(estimate.shape, quantile), np.full(estimate.shape, -quantile)])
    below, above = np.stack([np.full(estimate.shape, -1.0), estimate]), np.stack([estimate, np.ones(estimate.shape)])
    for _ in range(_HALVINGS):
        middle = (below + above) / 2
        is_above = _z(b, c, n, middle) > target
        below, above = np.where(is_above, middle, below), np.where(is_above, above, middle)
    low, high = (below + above) / 2
    # Rounding must not move the ends off -1 and 1, where they are exact.
    return np.where(b == n, -1.0, low), np.where(c == n, 1.0, high)


def wald_interval(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, *, level: float = 0.95) -> Interval:
    """Interval from the normal approximation; too narrow where few examples differ, a cross-check elsewhere.

    Variance of the change: (lost + gained - (gained - lost)^2 / n) / (n (n - 1)), that of n values of -1, 0, 1.
    """
    b, c, n = _counts(lost, gained, n)
    half = normal_quantile(level) * _wald_error(b, c, n)
    return (c - b) / n - half, (c - b) / n + half


def noninferiority_p(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, margin: float) -> NDArray[np.float64]:
    """p of the hypothesis that accuracy falls by `margin` or more; small values speak for a smaller fall, or a rise.

    One-sided score test at a change of -`margin`.

    References
    ----------
    tango1998equivalence
    """
    return special.ndtr(-tango_z(lost, gained, n, -checked_margin(margin)))


def tost_p(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, margin: float) -> NDArray[np.float64]:
    """p of the hypothesis that accuracies differ by `margin` or more; small values show that they do not.

    Two one-sided score tests: the larger p of "falls by `margin` or more" and "rises by `margin` or more".

    References
    ----------
    schuirmann1987comparison; tango1998equivalence
    """
    rise = special.ndtr(tango_z(lost, gained, n, checked_margin(margin)))
    return np.maximum(noninferiority_p(lost, gained, n, margin), rise)


def wald_tost_p(lost: ArrayLike, gained: ArrayLike, n: ArrayLike, margin: float) -> NDArray[np.float64]:
    """As `tost_p`, by the normal approximation with the observed variance; NaN where nothing differs."""
    b, c, n = _counts(lost, gained, n)
    reach = checked_margin(margin) - np.abs(c - b) / n
    error = _wald_error(b, c, n)
    return special.ndtr(-np.divide(reach, error, out=np.full(error.shape, np.nan), where=error > 0))


def smallest_margins(low: ArrayLike, high: ArrayLike) -> Interval:
    """Smallest margins at which not being worse, and being equivalent, would be shown, from a 90 % interval.

    At 5 %: max(0, -low) and max(0, -low, high). A margin that was chosen after seeing this number shows nothing.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    noninferiority = np.maximum(0.0, -low)
    return noninferiority, np.maximum(noninferiority, high)


def examples_needed(discordance: float, margin: float, *, change: float = 0.0, power: float = 0.8) -> float:
    """Examples with which `tost_p` <= 5 % has the given power, if the true change of accuracy is `change`.

    n = ((z_0.95 s0 + z s1) / (margin - |change|))^2, with s1^2 = discordance - change^2 the variance of an example,
    s0^2 its variance at the margin as the score test estimates it, and z the quantile of `power`, or of
    (1 + power) / 2 at `change` = 0, where either of the two tests can fail. Infinite if |change| >= `margin`.

    Parameters
    ----------
    discordance
        Share of examples on which exactly one of the two models is right, in [|change|, 1].

    References
    ----------
    lu1995sample; tango1998equivalence
    """
    checked_margin(margin)
    if not abs(change) <= discordance <= 1:
        raise ValueError(f"Expected `discordance` in [|change|, 1] = [{abs(change)!r}, 1], but got {discordance!r}.")
    if not 0 < power < 1:
        raise ValueError(f"Expected `power` in (0, 1), but got {power!r}.")
    if abs(change) >= margin:
        return math.inf
    b, c = (discordance + abs(change)) / 2, (discordance - abs(change)) / 2
    at_margin = math.sqrt(float(_variance(*(np.asarray(x) for x in (b, c, 1.0, -margin)))))
    own = math.sqrt(max(discordance - change**2, 0.0))
    quantile = float(special.ndtri((1 + power) / 2 if change == 0 else power))
    root = float(special.ndtri(0.95)) * at_margin + max(quantile, 0.0) * own
    return math.ceil((root / (margin - abs(change))) ** 2)


def normal_quantile(level: float) -> float:
    """Half width, in standard errors, of a two-sided interval of the given level."""
    if not 0 < level < 1:
        raise ValueError(f"Expected `level` in (0, 1), but got {level!r}.")
    return float(-special.ndtri((1 - level) / 2))


def checked_margin(margin: float) -> float:
    """The margin itself.

    Raises
    ------
    ValueError
        If it is not a share in (0, 1).
    """
    if not 0 < margin < 1:
        raise ValueError(f"Expected `margin` in (0, 1), such as 0.01 for one point of accuracy, but got {margin!r}.")
    return float(margin)


def _z(b: NDArray, c: NDArray, n: NDArray, change: NDArray) -> NDArray[np.float64]:
    top = c - b - n * change
    variance = n * _variance(b, c, n, change)
    return np.divide(top, np.sqrt(variance), out=np.zeros(np.broadcast(top, variance).shape), where=variance > 0)


def _variance(b: NDArray, c: NDArray, n: NDArray, change: NDArray) -> NDArray[np.float64]:
    """Variance of one example's change if the hypothesis holds, by Tango's equation for q (his x12 is c, x21 is b)."""
    linear = -b - c + (2 * n - c + b) * change
    constant = -b * change * (1 - change)
    q = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0)) - linear) / (4 * n)
    return np.maximum(2 * q + change * (1 - change), 0)


def _wald_error(b: NDArray, c: NDArray, n: NDArray) -> NDArray[np.float64]:
    if np.any(n < 2):
        raise ValueError("Expected at least 2 examples for a standard error, but got 1.")
    return np.sqrt(np.maximum(b + c - (c - b) ** 2 / n, 0) / (n * (n - 1)))


def _counts(lost: ArrayLike, gained: ArrayLike, n: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    b, c, n = (np.asarray(x, float) for x in (lost, gained, n))
    if np.any(n < 1):
        raise ValueError(f"Expected `n` >= 1, but got {n.min():g}: a share of nothing is undefined.")
    if np.any(b < 0) or np.any(c < 0) or np.any(b + c > n):
        raise ValueError("Expected `lost` and `gained` >= 0 with a sum of at most `n`, but some are not.")
    return b, c, n
