"""Generalization gap and mean memorization."""

import numpy as np
import pytest

from remnant.analyses.generalization import ANALYSIS, MEANINGS, run
from remnant.finding import Finding
from remnant.stats.influence import memorization
from tests.simulate import population

PRUNED = "magnitude-pruning(sparsity=0.9)"


@pytest.fixture(scope="module")
def simulated():
    return population(np.random.default_rng(0), num_seeds=5, num_subset_trials=50, schemes={"dense": 0.0, PRUNED: 1.0})


@pytest.fixture(scope="module")
def finding(simulated):
    return run(simulated)


def test_mean_memorization_is_the_gap_to_left_out_examples(finding):
    """Both 0.4 in truth: half of the examples are wrong with probability 0.8 unless trained on."""
    memorized, gap = finding.claim("mean_memorization", "dense"), finding.claim("left_out_gap", "dense")
    for claim in (memorized, gap):
        assert claim.low <= 0.4 <= claim.high
    difference = finding.claim("memorization_minus_gap", "dense")
    assert difference.estimate == pytest.approx(memorized.estimate - gap.estimate)
    assert difference.low <= 0 <= difference.high
    assert abs(difference.estimate) < 0.01


def test_measures_are_their_definitions(simulated, finding):
    subset, scheme = simulated["subset"].values, simulated["scheme"].values
    right = simulated["train_correct"].values
    test = (simulated["logits"].values.argmax(-1) == simulated["label"].values).mean(axis=1)
    inside = simulated["included"].values
    for label in ("dense", PRUNED):
        rows = (subset < 0) & (scheme == label)
        assert finding.claim("train_accuracy", label).estimate == pytest.approx(right[rows].mean())
        assert finding.claim("test_accuracy", label).estimate == pytest.approx(test[rows].mean())
        gap = right[rows].mean(axis=1) - test[rows]
        assert finding.claim("generalization_gap", label).estimate == pytest.approx(gap.mean())
    rows = subset >= 0
    out = np.array([r[~i].mean() for r, i in zip(right[rows], inside[rows], strict=True)])
    assert finding.claim("left_out_accuracy", "dense").estimate == pytest.approx(out.mean())
    assert finding.claim("subset_test_accuracy", "dense").estimate == pytest.approx(test[rows].mean())
    memorized = memorization(right[rows], inside[rows]).value.mean()
    assert finding.claim("mean_memorization", "dense").estimate == pytest.approx(memorized)
    dense, pruned = test[(subset < 0) & (scheme == "dense")], test[(subset < 0) & (scheme == PRUNED)]
    change = finding.claim("generalization_gap_change", PRUNED)
    assert change.estimate == pytest.approx((dense - pruned).mean())
    assert change.low > 0


def test_every_measure_says_what_it_means(finding):
    measures = finding.tables["measures"]
    assert set(measures["measure"]) <= set(MEANINGS)
    assert measures["meaning"].str.len().min() > 10
    assert finding.to_frame()["scheme"].tolist() == ["dense", PRUNED]


def test_without_subsets_there_are_gaps_only():
    found = run(population(np.random.default_rng(1), num_seeds=3).drop_vars("included"))
    assert found.claim("generalization_gap", "dense").low is not None
    with pytest.raises(KeyError):
        found.claim("mean_memorization", "dense")
    assert any("no memorization to hold the gap against" in caveat for caveat in found.caveats)
    ANALYSIS.plot(found)


def test_subsets_stand_in_for_the_whole_training_set():
    found = run(population(np.random.default_rng(2), num_seeds=0, num_subset_trials=20))
    for name, other in (
        ("train_accuracy", "subset_train_accuracy"),
        ("test_accuracy", "subset_test_accuracy"),
        ("generalization_gap", "subset_test_gap"),
    ):
        assert found.claim(name, "dense").estimate == found.claim(other, "dense").estimate
    assert "training subset" in found.claim("train_accuracy", "dense").method


def test_one_trial_has_no_interval():
    found = run(population(np.random.default_rng(3), num_seeds=1))
    claim = found.claim("test_accuracy", "dense")
    assert (claim.low, claim.high) == (None, None)
    assert "too few trials" in claim.method
    assert any("no interval" in caveat for caveat in found.caveats)
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))


@pytest.mark.parametrize("num_trials", [1, 2, 3])
def test_very_few_subset_trials_never_claim_nan(num_trials):
    found = run(population(np.random.default_rng(4), num_seeds=2, num_subset_trials=num_trials))
    assert all(np.isfinite(claim.estimate) for claim in found.claims)
    assert found.claim("left_out_gap", "dense")


def test_picture_is_drawn_from_the_stored_finding(finding):
    axes = ANALYSIS.plot(Finding.from_dict(finding.to_dict()))
    assert axes.get_xlabel() == "difference in accuracy"
