"""Boolean matrices (trial, example) with 8 examples a byte: what a population knows of right and wrong, 1/32 as large.

2,000 trials, 1,281,167 training and 50,000 test examples: masks, train correctness and test correctness are 0.65 GB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 8192
"""Examples that are unpacked at a time; a multiple of 8."""


@dataclass(frozen=True)
class PackedBits:
    """A boolean matrix (trial, example) with 8 examples a byte."""

    bits: NDArray[np.uint8]
    """Shape (trial, ceil(num_examples / 8)), as `numpy.packbits(..., axis=1)` gives; may be memory-mapped."""
    num_examples: int
    """Number of columns."""

    def __post_init__(self) -> None:
        expected = (len(self.bits), -(-self.num_examples // 8))
        if self.bits.dtype != np.uint8 or self.bits.shape != expected:
            raise ValueError(
                f"Expected `bits` uint8 of shape {expected} for {self.num_examples} examples, but got "
                f"{self.bits.dtype} of shape {self.bits.shape}. Make them with `remnant.stats.packed_bits.pack`."
            )

    def __len__(self) -> int:
        """Number of trials."""
        return len(self.bits)

    def __and__(self, other: "PackedBits") -> "PackedBits":
        """Where both are set; the bits that fill the last byte do not matter."""
        return PackedBits(self.bits & other.bits, self.num_examples)

    def columns(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Zeros and ones of the examples from `start`, a multiple of 8, up to `stop`: shape (trial, stop - start)."""
        stop = min(stop, self.num_examples)
        return np.unpackbits(self.bits[:, start // 8 : -(-stop // 8)], axis=1, count=stop - start)

    def chosen(self, examples: NDArray[np.integer]) -> NDArray[np.bool_]:
        """The columns of some examples in their order, shape (trial, len(examples))."""
        byte, bit = np.divmod(np.asarray(examples, np.int64), 8)
        return (self.bits[:, byte] >> (7 - bit).astype(np.uint8) & 1).astype(bool)

    def totals(self) -> NDArray[np.int64]:
        """Number of trials in which each example is set."""
        found = np.empty(self.num_examples, np.int64)
        for start in range(0, self.num_examples, _COLUMNS):
            part = self.columns(start, start + _COLUMNS)
            found[start : start + part.shape[1]] = part.sum(axis=0, dtype=np.int32)
        return found

    def unpacked(self) -> NDArray[np.bool_]:
        """The whole matrix, shape (trial, example)."""
        return np.unpackbits(self.bits, axis=1, count=self.num_examples).view(bool)


def pack(matrix: NDArray[np.bool_]) -> PackedBits:
    """The boolean matrix (trial, example), packed."""
    if matrix.dtype != bool or matrix.ndim != 2:
        raise ValueError(
            f"Expected a boolean matrix (trial, example), but got {matrix.dtype} of shape {matrix.shape}. "
            "Compare outcomes with a limit first: real ones are for `remnant.stats.influence`."
        )
    return PackedBits(np.packbits(matrix, axis=1), matrix.shape[1])


def stack(shards: Sequence[PackedBits]) -> PackedBits:
    """The trials of all shards, one below the other; they must be of the same examples."""
    sizes = sorted({shard.num_examples for shard in shards})
    if len(sizes) != 1:
        raise ValueError(f"Expected shards of the same examples, but got {sizes} examples. Are they of one data set?")
    return PackedBits(np.concatenate([shard.bits for shard in shards]), sizes[0])
