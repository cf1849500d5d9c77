"""Writes containers, block by block: nothing but one block is held in memory."""

import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from remnant.codecs.codec import Codec, Progress, check_images, image_shape
from remnant.codecs.container_format import (
    COLUMN_TYPES,
    WITHOUT_PREFIX,
    Header,
    Table,
    check_columns,
    pack_block,
    pack_end,
    pack_header,
)

BLOCK_EXAMPLES = 1024
BLOCK_BYTES = 2**24
"""A block holds at most so many examples, and about so many bytes of pixels."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Images with what is known about them."""

    images: np.ndarray
    """uint8 (n, height, width, channels)."""
    labels: np.ndarray | None = None
    """Index of the true class."""
    ids: np.ndarray | None = None
    """Unique names; by default the split and the position: "train-00000"."""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Attribute columns by name: whole numbers, floats, truth values or text."""
    split: str = ""
    """Name of the half of the data set that they belong to: "train", "test"."""


def write(
    path: str | Path,
    parts: Iterable[Examples],
    codec: Codec,
    *,
    classes: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """A container of all `parts` at `path`, which appears when it is complete.

    Parts are written as they come and not kept; consecutive parts of a split share blocks. `progress` is
    called with the numbers of images written and received so far.

    Raises
    ------
    ValueError
        For images that the codec cannot store; shapes, labels, attributes or ids that do not fit
        together; no example.
    """
    with create(path, codec, classes=classes, workers=workers, progress=progress) as writer:
        for part in parts:
            writer.append(part)


@contextmanager
def create(
    path: str | Path,
    codec: Codec,
    *,
    classes: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator["Writer"]:
    """A writer to append examples to. The file appears at `path` when the block is left without an error."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            writer = Writer(file, codec, tuple(map(str, classes)), workers, progress)
            yield writer
            writer.finish()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


class Writer:
    """Appends examples to an open file; `create` makes one."""

    def __init__(
        self,
        file: BinaryIO,
        codec: Codec,
        classes: tuple[str, ...],
        workers: int | None,
        progress: Progress | None,
    ) -> None:
        self.examples = 0
        """Number of examples appended."""
        self._file, self._codec, self._classes = file, codec, classes
        self._workers, self._progress = workers, progress
        self._header: Header | None = None
        self._pending: list[_Rows] = []
        self._ids: set[str] = set()
        self._by_split: dict[str, int] = {}
        self._written = self._blocks = 0

    def append(self, examples: Examples) -> None:
        """The examples after all that came before.

        Raises
        ------
        ValueError
            If they are not valid, or do not fit to those before. Nothing is appended then.
        """
        images = check_images(examples.images)
        start = self._by_split.get(examples.split, 0)
        rows = _rows(examples, images, self._classes, start)
        if self._header is None:
            self._codec.check(image_shape(images))
            columns = {name: _kind(values) for name, values in rows.columns.items()}
            check_columns(columns)
            self._header = Header(self._codec, image_shape(images), self._classes, rows.labels is not None, columns)
        rows = rows.fitted(self._header)
        self._remember(rows.ids, examples.split)
        self._by_split[examples.split] = start + len(images)
        if self._pending and self._pending[0].split != rows.split:
            self._flush(whole=True)
        self._pending.append(rows)
        self.examples += len(images)
        self._flush()

    def finish(self) -> None:
        """Write what is pending, and the end mark."""
        if self._header is None:
            raise ValueError("Expected at least 1 example, but got none.")
        self._flush(whole=True)
        self._file.write(pack_end(self._written, self._blocks))

    def _remember(self, ids: list[str], split: str) -> None:
        keys = [f"{split}\0{name}" for name in ids]
        twice = [name for name, key in zip(ids, keys, strict=True) if key in self._ids]
        if twice or len(set(keys)) != len(keys):
            twice = twice or [name for name, count in Counter(ids).items() if count > 1]
            raise ValueError(f"Expected unique ids in the split {split!r}, but {twice[0]!r} comes more than once.")
        self._ids.update(keys)

    def _flush(self, *, whole: bool = False) -> None:
        """Write the full blocks that are pending; with `whole`, the rest too."""
        if not self._pending:
            return
        size = _block_size(self._codec, self._pending[0].images[0].size)
        number = sum(len(rows.ids) for rows in self._pending)
        if number < size and not whole:
            return
        rows = _joined(self._pending)
        stop = number if whole else number - number % size
        for start in range(0, stop, size):
            self._write_block(rows.part(start, min(start + size, stop)))
        self._pending = [rows.part(stop, number)] if stop < number else []

    def _write_block(self, rows: "_Rows") -> None:
        streams = list(self._codec.encode(rows.images, workers=self._workers).streams)
        checksums = np.array([zlib.crc32(stream) for stream in streams], np.uint32)
        assert self._header is not None
        if self._blocks == 0:
            self._header = replace(self._header, prefix=_common_start(self._codec, streams))
            self._file.write(pack_header(self._header))
        prefix = self._header.prefix
        shared = np.array([bool(prefix) and stream.startswith(prefix) for stream in streams])
        kept = [stream[len(prefix) :] if cut else stream for stream, cut in zip(streams, shared, strict=True)]
        if max(map(len, kept)) >= WITHOUT_PREFIX:
            raise ValueError(f"Expected streams below {WITHOUT_PREFIX} bytes. Store fewer images in a stream.")
        lengths = np.array([len(stream) for stream in kept], np.uint32) | np.where(shared, WITHOUT_PREFIX, 0)
        table = Table(rows.split, lengths, checksums, rows.ids, rows.labels, rows.columns)
        self._file.write(pack_block(table, kept))
        self._file.write(b"".join(kept))
        self._written += len(rows.ids)
        self._blocks += 1
        if self._progress is not None:
            self._progress(self._written, self.examples)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Checked examples of one split."""

    images: np.ndarray
    labels: np.ndarray | None
    ids: list[str]
    columns: dict[str, np.ndarray]
    split: str

    def part(self, start: int, stop: int) -> "_Rows":
        rows = slice(start, stop)
        labels = None if self.labels is None else self.labels[rows]
        columns = {name: values[rows] for name, values in self.columns.items()}
        return _Rows(self.images[rows], labels, self.ids[rows], columns, self.split)

    def fitted(self, header: Header) -> "_Rows":
        """The same rows with the columns in the header's order, if they have what the header says."""
        if image_shape(self.images) != header.shape:
            raise ValueError(
                f"Expected images of the shape {header.shape} like those before, but got {image_shape(self.images)}."
            )
        if (self.labels is not None) != header.has_labels:
            raise ValueError("Expected `labels` for all examples or for none, but only some have them.")
        kinds = {name: _kind(values) for name, values in self.columns.items()}
        if kinds != header.columns:
            raise ValueError(f"Expected the attribute columns {header.columns} like before, but got {kinds}.")
        return replace(self, columns={name: self.columns[name] for name in header.columns})


