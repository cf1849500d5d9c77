import json
from dataclasses import replace

import numpy as np
import pytest

from remnant import planner
from remnant.cli import main
from remnant.plan import subsets
from remnant.planner import Sizes, Target, bytes_of_trial, plan_study
from remnant.planner.certainty import Setting, certainty, needed
from remnant.planner.reached import Outcomes, reached
from remnant.schemes import Float16, GradualPruning
from remnant.stats.influence_null import expected_above, pair_counts
from remnant.stats.planning import AccuracyDistribution
from remnant.store import Store
from remnant.study import Study, SubsetPlan
from remnant.trial import Recipe

RECIPE = Recipe("digits", "mlp", epochs=1, learning_rate=0.05)
STUDY = Study(RECIPE, (Float16(), GradualPruning(0.5)), (0, 1), SubsetPlan(6))
SIZES = Sizes(1442, 355, 10, 70_000)
TOML = """
schemes = ["float16"]
seeds = 2
[recipe]
dataset = "digits"
architecture = "mlp"
epochs = 1
learning_rate = 0.05
[subsets]
trials = 6
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """Two dense trials of the study, as `remnant plan --measure` leaves them."""
    store = Store(tmp_path_factory.mktemp("plan"))
    assert planner.measure(STUDY, store) == 2
    return store


def test_bytes_of_a_trial_are_those_of_its_arrays():
    """355 x 10 x 4 logits, 1442 x (2 + 1) margins and answers, 181 bytes of membership, the weights."""
    assert bytes_of_trial(SIZES) == 14_200 + 4_326 + 181 + 70_000
    assert bytes_of_trial(Sizes(1000, 100, 1000)) == 200_200 + 4_000 + 125


def test_computed_bytes_are_near_the_stored_ones(store):
    computed = bytes_of_trial(plan_study(STUDY).sizes)
    stored = plan_study(STUDY, store=store).costs[0].bytes
    assert computed <= stored < 1.05 * computed


def test_without_a_store_the_rate_gives_time_and_every_scheme_that_trains_takes_it():
    forecast = plan_study(STUDY, sizes=SIZES, rate=2.0, workers=2)
    assert {cost.scheme: (cost.trials, cost.finished) for cost in forecast.costs} == {
        "dense": (8, 0),
        "float16": (2, 0),
        GradualPruning(0.5).label: (2, 0),
    }
    assert forecast.seconds == pytest.approx(12 * 2.0 / 2)
    assert forecast.bytes == 12 * bytes_of_trial(SIZES)
    assert forecast.accuracy_from == "assumed"
    assert plan_study(STUDY, sizes=SIZES).seconds is None


def test_finished_trials_are_measured_and_not_counted_again(store):
    forecast = plan_study(STUDY, store=store)
    dense, half, _ = forecast.costs
    assert (dense.finished, dense.measured, half.measured) == (2, True, False)
    assert forecast.accuracy_from == "2 finished trials"
    assert 0.3 < forecast.accuracy.mean < 1
    assert (half.seconds or 0) < (dense.seconds or 0)
    assert forecast.reached is None  # too few trials


def test_a_scheme_that_does_not_train_costs_an_evaluation(store):
    dense, half, gradual = plan_study(STUDY, store=store).costs
    assert half.seconds == pytest.approx(
        np.mean([store.manifest(t)["seconds"]["evaluate"] for t in subsets(RECIPE, 2)])
    )
    assert gradual.seconds == dense.seconds


def test_measuring_again_trains_nothing(store):
    assert planner.measure(STUDY, store) == 0


def test_numbers_needed_are_the_first_that_meet_the_target():
    setting = Setting("fixed", 0.7, 5000, 2.5e6, AccuracyDistribution(0.83, 0.4))
    target = Target()
    found = needed(setting, target)
    assert found["standard_error"] == 477  # 0.25 / (0.7 x 0.3 x 0.05^2) = 476.2
    for name, meets in {
        "false_pairs": lambda c: c.false_pairs <= 1,
        "power": lambda c: c.power >= 0.8,
        "standard_error": lambda c: c.worst_influence_error <= 0.05,
        "never_out": lambda c: c.never_in + c.never_out <= 0.5,
    }.items():
        number = found[name]
        assert number is not None
        assert meets(certainty(setting, target, number)), name
        assert not meets(certainty(setting, target, number - 1)), name


def test_equal_columns_leave_no_example_out():
    setting = Setting("fixed", 0.7, 5000, 2.5e6, AccuracyDistribution(0.83, 0.4))
    assert certainty(setting, Target(), 10).never_out > 100
    assert certainty(replace(setting, design="doubly-balanced"), Target(), 10).never_out == 0


def outcomes(trials: int, *, effect: float) -> Outcomes:
    """Ten memorized training examples of one class, each deciding a test example if there is an effect."""
    rng = np.random.default_rng(0)
    included = rng.random((trials, 60)) < 0.7
    train_correct = included | (np.arange(60) >= 10)
    correct = rng.random((trials, 50)) < 0.6
    correct[:, :10] = rng.random((trials, 10)) < 0.6 - effect / 2 + effect * included[:, :10]
    return Outcomes(correct, train_correct, included, np.zeros(50, int), np.zeros(60, int), 2)


def test_reached_counts_pairs_beyond_chance():
    found = outcomes(400, effect=0.6)
    setting = Setting("fixed", 0.7, 60, found.same_class_pairs, found.accuracy)
    now = reached(found, setting, Target())
    right, num_in = found.correct.sum(axis=0), found.included[:, :10].sum(axis=0)
    by_chance = expected_above(pair_counts(right, num_in, 400), np.array([0.15]))[0]
    assert (now.trials, now.memorized, now.compared) == (400, 10, 500)
    assert now.by_chance == pytest.approx(by_chance)
    assert 10 <= now.pairs <= 15
    assert now.false_discovery == pytest.approx(by_chance / now.pairs)
    assert now.influence_error == pytest.approx(np.sqrt(0.24 / (400 * 0.21)), rel=0.05)


def test_more_trials_are_asked_for_while_pairs_may_be_chance_and_none_when_they_are_not():
    few, many = outcomes(60, effect=0.6), outcomes(900, effect=0.6)
    setting = Setting("fixed", 0.7, 60, few.same_class_pairs, few.accuracy)
    early, late = reached(few, setting, Target()), reached(many, setting, Target())
    assert early.false_discovery > 0.5
    assert early.needed is not None
    assert 60 < early.needed < 900
    assert late.needed is not None
    assert late.needed <= 900
    assert late.false_discovery < 0.05


def test_command_prints_tables_and_json(store, tmp_path, capsys):
    (tmp_path / "study.toml").write_text(TOML)
    main(["plan", str(tmp_path / "study.toml"), "--store", store.root, "--trials", "500", "--workers", "2"])
    shown = capsys.readouterr().out
    assert "Subsets needed" in shown
    assert "477" in shown
    main(["plan", str(tmp_path / "study.toml"), "--sizes", "100", "50", "2", "--accuracy", "0.9", "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["certainty"]["trials"] == 6
    assert printed["accuracy_from"] == "given"
    assert printed["sizes"]["train"] == 100
    assert printed["seconds"] is None


def test_a_study_without_subsets_has_a_cost_and_no_certainty(tmp_path, capsys):
    (tmp_path / "study.toml").write_text(TOML.partition("[subsets]")[0])
    main(["plan", str(tmp_path / "study.toml"), "--sizes", "100", "50", "2", "--rate", "3"])
    assert "no random training subsets" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Target(threshold=0.0), r"`threshold` in \(0, 1\), but got 0.0"),
        (lambda: Target(false_pairs=0), "`false_pairs` > 0, but got 0"),
        (lambda: Target(threshold=0.3, effect=0.3), "found half of the time"),
        (lambda: plan_study(STUDY, sizes=SIZES, rate=0), "`rate` > 0 seconds, but got 0"),
        (lambda: plan_study(STUDY, sizes=SIZES, workers=0), "`workers` >= 1, but got 0"),
        (lambda: plan_study(STUDY, sizes=SIZES, accuracy=1.0), r"`mean` in \(0, 1\)"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
