"""Finds the blocks of a container, whole, cut off or damaged."""

from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from remnant.codecs.container_format import (
    BLOCK,
    BLOCK_BYTES,
    END,
    END_BYTES,
    WITHOUT_PREFIX,
    BlockHead,
    ContainerError,
    Header,
    Table,
    unpack_block_head,
    unpack_end,
    unpack_table,
)


@dataclass(frozen=True, eq=False)
class Block:
    """The examples of a block that can be read, and where their streams begin in the file."""

    table: Table
    streams_at: int


def scan(file: BinaryIO, header: Header, size: int) -> tuple[list[Block], list[str]]:
    """The readable blocks from the current position of the file on, and in words what is not readable.

    Nothing is read or allocated because a damaged head asks for it: a head has a checksum, and what it
    claims must lie within the `size` bytes of the file.
    """
    blocks: list[Block] = []
    damage: list[str] = []
    examples = heads = 0
    while True:
        position = file.tell()
        mark = file.read(4)
        if mark == END:
            return blocks, damage + _end_damage(mark + file.read(END_BYTES), examples, heads)
        if len(start := mark + file.read(BLOCK_BYTES - 4)) < BLOCK_BYTES:
            return blocks, [*damage, f"it is cut off after {examples} examples"]
        if (head := _head(start, header)) is None:
            damage.append(f"the head of a block is damaged (byte {position}, after {examples} examples)")
            if not _seek_block(file, position + 1, header):
                return blocks, damage
            continue
        streams_at = position + BLOCK_BYTES + head.table_bytes
        if streams_at > size:
            return blocks, [*damage, f"it is cut off after {examples} examples"]
        try:
            table = unpack_table(file.read(head.table_bytes), head, header)
        except ContainerError as error:
            damage.append(f"{error} (examples {examples} to {examples + head.examples - 1})")
            table = None
        if streams_at + head.stream_bytes > size:
            rest = None if table is None else _cut(table, size - streams_at, header)
            number = len(rest.ids) if rest else 0
            if rest and number:
                blocks.append(Block(rest, streams_at))
            return blocks, [*damage, f"it is cut off after {examples + number} examples"]
        if table is not None:
            blocks.append(Block(table, streams_at))
        examples, heads = examples + head.examples, heads + 1
        file.seek(streams_at + head.stream_bytes)


def _head(start: bytes, header: Header) -> BlockHead | None:
    try:
        return unpack_block_head(start, header.codec.group) if start[:4] == BLOCK else None
    except ContainerError:
        return None


def _seek_block(file: BinaryIO, position: int, header: Header) -> bool:
    """Go to the next block from `position` on whose head is whole; False if there is none."""
    piece = 2**20
    while True:
        file.seek(position)
        # Read on past the piece, so that a head that begins in it is whole.
        data = file.read(piece + BLOCK_BYTES - 1)
        found = -1
        while (found := data.find(BLOCK, found + 1)) >= 0:
            if len(start := data[found : found + BLOCK_BYTES]) == BLOCK_BYTES and _head(start, header) is not None:
                file.seek(position + found)
                return True
        if len(data) < piece:
            return False
        position += piece


def _end_damage(end: bytes, examples: int, blocks: int) -> list[str]:
    try:
        whole = unpack_end(end[:END_BYTES]) == (examples, blocks)
    except ContainerError as error:
        return [str(error)]
    return ([] if whole else ["blocks are missing"]) + (["bytes follow its end"] if len(end) > END_BYTES else [])


def _cut(table: Table, available: int, header: Header) -> Table:
    """The examples of a block whose streams lie within the first `available` bytes."""
    ends = np.cumsum((table.lengths & (WITHOUT_PREFIX - 1)).astype(np.int64))
    streams = int(np.searchsorted(ends, available, side="right"))
    number = min(streams * header.codec.group, len(table.ids))
    return Table(
        table.split,
        table.lengths[:streams],
        table.checksums[:streams],
        table.ids[:number],
        None if table.labels is None else table.labels[:number],
        {name: values[:number] for name, values in table.columns.items()},
    )
