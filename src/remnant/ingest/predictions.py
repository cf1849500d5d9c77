"""One model's answers on many examples, as frozen checked arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from remnant.ingest.answers import class_names, resolve
from remnant.ingest.limits import Limits, few, hold, shown
from remnant.ingest.scores import argmax, as_logits, first_row
from remnant.ingest.strings import Coded, from_sequence

SHORTENED = "..."


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """One model's answers. Made by `read`, or by `from_arrays` where the model ran here."""

    ids: np.ndarray | None
    """Unique ids of the examples, strings or int64; None if only their position tells them apart."""
    scores: np.ndarray | None
    """Finite logits (example, class), float16, float32 or float64."""
    prediction: np.ndarray | None
    """Predicted class of every example; None where `scores` tell it."""
    label: np.ndarray | None
    """True class of every example."""
    classes: tuple[str, ...] | None
    """Class names; None if classes are numbers only."""
    classes_observed: bool = False
    """The names are those that occur among the answers: there may be more, and their order means nothing."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Attributes of the examples: strings or numbers; "" and NaN are missing."""
    text: np.ndarray | None = None
    """Input texts, shortened (dtype object)."""
    options: np.ndarray | None = None
    """Answer options of multiple choice (example, class), "" where an example has fewer (dtype object)."""
    num_options: np.ndarray | None = None
    """Number of answer options of every example."""
    content: np.ndarray | None = None
    """Hash of every example's content: files in which it differs were not made on the same examples."""
    model_bytes: int | None = None
    """Size of the model that answered."""
    latency: float | None = None
    """Seconds that the model took per example."""
    source: dict[str, Any] = field(default_factory=dict)
    """Provenance: `kind`, `name`, `sha256`, `bytes`, `rows`, and how the scores were read."""

    def __len__(self) -> int:
        return next(len(a) for a in (self.scores, self.prediction, self.label) if a is not None)

    def __repr__(self) -> str:
        has = [n for n in ("ids", "scores", "prediction", "label", "text", "options") if getattr(self, n) is not None]
        return f"Predictions({shown(self.source.get('name', ''))}, {len(self):,} examples, {', '.join(has)})"

    @property
    def num_classes(self) -> int:
        """Number of classes; without scores and names, one more than the highest answer or label."""
        if self.scores is not None:
            return self.scores.shape[1]
        if self.classes is not None:
            return len(self.classes)
        return 1 + max(int(a.max(initial=0)) for a in (self.prediction, self.label) if a is not None)

    def answers(self) -> np.ndarray | None:
        """Predicted class of every example, given or by the highest score; None if there are labels only."""
        return argmax(self.scores) if self.scores is not None else self.prediction


