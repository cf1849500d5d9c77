"""Labelled texts from a .csv, .tsv or .jsonl file."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from remnant.lab.foreign.columns import MAX_ROWS, attribute, classes_of, column, options
from remnant.lab.foreign.evaluation_sets import EvaluationData, fingerprint

TEXT = ("text", "sentence", "content", "review", "question")
LABEL = ("label", "labels", "target", "class", "category")
IDS = ("id", "example_id", "uid")

MAX_FIELD = 2**20
"""Characters of one cell."""


def text_file(reference: str, root: Path, rest: str) -> EvaluationData:
    """`texts:FILE` or `texts:FILE#text=COLUMN,label=COLUMN,id=COLUMN`.

    Labels are class indices or names; without a label column there are none. Ids are row numbers where
    there is no id column. All other columns of text or numbers are attributes.
    """
    file, _, after = rest.partition("#")
    given = options(reference, after, ("text", "label", "id"))
    path = root / file
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file of texts, but {path.resolve()} does not exist.")
    rows = _json_lines(path) if path.suffix.lower() in (".jsonl", ".ndjson") else _table(path)
    return of_table(reference, rows, given, str(path))


def of_table(reference: str, rows: dict[str, list[Any]], given: dict[str, str], where: str) -> EvaluationData:
    """Data from columns of equal length: texts, labels, ids and attributes by the names in `given`, else usual ones."""
    there = list(rows)
    text = column(given, "text", TEXT, there, where)
    strange = [value for value in rows[text] if not isinstance(value, str)]
    if strange:
        raise ValueError(f"Expected texts in the column {text!r} of {where}, but got {strange[0]!r}.")
    label = column(given, "label", LABEL, there, where) if "label" in given or set(LABEL) & set(there) else None
    name = column(given, "id", IDS, there, where) if "id" in given or set(IDS) & set(there) else None
    labels, classes = (None, None) if label is None else classes_of(rows[label], where)
    columns = {key: attribute(rows[key]) for key in there if key not in (text, label, name)}
    data = EvaluationData(
        reference,
        rows[text],
        ids_of(rows[name] if name else None, len(rows[text])),
        labels,
        classes,
        {key: values for key, values in columns.items() if values is not None},
    )
    return dataclasses.replace(data, fingerprint=fingerprint(data))


def ids_of(values: list[Any] | None, number: int) -> np.ndarray:
    """Ids as int64 or text; row numbers where there are none."""
    if values is None:
        return np.arange(number)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, np.int64)
    return np.array([str(value) for value in values])


def _table(path: Path) -> dict[str, list[Any]]:
    """Columns of a .csv or .tsv file with a line of names, all as text."""
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"Expected a file of texts that ends in .csv, .tsv or .jsonl, but got {path.name!r}.")
    found: list[list[str]] = []
    csv.field_size_limit(MAX_FIELD)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            names = next(reader, [])
            for row in reader:
                if row and len(row) != len(names):
                    raise ValueError(f"{len(row)} cells in line {reader.line_num}, but {len(names)} names")
                found += [row] if row else []
                if len(found) > MAX_ROWS:
                    raise ValueError(f"more than {MAX_ROWS} rows")
        except (csv.Error, UnicodeDecodeError, ValueError) as error:
            raise ValueError(f"Cannot read {path} as a table with a line of column names: {error}.") from error
    if not found or len(set(names)) != len(names):
        raise ValueError(f"Expected a line of distinct column names and at least one row in {path}, but got {names}.")
    return {name: list(values) for name, values in zip(names, zip(*found, strict=True), strict=True)}


def _json_lines(path: Path) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict) or (rows and row.keys() != rows[0].keys()):
                        raise ValueError(f"line {number} is not an object with the keys of the first")
                    rows.append(row)
                    if len(rows) > MAX_ROWS:
                        raise ValueError(f"more than {MAX_ROWS} rows")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"Cannot read {path} as JSON lines: {error}.") from error
    if not rows:
        raise ValueError(f"Expected at least one line in {path}, but it is empty.")
    return {name: [row[name] for row in rows] for name in rows[0]}
