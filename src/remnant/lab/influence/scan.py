"""One pass over the influence matrix: counts tile by tile, and reducers that see each tile once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import torch

from remnant.engine import num_cores
from remnant.lab.influence.passes import compiled as compiled_passes
from remnant.lab.influence.products import backend as backend_of
from remnant.lab.influence.tiles import COLUMNS, ROWS, Block, Examples, Tile, block_of, examples_of
from remnant.stats.influence_counts import check_packed
from remnant.stats.packed_bits import PackedBits

WORTH_COMPILING = 2**26
"""Pairs from which the time saved is more than that of importing Numba, 0.6 s."""

Progress = Callable[[int, int], None]
"""Called with the number of finished and of all blocks of training examples."""


class Reducer(Protocol):
    """What a scan keeps of the matrix. Several threads call it at once, each with tiles of other training examples.

    The result must not depend on the order in which the tiles come.
    """

    def take(self, tile: Tile) -> None:
        """Keep what matters of a tile."""
        ...

    def close(self, block: Block) -> None:
        """No more tiles of these training examples will come."""
        ...

    def result(self) -> Any:
        """What was kept."""
        ...


def scan(
    correct: PackedBits,
    included: PackedBits,
    reducers: Mapping[str, Reducer],
    *,
    backend: str | None = None,
    threads: int | None = None,
    compiled: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The result of each reducer after one pass over the influence of all training on all test examples.

    Influences are those of `remnant.stats.influence_tiles.tiles`, bit for bit, with every backend, any number of
    threads, and with or without Numba. Training examples in all or none of the subsets have none. Memory: the packed
    bits, one byte per trial and test example, what the reducers keep, and about 30 MB for each thread.

    Parameters
    ----------
    correct
        Whether each trial was right on each test example.
    included
        Whether each training example was in the subset of each trial.
    backend
        "onednn", "int8" or "float32"; default the fastest that works here.
    threads
        Default one per core.
    compiled
        Use passes that Numba compiles, if it is installed (`remnant[fast]`); they are compiled once, at the first scan.
        Default where there are so many pairs that they pay for the import of Numba.

    Raises
    ------
    ValueError
        If the two do not have the same number of trials (2 or more), or the backend is unknown or does not work.
    """
    check_packed(correct, included)
    how = backend_of(backend)
    num_threads = num_cores() if threads is None else threads
    pairs = correct.num_examples * included.num_examples
    passes = compiled_passes() if (pairs >= WORTH_COMPILING if compiled is None else compiled) else None
    starts = range(0, included.num_examples, COLUMNS)

    def row(start: int) -> Examples:
        with torch.inference_mode():
            return examples_of(correct, start, how)

    def column(start: int) -> None:
        with torch.inference_mode():
            block = block_of(included, start, how)
            if block is None:
                return
            for some in examples:
                tile = Tile(how.multiply(block.members, some.right, len(some)), block, some, passes)
                for reducer in reducers.values():
                    reducer.take(tile)
            for reducer in reducers.values():
                reducer.close(block)

    examples = list(_each(row, range(0, correct.num_examples, ROWS), num_threads))
    for done, _ in enumerate(_each(column, starts, num_threads), 1):
        if progress:
            progress(done, len(starts))
    return {name: reducer.result() for name, reducer in reducers.items()}


def _each(function: Callable[[int], Any], starts: Sequence[int], num_threads: int) -> Iterator[Any]:
    """The result of each start, on threads of one core each."""
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, starts)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
