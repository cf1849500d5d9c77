"""Predictions of several models, side by side, as a population."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from remnant.ingest import aligned as together
from remnant.ingest.aligned import Aligned
from remnant.ingest.answers import class_names
from remnant.ingest.limits import Limits, few, printable
from remnant.ingest.matching import by_id, by_position
from remnant.ingest.naming import common_classes
from remnant.ingest.predictions import Predictions
from remnant.ingest.strings import from_sequence
from remnant.population import check


def population(
    sides: Mapping[str, Sequence[Predictions]],
    *,
    labels: Predictions | None = None,
    match: Literal["id", "position"] = "id",
    missing: Literal["error", "drop"] = "error",
    classes: Sequence[str] | None = None,
) -> xr.Dataset:
    """The checked population of the models that made the predictions; `remnant.population` says what it holds.

    If all files have scores, it has `logits`; else `prediction`, for which scores give their highest class.
    `attrs["inputs"]` lists the files, `attrs["matching"]` says how examples were matched and what was left out.

    Parameters
    ----------
    sides
        Name of a side to the predictions of its models. The first side is the reference. Several models a side
        are a population: model i of one side is paired with model i of the others.
    labels
        True classes and attributes of the examples, where the sides' own files have none. If it holds answers
        only (such as one array of class indices), they are taken as the labels.
    match
        "id": rows with the same id are the same example, in any order. "position": row i is, whatever the ids.
    missing
        "error" if an id is not in every file; "drop" to keep the examples that all files have.
    classes
        Class names in the order of class numbers, where no file tells.

    Raises
    ------
    SchemaError
        If examples, classes, labels or contents do not fit together, naming the files and the first examples.
    """
    _check_choice("match", match, ("id", "position"))
    _check_choice("missing", missing, ("error", "drop"))
    models = _models(sides)
    files = [model for _, _, model in models] + ([] if labels is None else [labels])
    names = [_called(side, model) for side, _, model in models] + (
        [] if labels is None else [_called("labels", labels)]
    )
    matching = by_position(files, names) if match == "position" else by_id(files, names, missing)
    common, places = common_classes(files, names, class_names(classes, Limits()))
    aligned = Aligned(files, names, matching, common, places, len(models))
    together.check_contents(aligned)
    variables, record = _variables(aligned)
    attributes, clashing = together.attributes(aligned)
    coords: dict[str, Any] = {
        "trial": [f"{side}/{number}" for side, number, _ in models],
        "scheme": ("trial", [side for side, _, _ in models]),
        "seed": ("trial", [number for _, number, _ in models]),
        "subset": ("trial", np.full(len(models), -1)),
        "example": matching.example,
        "class": np.array(common, np.str_),
        **{f"group_{name}": (("example",), values) for name, values in attributes.items()},
        **({"encoding": ["file"]} if "bytes" in variables else {}),
    }
    record |= {"columns_left_out": clashing} if clashing else {}
    inputs = [dict(model.source) | {"side": side} for side, _, model in models]
    inputs += [] if labels is None else [dict(labels.source) | {"side": "labels"}]
    attrs = {"reference": models[0][0], "inputs": inputs, "matching": record}
    return check(xr.Dataset(variables, coords, attrs))


def _models(sides: Mapping[str, Sequence[Predictions]]) -> list[tuple[str, int, Predictions]]:
    """Side, number within it and predictions of every model."""
    models = []
    from_sequence([str(side) for side in sides], "the names of the sides", Limits())
    for side, files in sides.items():
        if isinstance(files, Predictions):
            raise ValueError(f"Expected a list of predictions for the side {side!r}, but got one: write [predictions].")
        if not files:
            raise ValueError(f"Expected at least one file of predictions for the side {side!r}, but got none.")
        models += [(str(side), number, file) for number, file in enumerate(files)]
    if not models:
        raise ValueError("Expected at least one side with predictions, but got none.")
    return models


def _variables(aligned: Aligned) -> tuple[dict[str, Any], dict[str, Any]]:
    """Variables of the population, and the record of how examples and answers came together."""
    models = aligned.files[: aligned.num_models]
    without = [name for name, model in zip(aligned.names, models, strict=False) if model.scores is None]
    variables: dict[str, Any] = {}
    if without:
        variables["prediction"] = (("trial", "example"), together.answers(aligned))
        note = f"predictions only, as {few(without)} have no scores" if len(without) < len(models) else "predictions"
    else:
        variables["logits"] = (("trial", "example", "class"), together.logits(aligned))
        note = "scores"
    label = together.label(aligned)
    if label is not None:
        variables["label"] = (("example",), label)
    variables |= together.texts(aligned) | together.costs(models)
    return variables, aligned.matching.record | {"answers": note}


def _called(side: str, model: Predictions) -> str:
    """What messages call a file."""
    name = str(model.source.get("name") or "")
    return printable(f"{side} ({name})" if name and name != side else side)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"Expected `{name}` to be one of {choices}, but got {value!r}.")
