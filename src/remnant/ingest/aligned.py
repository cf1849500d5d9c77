"""Files whose examples and classes were brought into one order, and what they say together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from remnant.ingest.limits import few, shown
from remnant.ingest.matching import Matching
from remnant.ingest.predictions import Predictions
from remnant.ingest.scores import argmax
from remnant.population import NO_OPTION, SchemaError


@dataclass(frozen=True)
class Aligned:
    """Files of models, then perhaps one of labels, with the places of their examples and classes."""

    files: Sequence[Predictions]
    names: Sequence[str]
    matching: Matching
    classes: tuple[str, ...]
    places: Sequence[np.ndarray | None]
    """Where each file's own classes stand among `classes`."""
    num_models: int

    def rows(self, index: int, values: np.ndarray) -> np.ndarray:
        """One value per example of a file, in the common order of examples."""
        rows = self.matching.rows[index]
        return values if rows is None else values[rows]

    def indices(self, index: int, values: np.ndarray) -> np.ndarray:
        """Class indices of a file, in the common order of examples and of classes."""
        place, values = self.places[index], self.rows(index, values)
        return values if place is None else place[values]


def logits(aligned: Aligned) -> np.ndarray:
    """Scores of all models (trial, example, class), in the widest dtype of the files."""
    scores = [file.scores for file in aligned.files[: aligned.num_models] if file.scores is not None]
    shape = (len(scores), len(aligned.matching.example), len(aligned.classes))
    out = np.empty(shape, np.result_type(*{array.dtype for array in scores}))
    for index, array in enumerate(scores):
        rows, place, width = aligned.matching.rows[index], aligned.places[index], array.shape[1]
        if width < shape[2]:
            # Multiple choice: no example of this file has more options.
            out[index, :, width:] = NO_OPTION
        if place is None and rows is None:
            out[index, :, :width] = array
        elif rows is not None and place is None and width == shape[2] and array.dtype == out.dtype:
            np.take(array, rows, axis=0, out=out[index], mode="clip")
        else:
            ordered = array if rows is None else array[rows]
            out[index][:, slice(width) if place is None else place] = ordered
    return out


def answers(aligned: Aligned) -> np.ndarray:
    """Predicted class of every model and example, int32."""
    out = np.empty((aligned.num_models, len(aligned.matching.example)), np.int32)
    for index in range(aligned.num_models):
        given = aligned.files[index]
        own = argmax(given.scores) if given.scores is not None else given.prediction
        if own is None:
            raise SchemaError(f"Expected scores or predictions in {aligned.names[index]}, but it has labels only.")
        out[index] = aligned.indices(index, own)
    return out


def label(aligned: Aligned) -> np.ndarray | None:
    """True class of every example, in which all files that know it agree; None if none does.

    Raises
    ------
    SchemaError
        With the first examples on which two files differ.
    """
    known: tuple[str, np.ndarray] | None = None
    for index, file in _labels_first(aligned):
        own = file.label
        if own is None and index >= aligned.num_models:
            own = file.answers()
        if own is None:
            continue
        found = aligned.indices(index, own)
        if known is None:
            known = aligned.names[index], found
        elif (wrong := known[1] != found).any():
            ids = aligned.matching.example[wrong]
            first = int(wrong.argmax())
            raise SchemaError(
                f"Expected the same labels in every file, but {known[0]} and {aligned.names[index]} differ on "
                f"{int(wrong.sum()):,} examples: {few(ids)}; the first is {shown(aligned.classes[known[1][first]])} "
                f"and {shown(aligned.classes[found[first]])}. Are ids and order of classes the same everywhere?"
            )
    return None if known is None else known[1]


def attributes(aligned: Aligned) -> tuple[dict[str, np.ndarray], list[str]]:
    """Attributes of the examples, and the names of those in which files differ: they belong to models."""
    found: dict[str, np.ndarray] = {}
    clashing: list[str] = []
    for index, file in _labels_first(aligned):
        for name, values in file.columns.items():
            ordered = aligned.rows(index, values)
            if name in found and not _same(found[name], ordered):
                clashing.append(name)
            found.setdefault(name, ordered)
    return {name: values for name, values in found.items() if name not in clashing}, sorted(set(clashing))


def texts(aligned: Aligned) -> dict[str, Any]:
    """Variables `text`, `option` and `num_options`, as the first file that has them."""
    variables: dict[str, Any] = {}
    for index, file in enumerate(aligned.files):
        if file.text is not None and "text" not in variables:
            variables["text"] = (("example",), aligned.rows(index, file.text))
        if file.options is not None and "option" not in variables and file.options.shape[1] <= len(aligned.classes):
            out = np.full((len(aligned.matching.example), len(aligned.classes)), "", object)
            place = aligned.places[index]
            columns = slice(file.options.shape[1]) if place is None else place[: file.options.shape[1]]
            out[:, columns] = aligned.rows(index, file.options)
            variables["option"] = (("example", "class"), out)
        if file.num_options is not None and "num_options" not in variables:
            variables["num_options"] = (("example",), aligned.rows(index, file.num_options))
    return variables


def costs(models: Sequence[Predictions]) -> dict[str, Any]:
    """Variables `bytes` and `latency`, where they are known of every model."""
    variables: dict[str, Any] = {}
    sizes = [model.model_bytes for model in models]
    if None not in sizes:
        variables["bytes"] = (("trial", "encoding"), np.array(sizes, np.int64)[:, np.newaxis])
    seconds = [model.latency for model in models]
    if None not in seconds:
        variables["latency"] = (("trial",), np.array(seconds, np.float64))
    return variables


def check_contents(aligned: Aligned) -> None:
    """Nothing, if all files that hash the content of the examples hash the same.

    Raises
    ------
    SchemaError
        With the first examples whose content differs.
    """
    known: tuple[str, np.ndarray] | None = None
    for index, file in enumerate(aligned.files):
        if file.content is None:
            continue
        found = aligned.rows(index, file.content)
        if known is None:
            known = aligned.names[index], found
        elif (wrong := known[1] != found).any():
            raise SchemaError(
                f"Expected the same examples under the same ids, but their content hashes differ between {known[0]} "
                f"and {aligned.names[index]} on {few(aligned.matching.example[wrong])}. Were both made on one data set?"
            )


def _labels_first(aligned: Aligned) -> list[tuple[int, Predictions]]:
    """All files with their numbers, the one of labels before those of models."""
    numbered = list(enumerate(aligned.files))
    return [*numbered[aligned.num_models :], *numbered[: aligned.num_models]]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if (a.dtype.kind == "U") != (b.dtype.kind == "U"):
        return False
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f")
