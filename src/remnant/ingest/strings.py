"""Strings that came from outside, as NumPy arrays without a Python call per row.

They stay what they are, control characters included. Refused are only those that no report could
write: text that is not Unicode, and text that is too long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from remnant.ingest.limits import Limits, hold, shown

pc: Any = pyarrow.compute  # Its functions are made at import, unseen by type checkers.

SURROGATES = (0xD800, 0xDFFF)
LAST_CODE_POINT = 0x10FFFF


@dataclass(frozen=True)
class Coded:
    """A column of few different strings: `values[codes]`."""

    codes: np.ndarray
    values: list[str]


def from_sequence(values: Sequence[Any] | np.ndarray, what: str, limits: Limits) -> np.ndarray:
    """A `str` array of NumPy out of Python strings or an array of strings, bytes (UTF-8) or objects.

    Raises
    ------
    ValueError
        If an element is not a string, not Unicode or too long, or all together are too large.
    """
    array = values if isinstance(values, np.ndarray) else np.array(list(values), dtype=object)
    if array.dtype.kind == "U":
        _check_unicode(array, what)
        widest = int(np.char.str_len(array).max(initial=0)) if array.dtype.itemsize > 4 * limits.name else 0
        hold(f"{what} has this many characters:", widest, limits, "name")
        return array
    given = array.tolist()
    if array.dtype.kind == "S":
        given = [_decoded(value, row, what) for row, value in enumerate(given)]
    wrong = next((row for row, value in enumerate(given) if not isinstance(value, str)), None)
    if wrong is not None:
        kind = type(given[wrong]).__name__
        raise ValueError(f"Expected {what} to hold strings, but row {wrong} has {shown(given[wrong])} ({kind}).")
    widest = max(map(len, given), default=0)
    hold(f"{what} has this many characters:", widest, limits, "name")
    hold(f"{what} as an array of strings needs this many bytes:", 4 * widest * len(given), limits, "memory")
    made = np.array(given, dtype=np.str_) if given else np.empty(0, "U1")
    _check_unicode(made, what)
    return made


def from_arrow(array: Any, what: str, limits: Limits, *, missing: str | None = None) -> np.ndarray:
    """A `str` array of NumPy out of an Arrow array of strings; `missing` stands for empty cells."""
    array = pc.cast(plain(array, what, limits), pa.large_string())
    if missing is None:
        refuse_missing(array, what)
    else:
        array = array.fill_null(missing)
    widest = pc.max(pc.utf8_length(array)).as_py() or 0
    hold(f"{what} has this many characters:", widest, limits, "name")
    hold(f"{what} as an array of strings needs this many bytes:", 4 * widest * len(array), limits, "memory")
    made = np.empty(len(array), f"U{max(widest, 1)}")
    start = 0
    # Block by block: Python strings of all rows at once would need ten times the memory.
    for chunk in array.chunks if isinstance(array, pa.ChunkedArray) else [array]:
        for part in range(0, len(chunk), 2**16):
            block = chunk.slice(part, 2**16)
            made[start : start + len(block)] = block.to_pylist()
            start += len(block)
    return made


def coded(values: Any, what: str, limits: Limits) -> Coded:
    """A column of few different strings, out of strings or an Arrow array (dictionary-encoded or not)."""
    if not isinstance(values, pa.Array | pa.ChunkedArray):
        values = to_arrow(from_sequence(values, what, limits))
    refuse_missing(values, what)
    if not pa.types.is_dictionary(values.type):
        values = pc.dictionary_encode(values)
    if isinstance(values, pa.ChunkedArray):
        values = values.unify_dictionaries().combine_chunks()
        values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
    hold(f"The different values of {what} number", len(values.dictionary), limits, "classes")
    names = from_arrow(values.dictionary, what, limits).tolist()
    if len(set(names)) < len(names):
        raise ValueError(f"Expected {what} to hold strings without a zero character at the end.")
    return Coded(values.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False), names)


def to_arrow(array: np.ndarray) -> Any:
    """A `str` array of NumPy as an Arrow array of strings."""
    made = pa.array(array, pa.large_string())
    # Arrow ends a string of NumPy at its first zero character, which would make different strings the same.
    whole = np.array_equal(pc.utf8_length(made).to_numpy(zero_copy_only=False), np.char.str_len(array))
    return made if whole else pa.array(array.tolist(), pa.large_string())


def plain(array: Any, what: str, limits: Limits) -> Any:
    """An Arrow array without dictionaries: a small one can stand for more text than there is memory."""
    if not pa.types.is_dictionary(array.type):
        return array
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    size = 0
    for chunk in chunks:
        if pa.types.is_string(chunk.dictionary.type) or pa.types.is_binary(chunk.dictionary.type):
            size += pc.sum(pc.take(pc.cast(pc.binary_length(chunk.dictionary), pa.int64()), chunk.indices)).as_py() or 0
            hold(f"The text of {what} has at least this many bytes:", size, limits, "memory")
    return pc.cast(array, array.type.value_type)


def refuse_missing(array: Any, what: str) -> None:
    """Nothing, if an Arrow array has no empty cell.

    Raises
    ------
    ValueError
        With the first row that is empty.
    """
    if array.null_count:
        row = pc.index(pc.is_null(array), True).as_py()
        raise ValueError(f"Expected {what} in every row, but it is missing in {array.null_count:,} (first row {row}).")


def _decoded(value: bytes, row: int, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"Expected {what} to be UTF-8, but row {row} has {shown(value)}.") from None


def _check_unicode(array: np.ndarray, what: str) -> None:
    """No lone surrogates, no numbers beyond Unicode: neither can be written to a report."""
    if array.dtype.itemsize == 0 or array.size == 0:
        return
    points = np.ascontiguousarray(array).view(np.uint32).reshape(len(array), -1)
    for start in range(0, len(points), 2**16):
        block = points[start : start + 2**16]
        wrong = ((block >= SURROGATES[0]) & (block <= SURROGATES[1])) | (block > LAST_CODE_POINT)
        if wrong.any():
            row = start + int(wrong.any(axis=1).argmax())
            raise ValueError(f"Expected {what} to be Unicode text, but row {row} holds half a surrogate pair or worse.")
