"""Proximal operators of penalties on the norms of groups.

For norms y >= 0 of the groups of a layer and a step t, each gives the x >= 0 that minimises
(1/2) ||x - y||^2 + t penalty(x). A group is then multiplied by x / y.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SMOOTHING = 0.1
"""Norm, in units of the mean norm of the layer, below which the log-sum penalty is about linear."""
_TINY = 1e-8


def l1(norms: Tensor, step: float) -> Tensor:
    """Soft thresholding max(0, y - t), for the penalty sum x. With norms of groups: l2,1, the group lasso.

    References
    ----------
    parikh2014proximal, section 6.5
    """
    return (norms - step).clamp_min(0)


def l_half(norms: Tensor, step: float) -> Tensor:
    """Half thresholding, for the penalty sum sqrt(x).

    (2/3) y (1 + cos((2/3) (pi - arccos((t / 4) (y / 3)^(-3/2))))) above y = (54^(1/3) / 4) (2 t)^(2/3), else 0:
    a jump, since small values cost more than they fit.

    References
    ----------
    xu2012regularization, section III (there with (x - y)^2 and so with 2 t)
    """
    threshold = 54 ** (1 / 3) / 4 * (2 * step) ** (2 / 3)
    angle = torch.arccos((step / 4 * (norms.clamp_min(_TINY) / 3) ** -1.5).clamp(-1, 1))
    kept = 2 / 3 * norms * (1 + torch.cos(2 / 3 * (math.pi - angle)))
    return torch.where(norms > threshold, kept, 0.0)


def l1_minus_l2(norms: Tensor, step: float) -> Tensor:
    """Minimiser for the penalty sum x - ||x||, which is 0 for one group alone: all but the largest shrink.

    With z = max(0, y - t): z (1 + t / ||z||) if any y > t; else the largest y stays as it is (the first of equal
    ones) and the others are 0.

    References
    ----------
    lou2018fast, lemma 1 (with alpha = 1)
    """
    shrunk = (norms - step).clamp_min(0)
    length = shrunk.norm()
    if length > _TINY:
        return shrunk * (1 + step / length)
    largest = torch.zeros_like(norms)
    largest[norms.argmax()] = norms.max()
    return largest


def log_sum(norms: Tensor, step: float, smoothing: float = SMOOTHING) -> Tensor:
    """Minimiser for the penalty sum log(1 + x / e), with e = `smoothing`.

    The larger root of (x - y)(x + e) + t = 0, where there is one above 0 and it is better than 0; else 0. The value of
    e is ours: no source at hand gives that of the paper.

    References
    ----------
    gong2013general, section 2
    """
    discriminant = (norms + smoothing).square() - 4 * step
    root = ((norms - smoothing + discriminant.clamp_min(0).sqrt()) / 2).clamp_min(0)
    value = (root - norms).square() / 2 + step * torch.log1p(root / smoothing)
    return torch.where((discriminant >= 0) & (value < norms.square() / 2), root, 0.0)


OPERATORS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "l1": l1,
    "l1/2": l_half,
    "l1-2": l1_minus_l2,
    "logsum": log_sum,
}


def length_to_zero(norm: float, regularizer: str) -> float:
    """The sum of many small steps that together take a group of this norm to 0, if nothing else moves it.

    The integral of 1 / penalty'(x) from 0 to the norm: y for "l1", (4/3) y^(3/2) for "l1/2", ((y + e)^2 - e^2) / 2 for
    "logsum". "l1-2" is taken for "l1", below which it stays a little.
    """
    if regularizer == "l1/2":
        return 4 / 3 * norm**1.5
    return ((norm + SMOOTHING) ** 2 - SMOOTHING**2) / 2 if regularizer == "logsum" else norm


@torch.no_grad()
def shrink_groups(matrix: Tensor, dim: int, step: float, *, regularizer: str, unit: float = 1.0) -> None:
    """Multiply the groups of a matrix, in place, by what the proximal operator leaves of their norms.

    A group is what has the same index along `dim`. Norms are measured in `unit`s. For "l1" each group is multiplied by
    max(0, 1 - unit t / (||group|| + 1e-8)).
    """
    norms = group_norms(matrix, dim) / unit
    factors = OPERATORS[regularizer](norms, step) / (norms + _TINY)
    matrix.mul_(factors.unsqueeze(1 - dim))


def group_norms(matrix: Tensor, dim: int) -> Tensor:
    """l2 norm of each row (`dim` 0) or column (1)."""
    return matrix.norm(dim=1 - dim)
