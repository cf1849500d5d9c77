"""Layers as rows of smaller ordinary layers: which can be, how they are built, and how they are restored."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from remnant.lab.compress.layers import Layer, check_finite, named_layers, replaced
from remnant.lab.compress.quantized_layers import QuantizedLayer
from remnant.lab.compress.thinning import shaped
from remnant.lab.train import normalize, take

if TYPE_CHECKING:
    from remnant.lab.compress.context import Context

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_READS_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)
"""Modules that read the weights of layers inside them without calling the layers."""


@dataclass(frozen=True)
class Extent:
    """What decides the cost of a layer for one example."""

    outputs: int
    inputs: int
    kernel: int
    """Positions of the kernel; 1 for a linear layer."""
    read: int
    """Positions of the input, over all calls."""
    written: int
    """Positions of the output, over all calls."""

    def multiplications(self, inputs: int | None = None, outputs: int | None = None) -> int:
        """Of the whole layer, or of one with other numbers of inputs and outputs."""
        return (inputs or self.inputs) * self.kernel * (outputs or self.outputs) * self.written


def factorable(model: nn.Module, context: "Context") -> tuple[dict[str, Layer], dict[str, Extent]]:
    """The linear and convolution layers that can become rows of layers, and their extents, in the order of calls.

    Grouped convolutions, subclasses with a forward of their own, layers that are not called (as inside
    `nn.MultiheadAttention`, which reads their weights) and layers with shared weights are not among them; they go
    to `context.skipped`.

    Raises
    ------
    ValueError
        If there is none, or a weight is NaN, infinite, parametrized or quantized.
    """
    layers = named_layers(model)
    check_finite(model)
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError("Expected a model that is not quantized, but it has quantized layers. Quantize last.")
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer):
            raise ValueError(
                f"Expected plain weights, but those of layer {name!r} are parametrized (weight norm? pruning?). "
                "Remove it first with torch.nn.utils.parametrize.remove_parametrizations."
            )
    extents = _extents(model, layers, example(model, context))
    reasons = {name: _reason(name, model, layers, extents) for name in layers}
    context.skipped.extend(f"{name}: {reason}" for name, reason in reasons.items() if reason)
    kept = [name for name in extents if not reasons[name]]
    if not kept:
        listed = ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
        raise ValueError(f"Expected a layer that can be split into factors, but there is none: {listed}.")
    return {name: layers[name] for name in kept}, extents


def example(model: nn.Module, context: "Context") -> Tensor:
    """The first training example, as a batch that the model takes."""
    images = take(context.dataset.train.images, torch.from_numpy(context.indices[:1]))
    return normalize(context.dataset, images.to(next(model.parameters()).device))


def in_a_row(layer: Layer, weights: list[Tensor], bias: Tensor | None = None) -> nn.Module:
    """Layers with the given weights, one after another, in the place of `layer`; a single one alone.

    The first weight with the size of the layer's kernel gets its stride, padding and dilation, the others are 1x1.
    Only the last layer has a bias.
    """
    whole = [not isinstance(layer, nn.Linear) and weight.shape[2:] == layer.weight.shape[2:] for weight in weights]
    core = whole.index(True) if any(whole) else -1
    rows: list[nn.Module] = []
    for position, weight in enumerate(weights):
        last = position == len(weights) - 1
        row = _shaped(layer, weight.shape, position == core)
        row.weight = nn.Parameter(weight.detach().to(layer.weight).contiguous(), layer.weight.requires_grad)
        if last and bias is not None:
            row.bias = nn.Parameter(bias.detach().to(layer.weight).clone(), layer.weight.requires_grad)
        rows.append(row)
    joined = rows[0] if len(rows) == 1 else nn.Sequential(*rows)
    return joined.train(layer.training)


def resized_norm(norm: Norm, channels: Tensor) -> Norm:
    """A copy of a batch norm with the chosen channels."""
    new = copy.deepcopy(norm)
    new.num_features = len(channels)
    for name, parameter in norm.named_parameters():
        setattr(new, name, nn.Parameter(parameter.detach()[channels], parameter.requires_grad))
    for name, buffer in norm.named_buffers():
        if buffer.dim():
            setattr(new, name, buffer[channels])
    return new


def restored(parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model with the tensors of `state`: rows of layers and smaller layers where their shapes say so."""
    model = copy.deepcopy(parent)
    rows: dict[nn.Module, nn.Module] = {}
    for name, layer in named_layers(model).items():
        prefix = f"{name}." if name else ""
        if f"{prefix}weight" not in state:
            count = sum(key.startswith(prefix) and key.endswith(".weight") for key in state)
            weights = [state[f"{prefix}{position}.weight"] for position in range(count)]
            rows[layer] = in_a_row(layer, weights, state.get(f"{prefix}{count - 1}.bias"))
    model = shaped(replaced(model, rows), state)
    model.load_state_dict(state)
    return model


