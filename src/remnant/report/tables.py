"""Tables as text: formatted cells for reading, CSV and Parquet files for computing."""

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from remnant.finding import format_value
from remnant.report.labels import scheme_name, title

ABSENT = "–"
"""Printed where a table has no value: NaN, None, or nothing there."""

_SHARES = {"rate", "share", "accuracy", "recall", "agreement", "churn", "difference", "sparsity"}
_PROBABILITIES = {"p", "q"}
_NUMBERS = re.compile(rf"{(number := '[-+]?([0-9.,]+(e[-+]?[0-9]+)?|inf|nan)')}( to {number})?")
_FORMULA = re.compile("(^[ \"']*|[;\n][ \"']*)(?=[-=+@\t\r＝＋－＠])")
"""Where text becomes a formula in a spreadsheet; there are some that split lines at semicolons."""
_IDENTIFIERS = {"seed", "subset", "rank"}


@dataclass(frozen=True)
class Column:
    """One column of a table as it is printed."""

    title: str
    numeric: bool
    cells: tuple[str, ...]
    exact: tuple[str, ...]
    """What the cell stands for where it is printed as a name; else ""."""
    notes: tuple[str, ...]
    """The interval of the cell, such as "11.00 to 14.00 %", or ""."""

    @property
    def short(self) -> bool:
        """Whether no cell is so long that it should break into lines."""
        return max(map(len, self.cells), default=0) <= 30


@dataclass(frozen=True)
class Table:
    """A table as it is printed: its first rows and columns."""

    columns: tuple[Column, ...]
    rows: int
    """Number of all rows, also those not printed."""
    hidden_columns: int

    @property
    def shown(self) -> int:
        """Number of printed rows."""
        return len(self.columns[0].cells) if self.columns else 0


def table(frame: pd.DataFrame, *, max_rows: int = 30, max_columns: int = 16) -> Table:
    """The first rows and columns of a table with numbers as people read them.

    Shares are printed in percent, probabilities of tests as "p" claims are, counts with
    thousands separators, other numbers with the decimals that their column needs. Columns
    "..._low" and "..._high" become notes to the column before them.
    """
    head = frame.iloc[:max_rows]
    names = [str(name) for name in frame.columns]
    lows = _lows(names)
    kept = [place for place in range(len(names)) if place not in lows and place - 1 not in lows]
    columns = []
    for place in kept[:max_columns]:
        low = place + 1 if place + 1 in lows else None
        bounds = None if low is None else (head.iloc[:, low].tolist(), head.iloc[:, low + 1].tolist())
        columns.append(_column(names[place], head.iloc[:, place].tolist(), bounds))
    return Table(tuple(columns), len(frame), max(0, len(kept) - max_columns))


def cut(shown: Table) -> str:
    """What of a table is printed, such as "30 of 1,000 rows are shown"; "" if it is all."""
    parts = []
    if shown.shown < shown.rows:
        parts.append(f"{shown.shown:,} of {shown.rows:,} rows")
    if shown.hidden_columns:
        parts.append(f"{len(shown.columns)} of {len(shown.columns) + shown.hidden_columns} columns")
    return f"{' and '.join(parts)} are shown" if parts else ""


def span(low: str, high: str) -> str:
    """Two printed numbers as a range, such as "3 to 5" or "11.00 to 14.00 %"."""
    unit = next((ending for ending in (" %", " points") if high.endswith(ending)), "")
    return f"{low.removesuffix(unit)} to {high}"


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """The table as CSV: UTF-8, a header line, every digit, empty where there is no value.

    Text that a spreadsheet would compute gets an apostrophe: text that starts with =, +, -, @, tab or carriage return,
    or holds one of them behind a semicolon or at the start of a line, unless it is a number or a range of numbers;
    carriage returns, at which some readers begin a row, become line feeds. Parquet and report.json hold the text as
    it is.
    """
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    frame = frame.assign(**{name: [_inert(value) for value in frame[name].tolist()] for name in texts})
    return frame.rename(columns=_inert).to_csv(index=False, lineterminator="\n").encode()


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """The table as Parquet. Columns that mix kinds of values hold them as text."""
    plain = frame.copy()
    plain.columns = [str(name) for name in plain.columns]
    for name in plain.columns:
        kinds = {type(value) for value in plain[name].tolist() if not _is_absent(value)}
        if plain[name].dtype == object and kinds and kinds != {str} and len(kinds | {bool}) > 1:
            plain[name] = [None if _is_absent(value) else str(value) for value in plain[name].tolist()]
    buffer = io.BytesIO()
    plain.to_parquet(buffer, index=False)
    return buffer.getvalue()


