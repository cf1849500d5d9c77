"""Penultimate features, taken by a hook on the last linear layer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.probe import BATCH
from remnant.lab.probing import Subject
from remnant.probes.features import Features

_LARGEST = 2.0**15
"""Largest magnitude of features that are stored as they are; half precision ends at 65504."""
_SMALLEST = 2.0**-4
"""Least largest magnitude of features that are stored as they are: below, half precision loses digits."""


def measure(probe: Features, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """The input of the last linear layer (or of `probe.layer`) for each row, float16 (example, feature).

    Raises
    ------
    ValueError
        If the model does not end in a linear layer and none is named, or it has no layer of that name.
    """
    name = probe.layer or _last_linear(subject)
    layer = _module(subject.model, name)
    parts: list[Tensor] = []
    with torch.inference_mode(), _inputs_of(layer, parts):
        for start in range(0, len(subject.rows), BATCH):
            had = len(parts)
            _answer(subject, subject.rows[start : start + BATCH])
            if len(parts) != had + 1:
                raise ValueError(
                    f"Expected the layer {name!r} to be called once for a batch, but it was called "
                    f"{len(parts) - had} times. Name another `layer` of the features probe."
                )
    return {"features": _half(torch.cat(parts).cpu().numpy())}


def _last_linear(subject: Subject) -> str:
    """Name of the linear layer whose output the model's answers are.

    Raises
    ------
    ValueError
        If there is none; the message says what to name.
    """
    calls: list[tuple[str, Tensor]] = []

    def remember(name: str) -> Any:
        return lambda module, args, output: calls.append((name, output)) if isinstance(output, Tensor) else None

    layers = {name: module for name, module in subject.model.named_modules() if _is_linear(module)}
    # What a quantized layer holds inside is part of it.
    inner = {id(m.layer) for m in layers.values() if isinstance(m, QuantizedLayer)}
    hooks = [m.register_forward_hook(remember(name)) for name, m in layers.items() if id(m) not in inner]
    try:
        with torch.inference_mode():
            logits = _answer(subject, subject.rows[:2])
    finally:
        for hook in hooks:
            hook.remove()
    if calls and calls[-1][1].shape == logits.shape and torch.equal(calls[-1][1], logits):
        return calls[-1][0]
    what = f"its last one, {calls[-1][0]!r}, does not give the answers" if calls else "it calls none"
    raise ValueError(
        f"Expected {type(subject.model).__name__} to end in a linear layer, but {what}. Name the module whose input "
        f"is to be taken: `layer` of the features probe, one of {_few([n for n, _ in subject.model.named_modules()])}."
    )


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module.layer if isinstance(module, QuantizedLayer) else module, nn.Linear)


def _module(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if name not in modules:
        raise ValueError(
            f"Expected `layer` of the features probe to be a module of {type(model).__name__}, but got {name!r}; "
            f"it has {_few(list(modules))}."
        )
    return modules[name]


@contextmanager
def _inputs_of(layer: nn.Module, parts: list[Tensor]) -> Iterator[None]:
    """Each input of the layer is added to `parts`, one vector for each example."""

    def keep(module: nn.Module, args: tuple[Any, ...]) -> None:
        values = args[0].float()
        # Feature maps (example, channel, height, width) and tokens (example, token, feature).
        parts.append(values.flatten(2).mean(2) if values.ndim > 3 else values.mean(1) if values.ndim == 3 else values)

    hook = layer.register_forward_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()


def _answer(subject: Subject, rows: np.ndarray) -> Tensor:
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    return subject.model(subject.inputs(rows).to(device))


def _half(values: np.ndarray) -> np.ndarray:
    """float16, after a power of two has brought the values into its range if need be."""
    largest = float(np.abs(values).max(initial=0.0))
    if np.isfinite(largest) and largest > 0 and not _SMALLEST <= largest <= _LARGEST:
        values = values * np.float32(2.0 ** (10 - np.ceil(np.log2(largest))))
    return values.astype(np.float16)


def _few(names: list[str], most: int = 8) -> str:
    shown = [name for name in names if name][-most:]
    return f"{shown}{' and others before them' if len(names) > most else ''}"
