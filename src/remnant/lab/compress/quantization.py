"""Quantization as TensorFlow Lite does it after training, as arithmetic that runs on any device.

Integers are carried in float32: products of int8 codes are summed without rounding while the sum stays
below 2^24, so outputs do not depend on the order of summation, the other examples of the batch or the
device. Batch norms are folded first where possible; see `remnant.lab.compress.layers.folded`.

The layers of `remnant.lab.compress.layers.Layer` are quantized, however small (TensorFlow Lite leaves
those with fewer than 1024 weights in float), and fully connected ones per output channel too (older
versions: per layer). What connects layers, such as pooling and the sums of residual connections, is
computed in float32. A layer whose `weight` the model reads without calling the layer (as
`nn.MultiheadAttention` does) has quantized weights only.

References
----------
jacob2018quantization, section 2; litert2025specification
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer, check_finite, folded, fused_activations, named_layers, replaced
from remnant.lab.train import normalize, take
from remnant.trial import DynamicInt8, Float16, StaticInt8

if TYPE_CHECKING:
    from remnant.lab.compress import Context

_BATCH = 100
"""Examples in a calibration batch."""
_TINY = torch.finfo(torch.float32).tiny
"""Scales below the smallest normal number count as 0: their inverse would overflow."""
_MAX_BIAS = 2**30
"""Bias codes stay in the middle half of int32, as in TensorFlow Lite's `AdjustWeightsForBiasScale`."""
_MAX_HALF = torch.finfo(torch.float16).max


def float16(scheme: Float16, model: nn.Module, context: "Context") -> nn.Module:
    """A copy whose parameters are rounded to half precision; it computes in float32.

    Batch norms are folded first. All parameters (weights, biases, norms that are left) are rounded to
    nearest even; magnitudes above 65504 become 65504. Running statistics of norms stay float32.
    """
    model = _prepared(model, context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.clamp(-_MAX_HALF, _MAX_HALF).half())
    return model


def dynamic_int8(scheme: DynamicInt8, model: nn.Module, context: "Context") -> nn.Module:
    """A copy with int8 weights, whose layers quantize their inputs to int8 as they come.

    Weights: codes in [-127, 127], zero point 0, scale max|w| / 127 of the output channel (or layer).
    Inputs: codes in [-128, 127] over the range of each batch row, zero included, with a zero point
    (asymmetric, as TensorFlow Lite's per-channel hybrid kernels). A row is an example for a
    convolution, and a vector of the last dimension for a linear layer. Outputs and biases are float32.
    """
    model = _prepared(model, context)
    return replaced(model, {layer: DynamicLayer(layer, scheme.per_channel) for layer in named_layers(model).values()})


def static_int8(scheme: StaticInt8, model: nn.Module, context: "Context") -> nn.Module:
    """A copy in fixed point: weights, inputs and outputs of layers int8, biases int32.

    Weights: as `dynamic_int8`. Inputs: one scale and zero point per tensor, codes in [-128, 127] over
    the smallest and largest value on the first `calibration` training examples of the trial's subset,
    zero included; values beyond saturate. Outputs: likewise, over the range after the ReLU or ReLU6 where
    that alone reads the output (the activation is part of the layer's kernel); the logits are outputs
    too, so that ties between classes occur. Biases: multiples of (input scale) * (weight scale).
    Outputs are left in float32 if `torch.fx` cannot trace the model.

    An input or output that is 0 on all calibration examples is 0 ever after. A channel's weight scale
    is enlarged where its bias would not fit into 31 bits otherwise.

    Raises
    ------
    ValueError
        If an activation is NaN or infinite in calibration.
    """
    model = _prepared(model, context)
    layers, activations = named_layers(model), fused_activations(model)
    ranges = _calibrate(model, layers, context, scheme.calibration)
    replacements: dict[nn.Module, nn.Module] = {}
    for name, layer in layers.items():
        inputs = outputs = None
        if name in ranges:
            inputs = Grid.over(*ranges[name][0])
            if name in activations:
                outputs = Grid.over(*np.clip(ranges[name][1], *activations[name]))
        replacements[layer] = StaticLayer(layer, scheme.per_channel, inputs, outputs)
    return replaced(model, replacements)


@dataclass(frozen=True)
class Grid:
    """The real numbers that an int8 tensor can hold: `scale` times the integers `low` to `high`.

    `low` and `high` are the ends -128 and 127 less the zero point, so that the integer 0 is the number 0.
    """

    scale: float
    low: int
    high: int

    @classmethod
    def over(cls, low: float, high: float) -> "Grid":
        """256 numbers from about `low` to `high`, 0 among them; only 0 if both are 0.

        The range is widened to hold 0, then shifted by at most half a step so that 0 is one of them.
        """
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = high / 255 - low / 255
        if scale < _TINY:
            return cls(1.0, 0, 0)
        zero_point = min(127, max(-128, round(-128 - low / scale)))
        return cls(float(np.float32(scale)), -128 - zero_point, 127 - zero_point)

    def codes(self, values: Tensor) -> Tensor:
        """The integers of the nearest numbers of the grid, ends beyond them, as a new float tensor; NaN stays NaN."""
        return values.mul(1 / self.scale).round_().clamp_(self.low, self.high)


