"""Tiles of counts, and what they say on influences before any is computed."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remnant.lab.influence.products import Backend
from remnant.stats.influence_tiles import TOLERANCE
from remnant.stats.packed_bits import PackedBits

ROWS, COLUMNS, SEGMENT = 1024, 2048, 8
"""Test and training examples of a tile, and the training examples that are screened by their largest count."""

_MANY = 16
"""If more than 1 / _MANY of the segments may have something, all influences of the tile are computed: it is faster."""


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

    def reaching(self, bar: Tensor, sign: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Place, example and value of all sign * influence >= `bar`, of shape (example,) or (train_example, 1)."""
        of_examples = bar.dim() == 1
        lowest = bar if of_examples else bar.view(-1, SEGMENT).amin(dim=1, keepdim=True)
        segment, example = torch.nonzero(self.bound(sign) >= lowest, as_tuple=True)
        if len(segment) * SEGMENT * _MANY > self.counts.numel():
            value = self.part(slice(None)).mul_(sign)
            place, example = torch.nonzero(value >= bar, as_tuple=True)
            return place, example, value[place, example]
        value = self._segments(segment, example).mul_(sign)
        limit = bar[example, None] if of_examples else bar.view(-1, SEGMENT)[segment]
        hit, within = torch.nonzero(value >= limit, as_tuple=True)
        return segment[hit] * SEGMENT + within, example[hit], value[hit, within]

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
    right = torch.from_numpy(correct.columns(start, start + ROWS)).t().contiguous()
    total = right.sum(dim=1, dtype=torch.int32).double()
    variance = total * (num_trials - total) / (num_trials * (num_trials - 1))
    row_scale = torch.where(variance > 0, 1 / variance.sqrt(), torch.nan).float()
    return Examples(start, how.right(right), total.float(), row_scale)


def block_of(included: PackedBits, start: int, how: Backend) -> Block | None:
    """The training examples from `start` on that are in some and not in all subsets; None if there are none."""
    num_trials = len(included)
    member = included.columns(start, start + COLUMNS)
    n1 = torch.from_numpy(member).sum(dim=0, dtype=torch.int32).numpy().astype(np.int64)
    order = np.argsort(n1, kind="stable")
    order = order[(n1[order] > 0) & (n1[order] < num_trials)]
    if not len(order):
        return None
    num, missing = len(order), -len(order) % SEGMENT
    origin = np.pad(start + order, (0, missing), constant_values=-1)
    order = np.pad(order, (0, missing), mode="edge")
    members = torch.from_numpy(member).t().contiguous()[torch.from_numpy(order)]
    n1 = n1[order]
    n0 = num_trials - n1
    per_in, per_out, scale = (
        torch.from_numpy(values.astype(np.float32)) for values in (1 / n1, 1 / n0, np.sqrt(n1 * n0 / num_trials))
    )
    return Block(start, member.shape[1], num, how.members(members), origin, per_in, per_out, scale)
