"""Influences from stores: what is written is the matrix of the population, from one store or several."""

import json

import numpy as np
import pandas as pd
import pytest

from remnant import plan
from remnant.cli import main
from remnant.execute import run
from remnant.influences import influences, pair_table, read, write
from remnant.population import SchemaError, load, subsets
from remnant.stats.influence import influence, memorization
from remnant.store import MissingError, Store
from remnant.trial import Recipe

RECIPE = Recipe("digits", "mlp", epochs=1, learning_rate=0.05)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Five subset trials in two stores that share one trial, and one trial of another recipe in a third."""
    trials = plan.subsets(RECIPE, 5)
    folder = tmp_path_factory.mktemp("stores")
    for name, some in (("a", trials[:3]), ("b", trials[2:]), ("whole", plan.grid(RECIPE, [], [0]))):
        run(some, Store(folder / name), engine="serial")
    run(
        plan.subsets(Recipe("digits", "mlp", epochs=2, learning_rate=0.05), 2), Store(folder / "other"), engine="serial"
    )
    return folder


@pytest.fixture(scope="module")
def population(stores):
    """The same trials by another way: all arrays in memory."""
    parts = [subsets(load(Store(stores / name))) for name in "ab"]
    arrays = [
        np.concatenate([f(parts[0]), f(parts[1])[1:]])
        for f in (
            lambda p: p["logits"].values.argmax(axis=-1) == p["label"].values,
            lambda p: p["train_correct"].values,
            lambda p: p["included"].values,
        )
    ]
    return parts[0], *arrays


@pytest.fixture(scope="module")
def outcomes(stores):
    return read([str(stores / "b"), str(stores / "a")])


def test_outcomes_of_several_stores_are_those_of_their_trials_once_each(outcomes, population, stores):
    first, correct, train_correct, included = population
    assert np.array_equal(outcomes.correct.unpacked(), correct)
    assert np.array_equal(outcomes.train_correct.unpacked(), train_correct)
    assert np.array_equal(outcomes.included.unpacked(), included)
    assert outcomes.examples == tuple(first["example"].values)
    assert (outcomes.num_trials, outcomes.scheme) == (5, "dense")
    assert set(outcomes.stores) == {str(stores / "a"), str(stores / "b")}


def test_what_is_found_is_the_matrix(outcomes, population, tmp_path):
    _, correct, train_correct, included = population
    found = influences(outcomes, top=3, top_of_training=2, threshold=0.9, whole=tmp_path / "matrix.npy", threads=1)
    full = influence(correct, included)
    assert found.whole is not None
    assert found.top is not None
    assert found.top_of_training is not None
    assert np.allclose(np.load(found.whole), full.value, atol=1e-6, equal_nan=True)
    strongest = -np.sort(-np.nan_to_num(full.value, nan=-2), axis=1)[:, :3]
    assert np.allclose(found.top.values, strongest, atol=1e-6)
    assert found.top_of_training.values.shape == (included.shape[1], 2)
    assert np.array_equal(found.memorization.value, memorization(train_correct, included).value, equal_nan=True)
    assert found.z["pairs"].to_numpy().sum() == np.isfinite(full.z).sum()
    assert found.z["pairs_by_chance"].to_numpy().sum() == pytest.approx(np.isfinite(full.z).sum())
    table = pair_table(found)
    assert len(table) == (full.value >= 0.9 - 1e-9).sum()
    row, column = (
        outcomes.examples.index(table["test_example"][5]),
        outcomes.train_examples.index(table["train_example"][5]),
    )
    for name, values in (("influence", full.value), ("standard_error", full.standard_error), ("z", full.z)):
        assert table[name].to_numpy(float)[5] == values[row, column]
    labels, train_labels = outcomes.labels, outcomes.train_labels
    block = full.value[np.ix_(labels == 2, train_labels == 7)]
    assert found.class_blocks[2, 7] == pytest.approx(np.nanmean(block))


def test_nothing_asked_is_nothing_found(outcomes, tmp_path):
    found = influences(outcomes, top=0, threshold=None, threads=1)
    assert (found.top, found.top_of_training, found.pairs, found.whole) == (None, None, None, None)
    assert len(pair_table(found)) == 0
    assert "pairs.parquet" not in write(found, tmp_path)


def test_the_command_writes_tables_and_says_where(stores, tmp_path, capsys):
    out = tmp_path / "out"
    main(["influence", str(stores / "a"), str(stores / "b"), "--out", str(out), "--top", "4", "--whole", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["trials"] == 5
    assert set(printed["files"]) == {
        "top.npz", "pairs.parquet", "memorization.parquet", "examples.parquet", "z.csv", "class_blocks.npy",
        "influences.json",
    }  # fmt: skip
    assert np.load(out / "top.npz")["values"].shape == (printed["test_examples"], 4)
    assert np.load(out / "matrix.npy", mmap_mode="r").shape == (printed["test_examples"], printed["train_examples"])
    assert len(pd.read_parquet(out / "memorization.parquet")) == printed["train_examples"]
    assert json.loads((out / "influences.json").read_text())["pairs"] == printed["pairs"]
    with pytest.raises(SystemExit) as stopped:
        main(["influence", str(stores / "a"), "--out", str(out), "--whole"])
    assert stopped.value.code == 2


def test_stores_that_do_not_fit_together_are_refused(stores):
    with pytest.raises(SchemaError, match="Expected trials of one recipe, but got 2"):
        read([stores / "a", stores / "other"])
    with pytest.raises(MissingError, match="hold no trial on a random training subset"):
        read([stores / "whole"])
    with pytest.raises(ValueError, match=r"Expected `scheme` to be one .*\['dense'\], but got 'float16'"):
        read([stores / "a"], scheme="float16")
