"""What many trials did on the same examples: an xarray Dataset with a checked schema.

Dimensions `trial`, `example`, `class`, `train_example`; variables and coordinates below. Absent
variables are absent, never NaN.

Logits of more than 2 GiB stay in the store: `population["logits"]` is then read from there whenever it is
asked for, so ask for a trial or for a block of examples at a time. What every analysis needs of them, `prediction` and
`log_partition`, is made once, when the population is loaded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from remnant.measured import measurements
from remnant.stats.agreement import top_class
from remnant.store import MissingError, Store
from remnant.stored_array import unpack_text
from remnant.streamed import outputs, read, stacked
from remnant.trial import Recipe, Trial, to_dict

SCHEMA: dict[str, tuple[tuple[str, ...], str]] = {
    "logits": (("trial", "example", "class"), "f"),
    "prediction": (("trial", "example"), "iu"),
    "log_partition": (("trial", "example"), "f"),
    "label": (("example",), "iu"),
    "train_label": (("train_example",), "iu"),
    "train_prediction": (("trial", "train_example"), "iu"),
    "train_correct": (("trial", "train_example"), "b"),
    "train_margin": (("trial", "train_example"), "f"),
    "included": (("trial", "train_example"), "b"),
    "parameters": (("trial",), "iu"),
    "nonzeros": (("trial",), "iu"),
    "bytes": (("trial", "encoding"), "iuf"),
    "flops": (("trial",), "iuf"),
    "effective_flops": (("trial",), "iuf"),
    "latency": (("trial",), "f"),
    "text": (("example",), "OUT"),
    "option": (("example", "class"), "OUT"),
    "num_options": (("example",), "iu"),
}
"""Variable to its dimensions and the kinds of its dtype.

- `logits`: outputs before the softmax on the test examples, or log-probabilities.
- `prediction`: predicted class, where only answers are known; populations with `logits` can do without.
- `log_partition`: logarithm of the sum over classes of exp(logit), of logits that stay in the store.
- `label`, `train_label`: index of the true class.
- `train_prediction`, `train_correct`: predicted class of every training example, in the subset or not.
- `train_margin`: logit of the true class minus the highest other logit; > 0 iff right.
- `included`: the example was in the training subset (all True for trials on the whole set).
- `parameters`, `nonzeros`: numbers of weights and of those that are not 0.
- `bytes`: size by stated encoding. `flops`, `effective_flops`: 2 x multiply-accumulates of one
  example, all and with zero weights left out. `latency`: measured seconds per example.
- `text`: what the model was asked, where inputs are texts. `option`, `num_options`: the answers to choose
  from where each example has its own; "" where an example has fewer, with the logit `NO_OPTION`.
