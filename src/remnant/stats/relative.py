"""Ratios of means over the same units, such as the accuracy of a compressed model relative to its reference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from remnant.stats.trial_intervals import Interval, mean_interval


@dataclass(frozen=True)
class Ratio:
    """An estimate made of means over units, with how much each unit moves it."""

    estimate: NDArray[np.float64]
    influence: NDArray[np.float64]
    """Shape (unit, *estimate.shape): linear part of what a unit adds; its mean over units is 0."""

    def mean(self) -> "Ratio":
        """The mean of several estimates, over their last axis."""
        return Ratio(self.estimate.mean(axis=-1), self.influence.mean(axis=-1))

    def minus(self, other: "Ratio") -> "Ratio":
        """The difference from an estimate on the same units."""
        return Ratio(self.estimate - other.estimate, self.influence - other.influence)

    def interval(self, *, level: float = 0.95) -> Interval:
        """Student's interval over the units; NaN for one unit."""
        found = mean_interval(self.influence, level=level)
        shifted = (np.asarray(self.estimate + end) for end in (found.low, found.high))
        return Interval(self.estimate, found.standard_error, *shifted)


def ratio(first: ArrayLike, second: ArrayLike) -> Ratio:
    """Mean of the second over the mean of the first, over the first axis: the units, which are paired.

    r = sum_u second_u / sum_u first_u; a unit's influence is (second_u - r first_u) / mean(first), from the first
    term of the Taylor series. 1 = no difference. NaN where the mean of the first is not above 0.

    Parameters
    ----------
    first, second
        Shape (unit, ...): values of the same units, such as the shares of right answers of pairs of models, or
        whether each example is answered right.

    Raises
    ------
    ValueError
        If the shapes differ or there are no units.

    References
    ----------
    cochran1977sampling, section 6.3
    """
    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or len(one) == 0:
        raise ValueError(f"Expected the same units on both sides, but got the shapes {one.shape} and {two.shape}.")
    base = np.asarray(one.mean(axis=0))
    base = np.where(base > 0, base, np.nan)
    estimate = np.asarray(two.mean(axis=0) / base)
    return Ratio(estimate, (two - estimate * one) / base)
