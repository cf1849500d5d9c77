"""Tiles of counts, and what they say on influences before any is computed."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remnant.lab.influence.passes import Passes
from remnant.lab.influence.products import Backend
from remnant.stats.influence_tiles import TOLERANCE
from remnant.stats.packed_bits import PackedBits

ROWS, COLUMNS, SEGMENT = 1024, 1024, 8
"""Test and training examples of a tile, and the training examples that are screened by their largest count."""

_TRIALS = 64
"""Trials are filled up with zeros to a multiple of this, which matrix units want."""

_MANY = 16
"""If more than 1 / _MANY of the segments may have something, all influences of the tile are computed: it is faster."""

Reaching = tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]]
"""Places, examples and values of some entries of a tile."""


@dataclass(frozen=True)
class Examples:
    """Some test examples."""

    start: int
    """Index of the first."""
    right: Tensor
    """Right or wrong, as the backend wants it."""
    total: Tensor
    """Number of right trials, float32."""
    row_scale: Tensor
    """1 / standard deviation of the outcomes; NaN where they do not vary."""

    def __len__(self) -> int:
        return len(self.total)

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + len(self))

    def of(self, keep: Tensor) -> "Examples":
        """Totals and scales of some of them; `start` and `right` stay those of all."""
        return replace(self, total=self.total[keep], row_scale=self.row_scale[keep])


@dataclass(frozen=True)
class Block:
    """Training examples of a column of tiles that are in some and not in all subsets, those in few first.

    Filled up with copies of the last to whole segments.
    """

    start: int
    """Index of the first training example, also of those that were left out."""
    width: int
    """Number of training examples, with those that were left out."""
    num: int
    """Number of those that are not copies."""
    members: Tensor
    """In the subset or not, as the backend wants it."""
    origin: NDArray[np.int64]
    """Training example of each place; -1 for copies."""
    per_in: Tensor
    """1 / n1, float32."""
    per_out: Tensor
    """1 / n0, float32."""
    column_scale: Tensor
    """sqrt(n1 n0 / t), float32."""

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """1 / n1, 1 / n0 and sqrt(n1 n0 / t), shape (3, train_example)."""
        return torch.stack([self.per_in, self.per_out, self.column_scale]).numpy()

    @cached_property
    def per_count(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest 1 / n1 + 1 / n0 of each segment."""
        return (self.per_in + self.per_out).view(-1, SEGMENT).aminmax(dim=1)

    @cached_property
    def per_total(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest 1 / n0 of each segment."""
        return self.per_out.view(-1, SEGMENT).aminmax(dim=1)


@dataclass(frozen=True)
class Tile:
    """Counts c of some training examples (rows) and some test examples (columns)."""

    counts: Tensor
    """float32 (train_example, example)."""
    block: Block
    examples: Examples
    passes: Passes | None = None
    """Compiled passes over the counts, if there are any."""
    most_known: dict[int, float] = field(default_factory=dict)
    """What no sign * influence of the tile exceeds, by sign: `reaching` notes it. A tile belongs to one thread."""

    @cached_property
    def most(self) -> Tensor:
        """The largest count of each segment, (segment, example)."""
        return self.counts.view(-1, SEGMENT, self.counts.shape[1]).amax(dim=1)

    @cached_property
    def least(self) -> Tensor:
        """The smallest count of each segment, (segment, example)."""
        return self.counts.view(-1, SEGMENT, self.counts.shape[1]).amin(dim=1)

    def bound(self, sign: int = 1) -> Tensor:
        """What no sign * influence of a segment exceeds, (segment, example).

        Influence is c (1 / n1 + 1 / n0) - d / n0, and n1 differs little within a segment. The sums are made in another
        order than those of influence, so TOLERANCE is added.
        """
        total = self.examples.total
        if sign > 0:
            found = self.most * self.block.per_count[1][:, None] - total * self.block.per_total[0][:, None]
        else:
            found = total * self.block.per_total[1][:, None] - self.least * self.block.per_count[0][:, None]
        return found.add_(TOLERANCE)

    def reaching(self, bar: NDArray[np.float32], sign: int = 1) -> Reaching:
        """Place, example and value of all sign * influence >= `bar`, of shape (example,) or (train_example, 1).

        Copies that fill up the block are left out.
        """
        most = self.most_known.get(sign, np.inf)
        if most < bar.min():
            return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
        found = self._screened(bar, sign) if self.passes is None else self._compiled(bar, sign, self.passes)
        self.most_known[sign] = min(most, float(found[2].max(initial=bar.max())))
        return found

    def _compiled(self, bar: NDArray[np.float32], sign: int, passes: Passes) -> Reaching:
        counts, total = self.counts[: self.block.num].numpy(), self.examples.total.numpy()
        nothing = np.full(max(counts.shape), -np.inf, np.float32)
        bars = (nothing, bar) if bar.ndim == 1 else (bar[:, 0], nothing)
        return passes.reaching(counts, self.block.scales, total, *bars, np.float32(sign))

    def _screened(self, bars: NDArray[np.float32], sign: int) -> Reaching:
        """With torch: only segments whose bound reaches the bar are looked at."""
        bar = torch.from_numpy(bars)
        of_examples = bar.dim() == 1
        lowest = bar if of_examples else bar.view(-1, SEGMENT).amin(dim=1, keepdim=True)
        segment, example = torch.nonzero(self.bound(sign) >= lowest, as_tuple=True)
        if len(segment) * SEGMENT * _MANY > self.counts.numel():
            values = self.part(slice(None)).mul_(sign)
            place, example = torch.nonzero(values >= bar, as_tuple=True)
            value = values[place, example]
        else:
            values = self._segments(segment, example).mul_(sign)
            limit = bar[example, None] if of_examples else bar.view(-1, SEGMENT)[segment]
            hit, within = torch.nonzero(values >= limit, as_tuple=True)
            place, example, value = segment[hit] * SEGMENT + within, example[hit], values[hit, within]
        real = place < self.block.num
        return place[real].numpy(), example[real].numpy(), value[real].numpy()

    def part(self, rows: slice) -> Tensor:
        """Influences of some of the training examples on all test examples of the tile."""
        per_in, per_out = self.block.per_in[rows, None], self.block.per_out[rows, None]
        return difference(self.counts[rows].clone(), self.examples.total, per_in, per_out)

    def _segments(self, segment: Tensor, example: Tensor) -> Tensor:
        """Influences of the training examples of some segments, each on one test example: shape (hit, SEGMENT)."""
        counts = self.counts.view(-1, SEGMENT, self.counts.shape[1])[segment, :, example]
        per_in, per_out = (one.view(-1, SEGMENT)[segment] for one in (self.block.per_in, self.block.per_out))
        return difference(counts, self.examples.total[example, None], per_in, per_out)


def difference(counts: Tensor, total: Tensor, per_in: Tensor, per_out: Tensor) -> Tensor:
    """c / n1 - (d - c) / n0 in the order of operations of `remnant.stats.influence_tiles`; `counts` is overwritten."""
    without = total - counts
    without *= per_out
    counts *= per_in
    counts -= without
    return counts


def examples_of(correct: PackedBits, start: int, how: Backend) -> Examples:
    """The ROWS test examples from `start` on."""
    num_trials = len(correct)
    right = _by_example(correct, start, start + ROWS)
    total = torch.from_numpy(right.sum(axis=1, dtype=np.int32)).double()
    variance = total * (num_trials - total) / (num_trials * (num_trials - 1))
    row_scale = torch.where(variance > 0, 1 / variance.sqrt(), torch.nan).float()
    return Examples(start, how.right(torch.from_numpy(right)), total.float(), row_scale)


def block_of(included: PackedBits, start: int, how: Backend) -> Block | None:
    """The training examples from `start` on that are in some and not in all subsets; None if there are none."""
    num_trials = len(included)
    member = _by_example(included, start, start + COLUMNS)
    n1 = member.sum(axis=1, dtype=np.int32).astype(np.int64)
    order = np.argsort(n1, kind="stable")
    order = order[(n1[order] > 0) & (n1[order] < num_trials)]
    if not len(order):
        return None
    num, missing = len(order), -len(order) % SEGMENT
    origin = np.pad(start + order, (0, missing), constant_values=-1)
    order = np.pad(order, (0, missing), mode="edge")
    members = torch.from_numpy(member.take(order, axis=0))
    n1 = n1[order]
    n0 = num_trials - n1
    per_in, per_out, scale = (
        torch.from_numpy(values.astype(np.float32)) for values in (1 / n1, 1 / n0, np.sqrt(n1 * n0 / num_trials))
    )
    return Block(start, len(member), num, how.members(members), origin, per_in, per_out, scale)


def _by_example(packed: PackedBits, start: int, stop: int) -> NDArray[np.uint8]:
    """Zeros and ones of the examples from `start`, a multiple of 8, up to `stop`: (example, trial), filled up."""
    num_examples = min(stop, packed.num_examples) - start
    eight = np.ascontiguousarray(packed.bits[:, start // 8 : -(-(start + num_examples) // 8)].T)
    num_trials = len(packed)
    found = np.zeros((len(eight), 8, num_trials + -num_trials % _TRIALS), np.uint8)
    for bit in range(8):
        part = found[:, bit, :num_trials]
        np.right_shift(eight, 7 - bit, out=part)
        np.bitwise_and(part, 1, out=part)
    return found.reshape(8 * len(eight), -1)[:num_examples]
