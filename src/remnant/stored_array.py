"""Texts as arrays, and arrays in a safetensors file that are read in parts, for files larger than memory together."""

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "U8": "|u1", "I8": "|i1", "U16": "<u2", "I16": "<i2"}
DTYPES |= {"U32": "<u4", "I32": "<i4", "U64": "<u8", "I64": "<i8", "BOOL": "|b1"}
"""Names of types in safetensors files to those of NumPy."""

_BYTES = 2**22
"""Read at a time for a checksum."""
_SPARSE = 16
"""If only one of so many entries is wanted, each is read on its own."""


@dataclass(frozen=True)
class StoredArray:
    """Where an array lies in a file."""

    files: AbstractFileSystem
    path: str
    start: int
    """Of its first byte in the file."""
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def num_bytes(self) -> int:
        """Size of the whole array."""
        return self.dtype.itemsize * math.prod(self.shape)

    def part(self, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop` of the first axis; read-only.

        Raises
        ------
        OSError
            If the file is gone or shorter than it was.
        """
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        data = _bytes(self.files, self.path, self.start + start * row, self.start + stop * row)
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:])

    def whole(self) -> np.ndarray:
        """All of it."""
        return self.part(0, self.shape[0])

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Some entries of the first axis. What lies between them is read too, unless they are few."""
        if not len(indices):
            return self.part(0, 0)
        low, high = int(indices.min()), int(indices.max()) + 1
        if len(indices) * _SPARSE > high - low:
            return self.part(low, high)[indices - low]
        found = np.empty((len(indices), *self.shape[1:]), self.dtype)
        row = self.dtype.itemsize * math.prod(self.shape[1:])
        with self.files.open(self.path, "rb") as stream:
            for place, index in enumerate(indices.tolist()):
                stream.seek(self.start + index * row)
                data = stream.read(row)
                found[place] = np.frombuffer(data, self.dtype).reshape(self.shape[1:])  # pyright: ignore
        return found


def located(files: AbstractFileSystem, path: str) -> dict[str, StoredArray]:
    """The arrays of a safetensors file by name.

    Raises
    ------
    ValueError
        If it is none, or has arrays of a type that NumPy does not know.
    """
    length = int.from_bytes(_bytes(files, path, 0, 8), "little")
    header = json.loads(bytes(_bytes(files, path, 8, 8 + length)))
    return {name: _array(files, path, 8 + length, entry) for name, entry in header.items() if name != "__metadata__"}


def _bytes(files: AbstractFileSystem, path: str, start: int, stop: int) -> bytes | memoryview:
    found = (
        _mapped(path, start, stop)
        if isinstance(files, LocalFileSystem)
        else files.cat_file(path, start=start, end=stop)
    )
    if not isinstance(found, bytes | memoryview) or len(found) != stop - start:
        raise OSError(
            f"Expected {stop - start} bytes of {path} from byte {start}, but got {len(found)}: it was changed."
        )
    return found


def _mapped(path: str, start: int, stop: int) -> memoryview:
    """A part of a file on a disk as the system holds it in memory, without a copy; as much of it as there is."""
    with open(path, "rb") as stream:
        stop = min(stop, os.fstat(stream.fileno()).st_size)
        if stop <= start:
            return memoryview(b"")
        offset = start - start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(stream.fileno(), stop - offset, offset=offset, access=mmap.ACCESS_READ)
    return memoryview(mapped)[start - offset :]


def _array(files: AbstractFileSystem, path: str, start: int, entry: dict[str, Any]) -> StoredArray:
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"Expected arrays of {sorted(DTYPES)}, but got {entry['dtype']!r}.")
    return StoredArray(
        files, path, start + entry["data_offsets"][0], tuple(entry["shape"]), np.dtype(DTYPES[entry["dtype"]])
    )


def fault(files: AbstractFileSystem, path: str, num_bytes: int, sha256: str) -> str:
    """What is wrong with a file, as the end of a sentence; "" if it is what was written. Holds little of it at a time.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if (size := files.size(path)) != num_bytes:
        return f"has {size} bytes where {num_bytes} were written"
    digest = hashlib.sha256()
    for part in _in_order(files, path, num_bytes):
        digest.update(part)
    return "" if digest.hexdigest() == sha256 else "was changed after it was written (its checksum differs)"


def _in_order(files: AbstractFileSystem, path: str, size: int) -> Iterator[Any]:
    """All bytes of a file, a part at a time."""
    if isinstance(files, LocalFileSystem):
        yield from (_mapped(path, start, start + _BYTES) for start in range(0, size, _BYTES))
        return
    with files.open(path, "rb", block_size=_BYTES) as stream:
        while part := stream.read(_BYTES):
            yield part


def pack_text(values: Iterable[str]) -> np.ndarray:
    """Strings as one array of bytes, for safetensors. They must not contain the zero character."""
    return np.frombuffer("\0".join(values).encode(), np.uint8)


def unpack_text(packed: np.ndarray) -> list[str]:
    """The inverse of `pack_text`."""
    return packed.tobytes().decode().split("\0")
