"""Passes over a tile of counts that Numba compiles, if it is there: each visits a count once, while it is in a cache.

Results are the bits of the passes with torch: the order of operations is the same, and none are contracted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Found = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]
"""Places, examples and values."""


@dataclass(frozen=True)
class Passes:
    """What is compiled."""

    reaching: Callable[..., Found]
    """See `_reaching`."""
    offer: Callable[..., None]
    """See `_offer`."""
    count_bins: Callable[..., NDArray[np.int64]]
    """See `_count_bins`."""


@cache
def compiled() -> Passes | None:
    """The compiled passes; None where Numba is not installed."""
    try:
        import numba
    except ImportError:
        return None

    def compile_one(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(nogil=True, cache=True)(function)
        except RuntimeError:  # no folder can be written in which machine code could be kept
            return numba.njit(nogil=True)(function)

    return Passes(compile_one(_reaching), compile_one(_offer), compile_one(_count_bins))


def _reaching(
    counts: NDArray[np.float32],
    scales: NDArray[np.float32],
    total: NDArray[np.float32],
    row_bar: NDArray[np.float32],
    bar: NDArray[np.float32],
    sign: np.float32,
) -> Found:
    """Place, example and value of all sign * influence that reach both bars, one of each row and one of each column.

    `scales` are 1 / n1 and 1 / n0 of each row.
    """
    num_rows, num_columns = counts.shape
    words = np.zeros((num_columns + 7) // 8, np.uint64)
    hit = words.view(np.uint8)
    influence = np.empty(len(hit), np.float32)
    size = counts.size + 8
    place, example, value = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32)
    num = 0
    for i in range(num_rows):
        per_in, per_out, limit = scales[0, i], scales[1, i], row_bar[i]
        for j in range(num_columns):
            count = counts[i, j]
            found = sign * (count * per_in - (total[j] - count) * per_out)
            influence[j] = found
            hit[j] = (found >= bar[j]) & (found >= limit)
        for word in range(len(words)):
            if words[word] == 0:
                continue
            for j in range(8 * word, 8 * word + 8):  # what is no hit is overwritten: no branch to guess wrongly
                place[num], example[num], value[num] = i, j, influence[j]
                num += hit[j]
    return place[:num].copy(), example[:num].copy(), value[:num].copy()


def _offer(kept: NDArray[np.uint64], row: NDArray[np.int32], keys: NDArray[np.uint64]) -> None:
    """Put each key into its row of `kept`, which is sorted, largest first; the largest leaves.

    All of the row are visited, without a branch: quicker than a heap, whose branches cannot be foreseen.
    """
    for offered in range(len(keys)):
        one, key = kept[row[offered]], keys[offered]
        if key < one[0]:
            for place in range(len(one) - 1):
                one[place] = max(one[place + 1], min(one[place], key))
            one[-1] = min(one[-1], key)


def _count_bins(
    counts: NDArray[np.float32],
    scales: NDArray[np.float32],
    total: NDArray[np.float32],
    row_scale: NDArray[np.float32],
    shift: np.float32,
    length: int,
) -> NDArray[np.int64]:
    """Four parts of the numbers of entries by the whole part of z - `shift`, clipped to 0 to `length` - 1.

    Those without z are counted behind the others. `scales` are 1 / n1, 1 / n0 and the scale of z of each row;
    `row_scale` is that of each column, NaN where there is no z.
    """
    num_rows, num_columns = counts.shape
    found = np.zeros((4, length + 1), np.int64)  # neighbours that are alike do not wait for each other
    last = np.float32(length - 1)
    place = np.zeros((num_columns + 3) // 4 * 4, np.uint32)
    place[num_columns:] = length
    for i in range(num_rows):
        per_in, per_out, scale = scales[0, i], scales[1, i], scales[2, i]
        for j in range(num_columns):
            count = counts[i, j]
            z = (count * per_in - (total[j] - count) * per_out) * scale * row_scale[j] - shift
            clipped = np.float32(0) if z < 0 else (last if z > last else z)
            place[j] = np.uint32(length) if z != z else np.uint32(clipped)
        for j in range(0, len(place), 4):
            found[0, place[j]] += 1
            found[1, place[j + 1]] += 1
            found[2, place[j + 2]] += 1
            found[3, place[j + 3]] += 1
    return found
