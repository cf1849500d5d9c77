"""From named columns, whatever file they came from, to predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remnant.ingest.limits import Limits, few, hold, shown
from remnant.ingest.names import NAMES, Roles
from remnant.ingest.predictions import Predictions, from_arrays


@dataclass(frozen=True)
class Request:
    """How a file is to be read."""

    scores: str = "auto"
    """"logits", "probabilities", or "auto": as the name of the column says, else by the values."""
    names: Mapping[str, str] | None = None
    """Role to name, where a file uses names of its own."""
    classes: Sequence[str] | None = None
    """Class names in the order of the scores or indices, where the file has none."""
    normalize: str = "none"
    """Length normalization of log-likelihoods: "none", "characters" or "bytes"."""
    limits: Limits = field(default_factory=Limits)


def wanted(found: Roles, everything: Sequence[str]) -> Roles:
    """The roles themselves, after it was checked that something in the file can be read.

    Raises
    ------
    ValueError
        If the file has no scores, predictions or labels.
    """
    if found.per_class or {"logits", "probabilities", "scores", "prediction", "label"} & set(found.single):
        return found
    raise ValueError(
        f"Expected scores, predictions or labels, but the file has {few(list(everything))}. Names that are known: "
        f"{', '.join(name for role in ('logits', 'probabilities', 'prediction', 'label') for name in NAMES[role])}; "
        "or columns logit_0, logit_1, ... Say where they are with `names={'label': ...}`."
    )


def assemble(raw: Mapping[str, Any], found: Roles, request: Request, source: Mapping[str, Any]) -> Predictions:
    """Predictions out of loaded columns; columns of `found` that are not in `raw` were left out by the reader.

    Raises
    ------
    ValueError
        As `from_arrays`.
    """
    single = {role: raw[name] for role, name in found.single.items() if name in raw}
    scores, kind = _scores(raw, single, found, request.limits)
    read_as = request.scores if request.scores != "auto" or kind in ("", "scores") else kind
    classes = request.classes
    if classes is None:
        classes = single.get("classes", found.classes)
    ignored = [name for name in found.other if name not in raw]
    return from_arrays(
        scores,
        prediction=single.get("prediction"),
        label=single.get("label"),
        ids=single.get("id"),
        classes=classes,
        columns={name: raw[name] for name in found.other if name in raw},
        text=single.get("text"),
        options=single.get("options"),
        content=single.get("content"),
        read_as=read_as,
        source={**source, **({"ignored": ignored} if ignored else {})},
        limits=request.limits,
    )


def _scores(
    raw: Mapping[str, Any], single: dict[str, Any], found: Roles, limits: Limits
) -> tuple[np.ndarray | None, str]:
    """The scores and what their name says they are; taken out of `single`."""
    kinds = [kind for kind in ("logits", "probabilities", "scores") if kind in single]
    if len(kinds) > 1:
        raise ValueError(
            f"Expected one of logits, probabilities or scores, but got {few([found.single[k] for k in kinds])}. "
            "Leave all but one out of the file."
        )
    if kinds:
        return single.pop(kinds[0]), kinds[0]
    if found.per_class:
        return _stacked([raw[name] for name in found.per_class], found.per_class, limits), found.kind
    # What the trainer of Hugging Face calls `predictions` are logits.
    prediction = single.get("prediction")
    if isinstance(prediction, np.ndarray) and prediction.ndim == 2:
        return single.pop("prediction"), "scores"
    return None, ""


def _stacked(columns: Sequence[Any], names: Sequence[str], limits: Limits) -> np.ndarray:
    arrays = [np.asarray(column) for column in columns]
    for name, array in zip(names, arrays, strict=True):
        if array.ndim != 1 or array.dtype.kind not in "iuf" or array.shape != arrays[0].shape:
            raise ValueError(
                f"Expected {shown(name)} to hold one number per example, but got {array.dtype} of shape {array.shape}."
            )
    dtype = np.result_type(*{a.dtype for a in arrays if a.dtype.kind == "f"} or {np.dtype(np.float32)})
    hold("The scores need this many bytes:", dtype.itemsize * len(arrays) * arrays[0].size, limits, "memory")
    out = np.empty((arrays[0].size, len(arrays)), dtype)
    for index, array in enumerate(arrays):
        out[:, index] = array
    return out
