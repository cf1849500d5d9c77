"""Options behind "#" in a data reference, and columns of a table as labels and attributes."""

import numpy as np

MAX_ROWS = 20_000_000
"""Rows that are read from a table of examples: more is taken for a mistake."""


def options(reference: str, text: str, known: tuple[str, ...]) -> dict[str, str]:
    """The `key=value` pairs of `text`, the part of `reference` behind "#".

    Raises
    ------
    ValueError
        Naming the options that there are.
    """
    found: dict[str, str] = {}
    for piece in filter(None, text.split(",")):
        key, equals, value = piece.partition("=")
        if not equals or key not in known or not value:
            raise ValueError(
                f"Expected options such as {known[0]}=NAME out of {list(known)} after '#' in {reference!r}, "
                f"but got {piece!r}."
            )
        found[key] = value
    return found


def column(given: dict[str, str], key: str, candidates: tuple[str, ...], there: list[str], where: str) -> str:
    """The name of the column for `key`: the one given, else the first candidate that is there.

    Raises
    ------
    ValueError
        With the columns that there are, and how to name one.
    """
    wanted = given.get(key)
    if wanted is not None and wanted in there:
        return wanted
    if wanted is None:
        for name in candidates:
            if name in there:
                return name
    raise ValueError(
        f"Expected a column {wanted or ' or '.join(candidates)} in {where}, but it has {there[:20]}. "
        f"Name one with #{key}=COLUMN."
    )


def classes_of(values: list, where: str, names: list[str] | None = None) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Class indices and class names of a label column: indices as they are, or names, sorted where not given.

    Names are None where the labels are indices without names.

    Raises
    ------
    ValueError
        If a label is missing, negative, or neither a whole number nor a text.
    """
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        labels = np.array(values, np.int64)
        top = len(names) if names is not None else None
        if labels.min() < 0 or (top is not None and labels.max() >= top):
            raise ValueError(
                f"Expected labels in [0, {top or 'number of classes'}) in {where}, but got {labels.min()}."
            )
        return labels, None if names is None else tuple(names)
    strange = [value for value in values if not isinstance(value, str) or not value]
    if strange:
        raise ValueError(
            f"Expected every label in {where} to be a whole number or a name, but got {strange[0]!r} "
            f"({len(strange)} such rows)."
        )
    if all(value.isdecimal() for value in values):
        return classes_of([int(value) for value in values], where, names)
    known = sorted(set(values)) if names is None else names
    index = {name: position for position, name in enumerate(known)}
    if absent := sorted(set(values) - set(index)):
        raise ValueError(f"Expected labels out of {known[:20]} in {where}, but got {absent[:5]}.")
    return np.array([index[value] for value in values], np.int64), tuple(known)


def attribute(values: list) -> np.ndarray | None:
    """An attribute column as text or numbers; None if it holds anything else (lists, pictures)."""
    if all(isinstance(value, bool | str) or value is None for value in values):
        return np.array(["" if value is None else str(value) for value in values])
    if all(isinstance(value, int | float) for value in values):
        found = np.array(values, np.float64 if any(isinstance(value, float) for value in values) else np.int64)
        return found
    return None
