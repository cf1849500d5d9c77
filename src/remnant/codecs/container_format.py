"""The bytes of a container: header, blocks, end mark; built and checked, without pixels.

    file   = MAGIC, u32 length, u32 crc, header as JSON; blocks; end mark
    block  = "BLCK", u32 examples, u32 streams, u32 length of the table, u64 length of the streams,
             u32 crc of the table, u32 crc of the 28 bytes before; the table (zlib); the streams
    table  = name of the split, length and crc of every stream, labels, ids, attribute columns
    end    = "DONE", u64 examples, u32 blocks, u32 crc of the 16 bytes before

All numbers are little-endian, all checksums CRC-32: they find damage, not forgery.
"""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remnant.codecs import from_dict, to_dict
from remnant.codecs.codec import Codec, Shape

FORMAT = 1
MAGIC = b"remnant\x01"
BLOCK, END = b"BLCK", b"DONE"
START_BYTES, BLOCK_BYTES, END_BYTES = 16, 32, 20

LARGEST_HEADER = 2**24
LARGEST_TABLE = 2**26
LARGEST_BLOCK = 2**16
"""Limits that keep a damaged or hostile file from asking for memory: bytes of the header and of a table; examples of a
block."""

WITHOUT_PREFIX = 2**31
"""Flag in the length of a stream: it begins with the header's prefix, which is left out here."""

COLUMN_TYPES: dict[str, np.dtype] = {name: np.dtype(name).newbyteorder("<") for name in ("int64", "float64", "bool")}
"""Numbers of attribute columns; a column of any other kind is "text"."""


class ContainerError(ValueError):
    """A file that is not a container, or not a whole one."""


@dataclass(frozen=True)
class Header:
    """What all examples of a container have in common."""

    codec: Codec
    shape: Shape
    """(height, width, channels) of every image, uint8."""
    classes: tuple[str, ...] = ()
    has_labels: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    """Attribute columns: name to "int64", "float64", "bool" or "text"."""
    prefix: bytes = b""
    """Bytes that streams begin with: the tables that they share."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a block says about its examples."""

    split: str
    lengths: np.ndarray
    """(streams,) uint32 bytes in the file, with the flag `WITHOUT_PREFIX`."""
    checksums: np.ndarray
    """(streams,) uint32 CRC-32 of the whole stream, prefix included."""
    ids: list[str]
    labels: np.ndarray | None
    columns: dict[str, np.ndarray]


def pack_header(header: Header) -> bytes:
    """The first bytes of a container."""
    data = {
        "format": FORMAT,
        "codec": to_dict(header.codec),
        "shape": [int(side) for side in header.shape],
        "dtype": "uint8",
        "classes": list(header.classes),
        "labels": header.has_labels,
        "columns": header.columns,
        "prefix": base64.b64encode(header.prefix).decode(),
    }
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > LARGEST_HEADER:
        raise ContainerError(f"Expected a header of at most {LARGEST_HEADER} bytes, but classes and columns make more.")
    return MAGIC + struct.pack("<II", len(body), zlib.crc32(body)) + body


def header_length(start: bytes) -> int:
    """Bytes of the JSON after the first `START_BYTES` bytes of a file.

    Raises
    ------
    ContainerError
        If these are not the start of a container, or of one that this version cannot read.
    """
    if start[:7] != MAGIC[:7] or len(start) < START_BYTES:
        raise ContainerError("it is not a remnant container: it begins with other bytes")
    if start[7] != FORMAT:
        raise ContainerError(f"it has the format {start[7]}, and this remnant reads format {FORMAT}. Upgrade remnant")
    length = struct.unpack("<I", start[8:12])[0]
    if length > LARGEST_HEADER:
        raise ContainerError(f"its header claims {length} bytes, more than the limit of {LARGEST_HEADER}")
    return length


def unpack_header(start: bytes, body: bytes) -> Header:
    """The inverse of `pack_header`, checked.

    Raises
    ------
    ContainerError
        For a wrong checksum, and for any value that no writer writes.
    """
    if zlib.crc32(body) != struct.unpack("<I", start[12:16])[0]:
        raise ContainerError("its header is damaged: the checksum differs")
    try:
        data = json.loads(body)
        header = Header(
            codec=from_dict(_typed(data, "codec", dict)),
            shape=_shape(_typed(data, "shape", list)),
            classes=tuple(_texts(_typed(data, "classes", list))),
            has_labels=_typed(data, "labels", bool),
            columns=_typed(data, "columns", dict),
            prefix=base64.b64decode(_typed(data, "prefix", str), validate=True),
        )
        if data.get("dtype") != "uint8":
            raise ValueError(f"expected the dtype 'uint8', but got {data.get('dtype')!r}")
        check_columns(header.columns)
        header.codec.check(header.shape)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ContainerError(f"its header is not valid: {error}") from error
    return header


def check_columns(columns: Mapping[str, str]) -> None:
    """ValueError for an attribute column with a type that is not stored, or a name that is not a plain name."""
    for name, kind in columns.items():
        if kind not in COLUMN_TYPES and kind != "text":
            raise ValueError(
                f"Expected the column {name!r} to be of a type in {[*COLUMN_TYPES, 'text']}, got {kind!r}."
            )
        if not name or not name.isprintable() or "/" in name or "\\" in name or name in (".", "..") or len(name) > 255:
            raise ValueError(f"Expected names of columns to be printable text without slashes, but got {name!r}.")


