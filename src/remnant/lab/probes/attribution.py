"""Measures `remnant.probes.attribution.Attribution`."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.attribution import methods
from remnant.lab.attribution.gradients import Differentiable, answers, differentiable
from remnant.lab.probing import Subject
from remnant.probes.attribution import ROUTES, Attribution

_BATCH = 500
_SMALLEST = float(np.finfo(np.float32).tiny)
"""Maps without a larger value count as 0 everywhere."""


def measure(probe: Attribution, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """Maps of each method for the model's own answer and for that of its reference.

    Raises
    ------
    ValueError
        If the inputs are not pictures.
    """
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    inputs = subject.inputs(subject.rows).to(device)
    if inputs.ndim != 4:
        raise ValueError(
            f"Expected pictures (channel, row, column) to attribute answers to, but inputs of {subject.dataset.name!r} "
            f"have the shape {tuple(inputs.shape[1:])}."
        )
    own = _answers(subject.model, inputs)
    before = own if subject.reference is None else _answers(subject.reference.to(device), inputs)
    found: dict[str, list[np.ndarray]] = {"attribution": [], "same_class": [], "peak": [], "route": []}
    for method in probe.methods:
        how = _how(method, subject.model, inputs)
        maps, peak = _maps(method, probe, subject, how, (inputs, own, subject.rows))
        other, differ = maps.copy(), np.flatnonzero(own != before)
        if len(differ):
            other[differ], _ = _maps(
                method, probe, subject, how, (inputs[differ], before[differ], subject.rows[differ])
            )
        route = "none" if how.model is None or not peak.any() else how.route
        found["attribution"].append(maps)
        found["same_class"].append(other)
        found["peak"].append(peak)
        found["route"].append(np.full(len(own), ROUTES.index(route), np.uint8))
    smallest = np.min_scalar_type(subject.dataset.num_classes - 1)
    return {
        **{name: np.stack(arrays, axis=1) for name, arrays in found.items()},
        "target": own.astype(smallest),
        "reference_target": before.astype(smallest),
    }


def _how(method: str, model: nn.Module, inputs: Tensor) -> Differentiable:
    return Differentiable(model, "occlusion") if method == "occlusion" else differentiable(model, inputs)


_Examples = tuple[Tensor, np.ndarray, np.ndarray]
"""Inputs, the class of each that is explained, and their rows."""


def _maps(
    method: str, probe: Attribution, subject: Subject, how: Differentiable, examples: _Examples
) -> tuple[np.ndarray, np.ndarray]:
    """Maps over their largest absolute values, float16 (example, row, column), and these values."""
    inputs = examples[0]
    maps = None if how.model is None else _attribute(method, probe, subject, how.model, examples)
    maps = torch.zeros_like(inputs[:, 0]) if maps is None else maps
    values = methods.reduced(maps, probe.resolution).float().cpu().numpy()
    peak = np.abs(values).max(axis=(1, 2))
    scale = np.where(peak > _SMALLEST, peak, np.inf)
    return (values / scale[:, None, None]).astype(np.float16), np.where(peak > _SMALLEST, peak, 0).astype(np.float32)


def _attribute(
    method: str, probe: Attribution, subject: Subject, model: nn.Module, examples: _Examples
) -> Tensor | None:
    inputs, classes, rows = examples
    if method == "saliency":
        return methods.saliency(model, inputs, classes)
    if method == "integrated-gradients":
        return methods.integrated_gradients(model, inputs, classes, steps=probe.steps)
    if method == "grad-cam":
        return methods.grad_cam(model, inputs, classes)
    if method == "occlusion":
        return methods.occlusion(model, inputs, classes, square=probe.square)

    def draw(place: int) -> Tensor:
        # Of its own for each example: the same whatever else is probed, and for every model.
        numbers = subject.rng(f"smoothgrad/{rows[place]}").standard_normal((probe.samples, *inputs.shape[1:]))
        return torch.from_numpy(numbers.astype(np.float32))

    return methods.smoothgrad(model, inputs, classes, samples=probe.samples, noise=probe.noise, draw=draw)


def _answers(model: nn.Module, inputs: Tensor) -> np.ndarray:
    return np.concatenate([answers(model, part) for part in inputs.split(_BATCH)])
