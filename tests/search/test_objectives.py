import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.search.objectives import Budget, Constraint, Objective
from remnant.search.quantities import DENSE, NAMES, OF_DENSE, QUANTITIES

MEASURES = {
    "accuracy": 0.9, "accuracy_drop": 0.015, "cie_u": 0.004, "worst_class_drop": 0.05, "group_gap": 0.01,
    "attribution_iou": 0.5, "memory": 2e6, "flops": 1e6, "dense_flops": 4e6, "latency": 0.002, "throughput": 500.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("cie_u<=0.5%", (0.005 - 0.004) / 0.005),
        ("cie_u <= 0.005", 0.2),
        ("accuracy_drop<=2%", 0.25),
        ("accuracy_drop <= 1pt", -0.5),
        ("worst_class_drop<=3 points", (0.03 - 0.05) / 0.03),
        ("group_gap<=0.02", 0.5),
        ("attribution_iou>=0.4", 0.25),
        ("accuracy >= 95%", (0.9 - 0.95) / 0.95),
        ("memory<=1MB", -1.0),
        ("memory < 4MB", 0.5),
        ("latency<=5ms", 0.6),
        ("throughput >= 1000", -0.5),
        ("flops <= 0.5 * dense_flops", 0.5),
        ("dense_flops / flops >= 4", 0.0),
        ("0.5 * dense_flops >= flops", 1.0),
        ("accuracy_drop <= -1%", (-0.01 - 0.015) / 0.01),
        ("cie_u <= 0", -0.004),
        ("max(cie_u, group_gap) <= 0.02", 0.5),
    ],
)
def test_margins_are_worked_by_hand(text, margin):
    assert Budget(text).margin(MEASURES) == pytest.approx(margin)
    assert Budget(text).holds(MEASURES) == (margin >= 0)


def test_the_smallest_margin_counts_and_broken_limits_are_named():
    budget = Budget("cie_u<=0.5% and worst_class_drop<=3 points, accuracy_drop<=2%")
    assert budget.margin(MEASURES) == pytest.approx(-2 / 3)
    assert [one.text for one in budget.broken(MEASURES)] == ["worst_class_drop<=3 points"]
    assert budget.names == ("cie_u", "worst_class_drop", "accuracy_drop")


def test_commas_inside_of_parentheses_do_not_separate():
    assert len(Budget("min(accuracy, attribution_iou) >= 0.1, cie_u<=1%").constraints) == 2


@given(st.floats(0.001, 0.99), st.floats(0, 1))
def test_at_most_and_at_least_are_mirror_images(limit, value):
    measures = {"throughput": value}
    least, most = Constraint(f"throughput>={limit:.17f}"), Constraint(f"throughput<={limit:.17f}")
    assert least.margin(measures) == pytest.approx(-most.margin(measures), abs=1e-9)
    assert least.holds(measures) or most.holds(measures)


def test_at_the_limit_only_the_loose_comparisons_hold():
    at_limit = {"latency": 0.005}
    assert Budget("latency<=5ms").holds(at_limit)
    assert Budget("latency>=5ms").holds(at_limit)
    for text in ("latency<5ms", "latency>5ms"):
        assert not Budget(text).holds(at_limit)
        assert -1e-9 < Budget(text).margin(at_limit) < 0


@pytest.mark.parametrize("right", [990, 940, 571])
def test_rounding_does_not_break_a_limit_that_is_met_exactly(right):
    drop = {"accuracy_drop": (right + 10) / 1000 - right / 1000}
    assert Budget("accuracy_drop<=1%").holds(drop)
    assert not Budget("accuracy_drop<1%").holds(drop)
    assert not Budget("accuracy_drop<=1%").holds({"accuracy_drop": drop["accuracy_drop"] + 1e-8})


@pytest.mark.parametrize("text", ["cie_u>=1%", "accuracy<=0.9", "worst_class_drop > 3 points"])
def test_limits_the_wrong_way_round_are_refused(text):
    with pytest.raises(ValueError, match="Turn the comparison round"):
        Budget(text)


