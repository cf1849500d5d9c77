"""Whether an interval lies within a limit, beyond it, or across it; and how many examples would tell.

Everything is turned so that more is worse: `Measured` holds a harm, and a limit is the most harm allowed.
"""

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "could not tell"]
_Z = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""
_MOST_NEEDED = 10**9
"""Larger numbers of examples are not worth saying."""


@dataclass(frozen=True)
class Measured:
    """A harm with its 95 % interval."""

    estimate: float
    low: float
    high: float
    n: int
    """Number of units behind it."""

    def turned(self) -> "Measured":
        """The same with the sign changed: a change of accuracy as a drop."""
        return Measured(-self.estimate, -self.high, -self.low, self.n)


def decide(measured: Measured, limit: float) -> Outcome:
    """Pass if the whole interval is at most the limit, fail if all of it is above, else could not tell."""
    if measured.high <= limit:
        return "pass"
    return "fail" if measured.low > limit else "could not tell"


def decide_margin(measured: Measured, margin: float) -> Outcome:
    """Pass if the whole interval is within -margin to margin, fail if all of it is outside on one side."""
    outcomes = {decide(measured, margin), decide(measured.turned(), margin)}
    if "fail" in outcomes:
        return "fail"
    return "pass" if outcomes == {"pass"} else "could not tell"


def increase(new: Measured, old: Measured) -> Measured:
    """How much more harm than before, with an interval put together from both.

    The distances of estimate and ends are added in squares, as for independent samples. Two models that
    were compared with one reference on the same examples are alike, so the interval is too wide rather than
    too narrow.

    References
    ----------
    newcombe1998interval, method 10, with the given intervals in place of Wilson's
    """
    change = new.estimate - old.estimate
    below = math.hypot(new.estimate - new.low, old.high - old.estimate)
    above = math.hypot(new.high - new.estimate, old.estimate - old.low)
    return Measured(change, change - below, change + above, min(new.n, old.n))


def needed(measured: Measured, limit: float, *, wilson: bool = False) -> int | None:
    """About how many units would make the verdict clear, if the estimate stays what it is.

    With `wilson`, a share of examples: the score interval of a share p leaves the limit L at
    n >= z^2 L (1 - L) / (p - L)^2. Otherwise the width shrinks with the square root of n. None where no number
    is enough (the estimate is the limit, or a share is held against 0 or 1) or more than 10^9 are.
    """
    gap = measured.estimate - limit
    if gap == 0:
        return None
    if wilson:
        if not 0 < limit < 1:
            return None
        number = _Z**2 * limit * (1 - limit) / gap**2
    else:
        half = measured.high - measured.estimate if gap < 0 else measured.estimate - measured.low
        number = measured.n * (half / gap) ** 2
    return math.ceil(number) if number <= _MOST_NEEDED else None
