"""Populations of models made elsewhere with known truth: answers only, lost and gained at stated rates."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr


def population(
    rng: np.random.Generator,
    sides: Mapping[str, Any],
    *,
    num_examples: int = 1000,
    num_classes: int = 5,
    accuracy: float = 0.8,
    files: int = 1,
) -> xr.Dataset:
    """A reference file, and `files` files of each side.

    Parameters
    ----------
    sides
        Label to two rates: of right answers lost among those of the reference, of wrong ones put right. Each is a
        number or has shape (example,).
    """
    label = np.arange(num_examples, dtype=np.int16) % num_classes
    wrong = (label + rng.integers(1, num_classes, num_examples)) % num_classes
    right = rng.random(num_examples) < accuracy
    rows, names = [np.where(right, label, wrong)], ["reference"]
    for name, (lost, gained) in sides.items():
        for _ in range(files):
            change = rng.random(num_examples) < np.where(right, lost, gained)
            rows.append(np.where(right ^ change, label, wrong))
            names.append(name)
    number = [sum(other == name for other in names[:place]) for place, name in enumerate(names)]
    return xr.Dataset(
        {"prediction": (("trial", "example"), np.array(rows, np.int16)), "label": (("example",), label)},
        coords={
            "trial": [f"{name}/{k}" for name, k in zip(names, number, strict=True)],
            "scheme": ("trial", names),
            "seed": ("trial", number),
            "subset": ("trial", [-1] * len(names)),
            "example": np.arange(num_examples),
            "class": [f"class {c}" for c in range(num_classes)],
        },
        attrs={"reference": "reference", "inputs": [], "matching": {}},
    )
