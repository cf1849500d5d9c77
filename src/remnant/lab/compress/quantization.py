"""Quantization as TensorFlow Lite does it after training, as arithmetic that runs on any device.

Batch norms are folded first where possible; see `remnant.lab.compress.layers.folded`. The arithmetic is that of
`remnant.lab.compress.quantized_layers`.

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
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.compress.calibration import calibrate, examples
from remnant.lab.compress.context import Context
from remnant.lab.compress.grids import Grid
from remnant.lab.compress.layers import (
    Layer,
    check_finite,
    folded,
    fused,
    fused_activations,
    named_layers,
    replaced,
)
from remnant.lab.compress.quantized_layers import DynamicLayer, QuantizedLayer, StaticLayer
from remnant.schemes import DynamicInt8, Float16, StaticInt8

_MAX_HALF = torch.finfo(torch.float16).max

Grids = tuple[Grid | None, Grid | None]
"""Those of the input and of the output of a layer; None for what is not quantized."""


def float16(scheme: Float16, model: nn.Module, context: Context) -> nn.Module:
    """A copy whose parameters are rounded to half precision; it computes in float32.

    Batch norms are folded first. All parameters (weights, biases, norms that are left) are rounded to
    nearest even; magnitudes above 65504 become 65504. Running statistics of norms stay float32.
    """
    model = prepared(model, context)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.clamp(-_MAX_HALF, _MAX_HALF).half())
    return model


def dynamic_int8(scheme: DynamicInt8, model: nn.Module, context: Context) -> nn.Module:
    """A copy with int8 weights, whose layers quantize their inputs to int8 as they come.

    Weights: codes in [-127, 127], zero point 0, scale max|w| / 127 of the output channel (or layer).
    Inputs: codes in [-128, 127] over the range of each batch row, zero included, with a zero point
    (asymmetric, as TensorFlow Lite's per-channel hybrid kernels). A row is an example for a
    convolution, and a vector of the last dimension for a linear layer. Outputs and biases are float32.
    """
    model = prepared(model, context)
    return replaced(model, {layer: DynamicLayer(layer, scheme.per_channel) for layer in named_layers(model).values()})


def static_int8(scheme: StaticInt8, model: nn.Module, context: Context) -> nn.Module:
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
    model = prepared(model, context)
    layers, activations = named_layers(model), fused_activations(model)
    ranges = calibrate(model, layers, context, scheme.calibration)
    replacements: dict[nn.Module, nn.Module] = {}
    for name, layer in layers.items():
        inputs = outputs = None
        if name in ranges:
            inputs = Grid.over(*ranges[name][0])
            if name in activations:
                outputs = Grid.over(*np.clip(ranges[name][1], *activations[name]))
        replacements[layer] = StaticLayer(layer, scheme.per_channel, inputs, outputs)
    return replaced(model, replacements)


def prepared(model: nn.Module, context: Context) -> nn.Module:
    """A checked copy in evaluation mode with folded batch norms.

    Raises
    ------
    ValueError
        If the model is quantized already, has no layer to quantize, or holds NaN or infinite weights.
    """
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError("Expected a model that is not quantized, but it has quantized layers already. Quantize once.")
    named_layers(model)
    check_finite(model)
    return folded(model, next(examples(model, context, 8)))


def restored_float16(scheme: Float16, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `float16` made of `parent`, from its state dictionary; see `rebuilt`."""
    return rebuilt(parent, state, None)


def restored_dynamic(scheme: DynamicInt8, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `dynamic_int8` made of `parent`, from its state dictionary; see `rebuilt`."""
    return rebuilt(parent, state, lambda layer: DynamicLayer(layer, True))


def restored_static(scheme: StaticInt8, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model that `static_int8` made of `parent`, from its state dictionary; see `rebuilt`."""
    return rebuilt(parent, state, lambda layer: StaticLayer(layer, True, None, None))


def rebuilt(parent: nn.Module, state: dict[str, Tensor], make: Callable[[Layer], QuantizedLayer] | None) -> nn.Module:
    """A copy of `parent` with layers made by `make` (None: as they are) that holds the tensors of `state`.

    Batch norms are folded if the names in `state` say that they were.

    Raises
    ------
    ValueError
        If the names or shapes in `state` are not those of such a model: the parent is another one.
    """
    reason = "it has other layers"
    for candidate in (fused(parent), copy.deepcopy(parent).eval()):
        if candidate is None:
            continue
        if make is not None:
            candidate = replaced(candidate, {layer: make(layer) for layer in named_layers(candidate).values()})
        if set(candidate.state_dict()) != set(state):
            continue
        try:
            candidate.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            continue
        return candidate
    raise ValueError(
        f"Expected the state of a quantized {type(parent).__name__}, but {reason}. Give the model that was compressed."
    )
