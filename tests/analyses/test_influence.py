"""Influence of populations with planted influential training examples."""

import numpy as np
import pytest

from remnant.analyses.influence import ANALYSIS, run
from remnant.finding import Finding, NotApplicable
from remnant.stats.influence import influence
from tests.simulate import population

PLANTED = 8


@pytest.fixture(scope="module")
def simulated():
    """Training example j raises the chance of a right answer on test example j from 0.2 to 0.8, for j < 8."""
    return population(np.random.default_rng(0), num_seeds=2, num_subset_trials=150, influential=PLANTED)


@pytest.fixture(scope="module")
def finding(simulated):
    return run(simulated)


def subset_trials(simulated):
    return simulated.isel(trial=simulated["subset"].values >= 0)


def matrix(simulated):
    trials = subset_trials(simulated)
    correct = trials["logits"].values.argmax(axis=-1) == trials["label"].values
    return correct, influence(correct, trials["included"].values)


def test_planted_pairs_of_memorized_examples_are_the_strongest(finding):
    strong = finding.tables["pairs"].query("influence >= 0.4")
    # Even training examples are the memorized ones.
    assert set(zip(strong["test_example"], strong["train_example"], strict=True)) == {
        (f"test-{j:05}", f"train-{j:05}") for j in range(0, PLANTED, 2)
    }
    assert (strong["false_discovery_rate"] < 0.001).all()
    assert strong["influence"].mean() == pytest.approx(0.6, abs=0.1)


def test_counts_of_pairs_equal_the_matrix(simulated, finding):
    _, full = matrix(simulated)
    trials = subset_trials(simulated)
    same = trials["label"].values[:, None] == trials["train_label"].values
    memorized = np.arange(150) % 2 == 0
    table = finding.tables["pairs_above"].set_index(["pairs_of", "threshold"])
    for threshold in (0.15, 0.3):
        above = full.value >= threshold - 1e-9
        assert table.loc[("any", threshold), "pairs"] == above.sum()
        assert table.loc[("same class", threshold), "pairs"] == (above & same).sum()
        kept = above & same & memorized
        assert table.loc[("memorized, same class", threshold), "pairs"] == kept.sum()
        assert table.loc[("memorized, same class", threshold), "test_examples"] == kept.any(axis=1).sum()
        assert table.loc[("memorized, same class", threshold), "train_examples"] == kept.any(axis=0).sum()
    assert table.loc[("any", 0.15), "compared_pairs"] == 200 * 150
    assert finding.claim("high_influence_pairs").estimate == table.loc[("memorized, same class", 0.15), "pairs"]
    assert finding.claim("high_influence_pairs_null").n == table.loc[("memorized, same class", 0.15), "compared_pairs"]


def test_subsets_that_hold_everything_tell_nothing(simulated):
    whole = simulated.assign(included=simulated["included"] | True)
    with pytest.raises(NotApplicable, match="in some and not in all"):
        run(whole)


def test_chance_accounts_for_all_but_the_planted_pairs(finding):
    table = finding.tables["pairs_above"].set_index(["pairs_of", "threshold"])
    for kind in ("any", "same class"):
        found, chance = table.loc[(kind, 0.15), "pairs"], table.loc[(kind, 0.15), "pairs_by_chance"]
        assert found - PLANTED == pytest.approx(chance, rel=0.15)
    assert table.loc[("any", 0.4), "pairs_by_chance"] < 0.1
    null = finding.claim("high_influence_pairs_null")
    assert null.low <= null.estimate <= null.high


def test_z_histogram_has_the_planted_pairs_in_its_tail(simulated, finding):
    beyond = finding.tables["pairs_beyond_z"].set_index(["outcome", "z"])
    assert beyond.loc[("correctness", 5.0), "pairs"] == PLANTED
    assert beyond.loc[("correctness", 5.0), "pairs_by_chance"] < 0.3
    histogram = finding.tables["z_histogram"]
    _, full = matrix(simulated)
    of_correctness = histogram[histogram["outcome"] == "correctness"]
    assert of_correctness["pairs"].sum() == np.isfinite(full.z).sum()
    assert of_correctness["pairs_by_chance"].sum() == pytest.approx(np.isfinite(full.z).sum())
    assert histogram[histogram["outcome"] == "margin"]["pairs"].sum() == 200 * 150


def test_margins_are_logits_of_the_true_class_minus_the_highest_other(simulated, finding):
    trials = subset_trials(simulated)
    row = finding.tables["pairs"].iloc[0]
    j, i = int(row["test_example"][-5:]), int(row["train_example"][-5:])
    logits, label = trials["logits"].values[:, j], int(trials["label"].values[j])
    margin = logits[:, label] - np.delete(logits, label, axis=1).max(axis=1)
    inside = trials["included"].values[:, i]
    assert row["margin_influence"] == pytest.approx(margin[inside].mean() - margin[~inside].mean(), rel=1e-5)
    assert row["influence"] == pytest.approx((margin[inside] > 0).mean() - (margin[~inside] > 0).mean())