def quantize_weight(weight: Tensor, per_channel: bool = True, smallest: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Integers in [-127, 127] (as floats) and the scale of each output channel (dimension 0).

    weight = codes * scale within scale / 2. A channel that is all zero, or smaller than float32 can
    scale, has codes 0 and the largest scale of the layer (1 if all are).

    Parameters
    ----------
    per_channel
        False gives all channels the largest scale.
    smallest
        Lower bounds of the scales.
    """
    weight = weight.detach()
    scale = weight.flatten(1).abs().amax(1) / 127
    if smallest is not None:
        scale = torch.maximum(scale, smallest)
    largest = scale.max() if scale.max() >= _TINY else torch.ones_like(scale[0])
    scale = torch.where(scale >= _TINY, scale, largest) if per_channel else largest.expand_as(scale)
    column = scale.view(-1, *[1] * (weight.dim() - 1))
    return (weight / column).round_().clamp_(-127, 127), scale.clone()


class QuantizedLayer(nn.Module):
    """A linear or convolution layer with int8 weights. Abstract.

    `layer` computes on integer codes; `weight` and `bias` are what it stands for.
    """

    weight_scale: Tensor

    def __init__(self, layer: Layer, codes: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)
        self.layer.weight = nn.Parameter(codes, requires_grad=False)
        self.layer.bias = None  # pyright: ignore[reportAttributeAccessIssue]
        self.register_buffer("weight_scale", scale)

    @property
    def weight(self) -> Tensor:
        """The dequantized weight: codes times the scale of their channel."""
        return self.layer.weight * self.weight_scale.view(-1, *[1] * (self.layer.weight.dim() - 1))

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
        inverse = torch.where(scale < _TINY, 0.0, 1 / scale)
        zero_point = (-128 - low * inverse).round_().clamp_(-128, 127)
        codes = values.mul(inverse).round_().clamp_(-128 - zero_point, 127 - zero_point)
        outputs = self.layer(codes).mul_(scale * self._per_output(self.weight_scale))
        return outputs if self.bias is None else outputs.add_(self._per_output(self.bias))


class StaticLayer(QuantizedLayer):
    """Quantizes its input and output over fixed ranges (None: not at all); its bias is int32.

    The bias is a multiple of (input scale) * (weight scale), in float32 if the input is not quantized.
    A channel's weight scale is enlarged where its bias would not fit otherwise.
    """

    factor: Tensor

    def __init__(self, layer: Layer, per_channel: bool, inputs: Grid | None, outputs: Grid | None) -> None:
        input_scale = 1.0 if inputs is None else inputs.scale
        smallest = None if layer.bias is None else layer.bias.detach().abs() / (input_scale * _MAX_BIAS)
        super().__init__(layer, *quantize_weight(layer.weight, per_channel, smallest))
        if layer.bias is not None:
            codes = layer.bias.detach().double() / (self.weight_scale.double() * input_scale)
            codes = codes if inputs is None else codes.round()
            self.layer.bias = nn.Parameter(codes.to(layer.bias.dtype), requires_grad=False)
        factor = self.weight_scale * (input_scale if outputs is None else input_scale / outputs.scale)
        self.register_buffer("factor", self._per_output(factor), persistent=False)
        self.inputs, self.outputs = inputs, outputs

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

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, outputs={self.outputs}"


def _prepared(model: nn.Module, context: "Context") -> nn.Module:
    """A checked copy in evaluation mode with folded batch norms."""
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError("Expected a model that is not quantized, but it has int8 layers already. Quantize once.")
    named_layers(model)
    check_finite(model)
    return folded(model, next(_examples(model, context, 8)))


def _examples(model: nn.Module, context: "Context", number: int) -> Iterator[Tensor]:
    """The first training examples of the trial's subset in batches, as the model sees them."""
    device = next(model.parameters()).device
    for batch in torch.from_numpy(context.indices[:number]).split(_BATCH):
        yield normalize(context.dataset, take(context.dataset.train.images, batch).to(device))


Range = tuple[float, float]


@torch.inference_mode()
def _calibrate(
    model: nn.Module, layers: dict[str, Layer], context: "Context", number: int
) -> dict[str, tuple[Range, Range]]:
    """Smallest and largest input and output of every layer that is called, on the first examples."""
    found: dict[str, tuple[Range, Range]] = {}
    with _recorded(layers, found):
        for examples in _examples(model, context, number):
            model(examples)
    return found


@contextmanager
def _recorded(layers: dict[str, Layer], found: dict[str, tuple[Range, Range]]) -> Iterator[None]:
    """While the context is open, ranges of inputs and outputs of layers go to `found`."""

    def recorder(name: str):
        def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            new = _range(args[0]), _range(output)
            if not all(math.isfinite(end) for ends in new for end in ends):
                raise ValueError(
                    f"Expected finite activations on the calibration examples, but input and output of layer {name!r} "
                    f"range over {new[0]} and {new[1]}. Are there NaN in the images, or did the training diverge?"
                )
            old = found.get(name, new)
            found[name] = _union(old[0], new[0]), _union(old[1], new[1])

        return record

    handles = [layer.register_forward_hook(recorder(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _range(values: Tensor) -> Range:
    low, high = values.aminmax()
    return low.item(), high.item()


def _union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])
