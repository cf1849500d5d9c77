"""Right and wrong answers of a compressed model and its reference on the same examples, block by block."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, comparisons
from remnant.finding import NotApplicable

BLOCK = 2**18
"""Examples held at a time."""


def compressed_sides(population: xr.Dataset, reference: str | None, *, least: int = 1) -> list[Comparison]:
    """The reference against each compressed side. A second run of the reference (`attrs["floor"]`) is none.

    Raises
    ------
    NotApplicable
        If there is no reference, or fewer than `least` compressed sides.
    SchemaError
        If there are several reference models, and their seeds are not those of the compressed ones.
    """
    floor = population.attrs.get("floor")
    every = comparisons(population, reference, pairs=True)
    found = [side for side in every if side.scheme != floor]
    if len(found) < least:
        raise NotApplicable(
            f"Expected at least {least} compressed side{'s'[: least > 1]} beside {every[0].reference_label!r}, but the "
            f"population has {len(found)}."
        )
    return found


def outcome_blocks(sides: Sequence[Comparison]) -> Iterator[NDArray[np.int8]]:
    """Blocks of examples with what compression did to each answer, shape (pair, example).

    -1: the right answer of the reference is lost; 1: a right answer is gained; 0: both right or both wrong. Pairs of
    the first side come first.
    """
    for block in blocks(sides[0]):
        parts = [right_answers(side, block) for side in sides]
        yield np.concatenate([after - before for before, after in parts])


def right_answers(side: Comparison, block: slice) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """1 where the reference, the compressed model of each pair is right in a block, each of shape (pair, example)."""
    truth = side.reference["label"].values[block]
    before = (side.first[:, block] == truth).view(np.int8)
    after = (side.second[:, block] == truth).view(np.int8)
    first, second = zip(*side.pairs, strict=True)
    return before[list(first)], after[list(second)]


def blocks(side: Comparison) -> Iterator[slice]:
    """Slices of at most `BLOCK` examples."""
    num = side.first.shape[1]
    return (slice(start, min(start + BLOCK, num)) for start in range(0, num, BLOCK))


def reference_right(side: Comparison) -> NDArray[np.int64]:
    """Examples on which each reference model is right, shape (reference model,)."""
    label = side.reference["label"].values
    total = np.zeros(side.num_first, np.int64)
    for block in blocks(side):
        total += np.count_nonzero(side.first[:, block] == label[block], axis=1)
    return total


def pair_names(side: Comparison) -> list[str]:
    """The trial of the compressed model of each pair."""
    return [str(side.compressed["trial"].values[j]) for _, j in side.pairs]


def points(value: float) -> str:
    """A difference of shares in words, such as "1 point" or "0.5 points"."""
    shown = f"{100 * value:.4g}"
    return f"{shown} point{'' if shown == '1' else 's'}"
