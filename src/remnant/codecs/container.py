"""Reads containers: data sets of images in one file, coded, with random access and a checksum for every stream."""

import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from remnant.codecs.codec import Codec, Progress, Shape, StreamError, chunk_size, in_threads
from remnant.codecs.container_format import (
    START_BYTES,
    WITHOUT_PREFIX,
    ContainerError,
    Header,
    header_length,
    pack_header,
    unpack_header,
)
from remnant.codecs.container_scan import Block, scan
from remnant.codecs.sizes import Size

__all__ = ["Container", "ContainerError", "DamagedExampleError", "open_container"]


class DamagedExampleError(ContainerError):
    """Examples whose bytes are not those that were written; `ids` names them."""

    def __init__(self, message: str, ids: Sequence[str]) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


@dataclass(frozen=True, eq=False)
class _Streams:
    """Where the streams of a file lie, and which examples they hold."""

    offset: np.ndarray
    length: np.ndarray
    shared: np.ndarray
    checksum: np.ndarray
    first: np.ndarray
    """(streams + 1,) first example of each stream, and the number of all examples."""


@dataclass(frozen=True, eq=False)
class Container:
    """The examples of a container, or of one of its splits. Images are decoded when they are asked for.

    Holds no open file; can be sent to other processes, and read by many threads at once.
    """

    path: Path
    codec: Codec
    image_shape: Shape
    classes: tuple[str, ...]
    labels: np.ndarray | None
    """(n,) int64 index of the true class."""
    ids: np.ndarray
    """(n,) names, unique within a split."""
    groups: dict[str, np.ndarray]
    """Attribute columns by name, each (n,)."""
    splits: np.ndarray
    """(n,) name of each example's split."""
    damage: tuple[str, ...]
    """What could not be read of the file; empty for a whole one."""
    prefix: bytes
    rows: np.ndarray
    """(n,) position of each example in the file."""
    streams: _Streams
    content: str
    """Hash of what the file holds but for attribute columns; of the images, of their checksums."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(number of images, height, width, channels)."""
        return (len(self), *self.image_shape)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits that change with images, their coding, ids, labels, classes or the choice of examples."""
        return hashlib.sha256(self.content.encode() + self.rows.astype("<i8").tobytes()).hexdigest()

    def __getitem__(self, index: int) -> np.ndarray:
        """The image at `index`, uint8 (height, width, channels)."""
        return self.batch([index], workers=1)[0]

    def split(self, name: str) -> "Container":
        """The examples of the split `name`.

        Raises
        ------
        ValueError
            If there are none, with the splits that there are.
        """
        chosen = np.flatnonzero(self.splits == name)
        if not len(chosen):
            raise ValueError(f"Expected `split` to be one of {np.unique(self.splits).tolist()}, but got {name!r}.")
        return self.take(chosen)

    def take(self, indices: Any) -> "Container":
        """The examples at `indices`, in that order."""
        indices = self._checked(indices)
        return replace(
            self,
            labels=None if self.labels is None else self.labels[indices],
            ids=self.ids[indices],
            groups={name: values[indices] for name, values in self.groups.items()},
            splits=self.splits[indices],
            rows=self.rows[indices],
        )

    def batch(self, indices: Any, *, workers: int | None = None, progress: Progress | None = None) -> np.ndarray:
        """The images at `indices`, uint8 (len(indices), height, width, channels).

        Raises
        ------
        IndexError
            If an index is not in [-n, n).
        DamagedExampleError
            With the ids of the examples whose checksum differs or that cannot be decoded. The others stay
            readable.
        """
        indices = self._checked(indices)
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        size = chunk_size(self.codec, self.image_shape)

        def part(start: int) -> None:
            rows = slice(start, start + size)
            self._decode(indices[rows], images[rows])

        for done, _ in in_threads(part, range(0, len(indices), size), workers):
            if progress is not None:
                progress(min(done * size, len(indices)), len(indices))
        return images

    def damaged(self) -> list[str]:
        """Ids of the examples whose bytes are not those that were written. Reads the whole file, decodes nothing."""
        found: list[str] = []
        for start in range(0, len(self), 4096):
            indices = np.arange(start, min(start + 4096, len(self)))
            streams, of_example = self._streams_of(indices)
            good = np.array([stream is not None for stream in self._read(streams)])
            found += self.ids[indices[~good[of_example]]].tolist()
        return found

    def size(self) -> Size:
        """The size of the file, which holds all splits."""
        return Size("container", self.path.stat().st_size, (int(self.streams.first[-1]), *self.image_shape))

    def _checked(self, indices: Any) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or (indices.size and indices.dtype.kind not in "iu"):
            raise IndexError(f"Expected `indices` to be whole numbers in one dimension, but got {indices.dtype}.")
        indices = indices.astype(np.int64)
        if indices.size and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"Expected `indices` in [0, {len(self)}), but got {indices.min()} to {indices.max()}.")
        return np.where(indices < 0, indices + len(self), indices)

    def _streams_of(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The streams that hold the examples at `indices`, and which of them holds each."""
        stream = np.searchsorted(self.streams.first, self.rows[indices], side="right") - 1
        return np.unique(stream, return_inverse=True)

    def _decode(self, indices: np.ndarray, images: np.ndarray) -> None:
        streams, of_example = self._streams_of(indices)
        whole = self._read(streams)
        first = self.streams.first
        slot = self.rows[indices] - first[streams][of_example]
        numbers = (first[streams + 1] - first[streams]).tolist()
        bad: dict[int, str] = {i: "their checksum differs" for i, stream in enumerate(whole) if stream is None}
        decoded = np.zeros((len(streams), self.codec.group, *self.image_shape), np.uint8)
        good = [i for i in range(len(streams)) if i not in bad]
        full = [i for i in good if numbers[i] == self.codec.group]
        for some in ([full] if full else []) + [[i] for i in good if numbers[i] != self.codec.group]:
            number = sum(numbers[i] for i in some)
            try:
                pixels = self.codec.decode_block([whole[i] or b"" for i in some], number, self.image_shape)
            except StreamError as error:
                bad[some[error.position]] = str(error)
                continue
            decoded[some, : numbers[some[0]]] = pixels.reshape(len(some), -1, *self.image_shape)
        if bad:
            ids = self.ids[indices[np.isin(of_example, list(bad))]].tolist()
            shown = ", ".join(map(repr, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
            raise DamagedExampleError(
                f"Examples of {self.path} are damaged: {shown} ({next(iter(bad.values()))}). Write the container anew, "
                "or leave them out: container.damaged() names all.",
                ids,
            )
        images[:] = decoded[of_example, slot]

    def _read(self, streams: np.ndarray) -> list[bytes | None]:
        """The bytes of each stream; None where the checksum differs."""
        found: list[bytes | None] = []
        index = self.streams
        with self.path.open("rb") as file:
            for i in streams.tolist():
                file.seek(int(index.offset[i]))
                stream = file.read(int(index.length[i]))
                stream = self.prefix + stream if index.shared[i] else stream
                found.append(stream if zlib.crc32(stream) == index.checksum[i] else None)
        return found


def open_container(path: str | Path, *, partial: bool = False) -> Container:
    """The container at `path`, with labels, ids and attributes in memory and images on disk.

    Parameters
    ----------
    path
        A file that `remnant.codecs.container_writer.write` wrote.
    partial
        Whether to read what can be read of a file that is cut off or damaged. What is missing is in
        `damage`.

    Raises
    ------
    ContainerError
        If the file is not a container, or is not whole and not `partial`.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            start = file.read(START_BYTES)
            length = header_length(start)
            if START_BYTES + length > size:
                raise ContainerError("it is cut off within its header")
            header = unpack_header(start, file.read(length))
        except ContainerError as error:
            raise ContainerError(f"Cannot read {path}: {str(error).removesuffix('.')}.") from error
        blocks, damage = scan(file, header, size)
    if damage and not partial:
        number = sum(len(block.table.ids) for block in blocks)
        raise ContainerError(
            f"{path} is not whole: {'; '.join(damage)}. {number} examples can be read: open it with partial=True."
        )
    if not blocks:
        raise ContainerError(f"Cannot read {path}: no example of it can be read.")
    return _assembled(path, header, blocks, tuple(damage))


def _assembled(path: Path, header: Header, blocks: list[Block], damage: tuple[str, ...]) -> Container:
    tables = [block.table for block in blocks]
    numbers = np.array([len(table.ids) for table in tables])
    starts = np.concatenate([[0], np.cumsum(numbers)])
    group = header.codec.group
    lengths = [(table.lengths & (WITHOUT_PREFIX - 1)).astype(np.int64) for table in tables]
    offsets = [block.streams_at + np.cumsum(part) - part for block, part in zip(blocks, lengths, strict=True)]
    first = [start + group * np.arange(len(part)) for start, part in zip(starts[:-1], lengths, strict=True)]
    flags = np.concatenate([table.lengths for table in tables])
    streams = _Streams(
        np.concatenate(offsets),
        np.concatenate(lengths),
        (flags & WITHOUT_PREFIX) != 0,
        np.concatenate([table.checksums for table in tables]),
        np.concatenate([*first, starts[-1:]]),
    )
    container = Container(
        path=path,
        codec=header.codec,
        image_shape=header.shape,
        classes=header.classes,
        labels=np.concatenate([t.labels for t in tables if t.labels is not None]) if header.has_labels else None,
        ids=np.array([name for table in tables for name in table.ids], np.str_),
        groups={name: np.concatenate([table.columns[name] for table in tables]) for name in header.columns},
        splits=np.repeat([table.split for table in tables], numbers),
        damage=damage,
        prefix=header.prefix,
        rows=np.arange(int(starts[-1])),
        streams=streams,
        content="",
    )
    return replace(container, content=_content(header, container))


def _content(header: Header, container: Container) -> str:
    digest = hashlib.sha256(pack_header(header))
    digest.update(container.streams.checksum.astype("<u4").tobytes())
    digest.update(container.streams.length.astype("<i8").tobytes())
    digest.update(b"" if container.labels is None else container.labels.astype("<i8").tobytes())
    digest.update("\0".join([*container.ids.tolist(), *container.splits.tolist()]).encode())
    return digest.hexdigest()
