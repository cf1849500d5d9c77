"""The long-tail test, the paper's way and the calibrated way, on populations with known truth."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from remnant import plan
from remnant.analyses.long_tail import ANALYSIS, run
from remnant.analyses.long_tail_tables import MEAN, PRIMARY, SAME_CLASS_MEAN
from remnant.finding import Finding, NotApplicable
from remnant.stats.influence import influence
from tests.simulate import population

PRUNED = "magnitude-pruning(sparsity=0.9)"


@pytest.fixture(scope="module")
def simulated():
    """20 of 200 test examples are forgotten, and each leans on one training example."""
    return population(
        np.random.default_rng(0), num_seeds=4, num_subset_trials=120, forgotten=0.1, influential=20, effect=0.7
    )


@pytest.fixture(scope="module")
def finding(simulated):
    return run(simulated)


def with_design(simulated, design):
    """The population with other subsets, on which its outcomes do not depend."""
    mask = simulated["included"].values.copy()
    rows = np.flatnonzero(simulated["subset"].values >= 0)
    fraction = 0.5 if design == "pairs" else 0.7
    for row, subset in zip(rows, plan.rows(len(rows), design=design, fraction=fraction), strict=True):
        mask[row] = plan.included(subset, simulated["train_label"].values)
    return simulated.assign(included=(("trial", "train_example"), mask))


def test_paper_mode_is_algorithm_1(simulated, finding):
    """Student's t of row means of the whole matrix, first pair of models, by scipy."""
    subset = simulated["subset"].values
    trials = simulated.isel(trial=subset >= 0)
    label = simulated["label"].values
    mean = influence(trials["logits"].values.argmax(-1) == label, trials["included"].values).value.mean(axis=1)
    dense, pruned = (
        simulated.isel(trial=(subset < 0) & (simulated["scheme"].values == s)).isel(trial=0)["logits"].values.argmax(-1)
        for s in ("dense", PRUNED)
    )
    kinds = {"CIE": dense != pruned, "CIE-U": (dense != pruned) & (dense == label)}
    kinds["CIE-C"] = (dense != pruned) & (pruned == label)
    tests = finding.tables["tests"].query("models == 'first pair'").set_index(["type", "statistic"])
    for name, cies in kinds.items():
        expected: Any = ttest_ind(mean[cies], mean[dense == pruned])
        assert tests.loc[(name, MEAN), "t"] == pytest.approx(expected.statistic, rel=1e-6)
        assert tests.loc[(name, MEAN), "t_p"] == pytest.approx(expected.pvalue, rel=1e-6)
        assert tests.loc[(name, MEAN), "cases"] == cies.sum()
    assert finding.claim("long_tail_t", PRUNED).estimate == tests.loc[("CIE", MEAN), "t"]
    assert finding.claim("long_tail_t_p", PRUNED).estimate == tests.loc[("CIE", MEAN), "t_p"]


def test_calibrated_test_finds_the_planted_influence(finding):
    auc, p = finding.claim("long_tail_auc", PRUNED), finding.claim("long_tail_p", PRUNED)
    assert 0.5 < auc.low < auc.estimate < auc.high
    assert p.estimate < 0.01
    assert finding.claim("long_tail_q", PRUNED).estimate >= p.estimate
    row = finding.tables["tests"].query("statistic == @PRIMARY and type == 'CIE' and models == 'all pairs'").iloc[0]
    assert (row["auc"], row["p"]) == (auc.estimate, p.estimate)
    assert finding.to_frame()["statistic"].iloc[0] == PRIMARY


def test_naive_t_of_a_maximum_is_high_by_chance(finding):
    """After random orders of the trials nothing is left to find, and Student's t is still far above 0."""
    row = (
        finding.tables["tests"]
        .query("statistic == 'maximum, same class' and type == 'CIE' and models == 'first pair'")
        .iloc[0]
    )
    assert row["t_mean_by_chance"] > 1


def test_mean_influence_is_nothing_but_noise(finding):
    """Subsets of one size: the spread of mean influence is that after random orders of the trials."""
    means: Any = finding.tables["mean_influence"].set_index("statistic")
    assert means.loc[MEAN, "fixed_by_design"]
    assert not means.loc[SAME_CLASS_MEAN, "fixed_by_design"]
    assert finding.claim("mean_influence_spread_ratio").estimate == pytest.approx(1, abs=0.2)
    assert finding.claim("mean_influence_largest").estimate < 0.01
    assert any("carries no signal" in caveat for caveat in finding.caveats)


def test_balanced_halves_leave_the_papers_test_undefined(simulated):
    found = run(with_design(simulated, "pairs"))
    with pytest.raises(KeyError):
        found.claim("long_tail_t", PRUNED)
    assert any("exactly 0" in caveat for caveat in found.caveats)
    assert found.claim("long_tail_auc", PRUNED)
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))


