"""Quantized models with one half of the rounding only: of the weights, or of the activations."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer, folded, named_layers, replaced
from remnant.lab.compress.quantized_layers import DynamicLayer, QuantizedLayer, StaticLayer


def is_quantized(model: nn.Module) -> bool:
    """Whether the model has quantized layers."""
    return any(isinstance(module, QuantizedLayer) for module in model.modules())


@torch.no_grad()
def with_float_activations(model: nn.Module) -> nn.Module:
    """A copy whose quantized layers compute in float32 with the weights and biases that their codes stand for.

    What is lost in it is lost by the weights alone.
    """
    model = copy.deepcopy(model).eval()
    found: dict[Any, nn.Module] = {}
    for module in _quantized(model).values():
        layer, bias = copy.deepcopy(module.layer), module.bias
        layer.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
        layer.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)  # pyright: ignore
        found[module] = layer
    return replaced(model, found)


@torch.no_grad()
def with_float_weights(model: nn.Module, reference: nn.Module, examples: Tensor) -> nn.Module:
    """A copy that rounds inputs and outputs of layers as before, with the reference's weights and biases in float32.

    What is lost in it is lost by the activations alone, if the model was quantized only; else weights are those from
    before all compression. Layers that round no activations compute as in the reference.

    Parameters
    ----------
    examples
        A few inputs, for the folding of batch norms; see `remnant.lab.compress.layers.folded`.

    Raises
    ------
    ValueError
        If a quantized layer has no counterpart of its shape in the folded reference.
    """
    model = copy.deepcopy(model).eval()
    floats = named_layers(_as_in(model, reference, examples))
    found: dict[Any, nn.Module] = {}
    for name, module in _quantized(model).items():
        layer = floats.get(name)
        if layer is None or layer.weight.shape != module.layer.weight.shape:
            raise ValueError(
                f"Expected the reference to have a layer {name!r} of the shape of the quantized one, "
                f"{tuple(module.layer.weight.shape)}, but it has none. Compare a model with what it was quantized from."
            )
        found[module] = _rounding(module, layer)
    return replaced(model, found)


def _as_in(model: nn.Module, reference: nn.Module, examples: Tensor) -> nn.Module:
    """The reference with its batch norms folded where they are folded in the model."""
    for candidate in (reference, folded(reference, examples)):
        if _batch_norms(candidate) == _batch_norms(model):
            return candidate
    raise ValueError(
        "Expected a reference with the batch norms of the quantized model, folded or not, but they differ. Compare a "
        "model with what it was quantized from."
    )


def _batch_norms(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def _rounding(module: QuantizedLayer, layer: Layer) -> nn.Module:
    if isinstance(module, StaticLayer):
        return _StaticRounding(module, layer)
    return _dynamic(module, layer) if isinstance(module, DynamicLayer) else copy.deepcopy(layer)


class _StaticRounding(nn.Module):
    """A float layer between the rounding of its inputs and of its outputs."""

    def __init__(self, module: StaticLayer, layer: Layer) -> None:
        super().__init__()
        self.layer = copy.deepcopy(layer)
        self.inputs, self.outputs = module.inputs, module.outputs

    def forward(self, values: Tensor) -> Tensor:
        for step, grid in ((None, self.inputs), (self.layer, self.outputs)):
            values = values if step is None else step(values)
            values = values if grid is None else grid.codes(values) * grid.scale
        return values


def _dynamic(module: DynamicLayer, layer: Layer) -> DynamicLayer:
    """The same layer whose "codes" are the float weights, of scale 1."""
    rounding = copy.deepcopy(module)
    rounding.layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
    rounding.weight_scale = torch.ones_like(module.weight_scale)
    rounding.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    return rounding


def _quantized(model: nn.Module) -> dict[str, QuantizedLayer]:
    found = {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLayer)}
    if not found:
        raise ValueError(f"Expected a quantized model, but {type(model).__name__} has no quantized layer.")
    return found
