"""Tables of predictions, one row per example: CSV and Parquet."""

import csv
import gzip
import io
import zlib
from collections.abc import Container, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from remnant.ingest.assemble import Request, wanted
from remnant.ingest.columns import from_table
from remnant.ingest.limits import MEBIBYTE, Limits, hold, printable, shown
from remnant.ingest.names import Roles, roles
from remnant.ingest.parquet_footer import BYTE_ARRAY, leaves, pages
from remnant.ingest.predictions import Predictions
from remnant.ingest.streams import open_native, open_text

BLOCK = 64 * MEBIBYTE
"""Bytes of a Parquet file that are decoded together."""

CATEGORY = pa.dictionary(pa.int32(), pa.string())


def read_csv(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of comma-separated values with a header line (UTF-8, optionally with .gz)."""
    limits = request.limits
    try:
        header = _header(path, limits)
        found = wanted(roles(header, request.names, limits), header)
        table = _csv_table(path, header, found, limits)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"It is not a gzip file, or it is damaged: {error}.") from error
    return from_table(table, found, request, source)


def read_parquet(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of a Parquet file, whose lists of numbers may be scores."""
    try:
        with path.open("rb") as stream:
            return _from_parquet(stream, request, source)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, NotImplementedError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"It is not a Parquet file, or it is damaged: {_first_line(error)}") from error


def _header(path: Path, limits: Limits) -> list[str]:
    with open_text(path, limits) as stream:
        start = stream.read(min(limits.line + 1, limits.memory))
    if not start.strip():
        raise ValueError("Expected a header line and one line per example, but the file is empty.")
    line_ends = b"\n" in start or b"\r" in start
    try:
        text = start.decode("utf-8-sig", errors="strict" if len(start) < limits.line else "ignore")
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(path)))
    except UnicodeDecodeError as error:
        raise ValueError(f"Expected text in UTF-8, but byte {error.start} is not.") from None
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"Expected a header line with the names of the columns, but got {shown(start)}.") from error
    if not line_ends:
        hold("The header line has at least this many bytes:", len(start), limits, "line")
    hold("The columns number", len(header), limits, "columns" if limits.columns > limits.classes else "classes")
    return header


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in path.suffixes[-2:] else ","


def _csv_table(path: Path, header: Sequence[str], found: Roles, limits: Limits) -> dict[str, Any]:
    kinds: dict[str, pa.DataType] = dict.fromkeys(found.per_class, pa.float32())
    for role, name in found.single.items():
        if role in ("prediction", "label"):
            kinds[name] = CATEGORY
        elif role in ("id", "text", "content"):
            kinds[name] = pa.string()
        else:
            raise ValueError(
                f"Expected {shown(name)} not to be a column of a CSV file, which cannot hold lists. Write one column "
                "per class, logit_0, logit_1, ..., or use Parquet or JSONL."
            )
    convert = pyarrow.csv.ConvertOptions(
        column_types=kinds, include_columns=[*kinds, *found.other], timestamp_parsers=[]
    )
    try:
        table = _parsed(path, convert, limits, threads=True)
    except (pa.ArrowException, KeyError):
        # Once more with one thread, which knows the rows.
        try:
            table = _parsed(path, convert, limits, threads=False)
        except (pa.ArrowException, KeyError) as error:
            raise ValueError(f"It cannot be read as a table: {_first_line(error)}") from error
    hold("The rows number", table.num_rows, limits, "rows")
    return dict(zip(table.column_names, table.columns, strict=True))