def test_stratified_subsets_make_the_class_mean_undefined_too(simulated):
    found = run(with_design(simulated, "stratified"))
    assert SAME_CLASS_MEAN not in set(found.tables["tests"]["statistic"])
    assert any("fixed number of every class" in caveat for caveat in found.caveats)


def test_bernoulli_subsets_do_not(simulated):
    found = run(with_design(simulated, "bernoulli"))
    assert found.tables["mean_influence"]["fixed_by_design"].tolist() == [False, False]
    assert not any("carries no signal" in caveat for caveat in found.caveats)


def test_counts_are_those_of_the_predictions(simulated, finding):
    whole = simulated.isel(trial=simulated["subset"].values < 0)
    guess = whole["logits"].values.argmax(-1)
    differ = guess[whole["scheme"].values == "dense"] != guess[whole["scheme"].values == PRUNED]
    row = finding.tables["counts"].query("type == 'CIE'").iloc[0]
    assert row["first_pair"] == differ[0].sum()
    assert row["mean_per_pair"] == differ.sum() / 4
    assert row["ever"] == differ.any(axis=0).sum()
    counts = finding.tables["mean_influence_histogram"].groupby("over")["count"].sum()
    assert counts.to_dict() == {"test examples": 200, "training examples": 150}


def test_identical_scheme_has_no_claims_and_a_caveat(simulated):
    """Zero CIEs: the tests are undefined, which is said, and nothing is NaN in a claim."""
    same = simulated.copy(deep=True)
    scheme, subset = same["scheme"].values, same["subset"].values
    same["logits"].values[scheme == PRUNED] = same["logits"].values[(scheme == "dense") & (subset < 0)]
    found = run(same)
    assert not [claim for claim in found.claims if claim.subject == PRUNED]
    assert any(caveat.startswith("Too few testable examples") and PRUNED in caveat for caveat in found.caveats)
    assert np.isnan(found.tables["tests"]["p"].to_numpy()).all()
    assert found.tables["counts"]["first_pair"].tolist() == [0, 0, 0]
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))


def test_gallery_pairs_a_changed_example_with_its_training_example(finding):
    (gallery,) = finding.galleries.values()
    assert gallery[0].beside is not None
    assert gallery[0].lines[1].startswith("dense: ")
    assert gallery[0].lines[2].startswith("compressed: ")
    matched = [exhibit.example[-5:] == exhibit.beside.example[-5:] for exhibit in gallery[:10] if exhibit.beside]
    assert sum(matched) >= 8


def test_no_influence_no_finding():
    """30 populations in which nothing has influence: p of the primary test is not small more often than it may."""
    p = []
    for seed in range(30):
        null = population(
            np.random.default_rng(seed), num_seeds=3, num_subset_trials=40, num_examples=80, num_train=60, num_classes=3
        )
        p.append(run(null, permutations=40, gallery=0).claim("long_tail_p", PRUNED).estimate)
    assert np.mean(np.array(p) < 0.1) <= 0.27
    assert 0.3 < np.mean(p) < 0.7


def test_schemes_without_a_common_seed_are_named(simulated):
    seeds = simulated["seed"].values.copy()
    seeds[(simulated["scheme"].values == PRUNED)] += 100
    moved = simulated.assign_coords(seed=("trial", seeds))
    with pytest.raises(NotApplicable, match="dense ones and compressed ones of the same seeds"):
        run(moved)


def test_not_applicable_without_subsets():
    with pytest.raises(NotApplicable, match="random training subsets"):
        run(population(np.random.default_rng(0), num_seeds=2))


def test_same_seed_same_finding(simulated, finding):
    assert run(simulated).to_json() == finding.to_json()
    assert run(simulated, seed=1).claim("long_tail_p", PRUNED) != finding.claim("long_tail_p", PRUNED)


def test_picture_is_drawn_from_the_stored_finding(finding):
    axes = ANALYSIS.plot(Finding.from_dict(finding.to_dict()))
    assert "superiority" in axes.get_xlabel()
    effect, paper, counts, _ = axes.figure.axes
    assert len(effect.containers) == 3
    widths = [[bar.get_width() for bars in axes.containers for bar in bars] for axes in (paper, counts)]
    expected = finding.tables["tests"].query("statistic == @MEAN and models == 'first pair'")["t"].tolist()
    assert widths[0] == pytest.approx(expected)
    assert widths[1] == finding.tables["counts"]["mean_per_pair"].tolist()


def test_one_pair_of_models_serves_both_ways(simulated):
    found = run(simulated.isel(trial=(simulated["subset"].values >= 0) | (simulated["seed"].values == 0)))
    assert found.claim("long_tail_t", PRUNED)
    assert found.claim("long_tail_auc", PRUNED)
    assert set(found.tables["tests"]["models"]) == {"all pairs"}
    assert found.tables["tests"]["statistic"].tolist()[:6] == [PRIMARY] * 3 + [MEAN] * 3
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))
