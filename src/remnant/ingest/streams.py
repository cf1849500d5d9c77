"""The bytes of text files, compressed or not, within limits."""

import gzip
import io
import os
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from remnant.ingest.limits import MEBIBYTE, Limits, hold

LITTLE = 64 * MEBIBYTE
"""A text that may expand from however small a file."""


class Bounded(io.RawIOBase):
    """A readable stream that refuses to give more bytes than a limit: what a compressed file expands to."""

    def __init__(self, stream: IO[bytes], limits: Limits, size: int) -> None:
        self._stream, self._limits, self._size, self._given = stream, limits, size, 0

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if size >= 0 else self._limits.memory + 1)
        self._count(len(data))
        return data

    def readline(self, size: int | None = -1) -> bytes:
        line = self._stream.readline(self._limits.line + 1)
        hold("A line has at least this many bytes:", len(line), self._limits, "line")
        self._count(len(line))
        return line

    def _count(self, number: int) -> None:
        self._given += number
        hold("The file as text has at least this many bytes:", self._given, self._limits, "memory")
        if self._given > LITTLE:
            times = self._given // max(1, self._size)
            hold("The text is larger than the file so many times:", times, self._limits, "expansion")


def open_text(path: Path, limits: Limits) -> Bounded:
    """The bytes of a text file, decompressed if its name ends in .gz."""
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    return Bounded(opener(path, "rb"), limits, path.stat().st_size)


def open_native(path: Path, limits: Limits) -> pa.NativeFile:
    """The bytes of `open_text` for Arrow, whose threads then never call Python.

    Such a thread that is still reading ahead when the process ends would end it with SIGABRT, or never
    (apache/arrow issues 34314 and 43741).
    """
    if path.suffix.lower() != ".gz":
        hold("The file as text has at least this many bytes:", path.stat().st_size, limits, "memory")
        return pa.OSFile(os.fsencode(path))
    text = pa.BufferOutputStream()
    with open_text(path, limits) as stream:
        while block := stream.read(MEBIBYTE):
            text.write(block)
    return pa.BufferReader(text.getvalue())
