"""A network as a function of pixels on [0, 1], before normalization."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remnant.lab.dataset import Dataset

BATCH = 250
"""Inputs that a network sees at a time."""


@dataclass(frozen=True, eq=False)
class PixelModel:
    """A network in evaluation mode whose inputs are 8-bit images over 255, or the data's own floats."""

    model: nn.Module
    scale: Tensor
    """1 / std of each channel, shaped to broadcast over inputs."""
    shift: Tensor
    """-mean / std."""
    shape: tuple[int, ...]
    """Of one input."""

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.scale.device

    def logits(self, points: Tensor) -> Tensor:
        """Outputs for points of shape (number, values), (number, class)."""
        images = points.view(-1, *self.shape) * self.scale + self.shift
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.model(images).float()

    @torch.inference_mode()
    def answers(self, points: Tensor) -> Tensor:
        """The first of the classes with the largest output, (number,)."""
        return torch.cat([self.logits(points[part]).argmax(1) for part in batches(len(points), self.device)])


def pixel_model(model: nn.Module, dataset: Dataset) -> PixelModel:
    """The network behind the normalization of its data set."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    shape = (-1,) + (1,) * (len(dataset.input_shape) - 1)
    scale, shift = (1 / dataset.std).view(shape), (-dataset.mean / dataset.std).view(shape)
    return PixelModel(model, scale.to(device), shift.to(device), dataset.input_shape)


def pixels(images: Tensor, device: torch.device) -> Tensor:
    """Images as points, (number, values): 8-bit ones over 255, others as they are."""
    points = images.to(device).float().flatten(1)
    return points / 255 if images.dtype == torch.uint8 else points


def spread(dataset: Dataset) -> float:
    """Norm of a change of every input value by one standard deviation of its channel over the training data."""
    values = torch.Size(dataset.input_shape).numel()
    return float(dataset.std.double().square().mean().mul(values).sqrt())


def batches(number: int, device: torch.device) -> Iterator[Tensor]:
    """The indices 0 to `number` - 1 in parts of `BATCH`; one empty part if there are none."""
    yield from torch.arange(number, device=device).split(BATCH)
