"""Reducers that list or count pairs: all above a threshold, numbers above thresholds, the histogram of z."""

from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray

from remnant.lab.influence.passes import Passes
from remnant.lab.influence.tiles import Block, Tile
from remnant.stats.influence_tiles import TOLERANCE, Pairs

MOST_PAIRS = 10**8
"""Pairs that are listed at most: 1.2 GB."""

_PLACES = 128
"""Bins that a signed byte tells apart."""

_CHUNK = 512
"""Training examples whose z are binned at a time, so that they stay in a core's cache."""


class TooManyPairsError(ValueError):
    """More pairs reach the threshold than are listed."""


class PairsAbove:
    """All pairs with influence >= `threshold`, ordered by test, then training example."""

    def __init__(self, threshold: float) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(f"Expected `threshold` in (0, 1], but got {threshold}. It is a difference of two shares.")
        self._threshold = threshold
        self._found: list[tuple[NDArray, ...]] = []
        self._num = 0
        self._lock = Lock()

    def take(self, tile: Tile) -> None:
        example, origin, value = _above(tile, self._threshold)
        if not len(example):
            return
        with self._lock:
            self._found.append((example.astype(np.int32), origin.astype(np.int32), value))
            self._num += len(example)
            if self._num > MOST_PAIRS:
                raise TooManyPairsError(
                    f"Expected at most {MOST_PAIRS:,} pairs with influence >= `threshold` {self._threshold:g}, but "
                    "more came. Raise the threshold: with few trials most of them are noise."
                )

    def close(self, block: Block) -> None:
        """Nothing to do."""

    def result(self) -> Pairs:
        empty = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
        example, origin, value = (np.concatenate(part) for part in zip(empty, *self._found, strict=True))
        order = np.lexsort((origin, example))
        return Pairs(example[order], origin[order], value[order])


class CountAbove:
    """Numbers of pairs with influence >= each of the ascending thresholds, shape (2, threshold).

    First row: pairs of any classes; second row: of the same class.
    """

    def __init__(
        self, thresholds: NDArray[np.floating], labels: NDArray[np.integer], train_labels: NDArray[np.integer]
    ) -> None:
        self._thresholds, self._labels, self._train_labels = thresholds, labels, train_labels
        self._found = np.zeros((2, len(thresholds) + 1), np.int64)
        self._lock = Lock()

    def take(self, tile: Tile) -> None:
        example, origin, value = _above(tile, float(self._thresholds[0]))
        passed = np.searchsorted(self._thresholds, value + TOLERANCE, side="right")
        same = self._labels[example] == self._train_labels[origin]
        length = len(self._thresholds) + 1
        both = np.stack([np.bincount(passed, minlength=length), np.bincount(passed[same], minlength=length)])
        with self._lock:
            self._found += both

    def close(self, block: Block) -> None:
        """Nothing to do."""

    def result(self) -> NDArray[np.int64]:
        return self._found[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]


class HistogramZ:
    """Numbers of pairs by z in bins between the evenly spaced `edges`: `influence_tiles.histogram_z` of all tiles.

    The first and last bin also hold all that lies beyond them. Test examples whose outcome never varies have no z and
    are not counted.
    """

    def __init__(self, edges: NDArray[np.floating]) -> None:
        self._length = len(edges) - 1
        if not 1 <= self._length < _PLACES:
            raise ValueError(f"Expected `edges` of 1 to {_PLACES - 1} bins, but got {self._length}.")
        per_z = self._length / (edges[-1] - edges[0])
        self._per_z, self._shift = float(np.float32(per_z)), float(np.float32((edges[0] - TOLERANCE) * per_z))
        self._found = np.zeros(self._length, np.int64)
        self._lock = Lock()

    def take(self, tile: Tile) -> None:
        found = self._binned(tile) if tile.passes is None else self._compiled(tile, tile.passes)
        with self._lock:
            self._found += found

    def _compiled(self, tile: Tile, passes: Passes) -> NDArray[np.int64]:
        real = slice(0, tile.block.num)
        scales = tile.block.scales[:, real] * np.array([[1], [1], [self._per_z]], np.float32)
        examples = tile.examples
        sides = scales, examples.total.numpy(), examples.row_scale.numpy()
        found = passes.count_bins(tile.counts[real].numpy(), *sides, np.float32(self._shift), self._length)
        return found.sum(axis=0)[: self._length]

    def _binned(self, tile: Tile) -> NDArray[np.int64]:
        testable = torch.isfinite(tile.examples.row_scale)
        if not testable.all():
            tile = Tile(tile.counts[:, testable], tile.block, tile.examples.of(testable))
        column_scale = tile.block.column_scale * self._per_z  # of float32, which Python's numbers do not change
        pairs = torch.zeros(_PLACES * 256, dtype=torch.int64)
        for start in range(0, tile.block.num, _CHUNK):
            rows = slice(start, min(start + _CHUNK, tile.block.num))
            place = tile.part(rows)
            place *= column_scale[rows, None]
            place *= tile.examples.row_scale
            place -= self._shift
            pairs += _in_pairs(place.clamp_(0, self._length - 1))
        pairs = pairs.view(_PLACES, 256)
        found = pairs.sum(dim=0)[: self._length] + pairs.sum(dim=1)[: self._length]
        found[0] -= int(pairs.sum()) * 2 - tile.block.num * tile.counts.shape[1]
        return found.numpy()

    def close(self, block: Block) -> None:
        """Nothing to do."""

    def result(self) -> NDArray[np.int64]:
        return self._found


def _in_pairs(place: torch.Tensor) -> torch.Tensor:
    """Numbers of entries by whole part, two at a time: as one number of two bytes there are half as many to count.

    A 0 is added to an odd number of them.
    """
    flat = place.to(torch.int8).flatten()
    if len(flat) % 2:
        flat = torch.nn.functional.pad(flat, (0, 1))
    return torch.bincount(flat.view(torch.int16), minlength=_PLACES * 256)


def _above(tile: Tile, threshold: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Test examples, training examples and influences of the pairs of a tile from a threshold on."""
    limit = np.float32(threshold - TOLERANCE)
    place, example, value = tile.reaching(np.full(len(tile.examples), limit))
    return tile.examples.start + example.astype(np.int64), tile.block.origin[place], value
