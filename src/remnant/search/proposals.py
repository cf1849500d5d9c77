"""Which strength to try next: settings stand on a grid, from the weakest to the strongest."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remnant.search import acquisition
from remnant.search.bisection import bracket, middle
from remnant.search.gaussian_process import fit

Method = Literal["dr-ucb", "bisection", "ei"]
"""How strengths are chosen; see `next_strength`."""
Array = NDArray[np.float64]

GAMMA = 0.2
"""Weight of the mean in "dr-ucb". No source gives one; 0.2 found most of 50 simulated curves, 0.5 was too timid."""


def next_strength(
    method: Method, positions: Array, margins: Mapping[int, float], *, gamma: float = GAMMA
) -> int | None:
    """Index of the strength to try on the way to the strongest feasible one; None when nothing is left to find.

    - "dr-ucb": highest upper confidence bound of the margin to the right of all feasible samples, and (which the
      formula does not have) to the left of infeasible ones: the curve is taken to fall, nearly.
    - "ei": highest expected improvement of the strongest feasible position, (position - best) P(margin >= 0).
    - "bisection": the middle of the gap.

    The first try is the middle of the grid in all.

    Parameters
    ----------
    positions
        Strengths on an axis from 0 (weakest) to 1, rising; shape (grid,).
    margins
        Index to how far inside the budget it was: >= 0 is feasible.
    gamma
        Weight of the mean in "dr-ucb".
    """
    tried = {index: margin >= 0 for index, margin in margins.items()}
    low, high = bracket(tried, len(positions))
    if high - low <= 1:
        return None
    if method == "bisection" or not margins:
        return middle(tried, len(positions))
    known = sorted(margins)
    values = np.array([margins[index] for index in known])
    gap = np.arange(low + 1, high)
    if method == "ei":
        mean, deviation = fit(positions[known], _near_zero(values)).predict(positions[gap])
        best = positions[low] if low >= 0 else -1 / len(positions)
        return int(gap[np.argmax(acquisition.constrained_expected_improvement(positions[gap] - best, mean, deviation))])
    mean, deviation = fit(positions[known], values).predict(positions[gap])
    bound = acquisition.upper_confidence_bound(mean, deviation, gamma=gamma)
    met = [tried[index] for index in known]
    return int(gap[np.argmax(acquisition.domain_restricted(bound, positions[gap], positions[known], met))])


def next_for_objective(
    method: Method,
    positions: Array,
    objective: Mapping[int, float],
    margins: Mapping[int, float],
    *,
    gamma: float = 0.5,
) -> int | None:
    """Index of the strength to try for the highest objective below the strongest feasible one; None if all were tried.

    "dr-ucb": plain upper confidence bound of the objective, as in Condensa's second phase. "ei" and "bisection":
    expected improvement times the probability that the budget holds, which "dr-ucb" takes for granted there.

    Parameters
    ----------
    objective
        Index to the objective, higher is better; samples without a finite one are left out of `objective`.
    margins
        Index to how far inside the budget it was.
    """
    strongest = max((index for index, margin in margins.items() if margin >= 0), default=-1)
    left = np.array([index for index in range(strongest) if index not in margins], int)
    if not len(left):
        return None
    known = sorted(objective)
    if not known:
        return int(left[len(left) // 2])
    process = fit(positions[known], [objective[index] for index in known])
    mean, deviation = process.predict(positions[left])
    if method == "dr-ucb":
        return int(left[np.argmax(acquisition.upper_confidence_bound(mean, deviation, gamma=gamma))])
    best = max((objective[index] for index in known if margins[index] >= 0), default=-np.inf)
    gain = acquisition.expected_improvement(mean, deviation, best) if np.isfinite(best) else deviation
    tried = sorted(margins)
    values = np.array([margins[index] for index in tried])
    inside = fit(positions[tried], _near_zero(values)).predict(positions[left])
    return int(left[np.argmax(acquisition.constrained_expected_improvement(gain, *inside))])


def _near_zero(margins: Array) -> Array:
    """margin / (|margin| + the smallest |margin|), in (-1, 1).

    Whether a margin is above 0 is what counts: those far outside must not drown those near 0.
    """
    sizes = np.abs(margins)
    return margins / np.maximum(sizes + sizes.min(), np.finfo(float).tiny)
