from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from remnant import plan, sufficient
from remnant.execute import RunError, run
from remnant.lab.selection import load, read
from remnant.population import load as population
from remnant.schemes import Compose, SelectedData, StaticInt8
from remnant.store import Store
from remnant.sufficient import Computing, Scored, choose, scores, with_fixed_steps
from remnant.trial import Recipe, Subset, Trial

RECIPE = Recipe("digits", "mlp-16", epochs=2, learning_rate=0.1)
HERE = Computing(engine="serial")
QUICK = Scored(seeds=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Trials on random subsets."""
    store = Store(tmp_path_factory.mktemp("store"))
    run(plan.subsets(RECIPE, 40, design="balanced"), store, engine="serial")
    return store


@pytest.mark.parametrize("score", sufficient.SCORES)
def test_every_score_is_known_for_every_example(score, store):
    found = scores(store, score, RECIPE, scored=QUICK, computing=HERE)
    assert found.shape == (1442,)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) > 2


def test_every_method_chooses_the_share(store):
    for method in sufficient.methods():
        if method.startswith("influence-mean"):
            continue  # as "influence", and as slow
        chosen = choose(store, method, 0.1, scored=QUICK, computing=HERE, draws=2)
        assert [len(ids) for ids in chosen.lists] == [144] * (2 if method.endswith(("random", "stratified")) else 1)
        assert load(store, chosen.key).method == method


def test_a_score_alone_keeps_its_highest(store):
    one, two = (choose(store, m, 0.3, scored=QUICK, computing=HERE) for m in ("el2n", "el2n-hard"))
    assert (one.key, one.method) == (two.key, two.method)


def test_removing_the_memorized_keeps_the_others(store):
    value = scores(store, "memorization", RECIPE)
    ids = sufficient.examples_of(store, RECIPE).ids
    kept = np.isin(ids, choose(store, "memorization-easy", 0.8).lists[0])
    assert value[kept].max() <= value[~kept].min()


def test_a_choice_says_where_it_comes_from(store, tmp_path):
    chosen = choose(store, "margin", 0.5, balance="equal", scored=QUICK, computing=HERE)
    chosen.write(tmp_path / "ids.json")
    found = read(tmp_path / "ids.json", sufficient.examples_of(store, RECIPE))
    assert found.method == "margin-hard-equal"
    provenance = dict(found.provenance)
    assert len(provenance.pop("scores_sha256")) == 64
    assert provenance == {
        "score": "margin", "trainings": 2, "epochs": None, "el2n_epoch": None, "share": 0.5, "rule": "hard",
        "balance": "equal", "floor": 1, "cutoff": 0.1, "seed": 0,
    }  # fmt: skip


def test_a_trial_trains_on_the_chosen_examples_alone(store):
    chosen = choose(store, "random", 0.2, draws=2)
    trials = [Trial(RECIPE, chosen.scheme, seed) for seed in range(3)]
    trials.append(Trial(RECIPE, Compose((chosen.scheme, StaticInt8())), 1))
    trials.append(Trial(RECIPE, chosen.scheme, 0, Subset(0, fraction=0.5)))
    run(trials, store, engine="serial")
    found = population(store, trials)
    ids = found["train_example"].values
    for row, draw in enumerate([0, 1, 0, 1]):
        assert set(ids[found["included"].values[row]]) == set(chosen.lists[draw])
    both = found["included"].values[4]
    assert 100 < both.sum() < 188
    assert set(ids[both]) < set(chosen.lists[0])


def test_the_whole_set_chosen_is_the_dense_model(store):
    chosen = choose(store, "random", 1.0)
    trials = [Trial(RECIPE), Trial(RECIPE, chosen.scheme)]
    run(trials, store, engine="serial")
    one, two = (store.read(trial)["logits"] for trial in trials)
    assert np.array_equal(one, two)


def test_the_data_are_loaded_where_the_store_is_empty(tmp_path):
    chosen = choose(Store(tmp_path), "random", 0.5, recipe=RECIPE)
    assert chosen.dataset == "digits"
    assert load(Store(tmp_path), chosen.key).num_train_examples == 1442


def test_fixed_steps_are_those_of_all_examples():
    assert with_fixed_steps(RECIPE, 1442).steps == 22  # 2 epochs of 11 batches of 128
    assert with_fixed_steps(replace(RECIPE, steps=5), 1442).steps == 5


def test_scores_may_come_from_another_recipe(store):
    longer = replace(RECIPE, steps=100)
    with pytest.raises(ValueError, match="has 0 of this recipe"):
        choose(store, "memorization", 0.5, recipe=longer)
    there = choose(store, "memorization", 0.5, recipe=longer, scored=Scored(recipe=RECIPE))
    assert there.key == choose(store, "memorization", 0.5).key


def test_progress_counts_trainings(tmp_path):
    seen = []
    computing = Computing(engine="serial", progress=lambda *state: seen.append(state))
    recipe = replace(RECIPE, steps=9)
    scores(Store(tmp_path), "el2n", recipe, scored=QUICK, computing=computing)
    scores(Store(tmp_path), "margin", recipe, scored=replace(QUICK, seeds=3), computing=computing)
    assert seen == [(1, 2, "scores: el2n"), (2, 2, "scores: el2n"), (3, 3, "scores: margin")]


def selected(key: str) -> Trial:
    return Trial(RECIPE, SelectedData("random", 0.5, key))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: choose(s, "el2m", 0.5), "Did you mean 'el2n"),
        (lambda s: choose(s, "el2n-random", 0.5), "el2n-random"),
        (lambda s: choose(s, "random", 1.5), r"Expected `share` in \(0, 1\], but got 1.5"),
        (lambda s: choose(s, "random", 0.5, floor=200), "`floor` = 200 examples of every class, but class"),
        (lambda s: scores(s, "el2", RECIPE), "Did you mean 'el2n'"),
        (lambda s: choose(s, "memorization", 0.5, recipe=replace(RECIPE, epochs=9)), "has 0 of this recipe"),
        (lambda s: choose(s, "influence", 0.5, scored=Scored(scheme="float16")), "of 'float16' for the score"),
        (lambda s: choose(Store(Path(s.root) / "none"), "random", 0.5), "Expected a `recipe`, because the store"),
        (
            lambda s: scores(s, "el2n", RECIPE, scored=Scored(recipe=Recipe("cifar10", "cnn"))),
            "Expected scores on 'digits', but their recipe is for 'cifar10'",
        ),
        (lambda s: Scored(seeds=0), "Expected `seeds` >= 1"),
        (lambda s: Scored(epoch=-1), "Expected `epoch` >= 0"),
    ],
)
def test_mistakes_are_clear_errors(call, message, store):
    with pytest.raises(ValueError, match=message):
        call(store)


def test_memorization_without_an_estimate_is_a_clear_error(tmp_path):
    store = Store(tmp_path)
    run(plan.subsets(replace(RECIPE, epochs=1), 4), store, engine="serial")
    with pytest.raises(ValueError, match="of 1442 are NaN or infinite .*train on more subsets"):
        choose(store, "memorization", 0.5)


def test_a_training_that_fails_says_why(tmp_path):
    with pytest.raises(RunError, match=r"A training that gives scores failed: .*ValueError.*|not there"):
        scores(Store(tmp_path), "el2n", Recipe("digits", "mlp-0"), scored=QUICK, computing=HERE)


def test_trials_of_a_selection_that_is_not_in_the_store_say_so(store):
    with pytest.raises(RunError, match="to hold the selection ffffffffffffffff, but it does not"):
        run([selected("f" * 16)], store, engine="serial")
