"""Weights of few bits under float activations: rounding to nearest.

References
----------
krishnamoorthi2018quantizing, section 3.1; nagel2021white, section 3.1
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress.context import Context
from remnant.lab.compress.grids import least_squares_scale, usable, weight_codes, weight_scale
from remnant.lab.compress.layers import Layer, named_layers, replaced
from remnant.lab.compress.quantization import prepared, rebuilt
from remnant.lab.compress.quantized_layers import WeightOnlyLayer
from remnant.schemes.quantization import WeightOnly

GROUP_SIZE = 32
"""Inputs in a group where the scheme does not say: the block size of 4-bit formats such as GGUF's Q4_0."""


def weight_only(scheme: WeightOnly, model: nn.Module, context: Context) -> nn.Module:
    """A copy whose linear and convolution layers have weights of few bits; the rest is float32.

    Codes in [-q, q], q = 2^(bits - 1) - 1, zero point 0: 4 bits are 15 numbers, 2 bits are 3. The scale is
    max|w| / q of the output channel, the layer or the group, or one of least squared error; see
    `remnant.lab.compress.grids`. Groups are consecutive inputs of an output channel, those of a convolution counted
    channel by channel and row by row of its kernel; the last group may be smaller. Batch norms are folded first.

    Raises
    ------
    ValueError
        If the model is quantized already, has no layer to quantize, or holds NaN or infinite weights.
    """
    model = prepared(model, context)
    return replaced(model, {layer: _layer(scheme, layer) for layer in named_layers(model).values()})


def restored(scheme: WeightOnly, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `weight_only` made of `parent`, from its state dictionary."""
    return rebuilt(parent, state, lambda layer: _layer(scheme, layer))


@torch.no_grad()
def _layer(scheme: WeightOnly, layer: Layer) -> WeightOnlyLayer:
    weight = layer.weight.detach()
    if scheme.granularity != "group":
        codes, scale = _rounded(scheme, weight)
        return WeightOnlyLayer(layer, codes, scale, scheme.bits)
    size = scheme.group_size or GROUP_SIZE
    groups = in_groups(weight, size)
    codes, scale = _rounded(scheme, groups.flatten(0, 1))
    codes = codes.view(len(weight), -1)[:, : weight[0].numel()].reshape(weight.shape)
    return WeightOnlyLayer(layer, codes, scale.view(groups.shape[:2]), scheme.bits, size)


def in_groups(weight: Tensor, size: int) -> Tensor:
    """The inputs of each output channel, (output channel, group, `size`), the last group filled up with zeros."""
    flat = weight.flatten(1)
    return functional.pad(flat, (0, -flat.shape[1] % size)).view(len(flat), -1, size)


def _rounded(scheme: WeightOnly, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, and the scale of each row."""
    if scheme.granularity == "layer":
        scale = _scale(scheme, weight.reshape(1, -1)).expand(len(weight)).contiguous()
    else:
        scale = _scale(scheme, weight)
    return weight_codes(weight, scale, scheme.bits), scale


def _scale(scheme: WeightOnly, weight: Tensor) -> Tensor:
    if scheme.clipping == "least-squares":
        return usable(least_squares_scale(weight, scheme.bits))
    return weight_scale(weight, bits=scheme.bits).clone()
