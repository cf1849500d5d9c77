"""Rates of groups in the form that fairlearn uses."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import class_names
from remnant.analyses.group_columns import positive_class
from remnant.analyses.sides import answers, rows_of_schemes, trials
from remnant.analyses.slice_columns import slicings
from remnant.finding import NotApplicable
from remnant.population import reference_of
from remnant.registry import unknown


def to_metric_frame(
    population: xr.Dataset,
    scheme: str | None = None,
    *,
    model: int = 0,
    columns: Sequence[str] | None = None,
    positive: str | None = None,
    num_bins: int = 5,
) -> Any:
    """A `fairlearn.metrics.MetricFrame` with the rates of one model by group, for all that fairlearn offers on it.

    Its metrics are `count`, `error` and, with a positive class, `false_positive_rate` and `false_negative_rate`:
    `.by_group` has one row for each combination of the columns, `.difference()` the largest gap.

    Parameters
    ----------
    scheme
        Label of the model's scheme; default that of the reference.
    model
        Which model of the scheme, in order of seeds.
    columns
        Attribute columns; default all. Several give their intersections. Numbers with many values are binned.
    positive
        Name of the class that is looked for; default the second one of two classes.

    Raises
    ------
    ValueError
        If fairlearn is not installed, or a parameter names nothing.
    NotApplicable
        If there are no labels or no attribute columns.
    """
    metrics = _fairlearn()
    if "label" not in population:
        raise NotApplicable("The population has no `label`; give the true class of each test example.")
    rows = rows_of_schemes(population)
    scheme = reference_of(population) if scheme is None else scheme
    if scheme not in rows:
        raise unknown("scheme", scheme, rows)
    if not 0 <= model < len(rows[scheme]):
        raise ValueError(f"Expected `model` in [0, {len(rows[scheme])}), but got {model!r}.")
    known = {slicing.column: slicing for slicing in slicings(population, num_bins).of("group")}
    chosen = list(known) if columns is None else list(columns)
    for name in chosen:
        if name not in known:
            raise unknown("columns", name, known)
    if not chosen:
        raise NotApplicable("The population has no attribute columns (coordinates `group_NAME`).")
    index = positive_class(class_names(population), positive)
    rates = {"count": metrics.count, "error": _error}
    if index is not None:
        rates["false_positive_rate"] = partial(_of_class, rate=metrics.false_positive_rate, positive=index)
        rates["false_negative_rate"] = partial(_of_class, rate=metrics.false_negative_rate, positive=index)
    predicted = answers(trials(population, rows[scheme][model : model + 1]))[0]
    features = {name: np.array(known[name].levels, object)[known[name].index] for name in chosen}
    return metrics.MetricFrame(
        metrics=rates,
        y_true=population["label"].values.astype(np.int64),
        y_pred=predicted.astype(np.int64),
        sensitive_features=pd.DataFrame(features),
    )


def _error(y_true: NDArray, y_pred: NDArray) -> float:
    return float((np.asarray(y_true) != np.asarray(y_pred)).mean())


def _of_class(y_true: NDArray, y_pred: NDArray, *, rate: Callable[..., float], positive: int) -> float:
    """A rate of fairlearn's with one class against all others."""
    one, two = ((np.asarray(classes) == positive).astype(int) for classes in (y_true, y_pred))
    return float(rate(one, two, pos_label=1))


def _fairlearn() -> Any:
    try:
        return import_module("fairlearn.metrics")
    except ImportError as error:
        raise ValueError(
            f"Expected the package 'fairlearn' for a MetricFrame, but it is not installed ({error}). "
            'Install it with: pip install "remnant[fair]"'
        ) from error
