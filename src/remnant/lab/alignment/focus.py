"""Which examples of a batch count more: those that compression is making the model forget.

This goes beyond the published losses, which weight terms but not examples.
"""

from typing import Protocol

import torch
from torch import Tensor

from remnant.schemes import Align

_RATE = 0.01
"""Step of the exponentiated gradient, and of the running class rates."""


class Focus(Protocol):
    """Weights of the examples of a batch."""

    def weights(self, logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
        """Weights of mean 1, shape (example,), from both models' logits (example, class); without gradient."""
        ...


def focus(align: Align, num_classes: int) -> Focus | None:
    """What an alignment asks for; None if all examples of a batch count the same."""
    if align.focus in ("none", "selected"):  # selected examples come more often: `remnant.lab.compress.tuning.replayed`
        return None
    if align.focus == "forgotten":
        return Forgotten(align.strength)
    return NearBoundary(align.strength) if align.focus == "near-boundary" else WorstClass(align.strength, num_classes)


class Forgotten:
    """1 + strength on harmful flips at this moment: the reference is right and the compressed model wrong."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def weights(self, logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
        return _mean_one(1 + self.strength * harmful(logits, reference, labels).float())


class NearBoundary:
    """1 + strength (1 - m), with m the difference of the reference's two largest probabilities.

    Examples of a small margin are those that flip first: the atypical ones among them.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def weights(self, logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
        top = reference.softmax(1).topk(2, dim=1).values
        return _mean_one(1 + self.strength * (1 - (top[:, 0] - top[:, 1])))


class WorstClass:
    """Classes with more harmful flips count more: weights q_c proportional to exp(strength * K * rate_c).

    rate_c is the running share of harmful flips among the examples of a class that the reference has right, less the
    mean over the K classes. As in group distributionally robust optimization (sagawa2020distributionally), with
    harmful flips in the place of the loss.
    """

    def __init__(self, strength: float, num_classes: int) -> None:
        self.strength = strength
        self.rates = torch.zeros(num_classes)

    def weights(self, logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
        self.rates = self.rates.to(labels.device)
        right = reference.argmax(1) == labels
        lost = harmful(logits, reference, labels)
        for_class = torch.zeros_like(self.rates)
        count = for_class.index_add(0, labels, right.float())
        flips = for_class.index_add(0, labels, lost.float())
        seen = count > 0
        step = 1 - (1 - _RATE) ** count  # a class with more examples in the batch moves further
        self.rates = torch.where(seen, self.rates + step * (flips / count.clamp_min(1) - self.rates), self.rates)
        excess = self.rates - self.rates.mean()
        return _mean_one((self.strength * len(excess) * excess).exp()[labels])


def harmful(logits: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
    """Where the reference is right and the compressed model wrong, bool (example,)."""
    return (reference.argmax(1) == labels) & (logits.argmax(1) != labels)


def _mean_one(weights: Tensor) -> Tensor:
    return weights / weights.mean()
