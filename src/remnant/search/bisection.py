"""Bisection on a grid, from the weakest to the strongest setting."""

from collections.abc import Mapping


def bracket(tried: Mapping[int, bool], size: int) -> tuple[int, int]:
    """(low, high): the strongest index that is feasible, and the weakest infeasible one above it.

    -1 and `size` stand for "no compression" and "beyond the strongest", which are never tried. Where the function is
    noisy, a feasible index outvotes infeasible ones below it.
    """
    low = max((index for index, feasible in tried.items() if feasible), default=-1)
    high = min((index for index, feasible in tried.items() if not feasible and index > low), default=size)
    return low, high


def middle(tried: Mapping[int, bool], size: int) -> int | None:
    """The index to try next: the middle of the bracket; None when it holds nothing.

    Needs at most ceil(log2(size + 1)) tries. Finds the strongest feasible index of a function that changes once from
    feasible to infeasible, and of any other function some index after which the next one is infeasible.
    """
    low, high = bracket(tried, size)
    return (low + high) // 2 if high - low > 1 else None
