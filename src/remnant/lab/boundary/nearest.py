"""The nearest other answer: the worst direction of each example.

References
----------
moosavi2016deepfool, algorithm 2; abdollahpoorrostam2023revisiting, algorithm 2
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from remnant.lab.boundary.gradients import gaps
from remnant.lab.boundary.pixels import PixelModel, batches

_STEPS = 30
"""Steps of one round, at most; most examples need 2 to 4."""
_OVERSHOOT = 0.02
"""Steps end so much behind the linearized boundary, to get across (DeepFool's own value)."""


@dataclass(frozen=True)
class Worst:
    """The worst direction of each point."""

    direction: Tensor
    """Unit vectors, shape (point, value); zero where none was found."""
    distance: Tensor
    """Shape (point,): how far along it another answer was seen; 0 where none was."""
    found: Tensor
    """Shape (point,), bool."""


def worst_directions(
    model: PixelModel, points: Tensor, *, candidates: int, rounds: int, limit: float, clip: bool = False
) -> Worst:
    """For each point, the direction of the smallest change found that gives another answer.

    DeepFool: step to the nearest of the linearized boundaries with the candidate classes until the answer changes.
    Each further round starts at the foot of the perpendicular from the point on the boundary that was crossed,
    linearized at the crossing, as SuperDeepFool does; the smallest change of all rounds counts.

    Parameters
    ----------
    candidates
        Number of other classes, those with the largest outputs at the point, whose boundaries compete.
    limit
        Changes beyond it are given up.
    """
    parts = [
        _worst(model, points[part], candidates, rounds, limit, clip) for part in batches(len(points), model.device)
    ]
    return Worst(*(torch.cat(found) for found in zip(*parts, strict=True)))


def _worst(
    model: PixelModel, points: Tensor, candidates: int, rounds: int, limit: float, clip: bool
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode():
        outputs = model.logits(points)
        order = outputs.topk(min(candidates + 1, outputs.shape[1]), dim=1).indices
        own = outputs.argmax(1)
    # The own class may not come first among equal outputs.
    own, order = own.clone(), order.clone()
    at_own = (order == own[:, None]).float().argmax(1)
    order.scatter_(1, at_own[:, None], order[:, :1].clone())
    classes = order[:, 1:]
    best, best_norm = torch.zeros_like(points), torch.full((len(points),), torch.inf, device=points.device)
    change, alive = torch.zeros_like(points), torch.ones(len(points), dtype=torch.bool, device=points.device)
    for number in range(rounds):
        rows = torch.nonzero(alive)[:, 0]
        moved, crossed = _cross(model, points[rows], own[rows], classes[rows], change[rows], limit, clip)
        norm = torch.where(crossed, moved.norm(dim=1), torch.inf)
        shorter = norm < best_norm[rows]
        best[rows[shorter]], best_norm[rows[shorter]] = moved[shorter], norm[shorter]
        alive[rows[~crossed]] = False
        if number + 1 < rounds and crossed.any():
            rows = rows[crossed]
            change[rows] = _feet(model, points[rows], own[rows], moved[crossed])
    found = torch.isfinite(best_norm) & (best_norm > 0)
    distance = torch.where(found, best_norm, torch.zeros_like(best_norm))
    return best / torch.where(found, best_norm, torch.ones_like(best_norm))[:, None], distance, found


def _cross(
    model: PixelModel, points: Tensor, own: Tensor, classes: Tensor, change: Tensor, limit: float, clip: bool
) -> tuple[Tensor, Tensor]:
    """Changes that give another answer, from a first change on, and for which points there is one."""
    change, final = change.clone(), torch.zeros_like(points)
    crossed = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    active = torch.arange(len(points), device=points.device)
    for step in range(_STEPS + 1):
        at = points[active] + (1 + _OVERSHOOT) * change[active]
        at = at.clamp(0, 1) if clip else at
        other = model.answers(at) != own[active] if step else None
        if other is not None and other.any():
            final[active[other]] = (at - points[active])[other]
            crossed[active[other]] = True
            active, at = active[~other], at[~other]
        if step == _STEPS or not len(active):
            break
        found = gaps(model, at, own[active], classes[active])
        if found is None:
            break
        move, ok = _step(*found)
        change[active] += move
        active = active[ok & (change[active].norm(dim=1) <= limit)]
    return final, crossed


def _step(gap: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The way to the nearest linearized boundary, and where gradients say one."""
    norm = gradient.flatten(2).norm(dim=2)
    way = torch.where(norm > 0, gap.abs() / norm, torch.inf)
    nearest = way.argmin(1, keepdim=True)
    length, slope = way.gather(1, nearest)[:, 0], norm.gather(1, nearest)[:, 0]
    ok = torch.isfinite(length)
    direction = gradient.gather(1, nearest[:, :, None].expand(-1, 1, gradient.shape[2]))[:, 0]
    # A little more than needed: steps of length 0 would never end where two classes tie.
    factor = torch.where(ok, (length + 1e-5) / slope.clamp(min=torch.finfo(slope.dtype).tiny), 0.0)
    return direction * factor[:, None], ok


def _feet(model: PixelModel, points: Tensor, own: Tensor, change: Tensor) -> Tensor:
    """Feet of the perpendiculars from the points on their boundaries, linearized where they were crossed."""
    crossing = points + change
    found = gaps(model, crossing, own, model.answers(crossing)[:, None].clone())
    if found is None:
        return change
    normal = found[1][:, 0]
    square = normal.square().sum(1)
    ahead = (change * normal).sum(1)
    part = torch.where((square > 0) & (ahead > 0), ahead / square.clamp(min=torch.finfo(square.dtype).tiny), 0.0)
    return torch.where((part > 0)[:, None], part[:, None] * normal, change)