def file_stem(analysis: str, name: str) -> str:
    """Name of the files of a table, without their ending: "ANALYSIS.TABLE"."""
    return f"{_safe(analysis)}.{_safe(name)}"


def _inert(value: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula."""
    if not isinstance(value, str) or _NUMBERS.fullmatch(value):
        return value
    lines = value.replace("\r\n", "\n").replace("\r", "\n")
    return _FORMULA.sub(r"\1'", lines)


def _lows(names: list[str]) -> set[int]:
    """Places of the lower ends of intervals: "low" or "..._low", with its "high" after it and a column before it."""
    found = set()
    for place in range(1, len(names) - 1):
        start, low = names[place][:-3], names[place][-3:]
        if low == "low" and (not start or start.endswith("_")) and names[place + 1] == f"{start}high":
            found.add(place)
    return found


def _column(name: str, values: list[Any], bounds: tuple[list[Any], list[Any]] | None) -> Column:
    present = [value for value in values if not _is_absent(value)]
    numeric = bool(present) and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in present)
    exact = notes = [""] * len(values)
    if numeric:
        show = _number_format(name, np.array(present, dtype=float))
        cells = [ABSENT if _is_absent(value) else show(float(value)) for value in values]
        if bounds is not None:
            notes = [
                "" if _is_absent(low) or _is_absent(high) else span(show(float(low)), show(float(high)))
                for low, high in zip(*bounds, strict=True)
            ]
    else:
        cells = [_text(value) for value in values]
    if name == "scheme" or name.endswith("_scheme"):
        exact, cells = cells, [cell if cell == ABSENT else scheme_name(cell) for cell in cells]
    return Column(title(name), numeric, tuple(cells), tuple(exact), tuple(notes))


def _number_format(name: str, values: np.ndarray) -> Callable[[float], str]:
    """A function from a number of the column `name` to its text."""
    show = _finite_format(name, values[np.isfinite(values)])
    return lambda value: show(value) if math.isfinite(value) else "∞" if value > 0 else "-∞"


def _finite_format(name: str, finite: np.ndarray) -> Callable[[float], str]:
    words = set(re.split(r"[_\W]+", name.lower()))
    whole = bool(np.all(finite == np.round(finite)))
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if words & _IDENTIFIERS and whole:
        return lambda value: f"{value:.0f}"
    if words & _PROBABILITIES and finite.size and finite.min() >= 0 and largest <= 1:
        return lambda value: format_value(value, "p")
    if words >= {"accuracy", "change"} and largest <= 1:
        return lambda value: format_value(value, "points")
    if words & _SHARES and largest <= 1 and not words & {"ratio", "t"}:
        return lambda value: format_value(value, "share")
    if whole and largest < 1e15:
        return lambda value: f"{value:,.0f}"
    # Three figures of the largest number decide the decimals of the column, so that points align.
    decimals = min(max(2 - math.floor(math.log10(largest)), 0), 6) if largest > 0 else 0
    if largest >= 1e9 or 0 < largest < 1e-4:
        return lambda value: f"{value:.3g}"
    return lambda value: _fixed(value, decimals)


def _fixed(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    if value != 0 and float(text.replace(",", "")) == 0:
        return f"{value:.1g}"
    return text


def _text(value: Any) -> str:
    if _is_absent(value):
        return ABSENT
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or ABSENT
    if isinstance(value, float):
        return format_value(value, "number")
    return str(value)


def _is_absent(value: Any) -> bool:
    return value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:100] or "table"