@pytest.mark.parametrize(
    ("text", "saves"),
    [
        ("memory<=2KB", True), ("memory<=0.3*dense_memory", True), ("flops / dense_flops < 0.5", True),
        ("sparsity>=0.9", True), ("sparsity<=0.9", False), ("cie_u<=1%", False), ("latency<=1ms", False),
        ("memory * cie_u <= 1", False), ("memory <= 1000 * accuracy", False),
    ],
)  # fmt: skip
def test_limits_that_a_stronger_compression_keeps_sooner_are_known(text, saves):
    assert Constraint(text).saves == saves
    measures = dict.fromkeys((*Constraint(text).names, "cie"), 0.5)
    assert Budget(f"{text} and cie<=40%").room(measures) < 0
    assert (Budget(text).room(measures) == 1) == saves


def test_a_value_that_is_not_defined_breaks_the_budget():
    assert Budget("cie_u<=1%").margin({"cie_u": math.nan}) == -math.inf


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one limit"),
        ("   ", "at least one limit"),
        ("cie_u", "one comparison"),
        ("0.1 <= cie_u <= 0.2", "one comparison .* Join several by 'and'"),
        ("cie_u = 0.1", "one comparison"),
        ("cie_y<=1%", "got 'cie_y'. Did you mean 'cie"),
        ("cie_u<=accurcy", "Did you mean 'accuracy'"),
        ("cie_u<=3", "Did you mean '3%'"),
        ("worst_class_drop<=3", "Did you mean '3%'"),
        ("cie_u<=3 bananas", "Expected `cie_u` to be '1%'"),
        ("memory<=1%", "Expected `memory` to be '20MB'"),
        ("cie_u<=-1%", "Expected `cie_u` to be"),
        ("accuracy - cie_u >= 50%", "number without a unit beside the expression 'accuracy - cie_u'"),
        ("1 <= 2", "the name of a quantity"),
        ("and cie_u<=1%", "Expected a limit before 'and'"),
        ("cie_u<=1%,,accuracy>=90%", "Expected a limit before ','"),
        ("cie_u.real<=1%", "Expected numbers, names"),
    ],
)
def test_malformed_budgets_say_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        Budget(text)


@pytest.mark.parametrize(
    ("text", "maximize", "monotone", "score"),
    [
        ("memory", False, True, -2e6),
        ("flops", False, True, -1e6),
        ("throughput", True, False, 500.0),
        ("latency", False, False, -0.002),
        ("accuracy", True, False, 0.9),
        ("maximize throughput", True, False, 500.0),
        ("max throughput", True, False, 500.0),
        ("minimise memory", False, True, -2e6),
        ("maximize memory", True, False, 2e6),
        ("maximize throughput * (accuracy >= 0.5)", True, False, 500.0),
        ("minimize max(latency, 0.01)", False, False, -0.01),
        ("Minimize latency / accuracy", False, False, -0.002 / 0.9),
    ],
)
def test_objectives_know_their_direction(text, maximize, monotone, score):
    objective = Objective(text)
    assert (objective.maximize, objective.monotone) == (maximize, monotone)
    assert objective.score(MEASURES) == pytest.approx(score)


def test_sparsity_is_monotone_the_other_way():
    assert Objective("sparsity").maximize
    assert Objective("sparsity").monotone
    assert not Objective("minimize sparsity").monotone


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency / accuracy", "write 'maximize latency / accuracy'"),
        ("min(latency, 1)", "Expected 'minimize' or 'maximize'"),
        ("speed", "Expected `name in 'speed'`"),
        ("maximize troughput", "Did you mean 'throughput'"),
        ("", "Expected an expression"),
    ],
)
def test_malformed_objectives_say_what_is_wrong(text, message):
    with pytest.raises(ValueError, match=message):
        Objective(text)


def test_names_are_all_quantities_and_those_of_the_dense_models():
    assert set(NAMES) == {*QUANTITIES, *(DENSE + name for name in OF_DENSE)}
    assert set(OF_DENSE) <= set(QUANTITIES)
