"""What the reference differs from itself in when it is run again, and what compressed models differ in beyond that."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import blocks
from remnant.analyses.comparison import Comparison
from remnant.stats.agreement import MISMATCHES, kl_divergence, mismatches
from remnant.stats.equivalence import normal_quantile, tango_interval

KL = "kl"
_LOGITS = 2**22
"""Logits of one model held at a time."""


@dataclass(frozen=True)
class Sums:
    """Of the values a (compressed) and f (floor) of one measure over the examples."""

    num_examples: int = 0
    compressed: float = 0.0
    floor: float = 0.0
    squares: float = 0.0
    """Sum of (a - f)^2."""
    only_compressed: int = 0
    """Examples with a > f."""
    only_floor: int = 0
    """Examples with f > a."""

    def plus(self, compressed: NDArray[np.float64], floor: NDArray[np.float64]) -> "Sums":
        """With the examples of another block, each of shape (example,)."""
        difference = compressed - floor
        return Sums(
            self.num_examples + len(difference),
            self.compressed + float(compressed.sum()),
            self.floor + float(floor.sum()),
            self.squares + float(difference @ difference),
            self.only_compressed + int(np.count_nonzero(difference > 0)),
            self.only_floor + int(np.count_nonzero(difference < 0)),
        )

    @property
    def excess(self) -> float:
        """Mean of a - f."""
        return (self.compressed - self.floor) / self.num_examples

    def interval(self, *, flags: bool) -> tuple[float, float] | None:
        """Of the excess, over examples: score interval where a and f are 0 or 1, else normal. None for one example."""
        n = self.num_examples
        if flags:
            low, high = tango_interval(self.only_floor, self.only_compressed, n)
            return float(low), float(high)
        if n < 2:
            return None
        variance = max(self.squares - n * self.excess**2, 0.0) / (n * (n - 1))
        half = normal_quantile(0.95) * variance**0.5
        return self.excess - half, self.excess + half


@dataclass(frozen=True)
class Floor:
    """The reference against itself; measures are kinds of mismatch and "kl"."""

    side: Comparison
    counts: dict[str, NDArray[np.int64]]
    """Kind of mismatch to examples with it, shape (pair,)."""
    kl: NDArray[np.float64] | None
    """Mean KL divergence over the examples in nats, shape (pair,); None without logits."""
    kl_squares: float
    """Sum over examples of the square of their KL divergence, mean over pairs."""
    sums: dict[str, dict[str, Sums]] = field(default_factory=dict)
    """Label of each compressed side to measure to sums."""

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return self.side.first.shape[1]

    @property
    def deterministic(self) -> bool:
        """All answers were the same, and all probabilities where they are known."""
        return not self.counts["cie"].any() and (self.kl is None or not self.kl.any())


def measure(floor: Comparison, sides: Sequence[Comparison]) -> Floor:
    """One pass over the examples: the reference against its other runs, and each compressed side beside it."""
    kinds = MISMATCHES if floor.label is not None else MISMATCHES[:1]
    counts = {kind: np.zeros(len(floor.pairs), np.int64) for kind in kinds}
    kl = np.zeros(len(floor.pairs)) if floor.has_logits else None
    squares = 0.0
    measures = [*kinds, *([KL] if kl is not None else [])]
    sums = {side.scheme: {name: Sums() for name in measures} for side in sides}
    for block in _blocks(floor):
        flags = _flags(floor, block)
        for kind in kinds:
            counts[kind] += np.count_nonzero(flags[kind], axis=1)
        own = {kind: flags[kind].mean(axis=0) for kind in kinds}
        if kl is not None:
            divergence = _divergence(floor, block)
            kl += divergence.sum(axis=1)
            own[KL] = divergence.mean(axis=0)
            squares += float(own[KL] @ own[KL])
        for side in sides:
            other = {kind: found.mean(axis=0) for kind, found in _flags(side, block).items()}
            if kl is not None:
                other[KL] = _divergence(side, block).mean(axis=0)
            for name in measures:
                sums[side.scheme][name] = sums[side.scheme][name].plus(other[name], own[name])
    mean = None if kl is None else kl / floor.first.shape[1]
    return Floor(floor, counts, mean, squares, sums)


def _blocks(side: Comparison) -> list[slice]:
    """Blocks of examples that are small enough for their logits too."""
    size = max(1, _LOGITS // side.reference.sizes["class"]) if side.has_logits else None
    if size is None:
        return list(blocks(side))
    num = side.first.shape[1]
    return [slice(start, min(start + size, num)) for start in range(0, num, size)]


def _flags(side: Comparison, block: slice) -> dict[str, NDArray[np.bool_]]:
    """Kind of mismatch to flags of shape (pair, example)."""
    first, second = zip(*side.pairs, strict=True)
    label = None if side.label is None else side.label[block]
    return mismatches(side.first[list(first), block], side.second[list(second), block], label)


def _divergence(side: Comparison, block: slice) -> NDArray[np.float64]:
    """KL(reference || other) of shape (pair, example)."""
    one, two = side.reference["logits"], side.compressed["logits"]
    return np.stack([kl_divergence(one[j, block].values, two[k, block].values) for j, k in side.pairs])