def _parsed(path: Path, convert: pyarrow.csv.ConvertOptions, limits: Limits, *, threads: bool) -> Any:
    read = pyarrow.csv.ReadOptions(use_threads=threads, block_size=min(limits.line, 2**30))
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True, delimiter=_delimiter(path))
    # Left to close itself: after an error, threads may still be reading ahead.
    stream = open_native(path, limits)
    return pyarrow.csv.read_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def _from_parquet(stream: IO[bytes], request: Request, source: dict[str, Any]) -> Predictions:
    limits = request.limits
    footer = _footer(stream, limits)
    bound: dict[str, Any] = {"thrift_string_size_limit": limits.header, "thrift_container_size_limit": 1_000_000}
    bound["page_checksum_verification"] = True
    with pyarrow.parquet.ParquetFile(stream, **bound) as file:
        facts, schema = file.metadata, file.schema_arrow
        hold("The rows number", facts.num_rows, limits, "rows")
        hold(
            "The columns number", facts.num_columns, limits, "columns" if limits.columns > limits.classes else "classes"
        )
        found = wanted(roles(schema.names, request.names, limits), schema.names)
        attributes = [name for name in found.other if not pa.types.is_nested(schema.field(name).type)]
        load = [*found.single.values(), *found.per_class, *attributes]
        size, strings = _leaves(stream, footer, {name: _width(schema.field(name).type) for name in load})
        hold("The table has at least this many bytes:", size, limits, "memory")
    # As dictionaries, strings that repeat are held once, however often a small file repeats them.
    with pyarrow.parquet.ParquetFile(stream, read_dictionary=strings, **bound) as file:
        table = _batches(file, load, max(1, facts.num_rows), size, limits)
    return from_table(dict(zip(table.column_names, table.columns, strict=True)), found, request, source)


def _leaves(stream: IO[bytes], footer: bytes, widths: dict[str, int]) -> tuple[int, list[str]]:
    """Bytes that the columns of `widths` need at least, and the paths of those that hold strings.

    Whichever is more of what the footer says and what the pages say.
    """
    size, strings = 0, set()
    for leaf in leaves(footer):
        column = _column_of(leaf.path, widths)
        if column is None:
            continue
        values, page_size = pages(stream, leaf)
        # Missing lists are counted as values, too, but have only an offset.
        width = widths[column] if column == leaf.path else min(4, widths[column])
        size += max(leaf.size, page_size, max(leaf.num_values, values) * width)
        strings |= {leaf.path} if leaf.physical_type == BYTE_ARRAY else set()
    stream.seek(0)
    return size, sorted(strings)


def _width(kind: Any) -> int:
    """Bytes of a value in memory, at least; strings that repeat are an index of a dictionary."""
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    try:
        return max(1, kind.bit_width // 8)
    except ValueError:  # of no fixed width
        return 4


def _column_of(path: str, columns: Container[str]) -> str | None:
    """The column at a path or above it, if it is one of `columns`; names may have dots, too."""
    above = (path[:place] for place, sign in enumerate(path) if sign == ".")
    return next((name for name in (path, *above) if name in columns), None)


def _footer(stream: IO[bytes], limits: Limits) -> bytes:
    size = stream.seek(0, io.SEEK_END)
    if size < 12:
        raise ValueError(f"Expected a Parquet file, but it has {size} bytes.")
    stream.seek(size - 8)
    end = stream.read(8)
    length = int.from_bytes(end[:4], "little")
    if end[4:] not in (b"PAR1", b"PARE") or length > size - 8:
        raise ValueError("Expected a Parquet file, but it does not end like one. Is it complete?")
    hold("The footer has this many bytes:", length, limits, "header")
    stream.seek(size - 8 - length)
    footer = stream.read(length)
    stream.seek(0)
    return footer


def _batches(file: Any, columns: list[str], rows: int, size: int, limits: Limits) -> Any:
    """The table, read in batches so that a small file cannot expand without end."""
    batches, held = [], 0
    step = min(max(BLOCK * rows // max(1, size), 1), 2**20)
    for batch in file.iter_batches(batch_size=step, columns=columns):
        held += batch.nbytes
        hold("The table has at least this many bytes:", held, limits, "memory")
        batch.validate(full=True)  # Arrow does not check that a damaged index is one of the dictionary's.
        batches.append(batch)
    if not batches:
        raise ValueError("Expected at least one example, but there is none.")
    return pa.Table.from_batches(batches)


def _first_line(error: BaseException) -> str:
    """The start of a library's message, on one line and without control characters."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    return printable(text[:300]).removesuffix(".") + "."
