"""Magnitude pruning with a sparsity for each layer, and what a search for them needs to know of a model."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import Layer, check_finite, named_layers
from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.compress.structures import largest_magnitudes
from remnant.lab.compress.tuning import tuned, with_modes_of
from remnant.schemes.layerwise import LayerwisePruning


def layerwise(scheme: LayerwisePruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy with the smallest weights of each layer at zero, fine-tuned for `epochs` with the masks held.

    The layers are those of `remnant.lab.compress.layers.named_layers`, in their order. Each keeps
    round(size (1 - sparsity)) weights, at least one; of equal magnitudes the first ones stay.

    Raises
    ------
    ValueError
        If the number of sparsities is not that of the layers (which are listed), or the model has NaN or infinite
        weights, is quantized or parametrized already.
    """
    check_finite(model)
    pruned = copy.deepcopy(model)
    layers = _plain(pruned)
    sparsities = _one_each(scheme.sparsities, list(layers))
    for layer, sparsity in zip(layers.values(), sparsities, strict=True):
        mask = largest_magnitudes([layer.weight], sparsity)[0]
        parametrize.register_parametrization(layer, "weight", _Mask(mask))
    tuned(pruned, scheme, context.reference or model, context, hook=_Held(tuple(layers.values())))
    return with_modes_of(pruned, model)


def layer_sizes(model: nn.Module) -> dict[str, int]:
    """Number of weights of each layer that is pruned, by its name, in the order of `LayerwisePruning.sparsities`."""
    return {name: layer.weight.numel() for name, layer in named_layers(model).items()}


def global_sparsities(model: nn.Module, sparsity: float) -> tuple[float, ...]:
    """Sparsity of each layer when one threshold for all layers takes `sparsity` of all weights."""
    weights = [layer.weight for layer in named_layers(model).values()]
    return tuple(1 - float(mask.float().mean()) for mask in largest_magnitudes(weights, sparsity))


@dataclass(frozen=True)
class _Held:
    """Leaves the masks as they are while the model trains, and ordinary layers at the end."""

    layers: tuple[Layer, ...]

    def before_step(self, step: int, num_steps: int) -> None:
        """Nothing."""

    def settled(self, step: int, num_steps: int) -> bool:
        """Always."""
        return True

    def finish(self) -> None:
        """Zeros where the masks are. A second call changes nothing."""
        for layer in self.layers:
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class _Mask(nn.Module):
    """The parametrization weight = raw weight where the mask is True, else 0."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return torch.where(self.mask, weight, 0.0)


def _plain(model: nn.Module) -> dict[str, Layer]:
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError(
            "Expected a model that is not quantized, but it has quantized layers. Prune first, then quantize."
        )
    layers = named_layers(model)
    if already := [name for name, layer in layers.items() if parametrize.is_parametrized(layer, "weight")]:
        raise ValueError(
            f"Expected plain weights, but those of the layers {already} are parametrized. "
            "Remove it first with torch.nn.utils.parametrize.remove_parametrizations."
        )
    return layers


def _one_each(sparsities: tuple[float, ...], names: list[str]) -> tuple[float, ...]:
    if len(sparsities) == 1:
        return sparsities * len(names)
    if len(sparsities) != len(names):
        raise ValueError(
            f"Expected `sparsities` for {len(names)} layers, but got {len(sparsities)}. The layers are, in order: "
            f"{names}."
        )
    return sparsities