def _rows(examples: Examples, images: np.ndarray, classes: tuple[str, ...], start: int) -> _Rows:
    """The examples with NumPy columns of the types that are stored."""
    number, split = len(images), str(examples.split)
    labels = None if examples.labels is None else np.asarray(examples.labels)
    if labels is not None and (labels.shape != (number,) or labels.dtype.kind not in "iu"):
        raise ValueError(f"Expected `labels` to be {number} class indices, got {labels.dtype} {labels.shape}.")
    if labels is not None and (labels.min() < 0 or labels.max() >= (len(classes) or 2**31)):
        wrong = int(labels[(labels < 0) | (labels >= (len(classes) or 2**31))][0])
        raise ValueError(f"Expected `labels` in [0, {len(classes) or 2**31}), but got {wrong}.")
    if examples.ids is None:
        ids: list[str] = [f"{split or 'example'}-{start + i:05d}" for i in range(number)]
    else:
        ids = np.asarray(examples.ids).astype(np.str_).tolist()
    columns = {str(name): _column(str(name), values, number) for name, values in examples.groups.items()}
    if len(ids) != number:
        raise ValueError(f"Expected `ids` to name each of the {number} images, but got {len(ids)}.")
    for name, texts in {"ids": ids, "split": [split], **_texts(columns)}.items():
        if any("\0" in text for text in texts):
            raise ValueError(f"Expected `{name}` without the zero character, but got some with it.")
    return _Rows(images, labels, ids, columns, split)


def _column(name: str, values: Any, number: int) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (number,):
        raise ValueError(f"Expected one value of {name!r} for each of the {number} images, but got {values.shape}.")
    kind = values.dtype.kind
    if kind == "u" and values.dtype.itemsize == 8 and values.max() >= 2**63:
        raise ValueError(f"Expected whole numbers below 2**63 in {name!r}, but got {values.max()}.")
    return values.astype({"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}.get(kind, np.str_))


def _texts(columns: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    return {name: values.tolist() for name, values in columns.items() if values.dtype.kind == "U"}


def _kind(values: np.ndarray) -> str:
    return values.dtype.name if values.dtype.name in COLUMN_TYPES else "text"


def _joined(parts: list[_Rows]) -> _Rows:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    labels = (
        None if first.labels is None else np.concatenate([rows.labels for rows in parts if rows.labels is not None])
    )
    columns = {name: np.concatenate([rows.columns[name] for rows in parts]) for name in first.columns}
    ids = [name for rows in parts for name in rows.ids]
    return _Rows(np.concatenate([rows.images for rows in parts]), labels, ids, columns, first.split)


def _block_size(codec: Codec, image_bytes: int) -> int:
    number = min(BLOCK_EXAMPLES, max(1, BLOCK_BYTES // image_bytes))
    return max(codec.group, number - number % codec.group)


def _common_start(codec: Codec, streams: list[bytes]) -> bytes:
    """What all streams begin with, no longer than their header."""
    longest = min(codec.header_length(stream) for stream in streams)
    # What the first and the last in sorted order share, all between them share.
    first, last = min(streams), max(streams)
    differ = (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: min(longest, next(differ, len(first)))]
