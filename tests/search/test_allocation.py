"""A sparsity for each layer: the front, the sampler's replay, and real trials on digits."""

import importlib
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.schemes.layerwise import LayerwisePruning
from remnant.search import search_allocation
from remnant.search.allocation import pareto
from remnant.search.spaces import grouped
from remnant.store import Store
from remnant.trial import Recipe

pytest.importorskip("optuna")

RECIPE = Recipe("digits", "mlp-16-8", steps=60, learning_rate=0.1)
TEMPLATE = LayerwisePruning((0.5,), epochs=0)
OPTIONS = {
    "recipe": RECIPE, "seeds": (0,), "engine": "serial", "max_samples": 10, "batch": 4, "starts": (0.5, 0.8),
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def found(store):
    return search_allocation(TEMPLATE, store=store, **OPTIONS)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_front_is_what_no_other_beats(rows):
    scores = np.array(rows, float)
    kept = pareto(scores)
    for index, (a, b) in enumerate(rows):
        beaten = any((x >= a and y >= b) and (x > a or y > b) for x, y in rows)
        earlier = (a, b) in rows[:index]
        assert kept[index] == (not beaten and not earlier)
    assert kept.any()


def test_the_front_trades_memory_for_forgetting(found):
    memory = [sample.measures["memory"] for sample in found.front]
    forgotten = [sample.measures["cie_u"] for sample in found.front]
    assert memory == sorted(memory)
    assert forgotten == sorted(forgotten, reverse=True)
    assert len(found.samples) == 10
    every = {(sample.measures["memory"], sample.measures["cie_u"]) for sample in found.samples}
    for sample in found.front:
        a, b = sample.measures["memory"], sample.measures["cie_u"]
        assert not any((x <= a and y <= b) and (x, y) != (a, b) for x, y in every)


def test_the_first_candidates_are_the_two_usual_ways(found):
    starts = [sample for sample in found.samples if sample.phase == "start"]
    assert [sample.scheme for sample in starts] == [sample.scheme for sample in found.samples[:4]]
    assert starts[0].scheme.sparsities == (0.5, 0.5, 0.5)
    assert starts[2].scheme.sparsities == (0.8, 0.8, 0.8)
    assert len(set(starts[1].scheme.sparsities)) > 1
    sizes = list(found.layers.values())
    assert sizes == [64 * 16, 16 * 8, 8 * 10]
    assert np.average(starts[1].scheme.sparsities, weights=sizes) == pytest.approx(0.5, abs=0.01)


def test_a_second_search_computes_nothing_and_asks_for_the_same(store, found, monkeypatch):
    monkeypatch.setattr(importlib.import_module("remnant.lab.run"), "run_trial", None)
    again = search_allocation(TEMPLATE, store=store, **OPTIONS)
    assert again == found


def test_another_seed_of_the_sampler_asks_for_others(store, found):
    other = search_allocation(TEMPLATE, store=store, **{**OPTIONS, "max_samples": 6, "sampler_seed": 1})
    assert [s.scheme for s in other.samples[:4]] == [s.scheme for s in found.samples[:4]]
    assert [s.scheme for s in other.samples[4:]] != [s.scheme for s in found.samples[4:6]]


def test_layers_of_a_group_share_their_sparsity_and_tpe_works_too(store):
    found = search_allocation(
        TEMPLATE, store=store, sampler="tpe", groups=[["1", "5"], ["3"]], **{**OPTIONS, "max_samples": 6}
    )
    for sample in found.samples:
        assert isinstance(sample.scheme, LayerwisePruning)
        first, _, last = sample.scheme.sparsities
        assert first == last


def test_frames_have_a_column_for_each_layer_and_held_out_numbers(found):
    frame, front = found.to_frame(), found.front_frame()
    assert {"sparsity of 1", "sparsity of 3", "sparsity of 5", "memory", "cie_u", "front"} <= set(frame)
    assert frame["front"].sum() >= len(front) == len(found.front)
    assert (front["held_out_cie_u_low"] <= front["held_out_cie_u_high"]).all()
    assert (front["held_out_memory"] == front["memory"]).all()


def test_the_smallest_within_a_budget_is_chosen(found):
    limit = sorted(sample.measures["cie_u"] for sample in found.front)[len(found.front) // 2]
    chosen = found.within(f"cie_u<={limit:.12f} + 0.000001")
    assert chosen.measures["memory"] == min(
        sample.measures["memory"] for sample in found.samples if sample.measures["cie_u"] <= limit + 1e-6
    )
    assert found.within("accuracy > 0.9999999") is None


@pytest.mark.parametrize(
    ("groups", "expected"),
    [(None, ((0,), (1,), (2,))), (2, ((0, 1), (2,))), ([["c"], ["b", "a"]], ((2,), (1, 0)))],
)
def test_layers_are_grouped(groups, expected):
    assert grouped(["a", "b", "c"], groups) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 4}, "Expected `groups` in 1 to 3"),
        ({"groups": [["1"], ["3"]]}, r"exactly one of the `groups`, but these are not: \['5'\]"),
        ({"groups": [["1", "3"], ["3", "5"]]}, r"these are not: \['3'\]"),
        ({"groups": [["conv1"]]}, "Expected `layer in `groups`` to be one of"),
        ({"sampler": "grid"}, "Expected `sampler` to be one of"),
        ({"batch": 0}, "Expected `batch` >= 1"),
        ({"batch": 1}, "Expected `batch` >= 2 with sampler='nsga2'"),
        ({"max_samples": 0}, "Expected `max_samples` >= 1"),
        ({"strongest": 1.0}, "Expected 0 < `step` <= `strongest` < 1"),
        ({"step": 0.0}, "Expected 0 < `step`"),
        ({"objectives": ("memory", "forgetting")}, "Expected `name in 'forgetting'`"),
        ({"objectives": ("memory",)}, "Expected two `objectives`"),
    ],
)
def test_mistakes_are_clear_errors(options, message, store):
    with pytest.raises(ValueError, match=message):
        search_allocation(TEMPLATE, store=store, **{**OPTIONS, **options})


def test_without_optuna_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r'pip install "remnant\[search\]"'):
        search_allocation(TEMPLATE, store=store, **OPTIONS)