def from_arrays(
    scores: Any = None,
    *,
    prediction: Any = None,
    label: Any = None,
    ids: Any = None,
    classes: Sequence[str] | np.ndarray | None = None,
    columns: Mapping[str, Any] | None = None,
    text: Sequence[str] | np.ndarray | None = None,
    options: Sequence[Sequence[str]] | np.ndarray | None = None,
    num_options: Any = None,
    content: Any = None,
    read_as: str = "auto",
    model_bytes: int | None = None,
    latency: float | None = None,
    source: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Predictions:
    """Checked predictions out of arrays in memory. All readers of files end here.

    Parameters
    ----------
    scores
        Logits or probabilities (example, class).
    prediction, label
        Class indices from 0, or class names.
    ids
        Unique strings or integers.
    columns
        Attributes by name, one value per example.
    read_as
        What `scores` are: "logits", "probabilities" or "auto" (see `remnant.ingest.read`).
    content
        A hash of every example's content, compared between files.
    source
        Provenance to keep; at least `name` is worth giving.

    Raises
    ------
    ValueError
        Naming what was expected, the row and what came.
    """
    limits = limits or Limits()
    scores = None if scores is None else np.asarray(scores)
    given = {name: values for name, values in (("prediction", prediction), ("label", label)) if values is not None}
    if scores is None and not given:
        raise ValueError("Expected scores, a prediction or a label for every example, but got none of them.")
    notes = dict(source or {})
    if scores is not None:
        scores, notes["scores"] = as_logits(scores, read_as, limits)
    names = class_names(classes, limits)
    if scores is not None and names is not None and len(names) != scores.shape[1]:
        raise ValueError(f"Expected one class name per score, but got {len(names)} names for {scores.shape[1]} scores.")
    num_classes = None if scores is None else scores.shape[1]
    indices, names, observed = resolve(given, names, num_classes, limits)
    rows = _num_rows({"scores": scores, **indices}, limits)
    if scores is not None and "prediction" in indices:
        _check_agreement(scores, indices.pop("prediction"))
    made = _options(options, num_options, rows, num_classes, limits)
    attributes = {name: _attribute(name, values, rows, limits) for name, values in (columns or {}).items()}
    if text is not None:
        text, length = _texts(text, rows, limits)
        attributes.setdefault("text_length", length)
    return Predictions(
        ids=None if ids is None else _ids(ids, rows, limits),
        scores=scores,
        prediction=indices.get("prediction"),
        label=indices.get("label"),
        classes=names,
        classes_observed=observed,
        columns=attributes,
        text=text,
        options=made[0],
        num_options=made[1],
        content=None if content is None else _one_per_row("content", from_sequence(content, "`content`", limits), rows),
        model_bytes=model_bytes,
        latency=latency,
        source={"kind": "arrays", "name": "", **notes, "rows": rows},
    )


def _num_rows(arrays: Mapping[str, np.ndarray | None], limits: Limits) -> int:
    lengths = {name: len(array) for name, array in arrays.items() if array is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Expected the same number of examples everywhere, but got {lengths}.")
    rows = next(iter(lengths.values()))
    if rows == 0:
        raise ValueError("Expected at least one example, but there is none.")
    hold("The examples number", rows, limits, "rows")
    return rows


def _one_per_row(name: str, array: np.ndarray, rows: int) -> np.ndarray:
    if array.shape != (rows,):
        raise ValueError(f"Expected `{name}` to have one value for each of the {rows} examples, but got {array.shape}.")
    return array


def _ids(ids: Any, rows: int, limits: Limits) -> np.ndarray:
    array = _one_per_row("ids", np.asarray(ids), rows)
    if array.dtype.kind in "iu":
        if array.dtype == np.uint64 and int(array.max()) > np.iinfo(np.int64).max:
            raise ValueError(f"Expected integer ids below 2**63, but got {array.max()}. Write them as strings.")
        array = array.astype(np.int64, copy=False)
        ordered = np.sort(array)
        if (ordered[1:] != ordered[:-1]).all():
            return array
    elif array.dtype.kind in "USO":
        array = from_sequence(array, "`ids`", limits)
    else:
        raise ValueError(f"Expected `ids` to be integers or strings, but got {array.dtype}.")
    twice = pd.Series(array).duplicated().to_numpy()
    if twice.any():
        row = int(twice.argmax())
        raise ValueError(
            f"Expected every id once, but {int(twice.sum()):,} rows repeat an earlier id, the first "
            f"{shown(array[row])} in row {row}."
        )
    return array


def _attribute(name: str, values: Any, rows: int, limits: Limits) -> np.ndarray:
    hold(f"The name {shown(name)} has this many characters:", len(name), limits, "name")
    if isinstance(values, Coded):
        levels = np.array(values.values, np.str_)
        hold(f"The attribute {shown(name)} needs this many bytes:", levels.itemsize * rows, limits, "memory")
        return _one_per_row(name, levels[values.codes], rows)
    array = _one_per_row(name, np.asarray(values), rows)
    if array.dtype.kind in "USO":
        return from_sequence(array, f"`{name}`", limits)
    if array.dtype.kind == "b":
        return np.where(array, "True", "False")
    if array.dtype.kind not in "iuf":
        raise ValueError(f"Expected the attribute {shown(name)} to hold strings or numbers, but got {array.dtype}.")
    return array


def _texts(text: Any, rows: int, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
    """Texts no longer than the limit (dtype object), and their lengths before."""
    given = list(text)
    if len(given) != rows:
        raise ValueError(f"Expected a text for each of the {rows} examples, but got {len(given)}.")
    out, length = np.empty(rows, object), np.empty(rows, np.int64)
    long: dict[int, str] = {}  # a small file can repeat one long text in every row: it is one object in `given`
    for row, value in enumerate(given):
        out[row] = long.get(id(value)) or _short(value, "text", row, limits)
        length[row] = len(value)
        if length[row] > limits.text:
            long[id(value)] = out[row]
    return out, length


def _options(
    options: Any, num_options: Any, rows: int, num_classes: int | None, limits: Limits
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if options is None:
        return None, None if num_options is None else _one_per_row("num_options", np.asarray(num_options), rows)
    given = [list(row) for row in options]
    if len(given) != rows:
        raise ValueError(f"Expected answer options for each of the {rows} examples, but got {len(given)}.")
    counts = np.array([len(row) for row in given], np.int64)
    most = int(counts.max()) if num_classes is None else num_classes
    if (counts > most).any():
        row = int((counts > most).argmax())
        raise ValueError(f"Expected at most one answer option per class, but row {row} has {counts[row]} for {most}.")
    hold("The answer options number", most, limits, "classes")
    hold("The table of answer options needs this many bytes:", 8 * most * rows, limits, "memory")
    out = np.full((rows, most), "", object)
    for row, line in enumerate(given):
        out[row, : len(line)] = [_short(value, "answer option", row, limits) for value in line]
    return out, counts if num_options is None else _one_per_row("num_options", np.asarray(num_options), rows)


def _short(value: Any, what: str, row: int, limits: Limits) -> str:
    if not isinstance(value, str):
        raise ValueError(f"Expected every {what} to be a string, but row {row} has {shown(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"Expected every {what} to be Unicode, but row {row} has half a surrogate pair.") from None
    return value if len(value) <= limits.text else value[: limits.text] + SHORTENED


def _check_agreement(scores: np.ndarray, prediction: np.ndarray) -> None:
    """Predictions beside scores must be a highest score: else one of them has another order of classes."""
    position = 0

    def wrong(block: np.ndarray) -> np.ndarray:
        nonlocal position
        chosen = np.take_along_axis(block, prediction[position : position + len(block), np.newaxis], axis=1)
        position += len(block)
        return chosen[:, 0] < block.max(axis=1)

    row = first_row(scores, wrong)
    if row is not None:
        raise ValueError(
            f"Expected `prediction` to be the class with the highest score, but row {row} predicts class "
            f"{prediction[row]} and scores class {int(scores[row].argmax())} highest. Are the classes in another "
            "order? If the predictions are meant to differ from the scores, leave one of them out."
        )


def described(predictions: Sequence[Predictions]) -> str:
    """The names of some predictions, for a message."""
    return few([p.source.get("name") or "arrays" for p in predictions])
