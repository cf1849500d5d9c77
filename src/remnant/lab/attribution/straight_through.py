"""Twins of int8 models whose rounding has a gradient: that of the identity.

Rounding is flat almost everywhere, so the gradients of an int8 model are 0, or pass only through what is not
rounded (the ranges of a dynamic quantizer): they say nothing on the model. A twin computes the same numbers bit for
bit and differs in its backward pass only: rounding passes gradients on, values beyond the range have none, and
ranges count as constants.

References
----------
bengio2013estimating; jacob2018quantization, section 3
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.grids import TINY, round_through
from remnant.lab.compress.layers import replaced
from remnant.lab.compress.quantized_layers import DynamicLayer, QuantizedLayer, StaticLayer


def is_quantized(model: nn.Module) -> bool:
    """Whether the model has int8 layers of `remnant.lab.compress.quantization`."""
    return any(isinstance(module, QuantizedLayer) for module in model.modules())


def twin(model: nn.Module) -> nn.Module:
    """A copy with the same outputs, in which every int8 layer rounds with the gradient of the identity."""
    model = copy.deepcopy(model)
    found: dict[Any, nn.Module] = {}
    for module in model.modules():
        if isinstance(module, StaticLayer):
            found[module] = ThroughStatic(module)
        elif isinstance(module, DynamicLayer):
            found[module] = ThroughDynamic(module)
    return replaced(model, found).eval()


class ThroughStatic(nn.Module):
    """What a `StaticLayer` computes, with gradients."""

    def __init__(self, exact: StaticLayer) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, values: Tensor) -> Tensor:
        exact, inputs, outputs = self.exact, self.exact.inputs, self.exact.outputs
        codes = values
        if inputs is not None:
            codes = round_through(values.mul(1 / inputs.scale)).clamp(inputs.low, inputs.high)
        found = exact.layer(codes).mul(exact.factor)
        if outputs is None:
            return found
        return round_through(found).clamp(outputs.low, outputs.high).mul(outputs.scale)


class ThroughDynamic(nn.Module):
    """What a `DynamicLayer` computes, with gradients; the range of a row counts as a constant."""

    def __init__(self, exact: DynamicLayer) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, values: Tensor) -> Tensor:
        exact = self.exact
        dims = tuple(range(1 - exact.layer.weight.dim(), 0))
        with torch.no_grad():
            low, high = values.amin(dims, keepdim=True).clamp(max=0), values.amax(dims, keepdim=True).clamp(min=0)
            scale = high / 255 - low / 255
            inverse = torch.where(scale < TINY, 0.0, 1 / scale)
            zero_point = (-128 - low * inverse).round().clamp(-128, 127)
        codes = round_through(values.mul(inverse))
        # The range is the row's own: the ends are cut by rounding alone, and keep their whole gradient.
        codes = codes + (codes.clamp(-128 - zero_point, 127 - zero_point) - codes).detach()
        found = exact.layer(codes).mul(scale * exact._per_output(exact.weight_scale))
        return found if exact.bias is None else found.add(exact._per_output(exact.bias))
