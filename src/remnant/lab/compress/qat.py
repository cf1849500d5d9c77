"""Quantization-aware training: rounding in the forward pass, the identity's gradient in the backward pass.

References
----------
jacob2018quantization, section 3; bengio2013estimating; krishnamoorthi2018quantizing, section 3.2
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from remnant.lab.compress.calibration import Range, calibrate, extremes
from remnant.lab.compress.context import Context
from remnant.lab.compress.grids import Grid, largest_code, over_channels, round_through, weight_scale
from remnant.lab.compress.layers import Layer, fused_activations, named_layers, replaced
from remnant.lab.compress.quantization import prepared, rebuilt
from remnant.lab.compress.quantized_layers import StaticLayer, smallest_scale
from remnant.lab.compress.tuning import tuned
from remnant.schemes.quantization import QuantizationAwareTraining

AVERAGING = 0.01
"""Weight of a batch in the moving average of a range: the default of torch's moving-average observers."""


def quantization_aware(scheme: QuantizationAwareTraining, model: nn.Module, context: Context) -> nn.Module:
    """A copy in fixed point, as `static_int8` makes it, whose weights were trained through the rounding.

    Batch norms are folded first, so that what is trained is what is deployed (those that cannot be folded train on).
    In every step weights, inputs and outputs are rounded onto their grids, and the gradient passes as if they were
    not: it is that of the identity within the range and 0 beyond. Weight scales follow the weights. Ranges of
    activations come from the first `calibration` training examples, then move towards those of each batch by a
    hundredth (constant reconstructed from torch's default) for the share `observed` of the steps, then stay.

    Weights that are 0 in `model` stay 0, so that a pruned model stays pruned. With `epochs` = 0 and 8 bits the answer
    is that of `static_int8`, bit for bit. Training and deployment differ by float32 rounding alone, and where the
    recipe trains in bfloat16 by that of the products.

    Raises
    ------
    ValueError
        If an activation is NaN or infinite in calibration, or the model is quantized or has nothing to quantize.
    """
    trained = prepared(model, context)
    layers, activations = named_layers(trained), fused_activations(trained)
    ranges = calibrate(trained, layers, context, scheme.calibration)
    fakes: dict[nn.Module, FakeQuantizedLayer] = {}
    for name, layer in layers.items():
        if name not in ranges:
            context.skipped.append(
                f"{name}: not called on the calibration examples, so that only its weights are quantized"
            )
        fakes[layer] = FakeQuantizedLayer(layer, scheme, ranges.get(name), activations.get(name))
    trained = replaced(trained, fakes)
    hook = Observation(list(fakes.values()), scheme.observed)
    trained = tuned(trained, scheme, context.reference or model, context, hook=hook)
    return replaced(trained, {fake: fake.deployed() for fake in fakes.values()})


