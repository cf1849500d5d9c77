"""Layers taken back from the reference: mixed models."""

import copy

import numpy as np
import torch
from torch import nn

from remnant.lab.compress.context import Context
from remnant.lab.debugging.matching import exchange, matched
from remnant.lab.train import normalize, take
from remnant.schemes.restored import Restored

_EXAMPLES = 8
"""Training examples that show the shapes of inputs and outputs of layers."""


def restored(scheme: Restored, model: nn.Module, context: Context) -> nn.Module:
    """A copy whose named layers are those of `context.reference`, each with the batch norm that is given its output.

    Raises
    ------
    ValueError
        If the reference has no such layer, or it does not fit into the compressed model; with all names.
    """
    if not scheme.layers:
        return copy.deepcopy(model)
    if context.reference is None:
        raise ValueError(
            "Expected a reference to restore layers from, but the context has none. Use `restored` as the last part "
            "of a composition, after the scheme that compresses."
        )
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    rows = context.indices[:_EXAMPLES].astype(np.int64)
    examples = normalize(context.dataset, take(context.dataset.train.images, rows).to(device))
    pair = matched(context.reference, model, examples)
    known = {layer.name: layer for layer in pair.layers}
    if lost := [name for name in scheme.layers if name not in known]:
        raise ValueError(
            f"Expected `layers` to name layers of the reference, but got {lost[0]!r}; it has {list(known)}."
        )
    if obstacles := [f"{name}: {known[name].obstacle}" for name in scheme.layers if known[name].obstacle]:
        raise ValueError(f"Expected layers that fit into the compressed model, but {'; '.join(obstacles)}.")
    exchange(pair, *(known[name] for name in scheme.layers))
    found = pair.compressed[0]
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in found.named_modules():
        module.training = modes.get(name, model.training)
    return found