def with_modes_by_name(model: nn.Module, given: nn.Module) -> nn.Module:
    """`model`, each module in the mode of the module of its name in `given`; factors in that of their layer."""
    for name, module in given.named_modules():
        like = model.get_submodule(name)
        if isinstance(module, Layer):
            like.train(module.training)
        like.training = module.training
    return model


def _shaped(layer: Layer, shape: torch.Size, is_core: bool) -> Layer:
    """A layer of the same type without bias for a weight of `shape`, its tensors still to be set."""
    with torch.device("meta"):
        if isinstance(layer, nn.Linear):
            return nn.Linear(shape[1], shape[0], bias=False)
        if not is_core:
            return type(layer)(shape[1], shape[0], 1, bias=False)
        return type(layer)(
            shape[1] * layer.groups,
            shape[0],
            layer.kernel_size,  # pyright: ignore[reportArgumentType]
            stride=layer.stride,  # pyright: ignore[reportArgumentType]
            padding=layer.padding,  # pyright: ignore[reportArgumentType]
            dilation=layer.dilation,  # pyright: ignore[reportArgumentType]
            groups=layer.groups,
            bias=False,
            padding_mode=layer.padding_mode,  # pyright: ignore[reportArgumentType]
        )


@torch.no_grad()
def _extents(model: nn.Module, layers: dict[str, Layer], inputs: Tensor) -> dict[str, Extent]:
    """Extents of the layers that are called on one example, in the order of their first calls."""
    model = copy.deepcopy(model).eval()
    found: dict[str, Extent] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(layer: Layer, args: tuple[Tensor, ...], output: Tensor) -> None:
            outputs, inputs = layer.weight.shape[0], layer.weight.shape[1] * getattr(layer, "groups", 1)
            before = found.get(name)
            read, written = args[0].numel() // inputs, output.numel() // outputs
            if before is not None:
                read, written = read + before.read, written + before.written
            found[name] = Extent(outputs, inputs, layer.weight[0, 0].numel(), read, written)

        return record

    for name in layers:
        model.get_submodule(name).register_forward_hook(recorder(name))
    model(inputs)
    return found


def _reason(name: str, model: nn.Module, layers: dict[str, Layer], extents: dict[str, Extent]) -> str:
    """Why a layer cannot become a row of layers; empty if it can."""
    layer = layers[name]
    path = name.split(".")
    parents = [model.get_submodule(".".join(path[:depth])) for depth in range(len(path))]
    if getattr(layer, "groups", 1) > 1:
        return f"a convolution in {layer.groups} groups"  # pyright: ignore[reportAttributeAccessIssue]
    if any(isinstance(parent, _READS_WEIGHTS) for parent in parents) or name not in extents:
        return "its weight is read without calling the layer"
    if type(layer) not in _PLAIN:
        return f"of type {type(layer).__name__}, not a plain layer"
    holders = [key for key, p in model.named_parameters(remove_duplicate=False) if p is layer.weight]
    if len(holders) > len([key for key, m in model.named_modules(remove_duplicate=False) if m is layer]):
        return f"its weight is shared: {', '.join(holders)}"
    return ""
