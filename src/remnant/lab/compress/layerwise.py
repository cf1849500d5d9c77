"""Magnitude pruning with a sparsity for each layer, and what a search for them needs to know of a model."""

import copy

from torch import nn

from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import check_finite, named_layers
from remnant.lab.compress.masks import masked
from remnant.lab.compress.pruning import prunable
from remnant.lab.compress.structures import Ranking, largest_magnitudes, weights
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
    layers = prunable(pruned)
    sparsities = _one_each(scheme.sparsities, list(layers))
    kept = [largest_magnitudes([layer.weight], s)[0] for layer, s in zip(layers.values(), sparsities, strict=True)]
    masks = masked(Ranking(weights(layers), "layer", in_each=False))
    masks.set([mask.flatten() for mask in kept])
    tuned(pruned, scheme, context.reference or model, context, hook=masks)
    return with_modes_of(pruned, model)


def layer_sizes(model: nn.Module) -> dict[str, int]:
    """Number of weights of each layer that is pruned, by its name, in the order of `LayerwisePruning.sparsities`."""
    return {name: layer.weight.numel() for name, layer in named_layers(model).items()}


def global_sparsities(model: nn.Module, sparsity: float) -> tuple[float, ...]:
    """Sparsity of each layer when one threshold for all layers takes `sparsity` of all weights."""
    tensors = [layer.weight for layer in named_layers(model).values()]
    return tuple(1 - float(mask.float().mean()) for mask in largest_magnitudes(tensors, sparsity))


def _one_each(sparsities: tuple[float, ...], names: list[str]) -> tuple[float, ...]:
    if len(sparsities) == 1:
        return sparsities * len(names)
    if len(sparsities) != len(names):
        raise ValueError(
            f"Expected `sparsities` for {len(names)} layers, but got {len(sparsities)}. The layers are, in order: "
            f"{names}."
        )
    return sparsities
