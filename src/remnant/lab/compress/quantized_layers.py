"""Linear and convolution layers that hold integer codes and compute as integer kernels do.

Integers are carried in float32: products of int8 codes are summed without rounding while the sum stays
below 2^24, so outputs do not depend on the order of summation, the other examples of the batch or the
device.
"""

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call

from remnant.lab.compress.grids import TINY, Grid, over_channels, quantize_weight
from remnant.lab.compress.layers import Layer

MAX_BIAS = 2**30
"""Bias codes stay in the middle half of int32, as in TensorFlow Lite's `AdjustWeightsForBiasScale`."""


class QuantizedLayer(nn.Module):
    """A linear or convolution layer with weights of few bits. Abstract.

    `layer` holds the integer codes; `weight` and `bias` are what it stands for.
    """

    weight_scale: Tensor
    bits: int
    """Bits of the weights."""

    def __init__(self, layer: Layer, codes: Tensor, scale: Tensor, bits: int = 8) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)
        self.layer.weight = nn.Parameter(codes, requires_grad=False)
        self.layer.bias = None  # pyright: ignore[reportAttributeAccessIssue]
        self.register_buffer("weight_scale", scale)
        self.bits = bits

    @property
    def weight(self) -> Tensor:
        """The dequantized weight: codes times the scale of their channel."""
        return self.layer.weight * over_channels(self.weight_scale, self.layer.weight)

    def _per_output(self, values: Tensor) -> Tensor:
        """One value per output channel, shaped to broadcast over the layer's output."""
        return values.view(-1, *[1] * (self.layer.weight.dim() - 2))


class DynamicLayer(QuantizedLayer):
    """Quantizes each row of its input over the row's own range; its bias is float32."""

    def __init__(self, layer: Layer, per_channel: bool) -> None:
        super().__init__(layer, *quantize_weight(layer.weight, per_channel))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone(), requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        dims = tuple(range(1 - self.layer.weight.dim(), 0))
        low = values.amin(dims, keepdim=True).clamp_(max=0)
        high = values.amax(dims, keepdim=True).clamp_(min=0)
        scale = high / 255 - low / 255
        inverse = torch.where(scale < TINY, 0.0, 1 / scale)
        zero_point = (-128 - low * inverse).round_().clamp_(-128, 127)
        codes = values.mul(inverse).round_().clamp_(-128 - zero_point, 127 - zero_point)
        outputs = self.layer(codes).mul_(scale * self._per_output(self.weight_scale))
        return outputs if self.bias is None else outputs.add_(self._per_output(self.bias))


class StaticLayer(QuantizedLayer):
    """Quantizes its input and output over fixed ranges (None: not at all); its bias is int32.

    The bias is a multiple of (input scale) * (weight scale), in float32 if the input is not quantized.
    A channel's weight scale is enlarged where its bias would not fit otherwise. The state dictionary
    holds both ranges, so that a layer of the same shape can load it.
    """

    factor: Tensor

    def __init__(
        self, layer: Layer, per_channel: bool, inputs: Grid | None, outputs: Grid | None, bits: int = 8
    ) -> None:
        input_scale = 1.0 if inputs is None else inputs.scale
        smallest = None if layer.bias is None else smallest_scale(layer.bias, input_scale)
        super().__init__(layer, *quantize_weight(layer.weight, per_channel, smallest, bits=bits), bits)
        if layer.bias is not None:
            codes = layer.bias.detach().double() / (self.weight_scale.double() * input_scale)
            codes = codes if inputs is None else codes.round()
            self.layer.bias = nn.Parameter(codes.to(layer.bias.dtype), requires_grad=False)
        self.inputs, self.outputs = inputs, outputs
        self.register_buffer("factor", self._factor(), persistent=False)

    @property
    def bias(self) -> Tensor | None:
        """The dequantized bias."""
        input_scale = 1.0 if self.inputs is None else self.inputs.scale
        return None if self.layer.bias is None else self.layer.bias * (self.weight_scale * input_scale)

    def forward(self, values: Tensor) -> Tensor:
        codes = values if self.inputs is None else self.inputs.codes(values)
        outputs = self.layer(codes).mul_(self.factor)
        if self.outputs is None:
            return outputs
        return outputs.round_().clamp_(self.outputs.low, self.outputs.high).mul_(self.outputs.scale)

    def get_extra_state(self) -> Tensor:
        """Scale, lowest and highest code of inputs and outputs, float32 (2, 3); NaN for None."""
        grids = [(g.scale, g.low, g.high) if g is not None else (torch.nan,) * 3 for g in (self.inputs, self.outputs)]
        return torch.tensor(grids, dtype=torch.float32)

    def set_extra_state(self, state: Tensor) -> None:
        rows = [None if row[0] != row[0] else Grid(row[0], int(row[1]), int(row[2])) for row in state.tolist()]
        self.inputs, self.outputs = rows
        self.factor.copy_(self._factor())

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, outputs={self.outputs}"

    def _factor(self) -> Tensor:
        """What a sum of products of codes is multiplied with to be an output, or the code of one."""
        input_scale = 1.0 if self.inputs is None else self.inputs.scale
        output_scale = 1.0 if self.outputs is None else self.outputs.scale
        return self._per_output(self.weight_scale * (input_scale / output_scale))


class WeightOnlyLayer(QuantizedLayer):
    """Dequantizes its weights and computes in float32; its bias is float32.

    Parameters
    ----------
    codes
        Integers as floats, of the shape of the weight.
    scale
        (output channel,), or (output channel, group): consecutive inputs of a channel share a scale.
    group_size
        Inputs in a group, the last of which may have fewer; None for one scale per channel.
    """

    def __init__(self, layer: Layer, codes: Tensor, scale: Tensor, bits: int, group_size: int | None = None) -> None:
        super().__init__(layer, codes, scale, bits)
        self.group_size = group_size
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone(), requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight: codes times the scale of their channel or group."""
        codes = self.layer.weight
        if self.group_size is None:
            return codes * over_channels(self.weight_scale, codes)
        scale = self.weight_scale.repeat_interleave(self.group_size, 1)[:, : codes[0].numel()]
        return codes * scale.view(codes.shape)

    def forward(self, values: Tensor) -> Tensor:
        outputs = functional_call(self.layer, {"weight": self.weight}, (values,))
        return outputs if self.bias is None else outputs + self._per_output(self.bias)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, group_size={self.group_size}"


def smallest_scale(bias: Tensor, input_scale: float) -> Tensor:
    """The smallest weight scale of each channel with which its bias still fits into an integer."""
    return bias.detach().abs() / (input_scale * MAX_BIAS)
