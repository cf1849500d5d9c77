"""Predicted and true classes as indices, out of indices or class names."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from remnant.ingest.limits import Limits, few, hold, shown
from remnant.ingest.strings import Coded, coded, from_sequence

WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}(\.0{1,18})?\s*")


def class_names(classes: Sequence[Any] | np.ndarray | None, limits: Limits) -> tuple[str, ...] | None:
    """Unique class names.

    Raises
    ------
    ValueError
        If there are fewer than 2, or two are the same.
    """
    if classes is None:
        return None
    array = np.asarray(classes)
    if array.ndim != 1:
        raise ValueError(f"Expected `classes` to be a list of names, but got the shape {array.shape}.")
    hold("The classes number", len(array), limits, "classes")
    names = tuple(str(v) for v in array) if array.dtype.kind in "iu" else _names(array, limits)
    if len(names) < 2:
        raise ValueError(f"Expected the names of at least 2 classes, but got {list(names)}.")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"Expected different class names, but {shown(twice)} comes more than once.")
    return names


def resolve(
    given: dict[str, Any], classes: tuple[str, ...] | None, num_classes: int | None, limits: Limits
) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None, bool]:
    """Class indices of every column in `given`, the class names, and whether these were only observed.

    Class names that only occur among the answers are sorted: they name classes, but say nothing about
    an order of indices elsewhere.

    Parameters
    ----------
    given
        Column name to class indices (integers), class names (strings) or `Coded`.
    classes
        Class names, if known.
    num_classes
        Number of classes, if known without names.

    Raises
    ------
    ValueError
        If an index is out of range, a name unknown, or names and indices are mixed without `classes`.
    """
    columns = {name: _column(name, values, limits) for name, values in given.items()}
    texts = {name: c for name, c in columns.items() if isinstance(c, Coded)}
    observed = False
    if classes is None and any(not _whole(column) for column in texts.values()):
        numbers = [name for name in columns if name not in texts]
        if numbers or num_classes is not None:
            where = f"`{numbers[0]}`" if numbers else "the scores"
            raise ValueError(
                f"Expected `classes` (the class names in the order of {where}), as `{next(iter(texts))}` holds class "
                "names and these are numbered. Add them to the file, or give `classes=[...]`."
            )
        classes = tuple(sorted({value for column in texts.values() for value in column.values}))
        hold("The classes number", len(classes), limits, "classes")
        observed = True
    most = len(classes) if classes else num_classes if num_classes is not None else limits.classes
    return {name: _indices(name, column, classes, most) for name, column in columns.items()}, classes, observed


def _names(array: np.ndarray, limits: Limits) -> tuple[str, ...]:
    return tuple(from_sequence(array, "`classes`", limits).tolist())


def _column(name: str, values: Any, limits: Limits) -> np.ndarray | Coded:
    if isinstance(values, Coded):
        return values
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"Expected `{name}` to have one value per example, but got the shape {array.shape}.")
    if array.dtype.kind in "USO":
        return coded(array, f"`{name}`", limits)
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = array.astype(np.int64)
        if (wrong := whole != array).any():
            row = int(wrong.argmax())
            raise ValueError(f"Expected `{name}` to hold whole numbers or names, but row {row} has {array[row]!s}.")
        return whole
    if array.dtype.kind not in "biu":
        raise ValueError(f"Expected `{name}` to hold class indices or class names, but got {array.dtype}.")
    return array


def _whole(column: Coded) -> bool:
    return all(WHOLE.fullmatch(value) for value in column.values)


def _indices(name: str, column: np.ndarray | Coded, classes: tuple[str, ...] | None, most: int) -> np.ndarray:
    if isinstance(column, Coded):
        return _lookup(name, column, classes, most)[column.codes]
    if len(column) and (int(column.min()) < 0 or int(column.max()) >= most):
        row = int(((column < 0) | (column >= most)).argmax())
        raise ValueError(_out_of_range(name, row, column[row].item(), most))
    return column.astype(np.int32)


def _lookup(name: str, column: Coded, classes: tuple[str, ...] | None, most: int) -> np.ndarray:
    """The class index of every different value of a column."""
    place = {value: index for index, value in enumerate(classes or ())}
    if classes is not None and all(value in place for value in column.values):
        return np.array([place[value] for value in column.values], np.int32)
    if not _whole(column):
        unknown = [value for value in column.values if value not in place]
        row = int(np.isin(column.codes, [column.values.index(unknown[0])]).argmax())
        raise ValueError(
            f"Expected `{name}` among the {most} classes {few(list(classes or ()), 3)}, but got {few(unknown, 3)}, "
            f"first in row {row}."
        )
    numbers = np.array([int(value.strip().split(".")[0]) for value in column.values], np.int64)
    wrong = np.flatnonzero((numbers < 0) | (numbers >= most))
    if len(wrong):
        row = int((column.codes == wrong[0]).argmax())
        raise ValueError(_out_of_range(name, row, int(numbers[wrong[0]]), most))
    return numbers.astype(np.int32)


def _out_of_range(name: str, row: int, value: int, most: int) -> str:
    return (
        f"Expected `{name}` to be a class index in [0, {most}), but row {row} has {value}. "
        "Leave out examples without a class."
    )
