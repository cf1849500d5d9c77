"""When the modules of a model are called, and with what shapes."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Shape = tuple[int, ...]


@dataclass
class Calls:
    """The calls of one module in a forward pass. Times count the beginnings and ends of calls in the model."""

    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    inputs: list[Shape] = field(default_factory=list)
    outputs: list[Shape] = field(default_factory=list)
    gives_tensor: bool = True
    is_overwritten: bool = False
    """What the module gives is changed in place later on."""


@dataclass(frozen=True)
class Trace:
    """What is called in a model."""

    calls: dict[str, Calls]
    """By name of the module; those that are not called are missing."""
    norms: dict[str, str]
    """Name of a layer to that of the batch norm that is given its output."""

    def before(self, name: str) -> list[str]:
        """Modules whose only call, which gives a tensor, ends before the first one of the named module begins."""
        if name not in self.calls:
            return []
        begin = self.calls[name].begins[0]
        return [n for n, c in self.calls.items() if c.gives_tensor and len(c.ends) == 1 and c.ends[0] < begin]


def trace(model: nn.Module, examples: Tensor) -> Trace:
    """The calls of all modules when the model answers on examples."""
    calls: dict[str, Calls] = {}
    versions: list[tuple[Calls, Tensor, int]] = []
    made: dict[int, tuple[str, Tensor]] = {}  # tensors are kept, so that no other gets their identity
    norms: dict[str, str] = {}
    time = iter(range(10**12))

    def begin(name: str) -> Any:
        return lambda module, args: calls.setdefault(name, Calls()).begins.append(next(time))

    def end(name: str) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given, found = first_tensor(args or list(kwargs.values())), first_tensor(output)
            if isinstance(module, _BATCH_NORMS) and id(given) in made:
                norms.setdefault(made[id(given)][0], name)
            if isinstance(module, Layer):
                made[id(found)] = name, found
            own = calls[name]
            own.ends.append(next(time))
            own.inputs.append(tuple(given.shape))
            own.outputs.append(tuple(found.shape))
            own.gives_tensor &= isinstance(output, Tensor)
            versions.append((own, found, found._version))

        return record

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(begin(name)))
        handles.append(module.register_forward_hook(end(name), with_kwargs=True))
    try:
        with torch.inference_mode(False), torch.no_grad():  # inference tensors have no version
            model(examples.clone())
    finally:
        for handle in handles:
            handle.remove()
    for own, found, version in versions:
        own.is_overwritten |= found._version != version
    return Trace(calls, norms)


def outermost(names: list[str]) -> tuple[str, ...]:
    """Those of some modules that are not part of another of them."""
    chosen = set(names)

    def is_inner(name: str) -> bool:
        parts = name.split(".")
        return any(".".join(parts[:k]) in chosen for k in range(1, len(parts)))

    return tuple(name for name in names if not is_inner(name))


def first_tensor(output: Any) -> Tensor:
    """What a module gives or is given: a tensor, or the first of several; an empty one if there is none."""
    if isinstance(output, Tensor):
        return output
    parts = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    found = (first_tensor(part) for part in parts)
    return next((tensor for tensor in found if tensor.numel()), torch.empty(0))
