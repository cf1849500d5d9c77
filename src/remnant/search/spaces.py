"""Sparsities for groups of layers, as a search over whole numbers sees them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from remnant.registry import unknown
from remnant.search.bench import Setting
from remnant.trial import Trial


@dataclass(frozen=True)
class Space:
    """Levels of sparsity for groups of layers."""

    layers: Mapping[str, int]
    groups: tuple[tuple[int, ...], ...]
    """Numbers of the layers of each group."""
    step: float
    most: int
    """Highest level."""
    by_threshold: Callable[[float], Sequence[float]]
    """Sparsity of each layer with one threshold for all, from the sparsity of the whole."""

    def sparsities(self, trial: Any) -> tuple[float, ...]:
        """Sparsity of each layer in what Optuna proposes."""
        found = [0.0] * len(self.layers)
        for number, members in enumerate(self.groups):
            level = trial.suggest_int(f"group {number}", 0, self.most)
            for layer in members:
                found[layer] = round(level * self.step, 6)
        return tuple(found)

    def starts(self, sparsities: Sequence[float]) -> list[dict[str, int]]:
        """Levels of the first candidates."""
        sizes = np.array(list(self.layers.values()), float)
        every = [way for sparsity in sparsities for way in ([sparsity] * len(sizes), self.by_threshold(sparsity))]
        found = []
        for one in every:
            means = [np.average(np.array(one)[list(group)], weights=sizes[list(group)]) for group in self.groups]
            found.append({f"group {k}": min(self.most, round(float(mean) / self.step)) for k, mean in enumerate(means)})
        return found


def space_of(setting: Setting, groups: int | Sequence[Sequence[str]] | None, strongest: float, step: float) -> Space:
    """The space of a recipe's models, whose dense trials are finished."""
    # Imported here: whoever hands out trials does without torch until the layers are asked for.
    from remnant.lab.compress.layerwise import global_sparsities, layer_sizes
    from remnant.lab.run import load_model

    model = load_model(Trial(setting.recipe, seed=setting.seeds[0]), setting.store, setting.root)
    layers = layer_sizes(model)
    most = math.floor(strongest / step + 1e-9)
    return Space(layers, grouped(list(layers), groups), step, most, lambda share: global_sparsities(model, share))


def grouped(names: list[str], groups: int | Sequence[Sequence[str]] | None) -> tuple[tuple[int, ...], ...]:
    """Numbers of the layers of each group.

    Raises
    ------
    ValueError
        If a name is unknown, or a layer is not in exactly one group.
    """
    if groups is None:
        return tuple((number,) for number in range(len(names)))
    if isinstance(groups, int):
        if not 1 <= groups <= len(names):
            raise ValueError(f"Expected `groups` in 1 to {len(names)}, the number of layers, but got {groups}.")
        return tuple(tuple(part.tolist()) for part in np.array_split(np.arange(len(names)), groups))
    for name in (name for group in groups for name in group):
        if name not in names:
            raise unknown("layer in `groups`", name, names)
    given = [name for group in groups for name in group]
    if sorted(given) != sorted(names) or not all(groups):
        odd = sorted({name for name in names if given.count(name) != 1})
        raise ValueError(f"Expected each layer in exactly one of the `groups`, but these are not: {odd}.")
    return tuple(tuple(names.index(name) for name in group) for group in groups)
