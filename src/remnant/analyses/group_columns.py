"""Which groups the attribute columns of a population make."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.slice_columns import TEXT_LENGTH, Slicing, slicings
from remnant.finding import NotApplicable
from remnant.population import groups
from remnant.registry import unknown

MOST_CROSSED = 10
"""All pairs of so many columns are crossed unless others are asked for."""


@dataclass(frozen=True)
class Groups:
    """The groups of all partitions of the examples, one after another."""

    slicings: tuple[Slicing, ...]
    left_out: dict[str, str]
    crossed: bool
    """Pairs of columns are among them."""

    @property
    def sizes(self) -> list[int]:
        """Number of groups of each partition."""
        return [len(slicing.levels) for slicing in self.slicings]

    @property
    def column(self) -> list[str]:
        """Column, or pair of columns, of each group."""
        return [slicing.column for slicing in self.slicings for _ in slicing.levels]

    @property
    def level(self) -> list[str]:
        """Level of each group."""
        return [level for slicing in self.slicings for level in slicing.levels]

    @property
    def partition(self) -> NDArray[np.intp]:
        """Partition of each group."""
        return np.repeat(np.arange(len(self.slicings)), self.sizes)

    def name(self, place: int) -> str:
        """The group as "column = level"."""
        return f"{self.column[place]} = {self.level[place]}"

    def members(self, place: int) -> NDArray[np.bool_]:
        """Whether each example is in the group."""
        partition = int(self.partition[place])
        start = int(np.sum(self.sizes[:partition]))
        return self.slicings[partition].index == place - start


def find_groups(population: xr.Dataset, num_bins: int, pairs: Sequence[Sequence[str]] | None) -> Groups:
    """All attribute columns and pairs of them: those that are asked for, or all of up to `MOST_CROSSED` columns.

    Raises
    ------
    NotApplicable
        If there is no column that cuts the examples into groups.
    """
    if not groups(population):
        raise NotApplicable(
            "The population has no attribute columns (coordinates `group_NAME` over the test examples). Give some: a "
            "data set with attributes, or columns beside the labels of prediction files."
        )
    plain = slicings(population, num_bins)
    columns = [slicing.column for slicing in plain.of("group") if slicing.column != TEXT_LENGTH]
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in plain.left_out.items())
        raise NotApplicable(f"No attribute column cuts the examples into groups: {reasons}.")
    chosen = (list(combinations(columns, 2)) if len(columns) <= MOST_CROSSED else []) if pairs is None else pairs
    found = slicings(population, num_bins, chosen) if chosen else plain
    kept = [s for s in (*found.of("group"), *found.of("intersection")) if s.column != TEXT_LENGTH]
    return Groups(tuple(kept), found.left_out, bool(chosen))


def positive_class(names: Sequence[str], positive: str | None) -> int | None:
    """Index of the class that is looked for; of two classes, the second one by default.

    Raises
    ------
    UnknownNameError
        If `positive` is not a class.
    """
    if positive is None:
        return 1 if len(names) == 2 else None
    if positive not in names:
        raise unknown("positive", positive, names)
    return list(names).index(positive)
