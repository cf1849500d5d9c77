"""The models of each side of a comparison: which trials they are, and whether there are enough of them."""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.finding import NotApplicable
from remnant.population import SchemaError, paired
from remnant.stats.agreement import top_class

CHEAP_MODELS = (
    "Cheap ones are other seeds of a short fine-tuning, other calibration sets of a quantizer, or the last checkpoints "
    "of one training run (these are alike and understate the noise: name them as checkpoints)."
)
"""How users who have one pair of models come by populations."""


def rows_of_schemes(population: xr.Dataset) -> dict[str, NDArray[np.intp]]:
    """Label of each scheme to its trials on the whole training set, in order of their seeds."""
    labels, seeds = population["scheme"].values, population["seed"].values
    rows = np.flatnonzero(population["subset"].values < 0)
    rows = rows[np.argsort(seeds[rows], kind="stable")]
    return {label: rows[labels[rows] == label] for label in dict.fromkeys(labels[rows].tolist())}


def check_sides(rows: dict[str, NDArray[np.intp]], reference: str, *, least: int, files: bool) -> None:
    """Refuse populations without the reference, without another scheme, or with fewer than `least` trials of one."""
    if reference not in rows:
        raise NotApplicable(
            f"Expected trials of the reference {reference!r} on the whole training set, but the population has "
            f"{list(rows) or 'none'}. Train it too, or name another `reference`."
        )
    if len(rows) < 2:
        remedy = (
            "Name the files of a compressed model too."
            if files
            else "Add one to the study, such as {kind = 'magnitude-pruning', sparsity = 0.9}."
        )
        raise NotApplicable(f"Expected a compressed scheme beside {reference!r}, but the population has none. {remedy}")
    for label in sorted(rows, key=lambda label: label != reference):
        if len(rows[label]) < least:
            raise NotApplicable(
                f"Expected at least {least} models of each scheme, but {label!r} has {len(rows[label])}. {_more(files)}"
            )


def _more(files: bool) -> str:
    if not files:
        return "A population is needed to tell compression from the noise of training: train more seeds."
    return (
        "A single pair cannot tell what compression does from what another run of training or compression would: "
        f"give several models a side. {CHEAP_MODELS}"
    )


def check_pairs(base: xr.Dataset, side: xr.Dataset, *, files: bool) -> None:
    """Refuse sides whose trials make no pairs. One reference file makes a pair with every file of the side.

    Raises
    ------
    SchemaError
        If the seeds differ, or the numbers of files.
    """
    if not files:
        # Both come from one population, so that only their trials can differ.
        paired(*(found.drop_dims([dim for dim in found.dims if dim != "trial"]) for found in (base, side)))
        return
    one, two = base["seed"].values.tolist(), side["seed"].values.tolist()
    label = str(side["scheme"].values[0])
    if len(one) > 1 and one != two:
        raise SchemaError(
            f"Expected one model of the reference, or one for each of {label!r}, but got {len(one)} and {len(two)}. "
            "Give the files of both sides in the order of their pairs, or leave out those without a partner."
        )


def trials(population: xr.Dataset, rows: NDArray[np.intp]) -> xr.Dataset:
    """The trials of these rows: a view where they stand one after the other, since logits may be large."""
    if np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return population.isel(trial=slice(int(rows[0]), int(rows[0]) + len(rows)))
    return population.isel(trial=rows)


def answers(side: xr.Dataset) -> NDArray[np.integer]:
    """Predicted class of each trial and example."""
    return side["prediction"].values if "prediction" in side else top_class(side["logits"].values)


def log_partitions(side: xr.Dataset, examples: slice = slice(None)) -> NDArray[np.floating] | None:
    """Of each trial and some examples, where they were made when the logits were loaded; else None."""
    return side["log_partition"].values[:, examples] if "log_partition" in side else None
