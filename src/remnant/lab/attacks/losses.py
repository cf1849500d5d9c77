"""What attacks raise: logits (example, class), true classes and aimed-at wrong classes to a loss of each example."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""loss(logits, labels, aims) -> (example,)"""


def cross_entropy(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Negative log-probability of the true class; aims at no class in particular."""
    return functional.cross_entropy(logits, labels, reduction="none")


def targeted(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Targeted difference of logits ratio, which scaling the logits does not change.

    (z_aim - z_true) / (z_1 - (z_3 + z_4) / 2) with z_i the i-th highest logit. With fewer than 4 classes the
    difference alone, undivided.

    References
    ----------
    croce2020reliable, equation 7
    """
    difference = lead(logits, labels, aims)
    if logits.shape[1] < 4:
        return difference
    top = logits.topk(4, dim=1).values
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + 1e-12)


def lead(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Logit of the aimed-at class minus that of the true class."""
    return (logits.gather(1, aims[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Highest other logit minus that of the true class; > 0 only if the answer is wrong."""
    return lead(logits, labels, runners_up(logits, labels)[:, 0])


def runners_up(logits: Tensor, labels: Tensor) -> Tensor:
    """The wrong classes, likeliest first, (example, class - 1)."""
    others = logits.detach().scatter(1, labels[:, None], -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :-1]
