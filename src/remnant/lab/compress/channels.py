"""What reads the output channels of a layer, and whether they could go."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional

from remnant.lab.compress.factors import Norm
from remnant.lab.compress.layers import Layer

_ELEMENTWISE = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Identity,
    nn.Dropout,
)
_SPATIAL = (
    nn.Dropout2d,
    nn.Dropout3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool2d,
)
_ELEMENTWISE_FUNCTIONS = {
    functional.relu,
    functional.relu_,
    functional.relu6,
    functional.leaky_relu,
    functional.gelu,
    functional.silu,
    functional.dropout,
    torch.relu,
    torch.relu_,
    torch.sigmoid,
    torch.tanh,
    "relu",
    "relu_",
    "sigmoid",
    "tanh",
    "contiguous",
}
_SPATIAL_FUNCTIONS = {
    functional.max_pool2d,
    functional.avg_pool2d,
    functional.adaptive_avg_pool2d,
    functional.dropout2d,
    torch.max_pool2d,
}


@dataclass(frozen=True)
class Readers:
    """All that depends on the number of a layer's output channels, by name."""

    norms: tuple[str, ...]
    layers: tuple[str, ...]
    """Convolutions, and linear layers; one that reads flattened pictures has a block of inputs for each channel."""


def removable_channels(model: nn.Module) -> dict[str, Readers]:
    """The layers whose output channels can go because all that reads them can shrink, with what reads them.

    Between a layer and its readers there may be batch norms, elementwise activations, dropout, pooling and flattening.
    A sum or concatenation, as around a residual connection, a grouped convolution, a model's answer or anything else
    makes channels stay. So does a layer that is called twice. Empty if `torch.fx` cannot trace the model.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception:  # a model's `forward` may raise anything when it is given proxies
        return {}
    modules = dict(model.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = {}
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], Layer):
            layer = modules[node.target]
            readers = _follow(node, modules, calls, is_flat=isinstance(layer, nn.Linear))
            if readers is not None and readers.layers and calls[node.target] == 1:
                found[node.target] = readers
    return found


def _follow(node: fx.Node, modules: dict[str, nn.Module], calls: Counter, is_flat: bool) -> Readers | None:
    """What reads a node's channels; None if something does that cannot shrink."""
    channels = int(modules[str(node.target)].weight.shape[0])  # pyright: ignore
    flattens = not is_flat
    waiting, norms, layers = [(user, is_flat) for user in node.users], [], []
    while waiting:
        user, is_flat = waiting.pop()
        module = modules[str(user.target)] if user.op == "call_module" else None
        if isinstance(module, Norm) and module.num_features == channels and calls[user.target] == 1:
            norms.append(user.target)
        elif isinstance(module, Layer):
            if calls[user.target] > 1 or not _fits(module, channels, is_flat, flattens):
                return None
            layers.append(user.target)
            continue
        elif flattens and not is_flat and _flattens(user, module):
            is_flat = True
        elif not _passes(user, module, is_flat):
            return None
        waiting += [(next_user, is_flat) for next_user in user.users]
    return Readers(tuple(norms), tuple(layers))


def _fits(reader: Layer, channels: int, is_flat: bool, flattened: bool) -> bool:
    """Whether a layer reads exactly these channels, or a block of inputs for each of them."""
    if isinstance(reader, nn.Linear):
        return is_flat and (reader.in_features % channels == 0 if flattened else reader.in_features == channels)
    return not is_flat and reader.groups == 1 and reader.in_channels == channels


def _passes(node: fx.Node, module: nn.Module | None, is_flat: bool) -> bool:
    """Whether a node keeps channels apart and where they are."""
    if module is not None:
        return isinstance(module, _ELEMENTWISE) or (not is_flat and isinstance(module, _SPATIAL))
    return node.target in _ELEMENTWISE_FUNCTIONS or (not is_flat and node.target in _SPATIAL_FUNCTIONS)


def _flattens(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node makes vectors of pictures, channel by channel."""
    if isinstance(module, nn.Flatten):
        return (module.start_dim, module.end_dim) == (1, -1)
    if node.target in (torch.flatten, "flatten"):
        return node.args[1:] == (1,) and not node.kwargs
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if node.target not in (torch.mean, "mean") or not isinstance(dims, tuple | list) or node.kwargs.get("keepdim"):
        return False
    return set(dims) in ({2, 3}, {-2, -1})
