"""Layers of a reference and of a compressed model that stand for each other, and how they change places."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer, folded, fused_activations
from remnant.lab.compress.quantized_layers import QuantizedLayer
from remnant.lab.debugging.calls import Calls, Trace, outermost, trace

_WHOLE = (Layer, QuantizedLayer, nn.MultiheadAttention)
"""Exchanged with all that is in them: parametrizations, packed projections."""
_ROOT = "0"
"""Name of a model in the container that holds it, so that the model itself can be a layer."""


@dataclass(frozen=True)
class MatchedLayer:
    """A layer of the reference, with the batch norm that is given its output, beside its namesake."""

    name: str
    """Of the layer in the reference; "" if the model is itself one."""
    modules: tuple[str, ...]
    """All names under which what is exchanged is found."""
    output: str | None
    """Name of the module whose output is that of the layer; None where only own parameters are exchanged."""
    before: tuple[str, ...]
    """Modules, outermost ones only, that both models call once and before it: what they give does not depend on it."""
    bounds: tuple[float, float]
    """Of the activation that alone reads the output: noise beyond them is none."""
    differs: bool
    """Weights or kind are not the same in both models."""
    obstacle: str
    """Why the two cannot change places; "" if they can."""

    @property
    def is_exchangeable(self) -> bool:
        """Whether exchanging the two is possible and changes something."""
        return self.differs and not self.obstacle


@dataclass(frozen=True)
class MatchedPair:
    """Copies of a reference and a compressed model in evaluation mode, with their layers matched by name."""

    reference: nn.Sequential
    compressed: nn.Sequential
    layers: tuple[MatchedLayer, ...]
    """In the order of the reference."""
    overwritten: frozenset[str]
    """Modules whose output is changed in place later on, in one of the models."""

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Layers that cannot be exchanged, as "layer: reason"."""
        return tuple(f"{layer.name}: {layer.obstacle}" for layer in self.layers if layer.obstacle)


@torch.no_grad()  # copies made in inference mode could never be trained again
def matched(reference: nn.Module, compressed: nn.Module, examples: Tensor) -> MatchedPair:
    """The two models with their layers matched by name. The given models are not changed.

    A layer is a module with parameters or buffers of its own; what linear and convolution layers, attention and
    quantized layers hold belongs to them. A batch norm belongs to the layer whose output it is given, as
    folding needs it. Where a module has parameters beside layers (a class token), these are a layer of their own.

    Two layers can change places if inputs and outputs of both have the same shapes on `examples`, whatever is
    inside (factors of a low-rank layer, int8 codes). Others are listed with the reason.
    """
    one, two = (nn.Sequential(copy.deepcopy(model)).eval() for model in (reference, compressed))
    units = _units(one)
    first, second = trace(one, examples), trace(two, examples)
    norms = {layer: norm for layer, norm in first.norms.items() if layer in units and norm in units}
    activations = fused_activations(folded(reference, examples))
    layers = []
    for name, own in units.items():
        if name in norms.values():
            continue
        parts = [name, norms[name]] if name in norms else [name]
        modules = tuple(alias for part in parts for alias in _aliases(one, part))
        obstacle = _own_obstacle(one, two, name) if own else _obstacle(two, modules, parts, first, second)
        differs = bool(obstacle) or any(not _same(one.get_submodule(m), two.get_submodule(m), own) for m in modules)
        bounds = activations.get(_outer(name), (float("-inf"), float("inf")))
        later = set() if own else set(second.before(name))
        before = outermost([module for module in first.before(name) if module in later])
        output = None if own else parts[-1]
        layers.append(MatchedLayer(_outer(name), modules, output, before, bounds, differs, obstacle))
    overwritten = {name for side in (first, second) for name, calls in side.calls.items() if calls.is_overwritten}
    return MatchedPair(one, two, tuple(layers), frozenset(overwritten))


@contextmanager
def exchanged(pair: MatchedPair, *layers: MatchedLayer) -> Iterator[None]:
    """While the context is open, these layers are in the other model of the pair."""
    exchange(pair, *layers)
    try:
        yield
    finally:
        exchange(pair, *layers)


def exchange(pair: MatchedPair, *layers: MatchedLayer) -> None:
    """Let layers change places; once more, and all is as before."""
    for layer in layers:
        for name in layer.modules:
            one, two = pair.reference.get_submodule(name), pair.compressed.get_submodule(name)
            if layer.output is None:
                one._parameters, two._parameters = two._parameters, one._parameters
                one._buffers, two._buffers = two._buffers, one._buffers
            else:
                pair.reference.set_submodule(name, two)
                pair.compressed.set_submodule(name, one)


def _outer(name: str) -> str:
    return name.removeprefix(_ROOT).removeprefix(".")


def _units(model: nn.Module) -> dict[str, bool]:
    """Names of the layers; True where only the module's own parameters are meant."""
    found: dict[str, bool] = {}
    seen: set[nn.Module] = set()

    def visit(name: str, module: nn.Module) -> None:
        if module in seen or not (module.state_dict() or list(module.buffers())):
            return
        seen.add(module)
        inner = [] if isinstance(module, _WHOLE) else [m for m in module.children() if list(_tensors(m, True))]
        if list(_tensors(module, False)) or not inner:
            found[name] = bool(inner)
        if inner:
            for child, part in module.named_children():
                visit(f"{name}.{child}", part)

    for name, module in model.named_children():
        visit(name, module)
    return found


def _tensors(module: nn.Module, recurse: bool) -> Iterator[Tensor]:
    yield from module.parameters(recurse)
    yield from module.buffers(recurse)


def _aliases(model: nn.Module, name: str) -> list[str]:
    """All names of a module that comes more than once."""
    module = model.get_submodule(name)
    return [alias for alias, other in model.named_modules(remove_duplicate=False) if other is module]


def _obstacle(two: nn.Module, modules: tuple[str, ...], parts: list[str], first: Trace, second: Trace) -> str:
    names = {name for name, _ in two.named_modules(remove_duplicate=False)}
    if lost := [_outer(name) for name in modules if name not in names]:
        return f"the compressed model has no module {lost[0]!r}"
    for part, what in ((parts[0], "inputs"), (parts[-1], "outputs")):
        calls, others = (getattr(side.calls.get(part, Calls()), what) for side in (first, second))
        if len(calls) != len(others):
            return f"called {len(others)} times instead of {len(calls)}"
        for one, other in zip(calls, others, strict=True):
            if one != other:
                return f"{what} of shape {other[1:]} instead of {one[1:]}"
    return ""


def _own_obstacle(one: nn.Module, two: nn.Module, name: str) -> str:
    try:
        other = two.get_submodule(name)
    except AttributeError:
        return f"the compressed model has no module {_outer(name)!r}"
    shapes = [[tuple(tensor.shape) for tensor in _tensors(m, False)] for m in (one.get_submodule(name), other)]
    return "" if shapes[0] == shapes[1] else "own parameters of other shapes"


def _same(one: nn.Module, two: nn.Module, own: bool) -> bool:
    """Kind, settings and tensors are the same in both modules."""
    if type(one) is not type(two) or (not own and repr(one) != repr(two)):
        return False
    first, second = list(_tensors(one, not own)), list(_tensors(two, not own))
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
