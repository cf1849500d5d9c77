"""Which row of one file is which row of another: by id, or by position where that was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute

from remnant.ingest.limits import few
from remnant.ingest.predictions import Predictions
from remnant.ingest.strings import to_arrow
from remnant.population import SchemaError

pc: Any = pyarrow.compute  # Its functions are made at import, unseen by type checkers.

FEW = 5
"""Ids that a record of what was left out lists."""


@dataclass(frozen=True)
class Matching:
    """How the examples of several files belong together."""

    example: np.ndarray
    """Ids of the examples, in the order of the first file."""
    rows: list[np.ndarray | None]
    """For each file, its rows in that order; None if they already are."""
    record: dict[str, Any] = field(default_factory=dict)
    """How it was done and what was left out, for `attrs["matching"]`."""


def by_position(files: Sequence[Predictions], names: Sequence[str]) -> Matching:
    """Row i of one file is row i of every other.

    Raises
    ------
    SchemaError
        If the files have different numbers of rows.
    """
    lengths = [len(file) for file in files]
    if len(set(lengths)) > 1:
        listed = ", ".join(f"{name}: {length:,}" for name, length in zip(names, lengths, strict=True))
        raise SchemaError(f"Expected as many rows in every file, to match them by position, but got {listed}.")
    ids = next((file.ids for file in files if file.ids is not None), None)
    example = np.arange(lengths[0]) if ids is None else ids
    differ = [
        name
        for file, name in zip(files, names, strict=True)
        if file.ids is not None and not np.array_equal(file.ids, example)
    ]
    record = {"by": "position", "examples": len(example)}
    return Matching(example, [None] * len(files), record | ({"ids_differ_in": differ} if differ else {}))


def by_id(files: Sequence[Predictions], names: Sequence[str], missing: str) -> Matching:
    """Rows with the same id belong together, in any order.

    Parameters
    ----------
    missing
        "error", or "drop" to keep the examples that all files have.

    Raises
    ------
    SchemaError
        If a file has no ids, or (for "error") an id is not in every file.
    """
    all_ids = _ids(files, names)
    base = all_ids[0]
    places = [None if np.array_equal(ids, base) else _places(base, ids) for ids in all_ids]
    present = np.ones(len(base), bool)
    for place in places:
        present &= True if place is None else place >= 0
    faults, left_out = [], {}
    for place, ids, name in zip(places, all_ids, names, strict=True):
        kept = present if place is None else _among(place[present], len(ids))
        if not kept.all():
            left_out[name] = _left_out(ids[~kept])
        if place is not None:
            faults += _differences(base[place < 0], ids[~_among(place[place >= 0], len(ids))], names[0], name)
    if faults and missing == "error":
        raise SchemaError(
            f"Expected the same ids in every file, but {'; '.join(faults)}. "
            'To compare on the examples that all have, ask for `--missing drop` (in Python `missing="drop"`).'
        )
    if not present.any():
        raise SchemaError(f"Expected some ids that all files have, but there is none: {'; '.join(faults)}.")
    whole = bool(present.all())
    rows = [_rows(place, present, whole) for place in places]
    reordered = [name for name, place in zip(names, places, strict=True) if place is not None]
    record: dict[str, Any] = {"by": "id", "examples": int(present.sum()), "reordered": reordered}
    return Matching(base if whole else base[present], rows, record | ({"left_out": left_out} if left_out else {}))


def _among(rows: np.ndarray, length: int) -> np.ndarray:
    """For each of `length` rows whether it is in `rows`."""
    out = np.zeros(length, bool)
    out[rows] = True
    return out


def _differences(absent: np.ndarray, extra: np.ndarray, first: str, other: str) -> list[str]:
    faults = [f"{few(absent)} are in {first} and not in {other}"] if len(absent) else []
    return [*faults, *([f"{few(extra)} are in {other} and not in {first}"] if len(extra) else [])]


def _rows(place: np.ndarray | None, present: np.ndarray, whole: bool) -> np.ndarray | None:
    if place is None:
        return None if whole else np.flatnonzero(present)
    return place if whole else place[present]


def _ids(files: Sequence[Predictions], names: Sequence[str]) -> list[np.ndarray]:
    """The ids of all files, of one kind."""
    without = [name for file, name in zip(files, names, strict=True) if file.ids is None]
    if without:
        which = "no file has any" if len(without) == len(files) else f"{few(without)} have none"
        raise SchemaError(
            f"Expected ids of the examples, to match the files by them, but {which}. Add a column `id`, or, if row i "
            'is the same example in every file, say so with `--match position` (in Python `match="position"`).'
        )
    all_ids = [file.ids for file in files if file.ids is not None]
    if len({ids.dtype.kind for ids in all_ids}) == 1:
        return all_ids
    return [ids if ids.dtype.kind == "U" else ids.astype(np.str_) for ids in all_ids]


def _places(wanted: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each id in `wanted` its row in `among`, int64; -1 where it is not there."""
    if wanted.dtype.kind == "i":
        low, high = int(among.min()), int(among.max())
        if high - low < 4 * len(among):
            # Nearly all numbers of a range are ids: a table of it is faster and smaller than sorting.
            table = np.full(high - low + 1, -1, np.int64)
            table[among - low] = np.arange(len(among))
            inside = (wanted >= low) & (wanted <= high)
            return np.where(inside, table[np.clip(wanted, low, high) - low], -1)
        order = np.argsort(among)
        found = np.empty(len(wanted), np.int64)
        queue = np.argsort(wanted)
        # Sorted questions walk through memory in one direction: several times faster than random ones.
        found[queue] = np.searchsorted(among[order], wanted[queue])
        found = order[np.minimum(found, len(among) - 1)]
        found[among[found] != wanted] = -1
        return found
    index = pc.index_in(to_arrow(wanted), value_set=to_arrow(among))
    return pc.fill_null(index, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _left_out(ids: np.ndarray) -> dict[str, Any]:
    return {"count": len(ids), "first": ids[:FEW].tolist()}
