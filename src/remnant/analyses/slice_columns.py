"""Ways to cut the examples into slices: by class, by attribute, by bins of a measurement, by length of the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import MOST_LEVELS, Group, attributes, class_names
from remnant.population import groups
from remnant.registry import unknown

Kind = Literal["class", "group", "intersection"]

FEW_VALUES = 12
"""Numbers with more distinct values than this are measurements, to be cut into bins."""
MOST_CELLS = 1000
"""An intersection of two columns with more slices than this is refused."""
TEXT_LENGTH = "text length (characters)"
MISSING = "missing"
_ABSENT = {"", "nan", "None", "NaN", "<NA>", "NaT"}
_FIRST = 2**16


@dataclass(frozen=True)
class Slicing:
    """One way to cut the examples into slices."""

    kind: Kind
    column: str
    levels: tuple[str, ...]
    index: NDArray[np.integer]
    """Shape (example,): the level of each example."""


@dataclass(frozen=True)
class Slicings:
    """All ways to cut the examples of a population."""

    found: tuple[Slicing, ...]
    left_out: dict[str, str]
    """Name of a column that cannot be used, to the reason."""

    def of(self, kind: Kind) -> list[Slicing]:
        """Those of a kind."""
        return [slicing for slicing in self.found if slicing.kind == kind]


def slicings(population: xr.Dataset, num_bins: int, intersections: Sequence[Sequence[str]] = ()) -> Slicings:
    """By class, by each attribute, by length of the text where there are texts, and by pairs of columns.

    Parameters
    ----------
    num_bins
        Quantile bins of numeric columns with many values.
    intersections
        Pairs of names of columns; "class" is one.

    Raises
    ------
    ValueError
        If `num_bins` is below 2, or a pair names no column, or has too many slices.
    """
    if num_bins < 2:
        raise ValueError(f"Expected `num_bins` >= 2, but got {num_bins!r}.")
    found = [Slicing("class", "class", tuple(class_names(population)), population["label"].values)]
    known = {group.name: group for group in attributes(population)}
    left_out = {}
    for name, values in groups(population).items():
        if _is_measurement(values):
            found.append(Slicing("group", name, *_bins(values, num_bins)))
        elif name in known:
            found.append(_slicing(known[name], values))
        else:
            left_out[name] = f"one value only, or more than {MOST_LEVELS} that are no numbers"
    if "text" in population:
        found.append(Slicing("group", TEXT_LENGTH, *_bins(_lengths(population["text"].values), num_bins)))
    left_out |= {slicing.column: "nearly all values are the same" for slicing in found[1:] if len(slicing.levels) < 2}
    found = [slicing for slicing in found if slicing.kind == "class" or len(slicing.levels) > 1]
    crossed = [_intersection(found, pair) for pair in intersections]
    return Slicings((*found, *crossed), left_out)


def _is_measurement(values: NDArray) -> bool:
    """Numbers with many values; most are known by their first block."""
    if values.dtype.kind not in "iuf":
        return False
    return len(np.unique(values[:_FIRST])) > FEW_VALUES or len(np.unique(values)) > FEW_VALUES


def _slicing(group: Group, values: NDArray) -> Slicing:
    """An attribute with its levels in order: numbers by value, texts by name."""
    key = float if values.dtype.kind in "iuf" else str
    order = sorted(range(len(group.levels)), key=lambda i: key(group.levels[i]))
    place = np.empty(len(order), np.int8)
    place[order] = np.arange(len(order))
    levels = tuple(MISSING if group.levels[i] in _ABSENT else group.levels[i] for i in order)
    return Slicing("group", group.name, levels, place[group.index])


def _bins(values: NDArray, num_bins: int) -> tuple[tuple[str, ...], NDArray[np.integer]]:
    """Names of quantile bins, which hold their upper ends, and the bin of each example."""
    finite = np.isfinite(values)
    present = values if finite.all() else values[finite]
    edges = np.unique(np.quantile(present, np.arange(1, num_bins) / num_bins))
    index = np.searchsorted(edges, values, side="left").astype(np.int16)
    index[~finite] = len(edges) + 1
    ends = (float(present.min()), float(present.max()))
    names = _whole_spans(edges, *ends) if values.dtype.kind in "iu" else _spans(edges, *ends)
    return _occupied((*names, MISSING), index)


def _whole_spans(edges: NDArray[np.floating], lowest: float, highest: float) -> list[str]:
    """The first and the last whole number of each bin, such as "12 to 30"."""
    last = [*np.floor(edges).astype(np.int64).tolist(), int(highest)]
    first = [int(lowest), *(end + 1 for end in last[:-1])]
    return [f"{a}" if a >= b else f"{a} to {b}" for a, b in zip(first, last, strict=True)]


def _spans(edges: NDArray[np.floating], lowest: float, highest: float) -> list[str]:
    """The ends of each bin with as few digits as tell the inner ones apart."""
    for digits in (3, 4, 6, 9, 17):
        inner = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(inner)) == len(inner):
            break
    ends = [f"{lowest:.3g}", *inner, f"{highest:.3g}"]
    return [f"{a} to {b}" for a, b in pairwise(ends)]


def _occupied(levels: tuple[str, ...], index: NDArray[np.integer]) -> tuple[tuple[str, ...], NDArray[np.integer]]:
    """Without the levels that no example has."""
    used = np.flatnonzero(np.bincount(index, minlength=len(levels)))
    place = np.zeros(len(levels), np.int32)
    place[used] = np.arange(len(used))
    return tuple(levels[i] for i in used), place[index]


def _intersection(known: Sequence[Slicing], pair: Sequence[str]) -> Slicing:
    if isinstance(pair, str) or len(pair) != 2:
        raise ValueError(f"Expected each of `intersections` to be two names of columns, but got {pair!r}.")
    by_name = {slicing.column: slicing for slicing in known}
    for name in pair:
        if name not in by_name:
            raise unknown("intersections", name, by_name)
    a, b = by_name[pair[0]], by_name[pair[1]]
    names = tuple(f"{x} × {y}" for x in a.levels for y in b.levels)
    levels, index = _occupied(names, a.index.astype(np.int64) * len(b.levels) + b.index)
    if len(levels) > MOST_CELLS:
        raise ValueError(
            f"Expected at most {MOST_CELLS} slices in an intersection, but {pair[0]!r} with {pair[1]!r} has "
            f"{len(levels)}. Choose columns with fewer values."
        )
    return Slicing("intersection", f"{a.column} × {b.column}", levels, index)


def _lengths(texts: NDArray) -> NDArray[np.int64]:
    return np.fromiter(map(len, map(str, texts.tolist())), np.int64, len(texts))
