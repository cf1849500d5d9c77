"""Attacks that step along the sign of the gradient: FGSM and PGD."""

from dataclasses import replace

import torch
from torch import Tensor

from remnant.lab.attacks.draws import Draws
from remnant.lab.attacks.losses import cross_entropy
from remnant.lab.attacks.points import Points, within, worse
from remnant.lab.attacks.target import Target

_STRIDE = 2.5
"""Length of all steps of PGD together, in budgets: they can cross the cube and go some way back."""


def fgsm(target: Target, clean: Points, budget: float, draws: Draws) -> Points:
    """The images after one step of the budget along the sign of the gradient of the cross-entropy.

    References
    ----------
    goodfellow2015explaining, section 4
    """
    slope = _slope(target, clean) if clean.slope is None else clean.slope
    return target.points(within(clean.pixels + budget * slope, clean.pixels, budget), clean.labels)


def sloped(target: Target, points: Points) -> Points:
    """The same points with the sign of their gradient, so that attacks at several budgets need not find it again."""
    return replace(points, slope=_slope(target, points))


def _slope(target: Target, points: Points) -> Tensor:
    return target.gradient(points.pixels, points.labels, cross_entropy, points.labels)[1].sign()


def pgd(target: Target, clean: Points, budget: float, draws: Draws, *, steps: int) -> Points:
    """The worst image on the way of sign gradient ascent on the cross-entropy, or that of `fgsm` if it is worse.

    x <- clip(x + 2.5 * budget / steps * sign(gradient)) from a random point of the cube. All steps are taken, also
    on images that are wrong already: what the model is most sure of is what other models are fooled by too. Random
    starts after the first one only where none succeeded.

    References
    ----------
    madry2018towards, section 2.1
    """
    found = fgsm(target, clean, budget, draws)
    for restart in range(draws.starts.shape[1]):
        here = _still(found, first=restart == 0)
        if len(here):
            better = _ascent(target, clean[here], budget, draws.starts[here, restart], steps)
            found = found.put(here, worse(found[here], better))
    return found


def _still(found: Points, *, first: bool) -> Tensor:
    chosen = torch.ones_like(found.broken) if first else ~found.broken
    return chosen.nonzero()[:, 0]


def _ascent(target: Target, clean: Points, budget: float, start: Tensor, steps: int) -> Points:
    pixels = within(clean.pixels + budget * start, clean.pixels, budget)
    best = None
    for _ in range(steps):
        here, gradient = target.gradient(pixels, clean.labels, cross_entropy, clean.labels)
        best = here if best is None else worse(best, here)
        pixels = within(pixels + _STRIDE * budget / steps * gradient.sign(), clean.pixels, budget)
    last = target.points(pixels, clean.labels)
    return last if best is None else worse(best, last)
