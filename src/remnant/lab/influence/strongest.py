"""Reducers that keep the k strongest influences on each test example, and of each training example.

A kept influence is one 64-bit key, (row, value, other example), so that merging is sorting: the largest values first,
and of equal ones the first example.
"""

from threading import Lock

import numpy as np
from numpy.typing import NDArray

from remnant.lab.influence.tiles import COLUMNS, ROWS, SEGMENT, Block, Tile
from remnant.stats.influence_tiles import TOLERANCE, TopK

_PENDING = 4
"""Candidates are merged as soon as they are 1 / _PENDING of what is kept."""

Keys = NDArray[np.uint64]


class StrongestOnExamples:
    """The k most positive (`sign` = 1) or most negative (-1) influences on each test example, of sign * influence."""

    def __init__(self, num_examples: int, num_train: int, k: int, *, sign: int = 1) -> None:
        _check("k", k, num_train)
        self._layout = _Layout(ROWS, num_train)
        self._k, self._sign = k, sign
        self._kept = {
            start: self._layout.empty(min(ROWS, num_examples - start), k) for start in range(0, num_examples, ROWS)
        }
        self._pending: dict[int, list[Keys]] = {start: [] for start in self._kept}
        self._bar = np.full(num_examples, -np.inf, np.float32)
        self._locks = {start: Lock() for start in self._kept}

    def take(self, tile: Tile) -> None:
        rows = tile.examples.rows
        bar = self._bar[rows].copy()  # another thread may raise it meanwhile
        if np.isneginf(bar).any():
            bar = np.maximum(bar, self._first_bar(tile))
        place, example, value = tile.reaching(bar, self._sign)
        if not len(place):
            return
        keys = self._layout.keys(example, value, tile.block.origin[place])
        with self._locks[tile.examples.start]:
            self._add(tile, example, keys)

    def close(self, block: Block) -> None:
        """Nothing to do."""

    def result(self) -> TopK:
        for start, pending in self._pending.items():
            if pending:
                self._merge(start)
        return _top([self._layout.unpack(kept[:, ::-1]) for kept in self._kept.values()])

    def _add(self, tile: Tile, example: NDArray[np.integer], keys: Keys) -> None:
        start = tile.examples.start
        kept, pending = self._kept[start], self._pending[start]
        if tile.passes is not None:
            tile.passes.offer(kept, example, keys)
            self._bar[tile.examples.rows] = self._layout.bar(kept)
            return
        pending.append(keys)
        if np.isneginf(self._bar[start]) or sum(map(len, pending)) * _PENDING > kept.size:
            self._merge(start)

    def _merge(self, start: int) -> None:
        kept = self._kept[start] = self._layout.merge(self._kept[start], self._pending[start])
        self._pending[start] = []
        self._bar[start : start + len(kept)] = self._layout.bar(kept)

    def _first_bar(self, tile: Tile) -> NDArray[np.float32]:
        """A value that at least k influences of the tile reach, on each test example; -inf where there are fewer.

        The largest count of a group of training examples belongs to one of them: k groups give k influences.
        """
        per_group = min(SEGMENT, tile.block.num // (2 * self._k))
        per_group = 2 ** (per_group.bit_length() - 1) if per_group else 1
        num_groups = tile.block.num // per_group
        if num_groups < self._k:
            return np.full(len(tile.examples), -np.inf, np.float32)
        real = slice(0, num_groups * per_group)
        counts = tile.counts[real].view(num_groups, per_group, -1)
        per_out = tile.block.per_out[real].view(num_groups, per_group)
        per_count = tile.block.per_in[real].view(num_groups, per_group) + per_out
        total = tile.examples.total
        if self._sign > 0:
            low = counts.amax(dim=1) * per_count.amin(dim=1, keepdim=True) - total * per_out.amax(dim=1, keepdim=True)
        else:
            low = total * per_out.amin(dim=1, keepdim=True) - counts.amin(dim=1) * per_count.amax(dim=1, keepdim=True)
        place = num_groups - self._k
        return np.partition(low.numpy(), place, axis=0)[place] - np.float32(TOLERANCE)


class StrongestOfTraining:
    """The k largest influences of each training example, and the test examples they are on."""

    def __init__(self, num_examples: int, num_train: int, k: int) -> None:
        _check("k", k, min(num_examples, ROWS))
        self._layout = _Layout(COLUMNS, num_examples)
        self._k = k
        self._values = np.full((num_train, k), -np.inf, np.float32)
        self._examples = np.full((num_train, k), -1, np.int32)
        self._open: dict[int, tuple[Keys, NDArray[np.float32]]] = {}

    def take(self, tile: Tile) -> None:
        block = tile.block
        if block.start not in self._open:
            place = max(len(tile.examples) - self._k, 0)
            bar = np.partition(tile.part(slice(None)).numpy(), place, axis=1)[:, place]
            self._open[block.start] = self._layout.empty(len(block.origin), self._k), bar.copy()
        kept, bar = self._open[block.start]
        place, example, value = tile.reaching(bar[:, None])
        if not len(place):
            return
        keys = self._layout.keys(place, value, tile.examples.start + example)
        if tile.passes is None:
            kept = self._layout.merge(kept, [keys])
        else:
            tile.passes.offer(kept, place, keys)
        self._open[block.start] = kept, self._layout.bar(kept)

    def close(self, block: Block) -> None:
        kept, _ = self._open.pop(block.start)
        real = block.origin[: block.num]
        self._values[real], self._examples[real] = self._layout.unpack(kept[: block.num, ::-1])

    def result(self) -> TopK:
        """Rows are training examples, and `train_examples` holds test examples."""
        return TopK(self._values, self._examples)


class _Layout:
    """Keys of 64 bits: row, value (largest first), other example; the last of a row comes first in it."""

    def __init__(self, num_rows: int, num_others: int) -> None:
        self._bits = 32 - (num_rows - 1).bit_length()
        self._none = 2**self._bits - 1
        if num_others >= self._none:
            raise ValueError(f"Expected fewer than {self._none} examples to choose from, but got {num_others}.")

    def empty(self, num_rows: int, k: int) -> Keys:
        """Keys of nothing, which come after all others."""
        row = np.arange(num_rows, dtype=np.uint64)[:, None] << np.uint64(32 + self._bits)
        return np.repeat(row | np.uint64(2 ** (32 + self._bits) - 1), k, axis=1)

    def keys(self, row: NDArray[np.integer], value: NDArray[np.float32], other: NDArray[np.integer]) -> Keys:
        bits = (value + np.float32(0)).view(np.uint32)  # makes -0 to 0
        keys = row.astype(np.uint64) << np.uint64(32)
        keys |= bits ^ ((bits >> np.uint32(31)) - np.uint32(1) & np.uint32(2**31 - 1))  # descending, if not negative
        keys <<= np.uint64(self._bits)
        keys |= other.astype(np.uint64)
        return keys

    def merge(self, kept: Keys, more: list[Keys]) -> Keys:
        """The first k keys of each row, the last of them first."""
        found = np.concatenate([kept.ravel(), *more])
        found.sort()
        start = np.searchsorted(found, np.arange(len(kept), dtype=np.uint64) << np.uint64(32 + self._bits))
        return found[start[:, None] + np.arange(kept.shape[1])[::-1]]

    def bar(self, kept: Keys) -> NDArray[np.float32]:
        """What a value must reach to be kept in each row."""
        return self.unpack(kept[:, :1])[0][:, 0]

    def unpack(self, keys: Keys) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Values and other examples; -inf and -1 for keys of nothing."""
        other = (keys & np.uint64(self._none)).astype(np.int32)
        descending = (keys >> np.uint64(self._bits)).astype(np.uint32)
        value = np.where(descending >> 31, descending, descending ^ np.uint32(2**31 - 1)).view(np.float32)
        nothing = other == self._none
        return np.where(nothing, np.float32(-np.inf), value), np.where(nothing, np.int32(-1), other)


def _top(parts: list[tuple[NDArray[np.float32], NDArray[np.int32]]]) -> TopK:
    values, others = zip(*parts, strict=True)
    return TopK(np.concatenate(values), np.concatenate(others))


def _check(name: str, k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise ValueError(f"Expected `{name}` in [1, {most}], but got {k}.")
