"""How far one can go along given directions before a network's answer changes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from remnant.lab.boundary.pixels import BATCH, PixelModel

RATIO = 2**0.5
"""Each step outwards is so many times as far from the example as the one before."""
FIRST = 2**-6
"""Default first step, as a part of the limit."""
_SMALLEST = 2**-12
"""Bisection ends at this part of the first step, for examples that lie on the boundary."""


@dataclass(frozen=True)
class Crossings:
    """Where rays first leave the region of their example's answer."""

    distance: np.ndarray
    """Shape (point, direction), float32: norm of the change at the nearest place with another answer; the limit where
    none was found."""
    found: np.ndarray
    """Shape (point, direction), bool."""


@torch.inference_mode()
def crossings(
    model: PixelModel,
    points: Tensor,
    directions: Tensor,
    *,
    limit: float,
    tolerance: float,
    clip: bool = False,
    first: Tensor | None = None,
) -> Crossings:
    """Distance from each point, along each of its directions, to another answer than at the point.

    A ray is looked at in steps that grow by `RATIO` until an answer differs or the limit is reached, then halved
    until the last change of answer is known up to `tolerance`. The reported end is the outer one, where the answer
    was seen to be another: it is too long by at most that part. Regions of another answer that are thinner than a
    step are missed. Rays that have ended are no longer computed.

    Parameters
    ----------
    points
        Shape (point, value).
    directions
        Unit vectors, shape (point, direction, value).
    clip
        Keep every value in [0, 1]; the limit then holds for the way before it is bent.
    first
        Length of the first step from each point; default `FIRST` of the limit.
    """
    num, each = directions.shape[:2]
    rays = directions.reshape(num * each, -1)
    own = model.answers(points)

    def differs(which: Tensor, reach: Tensor) -> Tensor:
        found = []
        for part, length in zip(which.split(BATCH), reach.split(BATCH), strict=True):
            at = _moved(points[part // each], rays[part], length, clip)
            found.append(model.logits(at).argmax(1) != own[part // each])
        return torch.cat(found)

    step = torch.full((num,), FIRST * limit, device=points.device) if first is None else first
    outer = step.clamp(max=limit).repeat_interleave(each)
    floor = _SMALLEST * outer
    inner, found = torch.zeros_like(outer), torch.zeros_like(outer, dtype=torch.bool)
    active = torch.arange(num * each, device=points.device)
    while len(active):
        other = differs(active, outer[active])
        found[active[other]] = True
        active = active[~other]
        active = active[outer[active] < limit]
        inner[active] = outer[active]
        outer[active] = (outer[active] * RATIO).clamp(max=limit)

    active = torch.nonzero(found)[:, 0]
    while len(active := active[_is_wide(inner[active], outer[active], tolerance, floor[active])]):
        middle = (inner[active] + outer[active]) / 2
        other = differs(active, middle)
        outer[active[other]] = middle[other]
        inner[active[~other]] = middle[~other]
    distance = _norms(points, rays, outer, found, each) if clip else outer
    return Crossings(distance.view(num, each).cpu().numpy(), found.view(num, each).cpu().numpy())


def _is_wide(inner: Tensor, outer: Tensor, tolerance: float, floor: Tensor) -> Tensor:
    return (outer - inner > tolerance * outer) & (outer > floor)


def _moved(points: Tensor, rays: Tensor, length: Tensor, clip: bool) -> Tensor:
    at = points + length[:, None] * rays
    return at.clamp_(0, 1) if clip else at


def _norms(points: Tensor, rays: Tensor, length: Tensor, found: Tensor, each: int) -> Tensor:
    """Norm of what is left of each change within the box; the length itself where nothing was found."""
    norms = length.clone()
    for part in torch.nonzero(found)[:, 0].split(BATCH):
        origin = points[part // each]
        norms[part] = (_moved(origin, rays[part], length[part], True) - origin).norm(dim=1)
    return norms
