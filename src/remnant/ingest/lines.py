"""JSON Lines: one example per line, scores and answer options as lists."""

import gzip
import json
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from remnant.ingest import harness
from remnant.ingest.assemble import Request, assemble, wanted
from remnant.ingest.limits import Limits, hold, shown
from remnant.ingest.names import Roles, roles
from remnant.ingest.predictions import Predictions
from remnant.ingest.streams import Bounded, open_text
from remnant.ingest.strings import from_sequence

BLOCK = 4096
"""Rows whose lists become one array together."""


def read_jsonl(path: Path, request: Request, source: dict[str, Any]) -> Predictions:
    """Predictions out of JSON Lines; logs of lm-evaluation-harness are recognised by their keys."""
    try:
        with open_text(path, request.limits) as stream:
            rows = objects(stream, request.limits)
            first = next(rows, None)
            if first is None:
                raise ValueError("Expected one JSON object per line, but the file is empty.")
            everything = chain([first], rows)
            if harness.is_sample(first):
                return harness.predictions(everything, request, source)
            if request.normalize != "none":
                raise ValueError(
                    f"Expected a log of lm-evaluation-harness for `normalize={request.normalize!r}`, but the first "
                    f"line has {shown(sorted(first))}."
                )
            return _from_rows(everything, list(first), request, source)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"It is not a gzip file, or it is damaged: {error}.") from error


