"""Memorization of populations with known truth."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from remnant.analyses.memorization import ANALYSIS, run
from remnant.finding import Finding, NotApplicable
from remnant.stats.memorization_estimators import combined_memorization
from tests.simulate import population

TRUTH = 0.4
"""Even training examples are wrong with probability 0.8 when left out; the others never."""


@pytest.fixture(scope="module")
def simulated():
    return population(np.random.default_rng(0), num_seeds=2, num_subset_trials=60)


@pytest.fixture(scope="module")
def finding(simulated):
    return run(simulated)


def two_schemes(simulated) -> Any:
    """The subset trials again as those of a scheme that memorizes nothing."""
    trials = simulated.isel(trial=simulated["subset"].values >= 0)
    label = trials["train_label"].values
    other = trials.assign_coords(
        scheme=("trial", ["float16"] * trials.sizes["trial"]),
        trial=[f"float16/{name}" for name in trials["trial"].values],
    )
    shape = trials["train_correct"].shape
    other["train_correct"] = (("trial", "train_example"), np.ones(shape, bool))
    other["train_prediction"] = (("trial", "train_example"), np.broadcast_to(label, shape).astype(np.uint8))
    return xr.concat(
        [simulated, other], "trial", data_vars="minimal", coords="minimal", join="exact", compat="override"
    )


def test_mean_and_share_are_the_truth(finding):
    mean, share = finding.claim("mean_memorization", "dense"), finding.claim("memorized_share", "dense")
    assert mean.low <= TRUTH <= mean.high
    assert mean.high - mean.low < 0.05
    assert (mean.n, mean.unit) == (60, "trial")
    assert share.estimate == 0.5
    assert 0 < finding.claim("memorized_share_null", "dense").estimate < 0.02


def test_table_of_examples_holds_the_definition(simulated, finding):
    trials = simulated.isel(trial=simulated["subset"].values >= 0)
    table = finding.tables["examples"].set_index("train_example")
    for place in (0, 1, 6, 149):
        row = table.loc[f"train-{place:05}"]
        right, inside = trials["train_correct"].values[:, place], trials["included"].values[:, place]
        assert row["memorization"] == pytest.approx(right[inside].mean() - right[~inside].mean())
        assert row["accuracy_out"] == pytest.approx(right[~inside].mean())
        assert (row["trials_in"], row["trials_out"]) == (inside.sum(), (~inside).sum())
        assert row["low"] <= row["memorization"] <= row["high"]
        margin = trials["train_margin"].values[:, place].astype(float)
        assert row["margin_memorization"] == pytest.approx(margin[inside].mean() - margin[~inside].mean())
        assert row["class"] == f"class {place % 5}"
    expected = combined_memorization(*(trials[name].values for name in ("train_correct", "train_margin", "included")))
    numbers = table.index.str[-5:].astype(int)
    assert np.allclose(table["combined_memorization"], expected.value[numbers])
    even = table.index.str[-1].astype(int) % 2 == 0
    assert (table["memorization"][even] > 0.4).all()
    assert (table["memorization"][~even] == 0).all()
    assert table["memorization"].is_monotonic_decreasing


def test_gallery_shows_what_left_out_models_say(finding):
    gallery = finding.galleries["Most memorized training examples"]
    assert len(gallery) == 24
    values = [exhibit.value for exhibit in gallery]
    assert values == sorted(values, reverse=True)
    first = gallery[0]
    true = int(first.example[-5:]) % 5
    assert first.split == "train"
    assert first.lines[0] == f"true: class {true}"
    assert first.lines[1].startswith(f"left out: class {(true + 1) % 5} (")
    assert first.lines[2].startswith("memorization: ")
    assert "±" in first.lines[2]


def test_gallery_without_predictions_has_no_such_line(simulated):
    exhibit = run(simulated.drop_vars(["train_prediction", "train_margin"])).galleries[
        "Most memorized training examples"
    ][0]
    assert len(exhibit.lines) == 2


def test_each_scheme_with_subset_trials_has_a_row(simulated):
    found = run(two_schemes(simulated))
    assert found.to_frame()["scheme"].tolist() == ["dense", "float16"]
    assert found.claim("mean_memorization", "float16").estimate == 0
    change = found.claim("mean_memorization_change", "float16")
    assert change.estimate == pytest.approx(-found.claim("mean_memorization", "dense").estimate)
    assert (change.low or 0) < -TRUTH < (change.high or 0)
    with pytest.raises(KeyError):
        found.claim("mean_memorization_change", "dense")


def test_interval_of_the_mean_covers():
    """60 populations of 30 trials: the 95 % interval holds the truth as often as it should."""
    covered = 0
    for seed in range(60):
        claim = run(
            population(np.random.default_rng(seed), num_seeds=0, num_subset_trials=30, num_examples=5, num_train=60)
        ).claim("mean_memorization", "dense")
        covered += (claim.low or 0) <= TRUTH <= (claim.high or 0)
    assert 52 <= covered <= 60


def test_share_by_chance_is_what_unrelated_membership_gives():
    """Correctness redrawn without regard to membership: the share above the threshold is the one expected."""
    simulated = population(np.random.default_rng(1), num_seeds=0, num_subset_trials=30, num_examples=5, num_train=4000)
    right = np.random.default_rng(2).random(simulated["train_correct"].shape) < 0.6
    simulated["train_correct"] = (("trial", "train_example"), right)
    found = run(simulated)
    share, chance = found.claim("memorized_share", "dense"), found.claim("memorized_share_null", "dense")
    assert chance.estimate == pytest.approx(share.estimate, abs=4 * np.sqrt(share.estimate / 4000))
    assert any("by chance alone" in caveat for caveat in found.caveats)
    histogram: Any = found.tables["histogram"]
    assert histogram["train_examples"].sum() == 4000
    assert histogram["expected_by_chance"].sum() == pytest.approx(4000)
    spread = np.sqrt(histogram["expected_by_chance"] + 1)
    assert (np.abs(histogram["train_examples"] - histogram["expected_by_chance"]) < 5 * spread).all()


def test_examples_never_left_out_are_counted_and_have_no_estimate(simulated):
    included = simulated["included"].values.copy()
    included[:, 3] = True
    found = run(simulated.assign(included=(("trial", "train_example"), included)))
    assert found.to_frame()["never_out"].tolist() == [1]
    assert np.isnan(found.tables["examples"].set_index("train_example").loc["train-00003", "memorization"])
    assert any("have no estimate" in caveat for caveat in found.caveats)


def test_caveats_hold_no_results(finding):
    """Numbers are claims; 0 and 1 name a bound."""
    assert {character for caveat in finding.caveats for character in caveat if character.isdigit()} <= {"0", "1"}


def test_rows_limit_the_table(simulated):
    assert len(run(simulated, rows=10, gallery=3).tables["examples"]) == 10
    assert len(run(simulated, rows=None).tables["examples"]) == 150


def test_without_subset_trials_it_is_not_applicable():
    with pytest.raises(NotApplicable, match="at least 4 trials of one scheme on random training subsets, but .* has 0"):
        run(population(np.random.default_rng(0), num_seeds=2))


def test_picture_is_drawn_from_the_stored_finding(finding):
    restored = Finding.from_dict(finding.to_dict())
    assert restored.claims == finding.claims
    axes = ANALYSIS.plot(restored)
    assert axes.get_xlabel() == "memorization"
    axes.figure.clear()
