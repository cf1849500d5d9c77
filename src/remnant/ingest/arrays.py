"""Files of arrays: `.npy`, `.npz`. Nothing is unpickled, and headers are checked before arrays are read.

Every reader parses the header itself, so that a file that declares more than it holds, or more than the
limits allow, is refused before memory is set aside.
"""

import ast
import errno
import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from remnant.ingest.assemble import Request, assemble, wanted
from remnant.ingest.limits import Limits, hold, shown
from remnant.ingest.names import roles
from remnant.ingest.predictions import Predictions

MAGIC = b"\x93NUMPY"
NPY_HEADER = 2**16
"""Bytes of the header of one NumPy array: only structured arrays, which are not read, need more."""
CHUNK = 2**22

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    UnicodeError,
)
"""What zipfile raises on damaged archives, and on compression or encryption that it cannot undo."""


@dataclass(frozen=True)
class Declared:
    """An array that a header declares and that was not read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[], np.ndarray]
    fault: str = ""
    """Why it cannot be read."""

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of one array: scores if it has two axes, predicted classes if it has one."""
    with path.open("rb") as stream:
        shape, dtype, fortran = _npy_header(stream)
        size = math.prod(shape) * dtype.itemsize
        rest = os.fstat(stream.fileno()).st_size - stream.tell()
        if size != rest:
            raise ValueError(f"Expected {size:,} bytes of numbers, as its header says, but the file holds {rest:,}.")
        hold("The array has this many bytes:", size, request.limits, "memory")
        array = _read_into(stream, shape, dtype, fortran)
    name = "scores" if len(shape) == 2 else "prediction"
    return assemble({name: array}, wanted(roles([name], None, request.limits), [name]), request, source)


def read_npz(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of the named arrays of an archive that `numpy.savez` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return from_declared(_npz_arrays(archive, request.limits), None, request, source)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise ValueError(f"It is not an .npz file, or it is damaged: {error}.") from error


def from_declared(
    declared: dict[str, Declared], classes: list[str] | None, request: Request, source: dict[str, Any]
) -> Predictions:
    """Predictions out of declared arrays, of which only those that are needed are read.

    Raises
    ------
    ValueError
        If nothing can be used, or what is needed is too large or cannot be read.
    """
    if not declared:
        raise ValueError("Expected arrays, but the file has none.")
    found = wanted(roles(list(declared), request.names, request.limits), list(declared))
    known = [*found.single.values(), *found.per_class]
    rows = next((d.shape[0] for d in map(declared.__getitem__, known) if d.shape), 0)
    attributes = [
        name
        for name in found.other
        if declared[name].shape == (rows,) and declared[name].dtype.kind in "USbiuf" and not declared[name].fault
    ]
    load = [*known, *attributes]
    for name in load:
        if declared[name].fault:
            raise ValueError(f"Cannot read {shown(name)}: {declared[name].fault}")
    total = sum(declared[name].num_bytes for name in load)
    hold("The arrays have this many bytes:", total, request.limits, "memory")
    raw: dict[str, Any] = {name: declared[name].load() for name in load}
    if classes is not None:
        request = Request(request.scores, request.names, request.classes or classes, request.normalize, request.limits)
    return assemble(raw, found, request, source)


def _npz_arrays(archive: zipfile.ZipFile, limits: Limits) -> dict[str, Declared]:
    members = archive.infolist()
    hold("The arrays number", len(members), limits, "columns")
    declared: dict[str, Declared] = {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        if name in declared:
            raise ValueError(f"Expected every array once, but {shown(name)} comes twice.")
        try:
            with archive.open(member) as stream:
                shape, dtype, _ = _npy_header(stream)
                header = stream.tell()
        except ValueError as error:
            declared[name] = Declared((), np.dtype("V1"), lambda: np.empty(0), str(error))
            continue
        found = Declared(shape, dtype, _npz_loader(archive, member, limits))
        if header + found.num_bytes != member.file_size:
            raise ValueError(
                f"Expected {shown(name)} to have {header + found.num_bytes:,} bytes, as its header says, but the "
                f"archive declares {member.file_size:,}."
            )
        declared[name] = found
    return declared


def _npz_loader(archive: zipfile.ZipFile, member: zipfile.ZipInfo, limits: Limits) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        with archive.open(member) as stream:
            shape, dtype, fortran = _npy_header(stream)
            hold("The array has this many bytes:", math.prod(shape) * dtype.itemsize, limits, "memory")
            return _read_into(stream, shape, dtype, fortran)

    return load


def _npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, dtype and whether the first axis runs fastest, with the stream behind the header."""
    start = stream.read(8)
    if len(start) < 8 or start[:6] != MAGIC:
        raise ValueError("Expected an array as `numpy.save` writes it, but the file does not start like one.")
    width = {1: 2, 2: 4, 3: 4}.get(start[6])
    if width is None:
        raise ValueError(f"Expected version 1, 2 or 3 of NumPy's file format, but got {start[6]}.")
    length = int.from_bytes(stream.read(width), "little")
    if length > NPY_HEADER:
        raise ValueError(f"Expected a header of at most {NPY_HEADER} bytes, but it declares {length}.")
    try:
        header = ast.literal_eval(stream.read(length).decode("utf-8" if start[6] == 3 else "latin-1").strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise ValueError("Expected a header with `descr`, `fortran_order` and `shape`, but it is damaged.") from error
    sizes = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 2**48 for n in shape)
    if not sizes or len(shape) > 8 or not isinstance(fortran, bool):
        raise ValueError(f"Expected a shape of whole numbers and at most 8 axes, but got {shown(shape)}.")
    return shape, _dtype(descr), fortran


def _dtype(descr: Any) -> np.dtype:
    if isinstance(descr, str) and descr.lstrip("<>|=") == "O":
        raise ValueError(
            "Expected numbers or strings, but the array holds Python objects, which only pickle can read. "
            "Convert it with `.astype(str)` or `.astype('float32')` before saving."
        )
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?[biufSU][0-9]{1,7}", descr):
        raise ValueError(
            f"Expected an array of numbers or strings, but got the dtype {shown(descr)}. "
            "Save every field as an array of its own, and bfloat16 as float32."
        )
    try:
        return np.dtype(descr)
    except TypeError:
        raise ValueError(f"Expected an array of numbers or strings, but got the dtype {shown(descr)}.") from None


def _read_into(stream: IO[bytes], shape: tuple[int, ...], dtype: np.dtype, fortran: bool) -> np.ndarray:
    """The array, in the byte order of this machine."""
    data = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    view, position = memoryview(data), 0  # pyright: ignore[reportArgumentType]
    while position < len(data):
        count = stream.readinto(view[position : position + CHUNK])  # pyright: ignore[reportAttributeAccessIssue]
        if not count:
            raise ValueError(f"Expected {len(data):,} bytes of numbers, but the file ends after {position:,}.")
        position += count
    if stream.read(1):
        raise ValueError("Expected the file to end after the array, but there is more.")
    if dtype.itemsize == 0 or len(data) == 0:
        return np.zeros(shape, dtype)
    array = data.view(dtype)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return np.ascontiguousarray(array, dtype.newbyteorder("="))
