"""Columns of a table (CSV, Parquet) as the arrays that predictions are made of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from remnant.ingest.assemble import Request, assemble
from remnant.ingest.limits import Limits, hold, shown
from remnant.ingest.names import Roles
from remnant.ingest.predictions import Predictions
from remnant.ingest.strings import Coded, coded, from_arrow, plain, refuse_missing

pc: Any = pyarrow.compute  # Its functions are made at import, unseen by type checkers.

ROLES_OF_SCORES = ("logits", "probabilities", "scores")


def from_table(table: dict[str, Any], found: Roles, request: Request, source: Mapping[str, Any]) -> Predictions:
    """Predictions out of Arrow columns, which are taken out of `table` one by one to free their memory.

    Raises
    ------
    ValueError
        Naming the column, and the row where there is one.
    """
    by_name = {name: role for role, name in found.single.items()} | dict.fromkeys(found.per_class, "number")
    raw: dict[str, Any] = {}
    for name in list(table):
        values = _converted(name, table.pop(name), by_name.get(name, "attribute"), request.limits)
        if values is not None:
            raw[name] = values
    return assemble(raw, found, request, source)


def _converted(name: str, column: Any, role: str, limits: Limits) -> Any:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    what = shown(name)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        column = pc.cast(plain(column, what, limits), pa.large_string())
        kind = column.type
    if role in ROLES_OF_SCORES or (role == "prediction" and _is_list(kind)):
        return _matrix(column, what, limits)
    if role == "attribute":
        return _attribute(column, kind, what, limits)
    if role in ("text", "options"):
        return _text(column, what, limits) if role == "text" else _lists(column, what, limits)
    refuse_missing(column, what)
    if role in ("prediction", "label") and not _is_number(kind):
        return _class_column(column, what, limits)
    if role == "id" and _is_string(kind):
        return _ids(column, what, limits)
    if role == "classes":
        raise ValueError(f"Expected {what} not to be a column: give the class names with `classes=[...]`.")
    if role == "content":
        return from_arrow(column, what, limits)
    if not _is_number(kind):
        raise ValueError(f"Expected {what} to hold numbers, but got {shown(str(kind))}.")
    return _numpy(column)


def _numpy(column: Any) -> np.ndarray:
    return column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column.to_numpy()


def _is_number(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_string(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _class_column(column: Any, what: str, limits: Limits) -> Coded:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_string(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"Expected {what} to hold class indices or class names, but got {shown(str(kind))}.")
    found = coded(column if _is_string(kind) else pc.cast(column, pa.string()), what, limits)
    if "" in found.values:
        missing = found.codes == found.values.index("")
        first = int(missing.argmax())
        raise ValueError(
            f"Expected {what} in every row, but it is empty in {int(missing.sum()):,} (first row {first})."
        )
    return found


def _ids(column: Any, what: str, limits: Limits) -> np.ndarray:
    """Integers, if all are written as such without leading zeros; else strings."""
    column = plain(column, what, limits)
    try:
        numbers = pc.cast(column, pa.int64())
        if pc.all(pc.equal(pc.cast(numbers, column.type), column)).as_py():
            return _numpy(numbers)
    except pa.ArrowInvalid:
        pass
    made = from_arrow(column, what, limits)
    if (empty := made == "").any():
        raise ValueError(f"Expected {what} in every row, but it is empty in row {int(empty.argmax())}.")
    return made


def _attribute(column: Any, kind: Any, what: str, limits: Limits) -> Any:
    """Strings with "" or numbers with NaN where a cell is empty; None for what cannot be an attribute."""
    if pa.types.is_null(kind) or pa.types.is_nested(kind):
        return None
    if _is_number(kind):
        return _numpy(column)
    if pa.types.is_boolean(kind):
        column = pc.if_else(column, "True", "False")
    elif not _is_string(kind):
        try:
            column = pc.cast(column, pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
    if column.null_count:
        column = plain(column, what, limits).fill_null("")
    codes = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
    levels = _num_levels(codes)
    return (
        coded(codes, what, limits)
        if levels <= min(len(column) // 4, limits.classes)
        else from_arrow(column, what, limits)
    )


def _num_levels(codes: Any) -> int:
    """Number of different values of a dictionary-encoded column."""
    if isinstance(codes, pa.ChunkedArray):
        if codes.num_chunks == 0:
            return 0
        codes = codes.unify_dictionaries().chunk(0)
    return len(codes.dictionary)


def _text(column: Any, what: str, limits: Limits) -> np.ndarray:
    """Texts, each different one shortened and held once; "" where there is none."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not _is_string(kind):
        raise ValueError(f"Expected {what} to hold strings, but got {shown(str(column.type))}.")
    out, start = np.empty(len(column), object), 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        codes = chunk if pa.types.is_dictionary(chunk.type) else pc.dictionary_encode(chunk)
        values = np.array([*codes.dictionary.to_pylist(), ""], object)
        out[start : start + len(chunk)] = values[
            codes.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        ]
        start += len(chunk)
    return out


def _matrix(column: Any, what: str, limits: Limits) -> np.ndarray:
    """A list column as one array (example, class)."""
    refuse_missing(column, what)
    if not _is_list(column.type):
        raise ValueError(f"Expected {what} to hold a list of numbers per row, but got {shown(str(column.type))}.")
    if not _is_number(column.type.value_type):
        raise ValueError(f"Expected {what} to hold lists of numbers, but got {shown(str(column.type))}.")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    width = next((len(chunk[0]) for chunk in chunks if len(chunk)), 0)
    dtype = column.type.value_type.to_pandas_dtype()
    dtype = np.dtype(dtype) if np.dtype(dtype).kind == "f" else np.dtype(np.float32)
    hold(f"The lists of {what} have this many numbers:", width, limits, "classes")
    hold(f"The lists of {what} need this many bytes:", width * len(column) * dtype.itemsize, limits, "memory")
    out = np.empty((len(column), width), dtype)
    start = 0
    for chunk in chunks:
        out[start : start + len(chunk)] = _rows(chunk, width, start, what)
        start += len(chunk)
    return out


def _rows(chunk: Any, width: int, start: int, what: str) -> np.ndarray:
    if not pa.types.is_fixed_size_list(chunk.type):
        ragged = pc.not_equal(pc.list_value_length(chunk), width)
        row = pc.index(ragged, True).as_py()
        if row >= 0:
            raise ValueError(
                f"Expected {width} numbers in every row of {what}, as in the first, but row {start + row} has "
                f"{len(chunk[row])}."
            )
    flat = chunk.flatten()
    if flat.null_count:
        place = pc.index(pc.is_null(flat), True).as_py()
        raise ValueError(f"Expected numbers in {what}, but row {start + place // width} has a missing one.")
    return flat.to_numpy(zero_copy_only=False).reshape(len(chunk), width)


def _lists(column: Any, what: str, limits: Limits) -> list[list[str]]:
    """The lists of strings of every row, each different string held once."""
    kind = column.type.value_type if _is_list(column.type) else column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not _is_list(column.type) or not _is_string(kind):
        raise ValueError(f"Expected {what} to hold a list of strings per row, but got {shown(str(column.type))}.")
    refuse_missing(column, what)
    given: list[list[str]] = []
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        flat = chunk.flatten()
        refuse_missing(flat, f"the lists of {what}")
        strings = _text(flat, what, limits).tolist()
        ends = np.cumsum(pc.list_value_length(chunk).to_numpy(zero_copy_only=False)).tolist()
        given += [strings[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return given
