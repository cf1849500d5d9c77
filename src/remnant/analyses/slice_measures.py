"""The change of accuracy within each slice, tested over all slices of a kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import blocks, right_answers
from remnant.analyses.comparison import Comparison
from remnant.analyses.slice_columns import Slicing
from remnant.stats.equivalence import tango_interval
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import mcnemar_exact
from remnant.stats.two_way import two_way_mean

Span = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Lower and upper ends, NaN where there are none."""


@dataclass(frozen=True)
class Counts:
    """What the pairs of a side answer in each slice of a slicing."""

    size: NDArray[np.int64]
    """Examples, shape (slice,)."""
    right_before: NDArray[np.int64]
    """Examples on which the reference is right, shape (pair, slice); so too the following."""
    lost: NDArray[np.int64]
    gained: NDArray[np.int64]
    example_squares: NDArray[np.float64]
    """Sum over examples of (gained minus lost pairs)^2, shape (slice,)."""

    @property
    def num_pairs(self) -> int:
        """Number of pairs of models."""
        return len(self.lost)

    def at(self, places: NDArray[np.integer]) -> "Counts":
        """Those of some slices."""
        before, lost, gained = (counts[:, places] for counts in (self.right_before, self.lost, self.gained))
        return Counts(self.size[places], before, lost, gained, self.example_squares[places])


@dataclass(frozen=True)
class Slices:
    """All slices of a kind with the change of accuracy in each; arrays of shape (slice,)."""

    column: tuple[str, ...]
    level: tuple[str, ...]
    counts: Counts
    net: NDArray[np.float64]
    """Accuracy of the compressed model minus that of the reference, mean over pairs."""
    each: Span
    """95 % interval of each slice."""
    simultaneous: Span
    """Interval such that those of all tested slices hold together in 95 % of audits."""
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    """Benjamini-Hochberg over the tested slices; NaN for others."""
    tested: NDArray[np.bool_]
    """Large enough to be tested."""

    @property
    def harmed(self) -> NDArray[np.bool_]:
        """Slices that lose accuracy at a false discovery rate of 5 %."""
        return (self.q <= 0.05) & (self.net < 0)

    @property
    def worst(self) -> int | None:
        """The tested slice that loses most; of equals the one whose interval ends lowest. None without any."""
        if not self.tested.any():
            return None
        order = np.lexsort((self.simultaneous[1], self.net, ~self.tested))
        return int(order[0])

    @property
    def least(self) -> tuple[float, float]:
        """Interval of the lowest true change of all tested slices, whichever slice has it.

        If all simultaneous intervals hold, the lowest change lies between the lowest lower and the lowest upper end.
        """
        low, high = (np.where(self.tested, end, np.inf) for end in self.simultaneous)
        return float(np.nanmin(low)), float(np.nanmin(high))

    def name(self, place: int) -> str:
        """The class, or "column = level"."""
        return self.level[place] if self.column[place] == "class" else f"{self.column[place]} = {self.level[place]}"


def count(side: Comparison, slicings: Sequence[Slicing]) -> list[Counts]:
    """What the pairs of a side answer in each slice of each slicing, in one pass over the examples."""
    num = len(side.pairs)
    cells = [np.zeros((num, 4 * len(slicing.levels)), np.int64) for slicing in slicings]
    squares = [np.zeros(len(slicing.levels)) for slicing in slicings]
    for block in blocks(side):
        before, after = right_answers(side, block)
        cell = 2 * before + after
        total = (after - before).sum(axis=0, dtype=np.int64) if num > 1 else None
        for slicing, found, square in zip(slicings, cells, squares, strict=True):
            base = slicing.index[block].astype(np.int64)
            for k in range(num):
                found[k] += np.bincount(4 * base + cell[k], minlength=found.shape[1])
            if total is not None:
                square += np.bincount(base, weights=total**2, minlength=len(square))
    return [_counts(found.reshape(num, -1, 4), square) for found, square in zip(cells, squares, strict=True)]


def _counts(cells: NDArray[np.int64], squares: NDArray[np.float64]) -> Counts:
    lost, gained = cells[:, :, 2], cells[:, :, 1]
    own = squares if len(cells) > 1 else (lost + gained)[0].astype(np.float64)
    return Counts(cells[0].sum(axis=-1), lost + cells[:, :, 3], lost, gained, own)


def examine(slicings: Sequence[Slicing], counts: Sequence[Counts], least_examples: int) -> Slices:
    """Tests and intervals over all slices of all given slicings together; slices without examples are left out."""
    every = _joined(counts)
    kept = np.flatnonzero(every.size)
    found = every.at(kept)
    column = [slicing.column for slicing in slicings for _ in slicing.levels]
    level = [level for slicing in slicings for level in slicing.levels]
    tested = found.size >= least_examples
    net = (found.gained - found.lost).mean(axis=0) / found.size
    each, p = _inference(found, 0.95)
    # Bonferroni: slices of one column are independent, so that little is lost.
    ends = _inference(found, 1 - 0.05 / max(int(tested.sum()), 1))[0]
    low, high = (np.where(tested, end, np.nan) for end in ends)
    q = benjamini_hochberg(np.where(tested, p, np.nan))
    names = tuple(column[i] for i in kept), tuple(level[i] for i in kept)
    return Slices(*names, found, net, each, (low, high), p, q, tested)


def _joined(counts: Sequence[Counts]) -> Counts:
    return Counts(
        np.concatenate([c.size for c in counts]),
        np.concatenate([c.right_before for c in counts], axis=1),
        np.concatenate([c.lost for c in counts], axis=1),
        np.concatenate([c.gained for c in counts], axis=1),
        np.concatenate([c.example_squares for c in counts]),
    )


def _inference(counts: Counts, level: float) -> tuple[Span, NDArray[np.float64]]:
    """Interval and two-sided p of the change in each slice: over examples, or over pairs and examples."""
    lost, gained, size = counts.lost[0], counts.gained[0], counts.size
    low, high = (end.copy() for end in tango_interval(lost, gained, size, level=level))
    p = mcnemar_exact(lost, gained)
    several = np.flatnonzero(size >= 2)
    if counts.num_pairs == 1 or not len(several):
        return (low, high), p
    part = counts.at(several)
    squares = (part.lost + part.gained).sum(axis=0)
    found = two_way_mean(part.gained - part.lost, squares, part.example_squares, part.size)
    # Where all pairs do the same on all examples there is no spread to judge by: one pair stands for all.
    known = np.isfinite(found.degrees)
    ends = found.interval(level=level)
    low[several[known]], high[several[known]] = np.maximum(ends[0][known], -1), np.minimum(ends[1][known], 1)
    p[several[known]] = found.two_sided_p()[known]
    return (low, high), p
