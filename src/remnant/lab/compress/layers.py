"""The layers that are compressed, and batch norms folded into them."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""Types of the layers whose weights are pruned and quantized; norms, embeddings, transposed
convolutions and the packed input projection of `nn.MultiheadAttention` are left as they are."""

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_RELU = {nn.ReLU, functional.relu, functional.relu_, torch.relu, torch.relu_, "relu", "relu_"}
_RELU6 = {nn.ReLU6, functional.relu6}


def named_layers(model: nn.Module) -> dict[str, Layer]:
    """The linear and convolution layers of a model by name; "" if the model is itself one.

    Raises
    ------
    ValueError
        If there is none.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    if not layers:
        raise ValueError(
            f"Expected a model with nn.Linear or nn.Conv layers, but {type(model).__name__} has none. "
            "There is nothing to compress."
        )
    return layers


def other_weights(model: nn.Module) -> list[str]:
    """What holds weights, of two dimensions or more, and is no `Layer`, as "name: reason"."""
    return [
        f"{name}: {type(module).__name__} is neither a linear nor a convolution layer"
        for name, module in model.named_modules()
        if not isinstance(module, Layer) and any(weight.dim() >= 2 for weight in module.parameters(recurse=False))
    ]


def check_finite(model: nn.Module) -> None:
    """Raise ValueError if a parameter holds NaN or infinity."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"Expected finite weights, but `{name}` holds NaN or infinity. Did its training diverge? "
                "A lower `learning_rate` helps."
            )


def replaced(model: nn.Module, replacements: Mapping[Any, nn.Module]) -> nn.Module:
    """The model with modules replaced in place, under all their names; if it is itself one, its replacement."""
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in replacements:
            if not name:
                return replacements[module]
            model.set_submodule(name, replacements[module])
    return model


@torch.no_grad()
def folded(model: nn.Module, examples: Tensor) -> nn.Module:
    """A copy in evaluation mode whose batch norms are folded into the layers before them.

    Deployment tools do so before they quantize. A batch norm is folded where `torch.fx` traces the
    model and shows that it is all that reads the layer's output. It stays in float where it follows
    something else (as in pre-activation networks), where the model does not trace, and everywhere if
    the folded model would answer otherwise than the given one on `examples`.
    """
    model = copy.deepcopy(model).eval()
    candidate = fused(model)
    if candidate is None:
        return model
    expected = model(examples)
    agrees = (candidate(examples) - expected).abs().max() <= 0.01 * expected.abs().max()  # GPUs round to 10 bits
    return candidate if agrees else model


@torch.no_grad()
def fused(model: nn.Module) -> nn.Module | None:
    """A copy in evaluation mode with every batch norm folded that `folded` would try; None if there is none."""
    candidate = copy.deepcopy(model).eval()
    modules = dict(candidate.named_modules())
    pairs = _foldable(candidate, modules)
    for layer_name, norm_name in pairs:
        layer, norm = modules[layer_name], modules[norm_name]
        fuse = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        fused_layer = fuse(layer, norm)  # pyright: ignore[reportArgumentType]
        candidate = replaced(candidate, {layer: fused_layer, norm: nn.Identity()})
    return candidate if pairs else None


def fused_activations(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Bounds that the activation right after each layer puts on its output.

    (0, inf) if all that reads the output is a ReLU, (0, 6) for ReLU6, else (-inf, inf). Empty if
    `torch.fx` cannot trace the model.
    """
    graph, modules = _trace(model), dict(model.named_modules())
    found: dict[str, tuple[float, float]] = {}
    for node in graph.nodes if graph is not None else ():
        if node.op == "call_module" and isinstance(modules[node.target], Layer):
            kinds = _readers(node, modules)
            bounds = (0.0, float("inf")) if kinds and kinds <= _RELU else (float("-inf"), float("inf"))
            bounds = (0.0, 6.0) if kinds and kinds <= _RELU6 else bounds
            low, high = found.get(node.target, bounds)
            found[node.target] = min(low, bounds[0]), max(high, bounds[1])
    return found


def _trace(model: nn.Module) -> fx.Graph | None:
    try:
        return fx.Tracer().trace(model)
    except Exception:  # a model's `forward` may raise anything when it is given proxies
        return None


def _foldable(model: nn.Module, modules: dict[str, nn.Module]) -> list[tuple[str, str]]:
    """Names of (layer, batch norm that alone reads its output), both called once."""
    graph = _trace(model)
    called = [node for node in graph.nodes if node.op == "call_module"] if graph is not None else []
    calls = Counter(node.target for node in called)
    found = []
    for node in called:
        layer = node.args[0] if node.args else None
        if (
            isinstance(modules[node.target], _BATCH_NORMS)
            and modules[node.target].running_mean is not None
            and isinstance(layer, fx.Node)
            and isinstance(modules.get(str(layer.target)), Layer)
            and len(layer.users) == 1
            and calls[node.target] == calls[layer.target] == 1
        ):
            found.append((layer.target, node.target))
    return found


def _readers(node: fx.Node, modules: dict[str, nn.Module]) -> set[object]:
    """Types, functions and method names of what reads a node's output, dropout and identities skipped."""
    found: set[object] = set()
    for user in node.users:
        module = modules[str(user.target)] if user.op == "call_module" else None
        if isinstance(module, _TRANSPARENT):
            found |= _readers(user, modules)
        else:
            found.add(user.target if module is None else type(module))
    return found
