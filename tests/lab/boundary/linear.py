"""Models whose boundaries are known, for tests of distances."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.boundary.pixels import PixelModel


class Function(nn.Module):
    """A function from inputs to logits as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(inputs)


def plain(model: nn.Module, values: int) -> PixelModel:
    """A model of flat inputs without normalization."""
    return PixelModel(model.eval(), torch.ones(1), torch.zeros(1), (values,))


def linear(rng: np.random.Generator, values: int = 20, classes: int = 5) -> tuple[PixelModel, np.ndarray, np.ndarray]:
    """A linear model with its weights (class, value) and biases in float64."""
    layer = nn.Linear(values, classes)
    weights, biases = rng.normal(0, 1, (classes, values)), rng.normal(0, 1, classes)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.copy_(torch.from_numpy(biases))
    return plain(layer, values), layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()


def gaps(points: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lead of the own answer on each class, (point, class), and its slopes, (point, class, value)."""
    outputs = points @ weights.T + biases
    own = outputs.argmax(1)
    return outputs.max(1, keepdims=True) - outputs, weights[own][:, None] - weights


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Unit vectors along the last axis, float32."""
    found = rng.normal(0, 1, shape)
    return (found / np.linalg.norm(found, axis=-1, keepdims=True)).astype(np.float32)
