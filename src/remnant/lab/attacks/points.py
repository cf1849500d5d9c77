"""Images of examples with what a model says to them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from remnant.lab.attacks.losses import margin


@dataclass(frozen=True, eq=False)
class Points:
    """One image of each of some examples, with the model's answer."""

    pixels: Tensor
    """float32 (example, channel, height, width) in [0, 1]."""
    logits: Tensor
    """(example, class)."""
    labels: Tensor
    """True class of each example, int64."""
    slope: Tensor | None = None
    """Sign of the gradient of the cross-entropy by the pixels, where it is known."""

    @cached_property
    def broken(self) -> Tensor:
        """Whether the answer is wrong, (example,). The first class wins among equal logits."""
        return self.logits.argmax(1) != self.labels

    @cached_property
    def loss(self) -> Tensor:
        """Highest other logit minus that of the true class, (example,): > 0 only if the answer is wrong."""
        return margin(self.logits, self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor) -> "Points":
        slope = None if self.slope is None else self.slope[index]
        return Points(self.pixels[index], self.logits[index], self.labels[index], slope)

    def put(self, index: Tensor, new: "Points") -> "Points":
        """A copy with the points at `index` exchanged for others of the same examples."""
        pixels, logits = self.pixels.clone(), self.logits.clone()
        pixels[index], logits[index] = new.pixels, new.logits
        return Points(pixels, logits, self.labels)


def worse(old: Points, new: Points) -> Points:
    """Of two points of each example the one that the model gets wrong, then the one with the greater loss.

    The old one stays where they are equal, so that nothing that was broken is ever whole again.
    """
    take = (new.broken & ~old.broken) | ((new.broken == old.broken) & (new.loss > old.loss))
    pixels = torch.where(take.view(-1, *[1] * (old.pixels.dim() - 1)), new.pixels, old.pixels)
    return Points(pixels, torch.where(take.view(-1, 1), new.logits, old.logits), old.labels)


def within(pixels: Tensor, images: Tensor, budget: float) -> Tensor:
    """The nearest images that differ from `images` by no more than `budget` anywhere and lie in [0, 1]."""
    return torch.minimum(torch.maximum(pixels, images - budget), images + budget).clamp_(0, 1)
