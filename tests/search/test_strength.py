"""Searches from end to end: digits, small networks, real stores."""

import importlib

import numpy as np
import pytest

from remnant.execute import RunError
from remnant.schemes import Compose, Dense, Float16, OneShotPruning
from remnant.search import Budget, search_strength
from remnant.search.bench import Setting, prepared
from remnant.store import Store
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp-16", steps=60, learning_rate=0.1)
PRUNING = OneShotPruning(0.5, epochs=0)
OPTIONS = {"recipe": RECIPE, "seeds": (0, 1), "engine": "serial", "resolution": 0.05}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("nothing should be trained")

    monkeypatch.setattr(importlib.import_module("remnant.lab.run"), "run_trial", fail)


@pytest.mark.parametrize("method", ["dr-ucb", "ei", "bisection"])
def test_the_strongest_pruning_in_the_budget_is_found(method, store):
    found = search_strength(PRUNING, "accuracy_drop<=5%", store=store, method=method, **OPTIONS)
    assert found.reachable
    assert found.best is found.strongest
    assert found.best.measures["accuracy_drop"] <= 0.05
    assert len(found.samples) <= 10
    stronger = [sample for sample in found.samples if sample.value > found.best.value]
    assert stronger
    assert not any(sample.holds for sample in stronger)
    assert min(sample.value for sample in stronger) == pytest.approx(found.best.value + 0.05)
    assert found.best.scheme == OneShotPruning(found.best.value, epochs=0)
    assert all(Trial(RECIPE, sample.scheme, seed) in store for sample in found.samples for seed in (0, 1))
    assert f"sparsity = {found.best.value:g}" in found.reason


def test_a_limit_on_costs_is_reached_by_stronger_settings(store):
    found = search_strength(PRUNING, "memory<=0.2*dense_memory", store=store, **OPTIONS)
    assert found.reachable
    assert found.best.measures["memory"] <= 0.2 * found.best.measures["dense_memory"]
    assert found.samples[0].value < found.best.value


def test_measures_of_both_parts_together_are_those_of_all_examples(store):
    found = search_strength(PRUNING, "cie_u<=4%", store=store, **OPTIONS)
    bench = prepared(Setting(store, RECIPE, (0, 1), (), engine="serial"))
    sizes = len(bench.split.validation), len(bench.split.held_out)
    both = [found.best.measures["accuracy"], found.held_out["accuracy"].estimate]
    stored = [store.manifest(Trial(RECIPE, found.best.scheme, seed))["accuracy"]["test"] for seed in (0, 1)]
    assert np.average(both, weights=sizes) == pytest.approx(np.mean(stored))
    one = found.held_out["cie_u"]
    assert one.low is not None
    assert one.high is not None
    assert one.low <= one.estimate <= one.high
    assert not set(bench.split.validation) & set(bench.split.held_out)


def test_a_second_search_computes_nothing_and_finds_the_same(store, no_training):
    first = search_strength(PRUNING, "accuracy_drop<=5%", store=store, method="bisection", **OPTIONS)
    again = search_strength(PRUNING, "accuracy_drop<=5%", store=store, method="bisection", **OPTIONS)
    assert first == again


def test_an_interrupted_search_goes_on_where_it_stopped(tmp_path, store, monkeypatch):
    fresh = Store(tmp_path)
    whole = search_strength(PRUNING, "accuracy_drop<=5%", store=store, **OPTIONS)

    class Stop(Exception):
        pass

    def stop(sample):
        if sample.value == whole.samples[2].value:
            raise Stop

    with pytest.raises(Stop):
        search_strength(PRUNING, "accuracy_drop<=5%", store=fresh, report=stop, **OPTIONS)
    kept = {trial.key for trial in fresh.trials()}
    module, made = importlib.import_module("remnant.lab.run"), []
    run_trial = module.run_trial
    monkeypatch.setattr(module, "run_trial", lambda trial, *rest: (made.append(trial.key), run_trial(trial, *rest)))
    resumed = search_strength(PRUNING, "accuracy_drop<=5%", store=fresh, **OPTIONS)
    assert [sample.value for sample in resumed.samples] == [sample.value for sample in whole.samples]
    assert len(kept) == 2 + 3 * 2
    assert not kept & set(made)
    assert len(kept) + len(made) == 2 + 2 * len(whole.samples)


def test_an_unreachable_budget_is_an_outcome_with_the_nearest_sample(store):
    found = search_strength(PRUNING, "accuracy_drop<=-50%", store=store, max_samples=3, **OPTIONS)
    assert not found.reachable
    assert not found.confirmed
    assert found.strongest is None
    assert found.best.margin == max(sample.margin for sample in found.samples)
    assert found.held_out
    for part in (
        f"No strength keeps the budget ({len(found.samples)} samples)",
        "breaks accuracy_drop<=-50%",
        "Loosen the budget",
    ):
        assert part in found.reason


def test_a_budget_that_everything_keeps_ends_at_the_strongest(store):
    found = search_strength(PRUNING, "accuracy>=0", store=store, method="bisection", **OPTIONS)
    assert found.best.value == 0.95
    assert "the strongest that was allowed" in found.reason
    assert found.confirmed


