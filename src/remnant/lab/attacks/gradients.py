"""Whether gradients say how a model's answers change, and which gradients to follow if they do not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from remnant.lab.attacks.losses import lead, runners_up
from remnant.lab.attacks.target import Target

LEAST = 0.5
"""Gradients with a lower `agreement` are taken as masked."""
_STEP = 4 / 255
_DIRECTIONS = 4


def agreement(target: Target, pixels: Tensor, labels: Tensor, rng: Callable[[str], np.random.Generator]) -> float:
    """Correlation of what gradients promise with what happens, in [-1, 1]; 0 if there are no gradients.

    For random directions d of -1 and 1: gradient . 2 h d against f(x + h d) - f(x - h d), with f the lead of the
    likeliest wrong class and h = 4/255, each example divided by the root mean square of its own values. Close to 1
    for models that are smooth on the scale of attacks; near 0 where rounding, saturation or noise hides the slope.
    """
    aims = runners_up(target.points(pixels, labels).logits, labels)[:, 0]
    _, gradient = target.gradient(pixels, labels, lead, aims)
    promised, happened = [], []
    for number in range(_DIRECTIONS):
        signs = np.where(rng(f"direction/{number}").random(pixels.shape[1:]) < 0.5, -1, 1).astype(np.float32)
        direction = torch.from_numpy(signs).to(pixels.device)
        ends = [target.points(pixels + sign * _STEP * direction, labels).logits for sign in (1, -1)]
        happened.append(lead(ends[0], labels, aims) - lead(ends[1], labels, aims))
        promised.append((gradient * 2 * _STEP * direction).flatten(1).sum(1))
    x, y = torch.stack(promised).double(), torch.stack(happened).double()
    scale = (x.square() + y.square()).mean(0).sqrt()
    x, y = (values[:, scale > 0] / scale[scale > 0] for values in (x, y))
    if x.numel() == 0 or x.std() == 0 or y.std() == 0:
        return 0.0
    return float(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1])


def chosen_target(
    target: Target, reference: Target | None, pixels: Tensor, labels: Tensor, rng: Callable[[str], np.random.Generator]
) -> tuple[Target, str]:
    """The target with gradients worth following, and whose they are.

    "own" if they agree with the model's answers; else "straight-through", with rounding taken as the identity, if
    those do and the answers stay the same; else "reference", if there is one; else "masked", the model's own after all.
    """
    if agreement(target, pixels, labels, rng) >= LEAST:
        return target, "own"
    rounded = replace(target, straight_through=True)
    if _answers_alike(target, rounded, pixels, labels) and agreement(rounded, pixels, labels, rng) >= LEAST:
        return rounded, "straight-through"
    return (target, "masked") if reference is None else (target.guided_by(reference), "reference")


def _answers_alike(target: Target, other: Target, pixels: Tensor, labels: Tensor) -> bool:
    """Whether the two give the same answers: one may copy what the other overwrites."""
    answers = target.points(pixels, labels).logits.argmax(1)
    return torch.equal(answers, other.gradient(pixels, labels, lead, answers)[0].logits.argmax(1))
