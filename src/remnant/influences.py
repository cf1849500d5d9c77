"""The influence of every training example on every test example, from one store or several.

    found = influences(read(["runs", "s3://bucket/more-runs"]), top=100, threshold=0.15)
    write(found, "influences")

Answers and subsets are read trial by trial and kept with 8 examples a byte; the matrix is never held.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.answers import predicted
from remnant.population import SchemaError, check_shares
from remnant.stats import influence_null as null
from remnant.stats.influence import Estimate
from remnant.stats.influence_counts import memorization
from remnant.stats.influence_groups import class_blocks
from remnant.stats.influence_tiles import Pairs, TopK
from remnant.stats.packed_bits import PackedBits
from remnant.store import MissingError, Store
from remnant.stored_array import unpack_text
from remnant.trial import Trial

EDGES = np.linspace(-10, 10, 81)
"""Edges of the bins of z."""

_PAIRS_AT_A_TIME = 2**13

Progress = Callable[[str, int, int], None]
"""Called with what is done ("trials", "blocks") and how many are finished and in all."""


@dataclass(frozen=True)
class Outcomes:
    """What trials on random training subsets got right."""

    correct: PackedBits
    """Right on the test examples."""
    train_correct: PackedBits
    """Right on the training examples."""
    included: PackedBits
    """Training examples in the subset."""
    labels: NDArray[np.integer]
    train_labels: NDArray[np.integer]
    examples: tuple[str, ...]
    """Ids of the test examples."""
    train_examples: tuple[str, ...]
    classes: tuple[str, ...]
    scheme: str
    stores: tuple[str, ...]
    """Where the trials were."""

    @property
    def num_trials(self) -> int:
        return len(self.included)


@dataclass(frozen=True)
class Influences:
    """What was asked of the influence matrix; None for what was not."""

    outcomes: Outcomes
    memorization: Estimate
    """Of each training example."""
    class_blocks: NDArray[np.float64]
    """Mean influence on a test class (rows) of a training class (columns)."""
    z: pd.DataFrame
    """Numbers of pairs by z, found and expected by chance."""
    top: TopK | None
    """Strongest on each test example."""
    top_of_training: TopK | None
    """Strongest of each training example; its `train_examples` are test examples."""
    pairs: Pairs | None
    """All from the threshold on."""
    whole: Path | None
    """File of the whole matrix."""


def read(
    stores: Sequence[str | Path | Store], *, scheme: str | None = None, progress: Progress | None = None
) -> Outcomes:
    """Outcomes of the trials on random training subsets of one scheme, from all stores together.

    Order of trials: by seed. A trial that is in several stores counts once.

    Parameters
    ----------
    scheme
        Default "dense" if it has some, else the first that has.

    Raises
    ------
    SchemaError
        If the trials are of several recipes or data sets.
    MissingError
        If there are none.
    remnant.store.StoreError
        If a trial is damaged.
    """
    shelves = [Store.of(store) for store in stores]
    found = _trials(shelves, scheme)
    where = list(found.values())
    fingerprints = {found[trial].manifest(trial)["dataset"] for trial in found}
    if len(fingerprints) > 1:
        raise SchemaError(
            f"Expected trials on the same data, but it had {len(fingerprints)} different contents "
            f"({sorted(fingerprints)}) when they ran. Read the stores one by one."
        )
    _, examples = where[0].dataset(fingerprints.pop())
    labels, train_labels = examples["test_labels"], examples["train_labels"]
    correct, train_correct, included = (
        np.empty((len(found), -(-len(values) // 8)), np.uint8) for values in (labels, train_labels, train_labels)
    )
    for row, (trial, store) in enumerate(found.items()):
        arrays = store.read(trial)
        correct[row] = np.packbits(predicted(arrays) == labels)
        train_correct[row] = np.packbits(arrays["train_prediction"] == train_labels)
        included[row] = arrays["included"]
        if progress:
            progress("trials", row + 1, len(found))
    return Outcomes(
        correct=PackedBits(correct, len(labels)),
        train_correct=PackedBits(train_correct, len(train_labels)),
        included=PackedBits(included, len(train_labels)),
        labels=labels,
        train_labels=train_labels,
        examples=tuple(unpack_text(examples["test_ids"])),
        train_examples=tuple(unpack_text(examples["train_ids"])),
        classes=tuple(unpack_text(examples["classes"])),
        scheme=next(iter(found)).scheme.label,
        stores=tuple(dict.fromkeys(store.root for store in where)),
    )


def influences(
    outcomes: Outcomes,
    *,
    top: int = 100,
    top_of_training: int = 0,
    threshold: float | None = 0.15,
    whole: str | Path | None = None,
    backend: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Influences:
    """The strongest influences, pairs, z and class blocks, in one pass over the matrix.

    Parameters
    ----------
    top, top_of_training
        How many to keep on each test example and of each training example; 0 for none.
    threshold
        Smallest influence of the pairs that are listed; None for no list.
    whole
        File for the whole matrix, ending in .npy: 4 bytes for each entry.
    backend, threads
        How and on how many cores counts are computed (`remnant.lab.influence.scan`); results are the same bits.

    Raises
    ------
    ValueError
        If an option is out of range, or there are too many pairs.
    OSError
        If the disk has no room for the whole matrix.
    """
    from remnant.lab import influence as engine

    shape = (outcomes.correct.num_examples, outcomes.included.num_examples)
    reducers: dict[str, engine.Reducer] = {"z": engine.HistogramZ(EDGES)}
    if top:
        reducers["top"] = engine.StrongestOnExamples(*shape, min(top, shape[1]))
    if top_of_training:
        reducers["top_of_training"] = engine.StrongestOfTraining(*shape, min(top_of_training, shape[0]))
    if threshold is not None:
        reducers["pairs"] = engine.PairsAbove(threshold)
    if whole is not None:
        reducers["whole"] = engine.WholeMatrix(whole, *shape)

    def show(done: int, total: int) -> None:
        if progress:
            progress("blocks", done, total)

    found = engine.scan(outcomes.correct, outcomes.included, reducers, backend=backend, threads=threads, progress=show)
    return Influences(
        outcomes=outcomes,
        memorization=memorization(outcomes.train_correct, outcomes.included),
        class_blocks=class_blocks(
            outcomes.correct, outcomes.included, outcomes.labels, outcomes.train_labels, len(outcomes.classes)
        ),
        z=_z_table(outcomes, found["z"]),
        **{name: found.get(name) for name in ("top", "top_of_training", "pairs", "whole")},
    )


def pair_table(found: Influences) -> pd.DataFrame:
    """The listed pairs with ids, classes, standard error, z, and memorization of the training example, strongest first.

    Empty if no list was asked for.
    """
    pairs = found.pairs or Pairs(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))
    order = np.lexsort((pairs.train_examples, pairs.examples, -pairs.influence))
    row, column = pairs.examples[order], pairs.train_examples[order]
    data = found.outcomes
    parts = [
        _estimate(data, row[start : start + _PAIRS_AT_A_TIME], column[start : start + _PAIRS_AT_A_TIME])
        for start in range(0, max(1, len(row)), _PAIRS_AT_A_TIME)
    ]
    value, error, z = (np.concatenate(part) for part in zip(*parts, strict=True))
    ids, train_ids, classes = (np.array(names, object) for names in (data.examples, data.train_examples, data.classes))
    return pd.DataFrame(
        {
            "test_example": ids[row],
            "train_example": train_ids[column],
            "test_class": classes[data.labels[row]],
            "train_class": classes[data.train_labels[column]],
            "influence": value,
            "standard_error": error,
            "z": z,
            "memorization": found.memorization.value[column],
        }
    )


def write(found: Influences, out: str | Path) -> dict[str, Path]:
    """Files of what was found, by name; ids of the rows and columns of arrays are in examples.parquet.

    influences.json is the summary; top.npz and top_of_training.npz hold `values` and indices, strongest first; pairs,
    memorization and z are tables; class_blocks.npy is the mean influence of classes.
    """
    folder, data = Path(out), found.outcomes
    folder.mkdir(parents=True, exist_ok=True)
    written = {}

    def file(name: str) -> Path:
        written[name] = folder / name
        return written[name]

    if found.top is not None:
        np.savez(file("top.npz"), values=found.top.values, train_examples=found.top.train_examples)
    if found.top_of_training is not None:
        best = found.top_of_training
        np.savez(file("top_of_training.npz"), values=best.values, examples=best.train_examples)
    if found.pairs is not None:
        pair_table(found).to_parquet(file("pairs.parquet"))
    own = found.memorization
    columns = {"train_example": data.train_examples, "class": np.array(data.classes, object)[data.train_labels]}
    columns |= {"memorization": own.value, "standard_error": own.standard_error, "trials_in": own.num_in}
    pd.DataFrame(columns).to_parquet(file("memorization.parquet"))
    tested = {"test_example": data.examples, "class": np.array(data.classes, object)[data.labels]}
    pd.DataFrame(tested | {"accuracy": data.correct.totals() / data.num_trials}).to_parquet(file("examples.parquet"))
    found.z.to_csv(file("z.csv"), index=False)
    np.save(file("class_blocks.npy"), found.class_blocks)
    file("influences.json").write_text(json.dumps(describe(found), indent=1) + "\n")
    return written


def describe(found: Influences) -> dict[str, Any]:
    """The main numbers, for programs."""
    data = found.outcomes
    numbers = found.z[["z_low", "pairs", "pairs_by_chance"]].to_numpy(float)
    strong = numbers[numbers[:, 0] >= 5, 1:].sum(axis=0)
    return {
        "stores": list(data.stores),
        "scheme": data.scheme,
        "trials": data.num_trials,
        "test_examples": data.correct.num_examples,
        "train_examples": data.included.num_examples,
        "pairs": None if found.pairs is None else len(found.pairs.influence),
        "pairs_with_z_of_5": int(strong[0]),
        "pairs_with_z_of_5_by_chance": float(strong[1]),
        "memorized_examples": int((np.nan_to_num(found.memorization.value) >= 0.25).sum()),
        "whole": None if found.whole is None else str(found.whole),
    }


def _trials(shelves: Sequence[Store], scheme: str | None) -> dict[Trial, Store]:
    """Subset trials of one scheme and recipe, by seed, and where each is."""
    everywhere = {trial: store for store in reversed(shelves) for trial in store.trials() if trial.subset is not None}
    labels = sorted({trial.scheme.label for trial in everywhere}, key=lambda label: (label != "dense", label))
    if not everywhere:
        raise MissingError(
            f"The stores {[store.root for store in shelves]} hold no trial on a random training subset. Train some: "
            "`[subsets] trials = 200` in the study."
        )
    label = labels[0] if scheme is None else scheme
    if label not in labels:
        raise ValueError(f"Expected `scheme` to be one with trials on training subsets, {labels}, but got {scheme!r}.")
    found = {trial: store for trial, store in everywhere.items() if trial.scheme.label == label}
    recipes = {trial.recipe for trial in found}
    if len(recipes) > 1:
        raise SchemaError(
            f"Expected trials of one recipe, but got {len(recipes)}. Keep populations of other recipes in other stores."
        )
    check_shares(found)
    order = sorted(found, key=lambda trial: (trial.seed, trial.key))
    return {trial: found[trial] for trial in order}


def _z_table(outcomes: Outcomes, counts: NDArray[np.int64]) -> pd.DataFrame:
    cells = null.pair_counts(outcomes.correct.totals(), outcomes.included.totals(), outcomes.num_trials)
    columns = {"z_low": EDGES[:-1], "z_high": EDGES[1:], "pairs": counts}
    return pd.DataFrame(columns | {"pairs_by_chance": null.expected_z(cells, EDGES)})


def _estimate(data: Outcomes, row: NDArray, column: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Influence, standard error and z of some pairs."""
    right = PackedBits(np.packbits(data.correct.chosen(row), axis=1), len(row))
    member = PackedBits(np.packbits(data.included.chosen(column), axis=1), len(column))
    found = memorization(right, member)
    return found.value, found.standard_error, found.z