def test_an_objective_that_is_not_monotone_is_optimized_below_the_strongest(store):
    goal = "maximize accuracy - 0.1 * (sparsity - 0.4) ** 2"
    found = search_strength(
        PRUNING, "accuracy_drop<=20%", store=store, objective=goal, max_samples=6, method="ei", **OPTIONS
    )
    phases = [sample.phase for sample in found.samples]
    assert set(phases) == {"budget", "objective"}
    assert found.best.score == max(sample.score for sample in found.samples if sample.holds)
    assert found.strongest is not None
    assert all(s.value < found.strongest.value for s in found.samples if s.phase == "objective")
    assert phases.count("objective") <= 6


def test_frames_have_a_row_for_each_sample_and_quantity(store):
    found = search_strength(PRUNING, "accuracy_drop<=5%", store=store, method="bisection", **OPTIONS)
    frame = found.to_frame()
    assert len(frame) == len(found.samples)
    assert {"sparsity", "scheme", "phase", "holds", "margin", "objective", "cie_u", "memory", "flops"} <= set(frame)
    assert frame["objective"].tolist() == frame["memory"].tolist()
    held_out = found.held_out_frame().set_index("quantity")
    assert bool(held_out["low"].loc["accuracy_drop"] <= held_out["high"].loc["accuracy_drop"])


def test_a_composition_is_searched_by_its_path(store):
    both = Compose((PRUNING, Float16()))
    found = search_strength(both, Budget("cie_u<=5%"), store=store, field="parts.0.sparsity", max_samples=2, **OPTIONS)
    assert isinstance(found.best.scheme, Compose)
    assert found.best.scheme.parts[1] == Float16()
    assert found.best.measures["memory"] * 2 == pytest.approx(found.best.measures["nonzeros"] * 4)


def test_refused_strengths_count_as_outside_the_budget(store, monkeypatch):
    module = importlib.import_module("remnant.lab.run")
    run_trial = module.run_trial

    def picky(trial, *rest):
        if isinstance(trial.scheme, OneShotPruning) and trial.scheme.sparsity > 0.6:
            raise ValueError("Expected less sparsity.")
        run_trial(trial, *rest)

    monkeypatch.setattr(module, "run_trial", picky)
    template = OneShotPruning(0.5, epochs=0, scope="layer")
    found = search_strength(template, "accuracy>=1%", store=store, method="bisection", **OPTIONS)
    assert found.best.value == 0.6
    refused = [sample for sample in found.samples if sample.refused]
    assert {sample.value > 0.6 for sample in refused} == {True}
    assert "Expected less sparsity" in refused[0].refused
    assert found.to_frame()["refused"].str.contains("Expected less").sum() == len(refused)
    with pytest.raises(RunError, match=r"No strength of 'one-shot-pruning' could be made: ValueError: Expected less"):
        search_strength(template, "accuracy>=1%", store=store, bounds=(0.7, 0.9), **OPTIONS)


def test_other_failures_end_the_search(store, monkeypatch):
    def broken(trial, *_):
        raise OSError("The disk is on fire.")

    monkeypatch.setattr(importlib.import_module("remnant.lab.run"), "run_trial", broken)
    with pytest.raises(RunError, match="The disk is on fire"):
        search_strength(OneShotPruning(0.5, scope="layer", epochs=0.5), "accuracy>=1%", store=store, **OPTIONS)


def test_attribution_maps_are_measured_when_a_budget_is_about_them(store):
    found = search_strength(PRUNING, "attribution_iou>=0.6", store=store, max_samples=2, **OPTIONS)
    values = found.to_frame().sort_values("sparsity")["attribution_iou"]
    assert values.between(0, 1).all()
    assert values.is_monotonic_decreasing
    assert found.held_out["attribution_iou"].estimate == pytest.approx(found.best.measures["attribution_iou"], abs=0.1)


def test_the_dense_models_themselves_forgot_nothing(store):
    bench = prepared(Setting(store, RECIPE, (0, 1), ("attribution_iou",), engine="serial"))
    measured = bench.measured(Dense())
    assert measured["cie"] == measured["cie_u"] == measured["accuracy_drop"] == 0
    assert measured["attribution_iou"] == 1
    assert measured["memory"] == measured["dense_memory"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "cie_y<=1%"}, "Did you mean 'cie"),
        ({"objective": "speed"}, "Expected `name in 'speed'`"),
        ({"method": "random"}, "Expected `method` to be one of"),
        ({"max_samples": 0}, "Expected `max_samples` >= 1"),
        ({"seeds": ()}, "one or more different `seeds`"),
        ({"seeds": (1, 1)}, "one or more different `seeds`"),
        ({"field": "sparsty"}, "Did you mean 'sparsity'"),
        ({"validation_share": 1.0}, r"Expected `validation_share` in \(0, 1\)"),
        ({"budget": "group_gap<=1%"}, "Expected data with groups for 'group_gap', but 'digits' has no attribute"),
    ],
)
def test_mistakes_are_clear_errors_before_anything_is_compressed(options, message, store):
    compressed = [trial for trial in store.trials() if trial.parent]
    with pytest.raises(ValueError, match=message):
        search_strength(PRUNING, **{"budget": "cie_u<=1%", "store": store, **OPTIONS, **options})
    assert [trial for trial in store.trials() if trial.parent] == compressed
