"""Frozen dataclasses as plain data and back, with errors that name the key."""

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any

from remnant.registry import unknown


def build(cls: type, data: dict[str, Any], where: str) -> Any:
    """An instance of the frozen dataclass `cls` from plain data, with errors that name the key."""
    known = {f.name: f for f in fields(cls)}
    for name in data:
        if name not in known:
            raise ValueError(f"In `{where}`: {unknown('key', name, known)}")
    required = [
        f.name for f in known.values() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if absent := [name for name in required if name not in data]:
        raise ValueError(f"In `{where}`: expected the keys {absent}, but they are missing.")
    values = {name: _typed(known[name].type, value, f"{where}.{name}") for name, value in data.items()}
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"In `{where}`: {error}") from error


def _typed(annotation: Any, value: Any, where: str) -> Any:
    """`value` checked against the annotations that our dataclasses use; lists become tuples."""
    annotation = _without_none(annotation) if value is not None else annotation
    if dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return build(annotation, dict(value), where)  # pyright: ignore[reportArgumentType]
    if getattr(annotation, "__origin__", None) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"Expected `{where}` to be a list, but got {value!r}.")
        return tuple(_typed(annotation.__args__[0], item, where) for item in value)  # pyright: ignore
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation in (int, float, bool, str):
        wrong_bool = isinstance(value, bool) and annotation is not bool
        if wrong_bool or not isinstance(value, annotation):
            raise ValueError(f"Expected `{where}` to be of type {annotation.__name__}, but got {value!r}.")
    return value


def non_default(value: Any) -> dict[str, Any]:
    """The fields of a frozen dataclass that differ from their defaults, by name."""
    found = {}
    for f in fields(value):
        # 20 and 20.0 epochs are one trial, and so are NumPy's and Python's numbers.
        item = _as_declared(f.type, getattr(value, f.name))
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if (f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING) or item != default:
            found[f.name] = item
    return found


def _as_declared(annotation: Any, item: Any) -> Any:
    if item is None:
        return None
    annotation = _without_none(annotation)
    if annotation in (int, float):
        return annotation(item)
    if annotation == tuple[float, ...]:
        return tuple(float(part) for part in item)
    return item


def _without_none(annotation: Any) -> Any:
    """X for the annotation X | None; others as they are."""
    if isinstance(annotation, UnionType):
        parts = [part for part in annotation.__args__ if part is not type(None)]
        return parts[0] if len(parts) == 1 else annotation
    return annotation


def check(holds: bool, name: str, constraint: str, value: object) -> None:
    """ValueError with what was expected and what came, unless the constraint `holds`."""
    if not holds:
        raise ValueError(f"Expected `{name}` {constraint}, but got {value!r}.")


def check_choice(value: Any, name: str) -> None:
    """The field `name` holds one of the values of its Literal annotation."""
    annotation = next(f.type for f in fields(value) if f.name == name)
    choices = annotation.__args__  # pyright: ignore
    if getattr(value, name) not in choices:
        raise unknown(name, getattr(value, name), choices)
