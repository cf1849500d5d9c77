"""One list of classes for files that number or name them each in their own way."""

from collections.abc import Sequence

import numpy as np

from remnant.ingest.limits import few
from remnant.ingest.predictions import Predictions
from remnant.population import SchemaError


def common_classes(
    files: Sequence[Predictions], names: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[np.ndarray | None]]:
    """The class names, and for each file where its own classes stand among them (None: in the same places).

    Names decide, never the order: a file whose scores stand in another order is put in that of the first. Files
    that only number the classes follow the first file that names them in order.

    Raises
    ------
    SchemaError
        If files have different classes, or numbers cannot be told from names.
    """
    ordered = classes or next((f.classes for f in files if f.classes and not f.classes_observed), None)
    if ordered is not None:
        pairs = zip(files, names, strict=True)
        return ordered, [_placed(file, name, ordered) for file, name in pairs]
    observed = [f for f in files if f.classes]
    if not observed:
        return _numbered(files, names), [None] * len(files)
    numbered = [name for file, name in zip(files, names, strict=True) if not file.classes]
    if numbered:
        raise SchemaError(
            f"Expected class names in every file or in none, but {few(numbered)} number the classes. "
            "Give the class names in the order of these numbers with `classes=[...]`."
        )
    union = tuple(sorted({name for file in observed for name in file.classes or ()}))
    return union, [_placed(file, name, union) for file, name in zip(files, names, strict=True)]


def _placed(file: Predictions, name: str, ordered: tuple[str, ...]) -> np.ndarray | None:
    if file.classes == ordered:
        return None
    if file.classes is None:
        exact = file.scores is not None
        if file.num_classes > len(ordered) or (exact and file.num_classes != len(ordered)):
            raise SchemaError(f"Expected {len(ordered)} classes in every file, but {name} has {file.num_classes}.")
        return None
    place = {class_name: index for index, class_name in enumerate(ordered)}
    unknown = [n for n in file.classes if n not in place]
    absent = [] if file.classes_observed else sorted(set(ordered) - set(file.classes))
    if unknown or absent:
        parts = [f"{few(unknown)} are in {name} only"] if unknown else []
        parts += [f"{name} lacks {few(absent)}"] if absent else []
        raise SchemaError(
            f"Expected the same classes in every file, but {' and '.join(parts)}. If they are spelt differently, give "
            "each file its class names in one spelling with `read(..., classes=[...])`."
        )
    return np.array([place[n] for n in file.classes], np.int32)


def _numbered(files: Sequence[Predictions], names: Sequence[str]) -> tuple[str, ...]:
    widths = {n: f.num_classes for f, n in zip(files, names, strict=True) if f.scores is not None}
    choice = [f for f in files if f.scores is not None and f.num_options is not None]
    if len(set(widths.values())) > 1 and len(choice) < len(widths):
        listed = ", ".join(f"{name}: {width}" for name, width in widths.items())
        raise SchemaError(f"Expected scores of the same classes in every file, but got {listed}.")
    most = max(widths.values()) if widths else max(2, *(f.num_classes for f in files), 2)
    for file, name in zip(files, names, strict=True):
        if file.num_classes > most:
            raise SchemaError(
                f"Expected class indices below {most}, the number of scores, but {name} has {file.num_classes - 1}."
            )
    return tuple(str(index) for index in range(most))
