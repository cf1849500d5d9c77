"""Measures of predictions and costs, on numbers worked by hand and against slow versions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.schemes import Compose, Dense, DynamicInt8, Float16, OneShotPruning, Restored
from remnant.search.intervals import _means, cost_estimates, estimates, iou_estimate
from remnant.search.measures import LEAST_EXAMPLES, Answers, Examples, behaviour, costs, formats, split
from remnant.stats.rates import newcombe_paired, wilson


@given(st.lists(st.integers(0, 4), min_size=4, max_size=200), st.floats(0.2, 0.8), st.integers(0, 10))
def test_the_two_parts_hold_every_example_once_and_every_class_in_its_share(labels, share, seed):
    label = np.array(labels)
    found = split(label, share, seed=seed)
    together = np.concatenate([found.validation, found.held_out])
    assert sorted(together.tolist()) == list(range(len(label)))
    assert abs(len(found.validation) - share * len(label)) <= 1
    for one in range(5):
        assert abs((label[found.validation] == one).sum() - share * (label == one).sum()) <= 2


def test_the_parts_depend_on_the_seed_alone():
    label = np.arange(100) % 3
    assert np.array_equal(split(label, 0.5).validation, split(label, 0.5).validation)
    assert not np.array_equal(split(label, 0.5).validation, split(label, 0.5, seed=1).validation)


@pytest.mark.parametrize(
    ("share", "number", "message"),
    [(0.0, 10, r"in \(0, 1\)"), (1.0, 10, r"in \(0, 1\)"), (0.5, 1, "are few"), (0.01, 10, "are few")],
)
def test_no_part_may_be_empty(share, number, message):
    with pytest.raises(ValueError, match=message):
        split(np.zeros(number, int), share)


LABEL = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
DENSE = np.array([[0, 0, 0, 1, 1, 1, 1, 1, 2, 0]])
OTHER = np.array([[0, 0, 1, 2, 1, 1, 1, 1, 2, 2]])


def test_behaviour_is_as_worked_by_hand():
    found = {name: float(value[0]) for name, value in behaviour(OTHER, DENSE, Examples(LABEL, {})).items()}
    assert found == pytest.approx({
        "accuracy": 0.8, "accuracy_drop": 0.0, "cie": 0.3, "cie_u": 0.1, "worst_class_recall": 0.5,
        "worst_class_drop": 0.25, "dense_accuracy": 0.8, "dense_worst_class_recall": 0.5,
    })  # fmt: skip


def test_a_model_compared_with_itself_forgot_nothing():
    found = behaviour(DENSE, DENSE, Examples(LABEL, {}))
    assert found["cie"] == found["cie_u"] == found["accuracy_drop"] == found["worst_class_drop"] == 0


def test_gaps_between_groups_are_those_of_a_slow_version_and_small_groups_do_not_count():
    rng = np.random.default_rng(0)
    label, dense = rng.integers(0, 3, 300), rng.integers(0, 3, (2, 300))
    other = np.where(rng.random((2, 300)) < 0.3, rng.integers(0, 3, (2, 300)), dense)
    groups = {"sex": rng.integers(0, 2, 300), "age": rng.integers(0, 4, 300)}
    groups["age"][: LEAST_EXAMPLES - 1] = 4  # a group that is too small
    groups["age"][LEAST_EXAMPLES - 1 :] %= 4
    found = behaviour(other, dense, Examples(label, groups))
    for seed in range(2):
        gaps, drops = [], []
        for index, levels in ((groups["sex"], 2), (groups["age"], 4)):
            after = [np.mean((other[seed] == label)[index == level]) for level in range(levels)]
            before = [np.mean((dense[seed] == label)[index == level]) for level in range(levels)]
            gaps.append(max(after) - min(after))
            drops.append(max(b - a for a, b in zip(after, before, strict=True)))
        assert found["group_gap"][seed] == pytest.approx(max(gaps))
        assert found["worst_group_drop"][seed] == pytest.approx(max(drops))


def test_without_groups_there_is_no_gap():
    assert "group_gap" not in behaviour(OTHER, DENSE, Examples(LABEL, {}))


FOOTPRINT = {
    "parameters": 100, "nonzeros": 40, "flops": 1000, "effective_flops": 400, "latency": 0.01,
    "bytes": {"float32": 400, "float16": 200, "int8": 120, "float32 bitmask": 175, "float32 csr": 340},
}  # fmt: skip
WHOLE = {**FOOTPRINT, "nonzeros": 100, "effective_flops": 1000, "latency": 0.02}


@pytest.mark.parametrize(
    ("scheme", "memory", "memory_index"),
    [
        (OneShotPruning(0.6), 160.0, 175.0),
        (Float16(), 80.0, 175.0),
        (DynamicInt8(), 40.0, 120.0),
        (Compose((OneShotPruning(0.6), Float16())), 80.0, 175.0),
    ],
)
def test_memory_counts_non_zeros_in_the_format_that_keeps_them(scheme, memory, memory_index):
    found = costs(Answers(scheme, OTHER, [FOOTPRINT]), Answers(Dense(), DENSE, [WHOLE]))
    one = {name: float(value[0]) for name, value in found.items()}
    assert one["memory"] == memory
    assert one["memory_index"] == memory_index
    assert one["sparsity"] == pytest.approx(0.6)
    assert one["throughput"] == pytest.approx(100)
    assert one["dense_memory"] == 400
    assert one["dense_throughput"] == pytest.approx(50)


def test_formats_look_into_compositions():
    assert formats(Dense()) == {"float32": 32}
    assert formats(Compose((Float16(), DynamicInt8()))) == {"float32": 32, "float16": 16, "int8": 8}


def test_models_with_restored_layers_have_their_own_size():
    sizes = {"float32": 400, "float16": 200, "int8": 120, "float32 bitmask": 390}
    scheme = Compose((DynamicInt8(), Restored(("1",))))
    for stated, expected in (({"own": 300}, 300), ({}, 120)):
        footprint = {**FOOTPRINT, "bytes": sizes | stated}
        side = Answers(scheme, OTHER, [footprint])
        assert costs(side, Answers(Dense(), DENSE, [WHOLE]))["memory_index"] == expected


def test_intervals_of_one_model_are_those_of_wilson_and_newcombe():
    found = estimates(OTHER, DENSE, Examples(LABEL, {}))
    low, high = wilson(1, 10)
    assert found["cie_u"].estimate == pytest.approx(0.1)
    assert [found["cie_u"].low, found["cie_u"].high] == pytest.approx([float(low), float(high)])
    low, high = newcombe_paired(7, 1, 1, 1)
    assert [found["accuracy_drop"].low, found["accuracy_drop"].high] == pytest.approx([float(low), float(high)])
    low, high = found["worst_class_drop"].low, found["worst_class_drop"].high
    assert low is not None
    assert high is not None
    assert low <= 0.25 <= high


def test_no_flips_of_several_models_still_have_an_upper_end():
    dense = np.repeat(DENSE, 3, axis=0)
    found = estimates(dense, dense, Examples(LABEL, {}))["cie_u"]
    assert (found.estimate, found.low) == (0, 0)
    assert found.high == pytest.approx(float(wilson(0, 10)[1]))


def test_intervals_over_examples_and_seeds_cover():
    """The rate of a new model on new examples: seeds and examples have effects of their own."""
    rng, covered = np.random.default_rng(0), 0
    label = np.zeros(200, int)
    for _ in range(200):
        chance = np.clip(rng.normal(0.2, 0.03, (4, 1)) + rng.normal(0, 0.1, (1, 200)), 0, 1)
        other = (rng.random((4, 200)) < chance).astype(int)
        low, high = _means(other, np.zeros((4, 200), int), Examples(label, {}))["cie_u"]
        covered += low <= 0.2 <= high
    assert 180 <= covered <= 198  # 95 % of 200, and three standard errors


def test_costs_have_students_interval_over_seeds_and_none_for_one():
    found = cost_estimates({"memory": np.array([1.0, 2.0, 3.0])})["memory"]
    assert found.estimate == 2
    assert found.high == pytest.approx(2 + 4.302653 / np.sqrt(3))  # Student's 97.5 % quantile with 2 degrees, tables
    assert cost_estimates({"memory": np.array([1.0])})["memory"].low is None


def test_examples_without_a_map_are_left_out_of_the_index():
    assert iou_estimate(np.array([[0.5, np.nan, 0.7]])).estimate == pytest.approx(0.6)
    assert np.isnan(iou_estimate(np.array([[np.nan]])).estimate)
