"""The whole matrix of influences in a file that can be memory-mapped, for those who want it."""

import shutil
from pathlib import Path
from threading import Lock

import numpy as np

from remnant.lab.influence.tiles import Block, Tile


def matrix_bytes(num_examples: int, num_train: int) -> int:
    """Bytes of the whole matrix in float32."""
    return 4 * num_examples * num_train


class WholeMatrix:
    """Writes all influences to a file, float32 (example, train_example); NaN where a training example has none.

    Open it with `numpy.load(path, mmap_mode="r")`.

    Raises
    ------
    ValueError
        If `path` does not end in .npy.
    OSError
        If it exists, or the disk has no room for the matrix: nothing is written then.
    """

    def __init__(self, path: str | Path, num_examples: int, num_train: int) -> None:
        self.path = Path(path)
        self.size = matrix_bytes(num_examples, num_train)
        if self.path.suffix != ".npy":
            raise ValueError(f"Expected `path` of the matrix to end in .npy, but got {self.path.name!r}.")
        if self.path.exists():
            raise FileExistsError(f"Expected a new file for the matrix, but {str(self.path)!r} exists. Remove it.")
        free = shutil.disk_usage(self.path.absolute().parent).free
        if free < self.size:
            raise OSError(
                f"Expected room for a matrix of {_gibibytes(self.size)} ({num_examples} x {num_train} in float32) in "
                f"{str(self.path.parent)!r}, but {_gibibytes(free)} are free. Ask for the strongest or for pairs."
            )
        self._num_train = num_train
        self._lock = Lock()
        # Under its own name only once it is whole: zeros of an interrupted scan would pass for influences.
        self._partial = self.path.with_name(self.path.name + ".partial")
        with open(self._partial, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_examples, num_train)}
            np.lib.format.write_array_header_1_0(file, header)
            self._offset = file.tell()
            file.truncate(self._offset + self.size)

    def take(self, tile: Tile) -> None:
        block, examples = tile.block, tile.examples
        found = np.full((len(examples), block.width), np.nan, "<f4")
        found[:, block.origin[: block.num] - block.start] = tile.part(slice(0, block.num)).numpy().T
        with self._lock, open(self._partial, "r+b", buffering=0) as file:
            for row, values in enumerate(found, examples.start):
                file.seek(self._offset + 4 * (row * self._num_train + block.start))
                file.write(values.tobytes())

    def close(self, block: Block) -> None:
        """Nothing to do."""

    def result(self) -> Path:
        """Where the matrix is, after its last block."""
        self._partial.replace(self.path)
        return self.path


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