"""

NO_OPTION = -1e4
"""Logit of an answer that an example does not offer."""

COORDS: dict[str, tuple[str, ...]] = {
    "seed": ("trial",),
    "scheme": ("trial",),
    "subset": ("trial",),
}
"""Coordinates that every population has besides its dimensions. `scheme` is the scheme's label,
`subset` the row of the subset design or -1 for the whole training set. `trial`, `example` and
`train_example` hold unique ids, `class` the class names, `group_NAME(example)` an attribute."""


class SchemaError(ValueError):
    """A population that breaks its schema, or two that cannot be compared."""


def load(store: str | Path | Store, trials: Iterable[Trial] | None = None, *, damaged: str = "raise") -> xr.Dataset:
    """The population of finished trials of one recipe, checked.

    Parameters
    ----------
    store
        A store, or its folder or URL.
    trials
        Which trials; default all of the store. Those that are not finished are an error.
    damaged
        "raise", or "skip" to leave trials out whose files are damaged; their keys and faults are then in
        `population.attrs["damaged"]`.

    Raises
    ------
    SchemaError
        If there is no trial, or trials of several recipes or data sets.
    remnant.store.StoreError
        If a trial is missing or damaged.
    """
    if damaged not in ("raise", "skip"):
        raise ValueError(f"Expected `damaged` to be 'raise' or 'skip', but got {damaged!r}.")
    store = Store.of(store)
    faults: dict[str, str] = {}
    chosen = store.trials(faults if damaged == "skip" else None) if trials is None else list(trials)
    manifests, arrays = read(store, chosen, faults if damaged == "skip" else None)
    recipe, fingerprint = _only_one(list(arrays), manifests, store)
    record, examples = store.dataset(fingerprint)
    population = _assemble(arrays, manifests, examples)
    population.attrs |= {
        "store": store.root,
        "fingerprint": fingerprint,
        "dataset": record["name"],
        "recipe": to_dict(recipe),
        "damaged": faults,
    }
    population.attrs["probes"] = measurements(store, list(arrays), _examples(population))
    return check(population)


def probed(population: xr.Dataset, kind: str) -> xr.Dataset:
    """What a probe measured on the trials of the population, with dimensions `trial`, `example` and the probe's own.

    Coordinates as those of a population, so that `whole` and `subsets` choose among its trials; `label(example)`
    beside them. Examples are those that were probed; `attrs["probe"]` has the probe's settings.

    Raises
    ------
    SchemaError
        If no trial of the population was probed so.
    """
    found = population.attrs.get("probes", {})
    if kind not in found:
        raise SchemaError(f"The models were not probed for {kind!r}. Measure it: `remnant probe STORE {kind}`.")
    return found[kind]


def thumbnails(
    store: str | Path | Store, population: xr.Dataset
) -> Callable[[str, Sequence[str]], dict[str, np.ndarray]]:
    """A function from a split ("test", "train") and example ids to uint8 pictures (height, width, channel).

    Ids whose pictures the store does not keep are left out.
    """
    ids = {"test": population["example"].values, "train": population["train_example"].values}
    fingerprint, opened = population.attrs["fingerprint"], Store.of(store)

    @cache
    def shelf(split: str) -> tuple[np.ndarray | None, dict[str, int]]:
        return opened.pictures(fingerprint, split), {name: row for row, name in enumerate(ids[split].tolist())}

    def find(split: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
        pictures, rows = shelf(split)
        return {} if pictures is None else {name: pictures[rows[name]] for name in wanted if name in rows}

    return find


def check(population: xr.Dataset) -> xr.Dataset:
    """The population itself, after its schema was checked.

    Raises
    ------
    SchemaError
        Naming the variable, what was expected and what came.
    """
    for name, (dims, kinds) in SCHEMA.items():
        if name in population:
            variable = population[name]
            if variable.dims != dims:
                raise SchemaError(f"Expected `{name}` to have dimensions {dims}, but got {variable.dims}.")
            if variable.dtype.kind not in kinds:
                raise SchemaError(f"Expected `{name}` to have a dtype of kind {kinds!r}, but got {variable.dtype}.")
    for name, dims in COORDS.items():
        if name not in population.coords or population[name].dims != dims:
            raise SchemaError(f"Expected the coordinate `{name}` with dimensions {dims}, but it is missing.")
    for dim in ("trial", "example", "train_example"):
        if dim in population.dims:
            _check_ids(population, dim)
    _check_labels(population)
    if "logits" in population:
        _check_finite(population)
    return population


def schemes(population: xr.Dataset) -> list[str]:
    """Labels of the schemes of the population: the reference first, then in order of first appearance."""
    found = list(dict.fromkeys(population["scheme"].values.tolist()))
    return sorted(found, key=lambda label: label != reference_of(population))


def reference_of(population: xr.Dataset) -> str:
    """Label of what the others are compared with: `attrs["reference"]`, else "dense"."""
    return str(population.attrs.get("reference", "dense"))


def whole(population: xr.Dataset, scheme: str | None = None) -> xr.Dataset:
    """The trials on the whole training set (of one scheme), in order of their seeds."""
    return _select(population, population["subset"].values < 0, scheme)


def subsets(population: xr.Dataset, scheme: str | None = None) -> xr.Dataset:
    """The trials on random training subsets (of one scheme), in order of their seeds."""
    return _select(population, population["subset"].values >= 0, scheme)


def predictions(population: xr.Dataset) -> np.ndarray:
    """Predicted class of each trial and test example, shape (trial, example), integers.

    The first class wins among equal logits. Where answers are stored (those that are known alone, and those beside
    rounded logits), they are given as they are.
    """
    if "prediction" in population:
        return population["prediction"].values
    return top_class(population["logits"].values)


def groups(population: xr.Dataset) -> dict[str, np.ndarray]:
    """Attribute columns by name, each of shape (example,)."""
    return {
        str(n).removeprefix("group_"): population[n].values for n in population.coords if str(n).startswith("group_")
    }


def paired(a: xr.Dataset, b: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """The two populations, after it was checked that they can be compared pair by pair.

    The only gate to comparisons: the same seeds and the same examples in the same order. Nothing
    is dropped or reordered in silence.

    Raises
    ------
    SchemaError
        Naming what is in one of them only, or that the order differs.
    """
    for dim, what in (("seed", "seeds"), ("example", "examples"), ("class", "classes")):
        if dim != "seed" and (dim in a.dims) != (dim in b.dims):
            raise SchemaError(f"Expected both populations to have the dimension `{dim}`, but one has not.")
        if dim != "seed" and dim not in a.dims:
            continue
        if np.array_equal(a[dim].values, b[dim].values):
            continue
        left, right = a[dim].values.tolist(), b[dim].values.tolist()
        only_a, only_b = sorted(set(left) - set(right)), sorted(set(right) - set(left))
        if only_a or only_b:
            raise SchemaError(
                f"Expected the same {what} on both sides, but {_few(only_a)} are in the first only and "
                f"{_few(only_b)} in the second only. Select what they share first."
            )
        raise SchemaError(f"Expected the {what} in the same order on both sides; sort one side with `.sel` first.")
    if "label" in a and "label" in b and not np.array_equal(a["label"].values, b["label"].values):
        differ = int((a["label"].values != b["label"].values).sum())
        raise SchemaError(f"Expected the same labels on both sides, but {differ} examples have different ones.")
    return a, b


def _only_one(trials: list[Trial], manifests: dict[Trial, Any], store: Store) -> tuple[Recipe, str]:
    if not trials:
        raise MissingError(f"The store {store.root!r} holds no finished trial. Run a study first: `remnant run`.")
    recipes = list(dict.fromkeys(trial.recipe for trial in trials))
    if len(recipes) > 1:
        raise SchemaError(
            f"Expected trials of one recipe, but got {len(recipes)}: {[to_dict(r) for r in recipes]}. "
            "Choose with `trials=[t for t in store.trials() if t.recipe == recipe]`."
        )
    fingerprints = sorted({manifests[trial]["dataset"] for trial in trials})
    if len(fingerprints) > 1:
        raise SchemaError(
            f"Expected trials on the same data, but {recipes[0].dataset!r} had {len(fingerprints)} different contents "
            f"({fingerprints}) when they ran. Remake the trials on one of them in a new store."
        )
    check_shares(trials)
    return recipes[0], fingerprints[0]


def check_shares(trials: Iterable[Trial]) -> None:
    """Raise SchemaError if random subsets are of different shares of the training set.

    Models that saw more are right more often: pooled, every training example would seem to have influence.
    """
    found = Counter(trial.subset.fraction for trial in trials if trial.subset is not None)
    if len(found) > 1:
        shares = ", ".join(f"{number} of {share:g}" for share, number in sorted(found.items()))
        raise SchemaError(
            f"Expected random subsets of one share of the training set, but got trials of different ones: {shares}. "
            "Keep each `fraction` in a store of its own, or choose with `trials=`."
        )


def _assemble(arrays: dict[Trial, Any], manifests: dict[Trial, Any], examples: dict[str, np.ndarray]) -> xr.Dataset:
    trials = list(arrays)
    train_label = examples["train_labels"]
    included = np.unpackbits(stacked(arrays, "included"), axis=1, count=len(train_label)).view(bool)
    train_prediction = stacked(arrays, "train_prediction")
    footprints = [manifests[t]["footprint"] for t in trials]
    encodings = list(dict.fromkeys(name for one in footprints for name in one["bytes"]))
    sizes = np.array([[one["bytes"].get(name, np.nan) for name in encodings] for one in footprints])
    variables: dict[str, Any] = {
        **outputs(arrays),
        "label": (("example",), examples["test_labels"]),
        "train_label": (("train_example",), train_label),
        "train_prediction": (("trial", "train_example"), train_prediction),
        "train_correct": (("trial", "train_example"), train_prediction == train_label),
        "train_margin": (("trial", "train_example"), stacked(arrays, "train_margin")),
        "included": (("trial", "train_example"), included),
        "bytes": (("trial", "encoding"), sizes),
    }
    for name in ("parameters", "nonzeros", "flops", "effective_flops", "latency"):
        variables[name] = (("trial",), np.array([f[name] for f in footprints]))
    coords: dict[str, Any] = {
        "trial": [t.key for t in trials],
        "seed": ("trial", [t.seed for t in trials]),
        "scheme": ("trial", [t.scheme.label for t in trials]),
        "subset": ("trial", [-1 if t.subset is None else t.subset.index for t in trials]),
        "example": unpack_text(examples["test_ids"]),
        "train_example": unpack_text(examples["train_ids"]),
        "class": unpack_text(examples["classes"]),
        "encoding": encodings,
    }
    for name in examples:
        if name.startswith("test_group_"):
            coords[name.removeprefix("test_")] = ("example", unpack_text(examples[name]))
    return xr.Dataset(variables, coords=coords)


def _examples(population: xr.Dataset) -> dict[str, xr.Dataset]:
    """Labels, ids, classes and attribute columns of both splits, each along `example`."""
    shared = {"class": population["class"].values}
    columns = {name: ("example", values) for name, values in groups(population).items()}
    return {
        "test": xr.Dataset(
            {"label": ("example", population["label"].values)},
            {**shared, "example": population["example"].values} | {f"group_{n}": c for n, c in columns.items()},
        ),
        "train": xr.Dataset(
            {"label": ("example", population["train_label"].values)},
            {**shared, "example": population["train_example"].values},
        ),
    }


def _select(population: xr.Dataset, keep: np.ndarray, scheme: str | None) -> xr.Dataset:
    if scheme is not None:
        keep = keep & (population["scheme"].values == scheme)
    order = np.flatnonzero(keep)
    order = order[np.argsort(population["seed"].values[order], kind="stable")]
    if len(order) and np.array_equal(order, np.arange(order[0], order[0] + len(order))):
        return population.isel(trial=slice(int(order[0]), int(order[0]) + len(order)))  # a view: logits may be large
    return population.isel(trial=order)


def _check_ids(population: xr.Dataset, dim: str) -> None:
    if dim not in population.coords:
        raise SchemaError(f"Expected `{dim}` to have ids as its coordinate, but it has none.")
    index = population.indexes[dim]
    if not index.is_unique:
        twice = index[index.duplicated()].unique().tolist()
        raise SchemaError(f"Expected unique `{dim}` ids, but these come more than once: {_few(twice)}.")


def _check_labels(population: xr.Dataset) -> None:
    if "class" not in population.dims:
        return
    num_classes = population.sizes["class"]
    if num_classes < 2:
        raise SchemaError(f"Expected at least 2 classes, but got {num_classes}: nothing can be forgotten between them.")
    for name in ("label", "train_label", "prediction"):
        if name not in population:
            continue
        values = population[name].values
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            wrong = (values < 0) | (values >= num_classes)
            ids = population[population[name].dims[-1]].values[np.nonzero(wrong)[-1]]
            raise SchemaError(
                f"Expected `{name}` in [0, {num_classes}), but {wrong.sum()} lie outside "
                f"(value {values[wrong][0]} at {str(ids[0])!r})."
            )


def _check_finite(population: xr.Dataset) -> None:
    known = "log_partition" in population
    for trial in range(population.sizes["trial"]):
        values = population["log_partition" if known else "logits"][trial].values
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=-1)).sum())
            name = str(population["trial"].values[trial])
            raise SchemaError(
                f"Expected finite `logits`, but trial {name!r} has NaN or infinite ones on {bad} examples. "
                "Did its training diverge? Lower the learning rate, or leave the trial out."
            )


def _few(values: Any, most: int = 5) -> str:
    values = [v.item() if isinstance(v, np.generic) else v for v in values]
    shown = ", ".join(repr(v) for v in values[:most])
    return f"[{shown}{', ...' if len(values) > most else ''}] ({len(values)})"
