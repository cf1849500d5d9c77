"""Gradient ascent whose step sizes adapt by themselves: APGD."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from remnant.lab.attacks.losses import Loss
from remnant.lab.attacks.points import Points, within
from remnant.lab.attacks.target import Target

_MOMENTUM = 0.75
_RISES = 0.75
"""A step size stays if the loss rose in more than this share of the steps since the last look."""


@dataclass(frozen=True, eq=False)
class _Runs:
    """Where the run on each example stands."""

    place: Tensor
    """Row among the examples of the attack."""
    aims: Tensor
    now: Tensor
    before: Tensor
    loss: Tensor
    gradient: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    size: Tensor
    """Step size, (example, 1, 1, 1)."""
    rises: Tensor
    """Steps in which the loss rose since the last look."""
    looked_loss: Tensor
    """`best_loss` at the last look."""
    halved: Tensor
    """Whether the step size was halved at the last look."""

    def __getitem__(self, index: Tensor) -> "_Runs":
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})


def adaptive(
    target: Target, clean: Points, budget: float, start: Tensor, *, steps: int, loss: Loss, aims: Tensor
) -> Points:
    """The images of the greatest loss on the way of gradient ascent with momentum and adaptive step sizes.

    The first step is 2 budgets long. At looks that come closer and closer the step is halved and the run goes back to
    its best image, if the loss rose too seldom, or neither best loss nor step size changed since the last look.
    Images that the model gets wrong are returned at once.

    Parameters
    ----------
    start
        Where to begin, in units of the budget; stretched so that some pixel changes by all of it.
    aims
        A wrong class of each example, for losses that aim at one.

    References
    ----------
    croce2020reliable, algorithm 1
    """
    reach = start.abs().flatten(1).amax(1).clamp(min=1e-12).view(-1, 1, 1, 1)
    pixels = within(clean.pixels + budget * start / reach, clean.pixels, budget)
    found, gradient = target.gradient(pixels, clean.labels, loss, aims)
    value = loss(found.logits, clean.labels, aims)
    size = torch.full_like(reach, 2 * budget)
    nothing = torch.zeros_like(value)
    everyone = torch.arange(len(clean), device=pixels.device)
    runs = _Runs(
        place=everyone,
        aims=aims,
        now=pixels,
        before=pixels,
        loss=value,
        gradient=gradient,
        best=pixels,
        best_loss=value,
        best_gradient=gradient,
        size=size,
        rises=nothing,
        looked_loss=value,
        halved=nothing == 0,
    )[~found.broken]
    looks = looks_of(steps)
    for step in range(steps):
        if len(runs.place) == 0:
            break
        found, runs = _stepped(target, clean, found, runs, budget, loss, step)
        if step + 1 in looks:
            runs = _looked(runs, looks[step + 1])
    return found


def looks_of(steps: int) -> dict[int, int]:
    """Numbers of steps after which step sizes are looked at, with the steps since the look before.

    The first after 22 % of the steps, each wait shorter by 3 % of them, never below 6 %.
    """
    wait, least, less = (max(1, int(share * steps)) for share in (0.22, 0.06, 0.03))
    found, at = {}, wait
    while at <= steps:
        found[at] = wait
        wait = max(wait - less, least)
        at += wait
    return found


def _stepped(
    target: Target, clean: Points, found: Points, runs: _Runs, budget: float, loss: Loss, step: int
) -> tuple[Points, _Runs]:
    images, labels = clean.pixels[runs.place], clean.labels[runs.place]
    ahead = within(runs.now + runs.size * runs.gradient.sign(), images, budget)
    momentum = _MOMENTUM if step else 1.0
    pixels = runs.now + momentum * (ahead - runs.now) + (1 - momentum) * (runs.now - runs.before)
    points, gradient = target.gradient(within(pixels, images, budget), labels, loss, runs.aims)
    value = loss(points.logits, labels, runs.aims)
    better = value > runs.best_loss
    wide = better.view(-1, 1, 1, 1)
    runs = replace(
        runs,
        now=points.pixels,
        before=runs.now,
        loss=value,
        gradient=gradient,
        best=torch.where(wide, points.pixels, runs.best),
        best_loss=torch.where(better, value, runs.best_loss),
        best_gradient=torch.where(wide, gradient, runs.best_gradient),
        rises=runs.rises + (value > runs.loss),
    )
    keep = better | points.broken
    found = found.put(runs.place[keep], points[keep])
    return found, runs[~points.broken]


def _looked(runs: _Runs, waited: int) -> _Runs:
    stuck = (runs.halved == 0) & (runs.looked_loss >= runs.best_loss)
    halve = (runs.rises <= _RISES * waited) | stuck
    wide = halve.view(-1, 1, 1, 1)
    return replace(
        runs,
        now=torch.where(wide, runs.best, runs.now),
        gradient=torch.where(wide, runs.best_gradient, runs.gradient),
        size=torch.where(wide, runs.size / 2, runs.size),
        rises=torch.zeros_like(runs.rises),
        looked_loss=runs.best_loss,
        halved=halve,
    )