def test_top_influences_are_those_of_the_matrix(simulated, finding):
    _, full = matrix(simulated)
    table = finding.tables["top_influences"]
    assert len(table) == 200 * 5
    for j in (0, 7, 100):
        own = table[table["test_example"] == f"test-{j:05}"]
        assert own["influence"].tolist() == pytest.approx(np.sort(full.value[j])[::-1][:5].tolist())
        assert own["rank"].tolist() == [1, 2, 3, 4, 5]


def test_means_of_training_examples_and_classes_are_those_of_the_matrix(simulated, finding):
    _, full = matrix(simulated)
    trials = subset_trials(simulated)
    row = finding.tables["train_examples"].iloc[0]
    i = int(row["train_example"][-5:])
    assert row["mean_influence"] == pytest.approx(full.value[:, i].mean())
    of_class = finding.tables["classes"].iloc[2]
    block = full.value[np.ix_(trials["label"].values == 2, trials["train_label"].values == 2)]
    assert of_class["mean_influence_same_class"] == pytest.approx(block.mean())


def test_galleries_show_pairs_side_by_side(finding):
    positive, negative = finding.galleries.values()
    assert positive[0].beside is not None
    assert positive[0].beside.split == "train"
    assert positive[0].example[-5:] == positive[0].beside.example[-5:]
    assert len({exhibit.example for exhibit in positive}) == len(positive) <= 24
    values = [exhibit.value for exhibit in positive]
    assert values == sorted(values, reverse=True)
    assert negative[0].value < 0
    assert [exhibit.value for exhibit in negative] == sorted(exhibit.value for exhibit in negative)
    assert "±" in positive[0].lines[2]


def test_permutation_p_is_small_with_influence_and_uniform_without():
    """High pairs beyond 0.3, where planted pairs are; 40 populations without influence."""
    planted = population(np.random.default_rng(1), num_seeds=0, num_subset_trials=100, influential=10)
    assert run(planted, threshold=0.3).claim("high_influence_p").estimate <= 0.05
    p = []
    for seed in range(40):
        null = population(np.random.default_rng(seed), num_seeds=0, num_subset_trials=30, num_examples=40, num_train=40)
        p.append(run(null, permutations=19).claim("high_influence_p").estimate)
    assert np.mean(np.array(p) <= 0.1) <= 0.25
    assert 0.35 < np.mean(p) < 0.65


def test_nothing_memorized_means_no_high_pairs(simulated):
    right = np.ones(simulated["train_correct"].shape, bool)
    found = run(simulated.assign(train_correct=(("trial", "train_example"), right)))
    assert found.claim("high_influence_pairs").estimate == 0
    assert found.claim("high_influence_pairs_null").estimate == 0
    assert found.claim("high_influence_p").estimate == 1
    assert any("No training example is memorized" in caveat for caveat in found.caveats)
    assert len(found.tables["pairs"]) == 0
    assert len(next(iter(found.galleries.values()))) == 24
    ANALYSIS.plot(found)


def test_same_seed_same_finding(simulated, finding):
    assert run(simulated).to_json() == finding.to_json()


def test_rows_limit_the_tables(simulated):
    found = run(simulated, rows=20, gallery=2, permutations=0)
    assert max(len(found.tables[name]) for name in ("pairs", "top_influences", "train_examples")) == 20
    assert found.claim("high_influence_pairs_null").low is None


def test_not_applicable_without_subset_trials_or_with_an_unknown_scheme(simulated):
    with pytest.raises(NotApplicable, match="random training subsets"):
        run(population(np.random.default_rng(0), num_seeds=2))
    with pytest.raises(
        NotApplicable, match=r"Expected `scheme` to be one with trials .*\['dense'\], but got 'float16'"
    ):
        run(simulated, scheme="float16")


def test_caveats_hold_no_results(finding):
    """Numbers are claims; 0 and 1 name a bound."""
    assert {character for caveat in finding.caveats for character in caveat if character.isdigit()} <= {"0", "1"}


def test_picture_is_drawn_from_the_stored_finding(finding):
    axes = ANALYSIS.plot(Finding.from_dict(finding.to_dict()))
    assert axes.get_ylabel() == "pairs"


def test_integer_products_give_the_same_finding(simulated, finding, monkeypatch):
    """Which way counts are computed is a matter of size only."""
    from remnant.analyses import influence as analysis

    monkeypatch.setattr(analysis, "_LARGE", 0)
    assert run(simulated).to_json() == finding.to_json()
