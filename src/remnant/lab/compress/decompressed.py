"""What compressed layers stand for: weights in the shape and scale of the uncompressed ones."""

from functools import singledispatch

import torch
from torch import Tensor, nn

from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import Layer, folded, named_layers
from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.data import take
from remnant.lab.train import normalize

Weights = dict[str, Tensor]
"""Weights of layers by name."""


def decompressed_weights(model: nn.Module, compressed: nn.Module, context: Context) -> Weights:
    """For each layer of `model` the weight that its compressed counterpart stands for: Delta(theta).

    Quantized weights are dequantized, factors multiplied. Where the scheme folded batch norms into the layers before
    them (quantization does), the scale of the norm is divided out again, so that the weights compare with the model's.

    Raises
    ------
    ValueError
        Listing the layers that are gone, of another shape, or of a type that is not known.
    """
    layers, found, faults = named_layers(model), {}, []
    scales = _folded_scales(model, compressed, context)
    modules = dict(compressed.named_modules())
    for name, layer in layers.items():
        weight = decompressed(modules[name]) if name in modules else None
        if weight is None:
            faults.append(f"{name}: {type(modules.get(name)).__name__}")
        elif weight.shape != layer.weight.shape:
            faults.append(f"{name}: shape {tuple(weight.shape)} for {tuple(layer.weight.shape)}")
        else:
            found[name] = weight.detach() / scales[name] if name in scales else weight.detach().clone()
    if faults:
        raise ValueError(
            "Expected a scheme whose compressed layers stand for weights of the same shapes, but got "
            f"{', '.join(faults)}. Remove filters physically, or change the architecture, in a later part of a "
            "composition."
        )
    return found


@singledispatch
def decompressed(layer: nn.Module) -> Tensor | None:
    """The weight that a compressed layer stands for; None for types that are not known.

    Other packages add their types with `decompressed.register`.
    """
    return None


@decompressed.register(nn.Linear)
@decompressed.register(nn.Conv1d)
@decompressed.register(nn.Conv2d)
@decompressed.register(nn.Conv3d)
@decompressed.register(QuantizedLayer)
def _own_weight(layer: Layer | QuantizedLayer) -> Tensor:
    return layer.weight


@decompressed.register
def _product(layers: nn.Sequential) -> Tensor | None:
    """The weight of a row of layers of which at most one has a kernel larger than 1, as low rank makes them."""
    rows = [layer.weight for layer in layers if isinstance(layer, Layer)]
    if not rows or len(rows) < len(layers) or sum(row[0, 0].numel() > 1 for row in rows) > 1:
        return None
    product = rows[0]
    for row in rows[1:]:
        product = torch.einsum("om...,mi...->oi...", row, product)  # sizes of 1 are broadcast over the kernel
    return product


def _folded_scales(model: nn.Module, compressed: nn.Module, context: Context) -> Weights:
    """By which factor folding multiplied each output channel of each layer; empty if no norm is gone."""
    modules = dict(compressed.named_modules())
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not any(isinstance(modules.get(name), nn.Identity) for name in norms):
        return {}
    first = torch.from_numpy(context.indices[:8])  # what quantization folds on
    device = next(model.parameters()).device
    flat = folded(model, normalize(context.dataset, take(context.dataset.train.images, first).to(device)))
    after = named_layers(flat)
    return {name: _channel_scale(layer.weight, after[name].weight) for name, layer in named_layers(model).items()}


@torch.no_grad()
def _channel_scale(before: Tensor, after: Tensor) -> Tensor:
    """Factors per output channel with after = factor * before; 1 where either is 0 throughout."""
    dims = tuple(range(1, before.dim()))
    scale = (before * after).sum(dims, keepdim=True) / before.square().sum(dims, keepdim=True)
    return torch.where(scale.isfinite() & (scale != 0), scale, 1.0)