def restored(scheme: QuantizationAwareTraining, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `quantization_aware` made of `parent`, from its state dictionary."""
    return rebuilt(parent, state, lambda layer: StaticLayer(layer, True, None, None, scheme.bits))


class FakeQuantizedLayer(nn.Module):
    """A layer of float32 weights that computes on their rounded values; `deployed` makes it a `StaticLayer`.

    Parameters
    ----------
    ranges
        Of input and output; None to round weights only.
    bounds
        What the activation after the layer leaves of its output; None to leave the output unrounded.
    """

    kept: Tensor | None

    def __init__(
        self, layer: Layer, scheme: QuantizationAwareTraining, ranges: tuple[Range, Range] | None, bounds: Range | None
    ) -> None:
        super().__init__()
        self.layer = layer.requires_grad_()
        self.scheme, self.ranges, self.bounds = scheme, ranges, bounds
        self.observing = False
        pruned = layer.weight.detach() == 0
        self.register_buffer("kept", ~pruned if pruned.any() else None, persistent=False)

    @property
    def inputs(self) -> Grid | None:
        """The grid of the input."""
        return None if self.ranges is None else Grid.over(*self.ranges[0])

    @property
    def outputs(self) -> Grid | None:
        """The grid of the output, within the bounds of the activation."""
        if self.ranges is None or self.bounds is None:
            return None
        return Grid.over(*np.clip(self.ranges[1], *self.bounds))

    @property
    def weight(self) -> Tensor:
        """The rounded weight, with the gradient of the one that is trained."""
        weight = self.layer.weight if self.kept is None else self.layer.weight * self.kept
        return fake_quantize_weight(weight, self._scale(), self.scheme.bits)

    @property
    def bias(self) -> Tensor | None:
        """The rounded bias, with the gradient of the one that is trained."""
        if self.layer.bias is None or self.inputs is None:
            return self.layer.bias
        step = self._scale() * self.inputs.scale
        return round_through(self.layer.bias / step) * step

    def forward(self, values: Tensor) -> Tensor:
        if self.observing and self.training:
            self._observe(0, values)
        inputs, weight, bias = self.inputs, self.weight, self.bias
        values = values if inputs is None else fake_quantize(values.float(), inputs)
        tensors = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        found = functional_call(self.layer, tensors, (values,)).float()
        if self.observing and self.training:
            self._observe(1, found)
        outputs = self.outputs
        return found if outputs is None else fake_quantize(found, outputs)

    def deployed(self) -> StaticLayer:
        """The layer on integers: the same arithmetic as in evaluation mode, up to float32 rounding."""
        return StaticLayer(self.layer, self.scheme.per_channel, self.inputs, self.outputs, self.scheme.bits)

    def _scale(self) -> Tensor:
        """Those that a `StaticLayer` takes for the weights as they are."""
        inputs, bias = self.inputs, self.layer.bias
        smallest = None if bias is None else smallest_scale(bias, 1.0 if inputs is None else inputs.scale)
        return weight_scale(self.layer.weight, self.scheme.per_channel, smallest, bits=self.scheme.bits)

    @torch.no_grad()
    def _observe(self, side: int, values: Tensor) -> None:
        new = extremes(values)
        if self.ranges is None or not all(math.isfinite(end) for end in new):
            return  # a training that diverges stops by its loss
        low, high = ((1 - AVERAGING) * end + AVERAGING * at for end, at in zip(self.ranges[side], new, strict=True))
        self.ranges = (self.ranges[0], (low, high)) if side else ((low, high), self.ranges[1])


@dataclass(frozen=True)
class Observation:
    """The hook under which ranges of activations follow the batches for a share of the steps, then stay."""

    layers: list[FakeQuantizedLayer]
    share: float

    def before_step(self, step: int, num_steps: int) -> None:
        for layer in self.layers:
            layer.observing = step < self.share * num_steps

    def settled(self, step: int, num_steps: int) -> bool:
        """Whether the ranges are final before step number `step`."""
        return step >= self.share * num_steps

    def finish(self) -> None:
        for layer in self.layers:
            layer.observing = False


def fake_quantize(values: Tensor, grid: Grid) -> Tensor:
    """The nearest numbers of the grid; the gradient is 1 where the code is within its ends and 0 beyond."""
    return _apply(values, grid.scale, grid.low, grid.high)


def fake_quantize_weight(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Codes times the scale of their output channel, with the gradient of the weight (scales count as constants)."""
    largest = largest_code(bits)
    return _apply(weight, over_channels(scale, weight), -largest, largest)


class _Rounded(torch.autograd.Function):
    """scale * clamp(round(values / scale), low, high), with gradients that pass where nothing was cut off."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: float | Tensor, low: int, high: int) -> Tensor:
        codes = (values.mul(1 / scale) if isinstance(scale, float) else values / scale).round_()
        ctx.save_for_backward(codes)
        ctx.ends = low, high
        return codes.clamp(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (codes,), (low, high) = ctx.saved_tensors, ctx.ends
        # 1 on the ends themselves, where the gradient of torch.clamp is 0: the largest weight must move too.
        return torch.ops.aten.hardtanh_backward(gradients[0], codes, low - 0.5, high + 0.5), None, None, None


def _apply(values: Tensor, scale: float | Tensor, low: int, high: int) -> Tensor:
    found = _Rounded.apply(values, scale, low, high)
    assert isinstance(found, Tensor)
    return found
