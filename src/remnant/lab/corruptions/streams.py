"""Random numbers that depend on a name and an example's id alone, for many examples at once.

Each example has a SplitMix64 sequence of its own (Steele, Lea and Flood, 2014), which starts at a hash of its id and of
the name of what is drawn. Any number of any sequence is computed directly, so that results depend neither on which
other examples there are nor on their order, and all is integer arithmetic until the last step.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def fingerprints(ids: Iterable[object]) -> NDArray[np.uint64]:
    """64 bits of a hash of each id, shape (example,)."""
    return np.array([_hash(str(name)) for name in ids], np.uint64)


@dataclass(frozen=True)
class Draws:
    """The random numbers of some examples for one purpose."""

    fingerprints: NDArray[np.uint64]
    """Shape (example,)."""
    name: str
    """Of the purpose, such as "fog/3"."""

    def words(self, stream: str, count: int) -> NDArray[np.uint64]:
        """`count` times 64 random bits for each example, shape (example, count)."""
        start = _mixed(self.fingerprints ^ np.uint64(_hash(f"{self.name}/{stream}")))
        return splitmix64(start, count)

    def sixteenths(self, stream: str, count: int) -> NDArray[np.uint16]:
        """Random numbers in [0, 2**16), shape (example, count)."""
        words = self.words(stream, -(-count // 4)).astype("<u8", copy=False)
        return words.view("<u2")[:, :count]

    def uniform(self, stream: str, count: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Random numbers in [low, high), in steps of (high - low) / 2**53, shape (example, count)."""
        shares = (self.words(stream, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * shares

    def normal(self, stream: str, count: int) -> NDArray[np.float32]:
        """Standard normal numbers, shape (example, count).

        The quantiles of 65,536 equally likely cells: none lies beyond 4.33, and the standard deviation is 0.99999.
        Where they change 8-bit pixels, no test can tell them from others, and they are the same on every machine.
        """
        return normal_quantiles()[self.sixteenths(stream, count)]


def splitmix64(start: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """The first `count` outputs of SplitMix64 from each start, shape (..., count)."""
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    return _mixed(start[..., None] + steps)


def normal_quantiles() -> NDArray[np.float32]:
    """Middle quantiles of 65,536 equally likely cells of the standard normal distribution."""
    return ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64."""
    z = values ^ (values >> np.uint64(30))
    z *= _FIRST
    z ^= z >> np.uint64(27)
    z *= _SECOND
    z ^= z >> np.uint64(31)
    return z


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
