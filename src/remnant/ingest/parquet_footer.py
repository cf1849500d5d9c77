"""How much each column of a Parquet file holds, as its footer and the headers of its pages say.

Arrow's own accessors end the whole process on a damaged footer, and give nothing of pages. So the few fields that are
needed are read here.

References
----------
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from remnant.ingest.thrift import BINARY, INT, LONG, STRUCT, Cursor

BYTE_ARRAY = 6
"""The physical type of strings."""

_USUAL_HEADER, _LARGEST_HEADER = 2**8, 2**24
"""Bytes of the header of a page; the largest is Arrow's limit."""


@dataclass(frozen=True)
class Leaf:
    """The values of one column in one row group."""

    path: str
    """Names of the fields from the column down to the values, with dots between them."""
    physical_type: int
    num_values: int
    """Missing values and empty lists are counted."""
    size: int
    """Bytes before compression."""
    start: int
    """Where its pages start in the file."""
    compressed_size: int
    """Bytes of its pages in the file."""


def leaves(footer: bytes) -> Iterator[Leaf]:
    """Every column of every row group, in the order of the file.

    Raises
    ------
    ValueError
        If these bytes are not the metadata of a Parquet file.
    """
    cursor = Cursor(footer)
    try:
        for number, kind in cursor.fields():
            if number == 4:  # FileMetaData.row_groups
                for _ in cursor.elements(kind, STRUCT):
                    yield from _row_group(cursor)
    except IndexError:
        raise ValueError("Its footer ends too early.") from None


def pages(stream: IO[bytes], leaf: Leaf) -> tuple[int, int]:
    """Values, and bytes before compression, of the pages of a column: what reading it will make.

    The footer may say less than its pages hold.

    Raises
    ------
    ValueError
        If the bytes are not pages.
    """
    values = size = 0
    at, end = leaf.start, leaf.start + leaf.compressed_size
    while at < end and values < leaf.num_values:
        header, page_size, compressed_size, page_values = _page(stream, at)
        values, size = values + page_values, size + page_size
        at += header + compressed_size
    return values, size


def _row_group(cursor: Cursor) -> Iterator[Leaf]:
    for number, kind in cursor.fields():
        if number == 1:  # RowGroup.columns
            for _ in cursor.elements(kind, STRUCT):
                yield _column(cursor)


def _column(cursor: Cursor) -> Leaf:
    found = None
    for number, kind in cursor.fields():
        if number == 3 and kind == STRUCT:  # ColumnChunk.meta_data
            found = _leaf(cursor)
    if found is None:
        raise ValueError("A column in its footer has no metadata.")
    return found


def _leaf(cursor: Cursor) -> Leaf:
    path, found = None, {}
    for number, kind in cursor.fields():  # of ColumnMetaData
        if number in (1, 5, 6, 7, 9, 11) and kind in (INT, LONG):
            found[number] = cursor.integer()
        elif number == 3:
            path = b".".join(cursor.binary() for _ in cursor.elements(kind, BINARY)).decode()
    if path is None or not found.keys() >= {1, 5, 6, 7, 9}:
        raise ValueError("A column in its footer has no name, type, place or size.")
    # The dictionary comes first; writers without one may say that it is at 0.
    start = found[11] if 0 < found.get(11, 0) < found[9] else found[9]
    return Leaf(path, found[1], found[5], found[6], start, found[7])


def _page(stream: IO[bytes], at: int) -> tuple[int, int, int, int]:
    """Bytes of the header of a page, of the page as it is read and as it is stored, and its number of values."""
    length = _USUAL_HEADER
    while at >= 0 and length <= _LARGEST_HEADER:
        stream.seek(at)
        data = stream.read(length)
        try:
            return _page_header(Cursor(data))
        except IndexError:
            if len(data) < length:
                break
            length *= 16
    raise ValueError("A page ends too early.")


def _page_header(cursor: Cursor) -> tuple[int, int, int, int]:
    sizes, values = {}, 0
    for number, kind in cursor.fields():  # of PageHeader
        if number in (2, 3) and kind == INT:
            sizes[number] = cursor.integer()
        elif number in (5, 8) and kind == STRUCT:  # the headers of the two versions of data pages
            for inner, kind_of_inner in cursor.fields():
                if inner == 1 and kind_of_inner == INT:
                    values = cursor.integer()
    if len(sizes) < 2 or min(*sizes.values(), values) < 0:
        raise ValueError("A page has no size, or one below 0.")
    return cursor.at, sizes[2], sizes[3], values
