import importlib

import numpy as np
import pytest

from remnant.lab.selection import load
from remnant.population import load as population
from remnant.store import Store
from remnant.sufficient import Computing, choose, search
from remnant.sufficient.search import _bracket
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp-16", steps=60, learning_rate=0.1)
HERE = Computing(engine="serial")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


def test_the_smallest_share_is_found_and_reported_on_other_examples(store):
    found = search(store, "random", drop=0.05, seeds=range(3), recipe=RECIPE, computing=HERE, resolution=0.5)
    assert found.selection is not None
    assert load(store, found.selection.key).key == found.selection.key
    tried = found.tried
    assert tried["share"].is_monotonic_decreasing
    assert tried["share"].iloc[0] == 0.5
    enough = [row["share"] for row in tried.to_dict("records") if row["is_enough"]] or [1.0]
    assert found.selection.share == pytest.approx(min(enough), abs=1e-3)
    assert min(tried["share"]) <= float(found.share.estimate) <= min(enough) * 1.001
    assert float(found.share.low) <= float(found.share.estimate) <= float(found.share.high)
    assert not found.at_limit
    _check_halves(store, found)


def _check_halves(store, found):
    """Both halves together are the change of accuracy on all test examples."""
    dense, chosen = (
        np.mean([store.manifest(Trial(RECIPE, scheme, seed))["accuracy"]["test"] for seed in range(3)])
        for scheme in (Trial(RECIPE).scheme, found.selection.scheme)
    )
    row = found.tried[found.tried["selection"] == found.selection.key].iloc[0]
    assert row["change"] == pytest.approx(float(found.change.estimate))
    assert (row["change_search_half"] * 178 + row["change"] * 177) / 355 == pytest.approx(chosen - dense, abs=1e-6)


def test_a_second_search_computes_nothing(store):
    before = {trial.key for trial in store.trials()}
    again = search(store, "random", drop=0.05, seeds=range(3), recipe=RECIPE, computing=HERE, resolution=0.5)
    assert {trial.key for trial in store.trials()} == before
    assert len(again.tried) >= 2


def test_a_drop_that_is_never_reached_ends_at_the_smallest_share(store):
    found = search(store, "random", drop=0.9, seeds=range(2), recipe=RECIPE, computing=HERE, smallest=0.3)
    assert found.at_limit
    assert float(found.share.estimate) == pytest.approx(0.3)
    assert found.tried["share"].tolist() == [0.5, 0.3]


def test_all_examples_may_be_needed(store):
    found = search(
        store, "random", drop=0.0, seeds=range(2), recipe=RECIPE, computing=HERE,
        smallest=0.02, resolution=10,
    )  # fmt: skip
    if found.selection is None:
        assert float(found.change.estimate) == 0
    assert float(found.share.estimate) <= 1


def test_brackets_halve_until_a_share_is_not_enough():
    seen = []

    def enough(share):
        seen.append(share)
        return share > 0.2

    assert _bracket(enough, 0.01) == (0.125, 0.25)
    assert seen == [0.5, 0.25, 0.125]
    assert _bracket(lambda share: True, 0.3) == (None, 0.3)
    assert _bracket(lambda share: False, 0.3) == (0.5, 1.0)


@pytest.mark.parametrize(("spoilt", "expected"), [(1, 0.25), (0, 1.0)])
def test_one_half_of_the_test_examples_decides_and_the_other_reports(spoilt, expected, store, monkeypatch):
    """Models on fewer examples are wrong on all of one half: that counts only if it is the half that decides."""
    module = importlib.import_module("remnant.sufficient.search")
    halves = module._halves(store, Trial(RECIPE))
    assert sorted(np.concatenate(halves).tolist()) == list(range(355))

    def right(store, trials):
        found = np.ones((len(trials), 355))
        if trials[0].selected is not None:
            found[:, halves[spoilt]] = 0
        return found

    monkeypatch.setattr(module, "_train", lambda *_: None)
    monkeypatch.setattr(module, "_right", right)
    found = search(store, "random", seeds=range(3), recipe=RECIPE, smallest=0.25)
    assert float(found.share.estimate) == pytest.approx(expected, abs=0.1)
    assert float(found.change.estimate) == (-1 if spoilt else 0)
    assert (found.selection is None) == (spoilt == 0)


def test_trials_of_the_search_make_a_population(store):
    chosen = choose(store, "random", 0.5, recipe=RECIPE)
    found = population(store)
    assert chosen.scheme.label in found["scheme"].values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": -0.1}, r"Expected `drop` in \[0, 1\)"),
        ({"drop": 2.0}, "Two points of accuracy are 0.02"),
        ({"smallest": 0.0}, r"Expected `smallest` in \(0, 1\)"),
        ({"resolution": 0.0}, "Expected `resolution` > 0"),
        ({"seeds": [1]}, "at least 2 different `seeds`"),
    ],
)
def test_mistakes_are_clear_errors(options, message, store):
    with pytest.raises(ValueError, match=message):
        search(store, "random", recipe=RECIPE, **options)