def pack_block(table: Table, streams: list[bytes]) -> bytes:
    """A block, without the streams' own bytes, which follow it."""
    parts = [_pack_texts([table.split]), table.lengths.astype("<u4").tobytes(), table.checksums.astype("<u4").tobytes()]
    if table.labels is not None:
        parts.append(table.labels.astype("<i4").tobytes())
    parts.append(_pack_texts(table.ids))
    for values in table.columns.values():
        parts.append(
            _pack_texts(values.tolist()) if values.dtype.kind == "U" else values.astype(_stored(values)).tobytes()
        )
    raw = b"".join(parts)
    if len(raw) > LARGEST_TABLE:
        raise ContainerError(
            f"Expected ids and attributes of {len(table.ids)} examples to take at most {LARGEST_TABLE} bytes, but got "
            f"{len(raw)}. Shorten the texts."
        )
    packed = zlib.compress(raw, 6)
    head = BLOCK + struct.pack("<III", len(table.ids), len(table.lengths), len(packed))
    head += struct.pack("<QI", sum(map(len, streams)), zlib.crc32(packed))
    return head + struct.pack("<I", zlib.crc32(head)) + packed


@dataclass(frozen=True)
class BlockHead:
    """The fixed part of a block."""

    examples: int
    streams: int
    table_bytes: int
    stream_bytes: int
    checksum: int


def unpack_block_head(head: bytes, group: int) -> BlockHead:
    """The first `BLOCK_BYTES` bytes of a block, checked.

    Raises
    ------
    ContainerError
        If they are damaged, or claim sizes that no writer writes.
    """
    if zlib.crc32(head[:28]) != struct.unpack("<I", head[28:])[0]:
        raise ContainerError("the head of a block is damaged")
    found = BlockHead(*struct.unpack("<IIIQI", head[4:28]))
    if not 1 <= found.examples <= LARGEST_BLOCK or found.streams != -(-found.examples // group):
        raise ContainerError(f"a block claims {found.examples} examples in {found.streams} streams")
    return found


def unpack_table(packed: bytes, head: BlockHead, header: Header) -> Table:
    """The table of a block, checked against its head and the header.

    Raises
    ------
    ContainerError
        If it is damaged or does not hold what the header says.
    """
    if zlib.crc32(packed) != head.checksum:
        raise ContainerError("the table of a block is damaged")
    try:
        unzip = zlib.decompressobj()
        raw = unzip.decompress(packed, LARGEST_TABLE + 1)
        if len(raw) > LARGEST_TABLE or not unzip.eof:
            raise ValueError("too long")
        cursor = _Cursor(raw)
        (split,) = cursor.texts(1)
        lengths = cursor.numbers(np.dtype("<u4"), head.streams)
        checksums = cursor.numbers(np.dtype("<u4"), head.streams)
        labels = cursor.numbers(np.dtype("<i4"), head.examples).astype(np.int64) if header.has_labels else None
        ids = cursor.texts(head.examples)
        columns = {
            name: np.array(cursor.texts(head.examples), np.str_)
            if kind == "text"
            else cursor.numbers(COLUMN_TYPES[kind], head.examples)
            for name, kind in header.columns.items()
        }
        if cursor.position != len(raw):
            raise ValueError("bytes are left over")
    except (ValueError, zlib.error) as error:
        raise ContainerError(f"the table of a block is not valid: {error}") from error
    if int((lengths & (WITHOUT_PREFIX - 1)).sum(dtype=np.uint64)) != head.stream_bytes:
        raise ContainerError("the table of a block does not agree with its head")
    if labels is not None and header.classes and not np.all((labels >= 0) & (labels < len(header.classes))):
        raise ContainerError(f"a block holds labels outside of the {len(header.classes)} classes")
    return Table(split, lengths, checksums, ids, labels, columns)


def pack_end(examples: int, blocks: int) -> bytes:
    """The last bytes of a container."""
    body = END + struct.pack("<QI", examples, blocks)
    return body + struct.pack("<I", zlib.crc32(body))


def unpack_end(end: bytes) -> tuple[int, int]:
    """Number of examples and of blocks in the end mark."""
    if len(end) != END_BYTES or zlib.crc32(end[:16]) != struct.unpack("<I", end[16:])[0]:
        raise ContainerError("its end mark is damaged")
    examples, blocks = struct.unpack("<QI", end[4:16])
    return examples, blocks


class _Cursor:
    """Reads one thing after another out of bytes."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.position = raw, 0

    def numbers(self, dtype: np.dtype, count: int) -> np.ndarray:
        values = np.frombuffer(self._take(dtype.itemsize * count), dtype)
        return values.astype(dtype.newbyteorder("="))

    def texts(self, count: int) -> list[str]:
        length = int.from_bytes(self._take(4), "little")
        joined = self._take(length)
        if joined.count(0) != count - 1:
            raise ValueError(f"{joined.count(0) + 1} texts instead of {count}")
        return joined.decode().split("\0")

    def _take(self, length: int) -> bytes:
        part = self.raw[self.position : self.position + length]
        if len(part) != length:
            raise ValueError("too short")
        self.position += length
        return part


def _pack_texts(values: list[str]) -> bytes:
    joined = "\0".join(values).encode()
    return len(joined).to_bytes(4, "little") + joined


def _stored(values: np.ndarray) -> np.dtype:
    return COLUMN_TYPES[values.dtype.name]


def _typed(data: Any, key: str, kind: type) -> Any:
    if not isinstance(data, dict) or not isinstance(data.get(key), kind):
        raise ValueError(f"expected `{key}` of type {kind.__name__}")
    return data[key]


def _texts(values: list[Any]) -> list[str]:
    if not all(isinstance(value, str) for value in values) or len(set(values)) != len(values):
        raise ValueError("expected distinct names of classes")
    return values


def _shape(values: list[Any]) -> Shape:
    if len(values) != 3 or not all(type(side) is int and 1 <= side <= 2**24 for side in values):
        raise ValueError(f"expected the shape (height, width, channels), but got {values}")
    height, width, channels = values
    return height, width, channels
