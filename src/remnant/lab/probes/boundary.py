"""Distances to the decision boundary, measured block by block of examples."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from remnant.lab.boundary.crossings import crossings
from remnant.lab.boundary.gradients import usable
from remnant.lab.boundary.nearest import Worst, worst_directions
from remnant.lab.boundary.pixels import PixelModel, pixel_model, pixels, spread
from remnant.lab.dataset import take
from remnant.probes.boundary import FOUND, NOT_FOUND, NOT_MEASURED, Boundary

if TYPE_CHECKING:
    from remnant.lab.probing import Subject

_VALUES = 2**24
"""Values of directions held at a time: 64 MiB."""
_START = 0.25
"""First step along a worst direction, as a part of the distance at which its own model crosses."""


def measure(probe: Boundary, subject: "Subject", prepared: Any = None) -> dict[str, np.ndarray]:
    """Distances of the probed examples; see `remnant.probes.boundary.Boundary`.

    Raises
    ------
    ValueError
        If pixels shall be clipped, but the inputs are not 8-bit images.
    """
    model = pixel_model(subject.model, subject.dataset)
    reference = None if subject.reference is None else pixel_model(subject.reference, subject.dataset)
    # Without a reference, a dense model is its own.
    base = model if reference is None and subject.kind == "dense" else reference
    limit = probe.limit * spread(subject.dataset)
    size = max(1, _VALUES // (probe.directions * torch.Size(subject.dataset.input_shape).numel()))
    trusted: dict[int, bool] = {}
    blocks = []
    for start in range(0, len(subject.rows), size):
        rows = subject.rows[start : start + size]
        points = _points(probe, subject, rows, model.device)
        if probe.worst_case != "none" and not trusted:
            trusted = {id(one): usable(one, points) for one in {id(m): m for m in (model, base) if m}.values()}
        found = _random(probe, subject, model, points, rows, limit)
        blocks.append(found | _worst_case(probe, model, base, points, limit, trusted))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _points(probe: Boundary, subject: "Subject", rows: np.ndarray, device: torch.device) -> Tensor:
    images = take(subject.split.images, rows)
    if probe.clip and images.dtype != torch.uint8:
        raise ValueError(
            f"Expected `clip` to be False for inputs that are not 8-bit images, but got True for {images.dtype} inputs "
            f"of {subject.dataset.name!r}. Leave `clip` out."
        )
    return pixels(images, device)


def _random(
    probe: Boundary, subject: "Subject", model: PixelModel, points: Tensor, rows: np.ndarray, limit: float
) -> dict[str, np.ndarray]:
    directions = torch.from_numpy(random_directions(subject, rows, probe.directions, points.shape[1]))
    options = {"limit": limit, "tolerance": probe.tolerance, "clip": probe.clip}
    found = crossings(model, points, directions.to(model.device), **options)
    return {"random": found.distance, "random_found": found.found}


def random_directions(subject: "Subject", rows: np.ndarray, number: int, values: int) -> np.ndarray:
    """Unit vectors, uniform on the sphere, shape (row, direction, value), float32.

    A vector depends on the row of its example and on its number alone: not on the model, on which rows are probed
    or on how many directions there are.
    """
    found = np.stack([subject.rng(f"direction/{row}").standard_normal((number, values), np.float32) for row in rows])
    return found / np.linalg.norm(found, axis=2, keepdims=True)


def _worst_case(
    probe: Boundary,
    model: PixelModel,
    base: PixelModel | None,
    points: Tensor,
    limit: float,
    trusted: dict[int, bool],
) -> dict[str, np.ndarray]:
    if probe.worst_case == "none":
        return {}

    def worst_of(one: PixelModel | None) -> Worst | None:
        if one is None or not trusted[id(one)]:
            return None
        how = {"candidates": probe.candidates, "rounds": probe.rounds, "limit": limit, "clip": probe.clip}
        return worst_directions(one, points, **how)

    own = worst_of(model)
    theirs = own if base is model else worst_of(base)
    found = {}
    for name, worst in (("nearest", own), ("along_reference", theirs)):
        found[name], found[f"{name}_status"] = _along(probe, model, points, worst, limit)
    return found


def _along(
    probe: Boundary, model: PixelModel, points: Tensor, worst: Worst | None, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distances along worst directions with their status."""
    status = np.full(len(points), NOT_MEASURED, np.uint8)
    if worst is None:
        return np.zeros(len(points), np.float32), status
    options = {"limit": limit, "tolerance": probe.tolerance, "clip": probe.clip}
    first = torch.where(worst.found, _START * worst.distance, limit)
    ray = crossings(model, points, worst.direction[:, None], first=first, **options)
    known = worst.found.cpu().numpy()
    found = ray.found[:, 0] & known
    status[:] = np.where(found, FOUND, NOT_FOUND)
    return np.where(found, ray.distance[:, 0], np.float32(limit)), status
