"""Whether the gradients of a network tell how its answers change."""

import torch
from torch import Tensor

from remnant.lab.boundary.pixels import PixelModel

_EXAMPLES = 64
_PART = 0.25
"""Part of the way to the boundary, as gradients see it, that is tried."""
_WITHIN = (1 / 3, 3.0)
"""Change of the margin over the predicted one, median over examples, that real gradients give."""


def gaps(model: PixelModel, points: Tensor, own: Tensor, classes: Tensor) -> tuple[Tensor, Tensor] | None:
    """Output of each class less that of the own answer, (point, class), and its gradient, (point, class, value).

    None if the outputs are not connected with the inputs.
    """
    points = points.detach().requires_grad_(True)
    with torch.enable_grad():
        outputs = model.logits(points)
        if not outputs.requires_grad:
            return None
        gap = outputs.gather(1, classes) - outputs.gather(1, own[:, None])
        found = []
        for place in range(classes.shape[1]):
            keep = place + 1 < classes.shape[1]
            (gradient,) = torch.autograd.grad(gap[:, place].sum(), points, retain_graph=keep, allow_unused=True)
            if gradient is None:
                return None
            found.append(gradient)
    return gap.detach(), torch.stack(found, 1)


def usable(model: PixelModel, points: Tensor) -> bool:
    """Whether a step against the gradient lowers the margin about as much as the gradient says.

    On up to 64 points, the margin between the answer and the runner-up should fall by a quarter, to first order,
    after a quarter of the way to the boundary. False where outputs are not connected with inputs, where gradients
    are zero or not finite on half of the points, and where the median of the observed over the expected fall is not
    in [1/3, 3]: rounding, as of int8 models, gives gradients of zero, or of what was not rounded alone.
    """
    points = points[:_EXAMPLES]
    with torch.inference_mode():
        top = model.logits(points).topk(2, dim=1).indices
    own, other = top[:, 0].clone(), top[:, 1:].clone()
    try:
        found = gaps(model, points, own, other)
    except RuntimeError:  # operations without a derivative
        return False
    if found is None:
        return False
    gap, gradient = found[0][:, 0], found[1][:, 0]
    square = gradient.square().sum(1)
    step = -_PART * gap / square
    step = torch.where(torch.isfinite(step) & torch.isfinite(square) & (square > 0), step, torch.zeros_like(step))
    with torch.inference_mode():
        outputs = model.logits(points + step[:, None] * torch.nan_to_num(gradient))
        after = (outputs.gather(1, other) - outputs.gather(1, own[:, None]))[:, 0]
    fall = (after - gap) / (-_PART * gap)
    fall = fall[gap < 0]  # no margin can fall where two classes tie
    return len(fall) > 0 and _WITHIN[0] <= float(torch.nan_to_num(fall).median()) <= _WITHIN[1]
