"""Bootstrap over examples that several models have answered, through counts of what happens together.

Resampling n examples is drawing from the distinct columns-by-example patterns with their frequencies. The work grows
with the number of patterns, not of examples.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

MOST_PATTERNS = 4096
"""Patterns that are drawn one by one; the sum over rarer ones is drawn from its normal limit."""

_PER_WORD = 32
"""Columns of two bits in a 64-bit word."""
_DRAWS = 2**21
"""Counts held at a time: 16 MiB."""


@dataclass(frozen=True)
class Patterns:
    """The distinct outcomes (-1, 0 or 1 in each column) of examples, and how many examples have each."""

    values: NDArray[np.int8]
    """Shape (pattern, column); the pattern of zeros is left out."""
    counts: NDArray[np.int64]
    """Shape (pattern,)."""
    num_examples: int
    """Number of all examples, those with zeros in all columns too."""

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean over examples of each column."""
        return self.counts @ self.values.astype(np.float64) / self.num_examples

    def count(self, value: int) -> NDArray[np.int64]:
        """Examples with that value (-1 or 1) in each column."""
        return self.counts @ (self.values == value).astype(np.int64)

    def mapped(self, matrix: NDArray[np.floating]) -> NDArray[np.float64]:
        """`values` times a matrix of shape (column, new column): the sums of each pattern."""
        return self.values.astype(np.float64) @ matrix


def patterns(blocks: Iterable[NDArray[np.int8]]) -> Patterns:
    """The patterns of blocks of examples, each of shape (column, example) with values -1, 0 and 1."""
    keys: list[NDArray[np.uint64]] = []
    counts: list[NDArray[np.int64]] = []
    num_examples = num_columns = 0
    for block in blocks:
        num_columns = len(block)
        num_examples += block.shape[1]
        found, times = _distinct(_keys(block))
        keys.append(found)
        counts.append(times)
    if not num_examples:
        raise ValueError("Expected at least one example to resample, but got none.")
    every, inverse = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    totals = np.bincount(inverse.ravel(), weights=np.concatenate(counts), minlength=len(every)).astype(np.int64)
    return Patterns(_values(every, num_columns), totals, num_examples)


def resampled_means(
    found: Patterns, rng: np.random.Generator, *, num: int = 2000, most: int = MOST_PATTERNS
) -> NDArray[np.float64]:
    """Means over examples of each column in `num` bootstrap samples, shape (num, column).

    Columns share the resampled examples. Exact in law for up to `most` distinct patterns; of more, the rarest are
    drawn together: how many there are exactly, their sum from the normal distribution that it tends to.
    """
    order = np.argsort(-found.counts, kind="stable")
    kept, rare = order[:most], order[most:]
    values = found.values[kept].astype(np.float64)
    num_rare = found.counts[rare].sum()
    cells = np.concatenate([found.counts[kept], [num_rare]])
    shares = np.append(cells, found.num_examples - cells.sum()) / found.num_examples
    centre, spread = _moments(found.values[rare].astype(np.float64), found.counts[rare])
    sums = np.empty((num, found.values.shape[1]))
    size = max(1, _DRAWS // len(shares))
    for start in range(0, num, size):
        drawn = rng.multinomial(found.num_examples, shares, size=min(size, num - start))
        block = drawn[:, :-2] @ values
        if num_rare:
            times = drawn[:, -2, None]
            block += times * centre + np.sqrt(times) * (rng.standard_normal(block.shape) @ spread)
        sums[start : start + size] = block
    return sums / found.num_examples


def percentile_interval(resampled: NDArray[np.floating], *, level: float = 0.95) -> tuple[float, float]:
    """The middle of the resampled values of a statistic.

    References
    ----------
    efron1987better
    """
    low, high = np.quantile(resampled, ((1 - level) / 2, (1 + level) / 2))
    return float(low), float(high)


def bca_interval(
    resampled: NDArray[np.floating], values: NDArray[np.floating], counts: NDArray[np.integer], *, level: float = 0.95
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval of a mean of values that come with counts.

    Parameters
    ----------
    resampled
        Means of bootstrap samples.
    values, counts
        The distinct values and how many examples have each, zeros too.

    References
    ----------
    efron1987better
    """
    num = len(resampled)
    mean = float(values @ counts / counts.sum())
    deviation = values - mean
    second, third = float(deviation**2 @ counts), float(deviation**3 @ counts)
    acceleration = third / (6 * second**1.5) if second > 0 else 0.0
    slack = 1e-12  # Sums of the same values in another order are the same mean.
    below = np.count_nonzero(resampled < mean - slack) + np.count_nonzero(np.abs(resampled - mean) <= slack) / 2
    bias = float(special.ndtri(np.clip(below / num, 0.5 / num, 1 - 0.5 / num)))
    z = bias + special.ndtri(np.array([(1 - level) / 2, (1 + level) / 2]))
    low, high = np.quantile(resampled, special.ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def _keys(block: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Words of two bits for each column, shape (example, word), of the examples that have not only zeros."""
    num_columns, size = block.shape
    words = np.zeros((size, -(-num_columns // _PER_WORD)), np.uint64)
    for column, outcome in enumerate(block):
        # -1, 0, 1 as the two bits 11, 00, 01.
        bits = (outcome.view(np.uint8) & np.uint8(3)).astype(np.uint64)
        words[:, column // _PER_WORD] |= bits << np.uint64(2 * (column % _PER_WORD))
    return words[words.any(axis=1)]


def _distinct(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    if words.shape[1] == 1:
        found, counts = np.unique(words[:, 0], return_counts=True)
        return found[:, None], counts
    found, counts = np.unique(words, axis=0, return_counts=True)
    return found, counts


def _values(words: NDArray[np.uint64], num_columns: int) -> NDArray[np.int8]:
    values = np.empty((len(words), num_columns), np.int8)
    for column in range(num_columns):
        bits = (words[:, column // _PER_WORD] >> np.uint64(2 * (column % _PER_WORD))) & np.uint64(3)
        values[:, column] = np.where(bits == 3, -1, bits.astype(np.int8))
    return values


def _moments(values: NDArray[np.float64], counts: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Mean of one draw among the rare patterns, and a square root of its covariance."""
    num_columns = values.shape[1]
    if not len(counts):
        return np.zeros(num_columns), np.zeros((num_columns, num_columns))
    share = counts / counts.sum()
    mean = share @ values
    centred = values - mean
    variances, directions = np.linalg.eigh((centred * share[:, None]).T @ centred)
    return mean, (directions * np.sqrt(np.maximum(variances, 0))).T
