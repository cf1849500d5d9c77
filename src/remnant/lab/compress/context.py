"""What a compression scheme may use besides the model."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from remnant.lab.data import Dataset
from remnant.lab.train import Rng
from remnant.trial import Recipe


@dataclass(frozen=True)
class Context:
    """What a scheme may use besides the model."""

    recipe: Recipe
    """How the model was trained."""
    dataset: Dataset
    indices: np.ndarray
    """Examples of `dataset.train` that the model was trained on, ascending."""
    rng: Rng
    """Named random streams, as `Trial.rng`."""
    reference: nn.Module | None = None
    """The dense model that alignment losses look at; None for the model that is given to `compress`."""
    selection: Callable[[str], np.ndarray] | None = None
    """Mask over `dataset.train` of the examples that a stored selection lists, by its key; None without a store."""
    skipped: list[str] = field(default_factory=list)
    """What schemes could not compress, as "layer: reason"."""
