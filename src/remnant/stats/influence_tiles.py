"""The influence matrix in tiles, with reductions that see each tile once, so that the matrix never exists.

    found = fold(tiles(outcome, included), {"top": partial(top_k, num_examples=10_000, k=5), ...})

Means of influence need no tiles: see `remnant.stats.influence.contrasts`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.stats.influence import centred, check_trials, moments

TOLERANCE = 1e-6
"""Thresholds are passed down to this much below them: influence in a tile is float32 with errors under 3e-7."""


@dataclass(frozen=True)
class Tile:
    """The influence of some training examples on some test examples."""

    examples: NDArray[np.intp]
    """Indices of the rows."""
    train_examples: NDArray[np.intp]
    """Indices of the columns; training examples that are never in or never out do not occur."""
    influence: NDArray[np.float32]
    """Shape (examples, train_examples)."""
    row_scale: NDArray[np.float32]
    """1 / standard deviation of the outcomes; NaN where they do not vary."""
    column_scale: NDArray[np.float32]
    """sqrt(n1 n0 / t)."""

    @property
    def z(self) -> NDArray[np.float32]:
        """`influence` over its standard deviation if membership were unrelated; NaN rows where outcomes do not vary."""
        return (self.influence * self.column_scale) * self.row_scale[:, None]


def tiles(
    outcome: NDArray,
    included: NDArray[np.bool_],
    *,
    examples: NDArray[np.integer] | None = None,
    train_examples: NDArray[np.integer] | None = None,
    rows: int = 128,
    columns: int = 2048,
) -> Iterator[Tile]:
    """The influence matrix (of chosen rows and columns), tile by tile, all columns of a row block in turn.

    Memory is that of a tile. Values are those of `remnant.stats.influence.influence` in float32 and do not depend
    on the tiling for bool outcomes, because counts are exact.
    """
    check_trials(outcome, included)
    num_trials = len(included)
    num_in = included.sum(axis=0)
    wanted = np.arange(included.shape[1]) if train_examples is None else np.asarray(train_examples, np.intp)
    wanted = wanted[(num_in[wanted] > 0) & (num_in[wanted] < num_trials)]
    chosen = np.arange(outcome.shape[1]) if examples is None else np.asarray(examples, np.intp)
    for start in range(0, len(chosen), rows):
        block = chosen[start : start + rows]
        binary = outcome.dtype == bool
        part = outcome[:, block]
        total, variance = moments(part)
        left = np.ascontiguousarray((part if binary else centred(part)).astype(np.float32).T)
        with np.errstate(divide="ignore"):
            row_scale = np.where(variance > 0, 1 / np.sqrt(variance), np.nan).astype(np.float32)
        for first in range(0, len(wanted), columns):
            column = wanted[first : first + columns]
            found = left @ included[:, column].astype(np.float32)
            n1 = num_in[column]
            n0 = num_trials - n1
            if binary:
                found = _difference(found, total.astype(np.float32), n1, n0)
            else:
                found *= (num_trials / (n1 * n0)).astype(np.float32)
            yield Tile(block, column, found, row_scale, np.sqrt(n1 * n0 / num_trials).astype(np.float32))


def fold(tiles: Iterable[Tile], reducers: Mapping[str, Callable[[Tile, Any], Any]]) -> dict[str, Any]:
    """Final state of each reducer after one pass over the tiles; a reducer maps (tile, state or None) to a state."""
    states: dict[str, Any] = dict.fromkeys(reducers)
    for tile in tiles:
        for name, reduce in reducers.items():
            states[name] = reduce(tile, states[name])
    return states


@dataclass(frozen=True)
class TopK:
    """The largest values of each test example, largest first."""

    values: NDArray[np.float32]
    """Shape (example, k); -inf where there are fewer than k."""
    train_examples: NDArray[np.signedinteger]
    """Their training examples; -1 where there are fewer than k."""


def top_k(tile: Tile, state: TopK | None, *, num_examples: int, k: int, sign: int = 1) -> TopK:
    """Reducer: the k most positive (`sign` = 1) or most negative (-1) influences on each test example.

    Values are those of `sign` * influence. Of equal ones, the first training example comes first.
    """
    values = np.full((num_examples, k), -np.inf, np.float32) if state is None else state.values.copy()
    indices = np.full((num_examples, k), -1, np.intp) if state is None else state.train_examples.copy()
    best, origin = values[tile.examples], indices[tile.examples]
    found, place = _largest(sign * tile.influence, min(k, tile.influence.shape[1]), best[:, -1])
    best = np.concatenate([best, found], axis=1)
    origin = np.concatenate([origin, np.where(place >= 0, tile.train_examples[place], -1)], axis=1)
    order = np.argsort(-best, axis=1, kind="stable")[:, :k]
    values[tile.examples] = np.take_along_axis(best, order, axis=1)
    indices[tile.examples] = np.take_along_axis(origin, order, axis=1)
    return TopK(values, indices)


def count_above(
    tile: Tile,
    state: NDArray[np.int64] | None,
    *,
    thresholds: NDArray[np.floating],
    labels: NDArray[np.integer],
    train_labels: NDArray[np.integer],
) -> NDArray[np.int64]:
    """Reducer: numbers of pairs with influence >= each of the ascending thresholds, shape (2, threshold).

    First row: pairs of any classes; second row: of the same class.
    """
    row, column = np.nonzero(tile.influence >= np.float32(thresholds[0] - TOLERANCE))
    passed = np.searchsorted(thresholds, tile.influence[row, column] + TOLERANCE, side="right")
    same = labels[tile.examples[row]] == train_labels[tile.train_examples[column]]
    length = len(thresholds) + 1
    both = np.stack([np.bincount(passed, minlength=length), np.bincount(passed[same], minlength=length)])
    above = both[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return above if state is None else state + above


def histogram_z(tile: Tile, state: NDArray[np.int64] | None, *, edges: NDArray[np.floating]) -> NDArray[np.int64]:
    """Reducer: numbers of pairs by z in bins between the evenly spaced `edges`, shape (bin,).

    The first and last bin also hold all that lies beyond them. Test examples whose outcome never varies have no z
    and are not counted.
    """
    length = len(edges) - 1
    per_z = length / (edges[-1] - edges[0])
    testable = np.isfinite(tile.row_scale)
    influence = tile.influence if testable.all() else tile.influence[testable]
    place = influence * (tile.column_scale * np.float32(per_z))
    place *= tile.row_scale[testable, None]
    # A small shift decides ties at the edges alike for float32 here and float64 under the null.
    place -= np.float32((edges[0] - TOLERANCE) * per_z)
    np.clip(place, 0, length - 1, out=place)
    found = np.bincount(place.astype(np.intp).ravel(), minlength=length)
    return found if state is None else state + found


@dataclass(frozen=True)
class Pairs:
    """Pairs of a test and a training example, in no particular order."""

    examples: NDArray[np.signedinteger]
    train_examples: NDArray[np.signedinteger]
    influence: NDArray[np.float32]


def pairs_above(tiles: Iterable[Tile], threshold: float) -> Pairs:
    """All pairs with influence >= `threshold`."""
    empty = np.empty(0, np.intp)
    found = [(empty, empty, np.empty(0, np.float32))]
    for tile in tiles:
        row, column = np.nonzero(tile.influence >= np.float32(threshold - TOLERANCE))
        found.append((tile.examples[row], tile.train_examples[column], tile.influence[row, column]))
    examples, train_examples, influence = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pairs(examples, train_examples, influence)


def largest(values: NDArray[np.floating], k: int) -> NDArray[np.floating]:
    """The k largest values along the last axis, largest first."""
    shape = values.shape
    found, _ = _largest(values.reshape(-1, shape[-1]), k, None)
    return found.reshape(*shape[:-1], k)


def _largest(values: NDArray, k: int, beat: NDArray | None) -> tuple[NDArray, NDArray]:
    """The k largest of each row and their columns; -inf and -1 for what cannot beat `beat` in any row.

    k passes of argmax are several times faster than a partition for the small k used here.
    """
    work = values.copy()
    rows = np.arange(len(work))
    found = np.full((len(work), k), -np.inf, values.dtype)
    place = np.full((len(work), k), -1, np.intp)
    for rank in range(k):
        column = work.argmax(axis=1)
        value = work[rows, column]
        if beat is not None and not (value > beat).any():
            break
        found[:, rank], place[:, rank] = value, column
        work[rows, column] = -np.inf
    return found, place


def _difference(found: NDArray, total: NDArray, n1: NDArray, n0: NDArray) -> NDArray[np.float32]:
    """c / n1 - (d - c) / n0: both terms are at most 1, which bounds the rounding error."""
    without = total[:, None] - found
    without *= (1 / n0).astype(np.float32)
    found *= (1 / n1).astype(np.float32)
    found -= without
    return found
