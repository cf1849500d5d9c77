"""A classifier as attacks see it: pixels in [0, 1] in, logits and gradients out."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from remnant.lab.attacks.losses import Loss
from remnant.lab.attacks.points import Points
from remnant.lab.attacks.rounding import StraightThrough
from remnant.lab.dataset import Dataset

_VALUES = 2**18
"""Pixel values that go through a model at a time: what it remembers for the gradient then fits into memory."""


@dataclass(frozen=True, eq=False)
class Target:
    """A model that is attacked, and where its gradients come from."""

    model: nn.Module
    mean: Tensor
    """Of each channel, as `remnant.lab.dataset.Dataset.mean`."""
    std: Tensor
    straight_through: bool = False
    """Rounding passes gradients on as if it were the identity. Answers are the same."""
    guide: "Target | None" = None
    """Another model whose gradients are followed in place of this one's."""

    @classmethod
    def of(cls, model: nn.Module, dataset: Dataset) -> "Target":
        """A model that takes the normalized images of a data set."""
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        return cls(model, dataset.mean.to(device), dataset.std.to(device))

    @property
    def device(self) -> torch.device:
        """Where images have to be."""
        return self.mean.device

    def points(self, pixels: Tensor, labels: Tensor) -> Points:
        """The images with the model's answers."""
        with torch.inference_mode():
            logits = [self._logits(pixels[part]) for part in _parts(pixels)]
        # A copy outside of inference mode takes part in gradients again.
        return Points(pixels, torch.cat(logits).clone(), labels)

    def gradient(self, pixels: Tensor, labels: Tensor, loss: Loss, aims: Tensor) -> tuple[Points, Tensor]:
        """The images with the model's answers, and the gradient of each one's loss by its pixels.

        0 where the model has no gradient: its outputs do not hang together with its inputs, or it overwrites what
        the gradient needs.
        """
        if self.guide is not None:
            return self.points(pixels, labels), self.guide.gradient(pixels, labels, loss, aims)[1]
        logits, gradients = [], []
        for part in _parts(pixels):
            inputs = pixels[part].detach().requires_grad_()
            with torch.enable_grad(), StraightThrough() if self.straight_through else nullcontext():
                found = self._logits(inputs)
                total = loss(found, labels[part], aims[part]).sum()
            gradients.append(_slope(total, inputs))
            logits.append(found.detach())
        return Points(pixels, torch.cat(logits), labels), torch.cat(gradients)

    def guided_by(self, guide: "Target") -> "Target":
        """The same model, attacked along another one's gradients."""
        return replace(self, guide=guide)

    def _logits(self, pixels: Tensor) -> Tensor:
        shape = (1, -1) + (1,) * (pixels.dim() - 2)
        normal = (pixels - self.mean.view(shape)) / self.std.view(shape)
        if normal.dim() == 4:
            normal = normal.contiguous(memory_format=torch.channels_last)
        return self.model(normal).float()


def _slope(total: Tensor, inputs: Tensor) -> Tensor:
    """Gradient of `total` by the inputs, 0 where there is none."""
    slope = None
    if total.requires_grad:
        try:
            (slope,) = torch.autograd.grad(total, inputs, allow_unused=True)
        except RuntimeError as error:
            if "inplace operation" not in str(error):
                raise
    return torch.zeros_like(inputs) if slope is None else slope.nan_to_num(0.0, 0.0, 0.0)


def _parts(pixels: Tensor) -> Iterator[slice]:
    size = max(1, _VALUES // max(1, pixels[0].numel())) if len(pixels) else 1
    for start in range(0, len(pixels), size):
        yield slice(start, start + size)