def objects(stream: Bounded, limits: Limits) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file: one per line, or the elements of one list (older logs of lm-evaluation-harness).

    Raises
    ------
    ValueError
        With the number of the line that is not a JSON object.
    """
    number = 0
    while line := stream.readline():
        number += 1
        text = _decoded(line, number)
        if not text.strip():
            continue
        if number == 1 and text.lstrip()[:1] == "[":
            yield from _elements(text + _decoded(stream.read(), number), limits)
            return
        yield _object(text, f"line {number}")


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"Expected text in UTF-8, but line {number} is not: {shown(line)}.") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"Expected a JSON object of few levels, but {where} is nested too deeply.") from None
    except ValueError:
        raise ValueError(f"Expected a JSON object, but {where} is {shown(text)}. Is the file complete?") from None
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object, but {where} is {shown(text)}.")
    return value


def _elements(text: str, limits: Limits) -> Iterator[dict[str, Any]]:
    decoder, place, number = json.JSONDecoder(), text.index("[") + 1, 0
    while True:
        place += len(text[place : place + 2**16]) - len(text[place : place + 2**16].lstrip(" \t\r\n,"))
        if text[place : place + 1] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            fault = f"element {number} is {shown(text[place : place + 60])}. Is the file complete?"
            raise ValueError(f"Expected a list of JSON objects, but {fault}") from None
        hold("An element has this many characters:", end - place, limits, "line")
        if not isinstance(value, dict):
            raise ValueError(f"Expected a list of JSON objects, but element {number} is {shown(value)}.")
        yield value
        place, number = end, number + 1


def _from_rows(
    rows: Iterator[dict[str, Any]], keys: list[str], request: Request, source: dict[str, Any]
) -> Predictions:
    limits = request.limits
    found = wanted(roles(keys, request.names, limits), keys)
    known = {*found.single.values(), *found.per_class}
    table: dict[str, list[Any]] = {name: [] for name in keys}
    blocks: dict[str, list[np.ndarray]] = {name: [] for role, name in found.single.items() if _is_scores(role)}
    number = 0
    for number, row in enumerate(rows, start=1):
        hold("The rows number", number, limits, "rows")
        for name, values in table.items():
            if name not in row and name in known:
                raise ValueError(
                    f"Expected {shown(name)} in every row, as in the first, but row {number - 1} has none."
                )
            values.append(row.get(name))
        if number % BLOCK == 0:
            _condense(table, blocks, number, limits)
    _condense(table, blocks, number, limits)
    raw: dict[str, Any] = {name: np.concatenate(parts) for name, parts in blocks.items() if parts}
    for name, values in table.items():
        if name not in raw and (made := _column(name, values, found, limits)) is not None:
            raw[name] = made
    return assemble(raw, found, request, source)


def _is_scores(role: str) -> bool:
    return role in ("logits", "probabilities", "scores", "prediction")


def _condense(table: dict[str, list[Any]], blocks: dict[str, list[np.ndarray]], number: int, limits: Limits) -> None:
    """Move the lists of numbers that were read so far into arrays."""
    for name, parts in list(blocks.items()):
        values = table[name]
        if not parts and values and not isinstance(values[0], list):
            del blocks[name]
            continue
        if not values:
            continue
        start = number - len(values)
        width = parts[0].shape[1] if parts else len(values[0])
        hold(f"The lists of {shown(name)} have this many numbers:", width, limits, "classes")
        size = 4 * width * number
        hold(f"The lists of {shown(name)} need at least this many bytes:", size, limits, "memory")
        parts.append(_block(name, values, width, start))
        values.clear()


def _block(name: str, values: list[Any], width: int, start: int) -> np.ndarray:
    for row, value in enumerate(values, start=start):
        if not isinstance(value, list) or len(value) != width:
            came = f"{len(value)}" if isinstance(value, list) else shown(value)
            raise ValueError(
                f"Expected a list of {width} numbers as {shown(name)} of every row, but row {row} has {came}."
            )
    try:
        block = np.array(values)
    except ValueError:
        block = np.empty(0, object)
    if block.dtype.kind not in "iuf" or block.ndim != 2:
        row, value = next(
            ((r, v) for r, line in enumerate(values, start=start) for v in line if type(v) not in (int, float)),
            (start, values[0]),
        )
        raise ValueError(f"Expected numbers in {shown(name)}, but row {row} has {shown(value)}.")
    with np.errstate(over="ignore"):
        return block.astype(np.float32)


def _column(name: str, values: list[Any], found: Roles, limits: Limits) -> Any:
    role = next((role for role, other in found.single.items() if other == name), "")
    if name in found.per_class:
        return _numbers(name, values).astype(np.float32)
    if role in ("text", "options", "classes"):
        return _texts(name, role, values)
    if role in ("id", "content", "label", "prediction"):
        if role != "content" and all(type(value) is int for value in values):
            return _integers(name, values)
        if role in ("label", "prediction") and all(type(value) in (int, float) for value in values):
            return _numbers(name, values)
        return from_sequence(values, f"`{name}`", limits)
    return _attribute(values)


def _integers(name: str, values: list[int]) -> np.ndarray:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        row = next(row for row, value in enumerate(values) if not -(2**63) <= value < 2**63)
        raise ValueError(f"Expected {shown(name)} within 64 bits, but row {row} has {shown(values[row])}.") from None


def _numbers(name: str, values: list[Any]) -> np.ndarray:
    row = next((row for row, value in enumerate(values) if type(value) not in (int, float)), None)
    if row is not None:
        raise ValueError(f"Expected a number as {shown(name)} of every row, but row {row} has {shown(values[row])}.")
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise ValueError(f"Expected numbers as {shown(name)}, but one is too large.") from None


def _texts(name: str, role: str, values: list[Any]) -> list[Any]:
    if role == "classes":
        raise ValueError(f"Expected {shown(name)} not to be in every line: give the class names with `classes=[...]`.")
    kind = str if role == "text" else list
    row = next((row for row, value in enumerate(values) if not isinstance(value, kind)), None)
    if row is not None:
        what = "a text" if role == "text" else "a list of answer options"
        raise ValueError(f"Expected {what} as {shown(name)} of every row, but row {row} has {shown(values[row])}.")
    return values


def _attribute(values: list[Any]) -> Any:
    """Numbers with NaN, or strings with "", where a row has none; None for lists and objects."""
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds or kinds & {list, dict}:
        return None
    if kinds <= {int, float}:
        try:
            return np.array([np.nan if value is None else value for value in values], np.float64)
        except OverflowError:
            return None
    return ["" if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
