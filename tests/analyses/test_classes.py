from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.classes import run
from remnant.finding import NotApplicable
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(seed=0, **options):
    return simulate.population(np.random.default_rng(seed), **options)


def recalls(found, num):
    right = found["logits"].values.argmax(axis=-1) == found["label"].values
    classes = np.unique(found["label"].values)
    recall = np.stack([right[:, found["label"].values == c].mean(axis=1) for c in classes], axis=1)
    return recall[:num], recall[num:], right.mean(axis=1)


def test_welch_and_recall_difference_equal_the_paper_by_hand():
    """Section 2.2 of Hooker et al. (2019): per-model mean shift, Welch's test by SciPy, equation 3."""
    found = population(schemes={"dense": 0.0, PRUNED: 0.5}, num_seeds=5)
    first, second, overall = recalls(found, 5)
    table = run(found).to_frame()
    expected: Any = stats.ttest_ind(second - overall[5:, None], first - overall[:5, None], equal_var=False)
    np.testing.assert_allclose(table["welch_p"], expected.pvalue)
    np.testing.assert_allclose(table["welch_t"], expected.statistic)
    np.testing.assert_allclose(table["welch_q"], stats.false_discovery_control(expected.pvalue))
    np.testing.assert_allclose(table["relative_recall_difference"], (second / first).mean(axis=0) - 1)
    np.testing.assert_allclose(table["absolute_difference"], second.mean(axis=0) - first.mean(axis=0))
    ratio = (second / overall[5:, None]) / (first / overall[:5, None])
    np.testing.assert_allclose(table["normalized_recall_difference"], ratio.mean(axis=0) - 1)


def test_permutation_p_equals_that_of_scipy():
    found = population(num_seeds=4)
    first, second, overall = recalls(found, 4)
    a, b = second - overall[4:, None], first - overall[:4, None]

    def t(x, y, axis):
        found: Any = stats.ttest_ind(x, y, equal_var=False, axis=axis)
        return np.abs(found.statistic)

    expected = stats.permutation_test((a, b), t, alternative="greater", n_resamples=1000, axis=0)
    np.testing.assert_allclose(run(found).to_frame()["permutation_p"], expected.pvalue)


def test_permutation_p_of_pairs_equals_that_of_scipy():
    found = population(schemes={"dense": 0.0, "static-int8": 0.0}, num_seeds=6)
    first, second, overall = recalls(found, 6)
    a, b = second - overall[6:, None], first - overall[:6, None]

    def t(x, y, axis):
        test: Any = stats.ttest_rel(x, y, axis=axis)
        return np.abs(test.statistic)

    expected = stats.permutation_test(
        (a, b), t, permutation_type="samples", alternative="greater", n_resamples=1000, axis=0
    )
    table = run(found).to_frame()
    np.testing.assert_allclose(table["permutation_p"], expected.pvalue)
    paired: Any = stats.ttest_rel(a, b)
    np.testing.assert_allclose(table["paired_p"], paired.pvalue)


def test_nothing_changes_against_itself():
    found = population(num_seeds=5)
    found["logits"][5:] = found["logits"][:5].values
    finding = run(found)
    assert finding.claim("significant_classes").estimate == finding.claim("significant_classes_q").estimate == 0
    assert finding.claim("worst_class_change").estimate == finding.claim("worst_group_change").estimate == 0
    assert finding.claim("significant_classes_p").estimate == 1
    table: Any = finding.to_frame()
    assert (table["welch_p"] == 1).all()
    assert (table["paired_p"] == 1).all()
    assert (table["hedges_g"] == 0).all()


def test_the_class_that_is_forgotten_is_the_worst():
    found = population(num_seeds=8, num_examples=400)
    of_class = found["label"].values == 3
    rows = np.flatnonzero(found["scheme"].values == PRUNED)
    found["logits"].values[np.ix_(rows, np.flatnonzero(of_class), np.array([4]))] += 1.5
    finding = run(found)
    claim: Any = finding.claim("worst_class_change")
    assert "'class 3'" in claim.method
    assert claim.high < 0
    assert finding.tables["schemes"]["worst_class"].tolist() == ["class 3"]
    worst = finding.to_frame().set_index("class").loc["class 3"]
    assert worst["welch_q"] <= 0.01
    assert worst["hedges_g_high"] < 0
    assert finding.claim("significant_classes").estimate >= 1
    assert finding.claim("significant_classes_p").estimate <= 0.05


def test_the_group_that_is_forgotten_is_the_worst():
    found = population(num_seeds=8, num_examples=400)
    rows = np.flatnonzero(found["scheme"].values == PRUNED)
    site = np.flatnonzero(found["group_site"].values == "A")
    found["logits"].values[np.ix_(rows, site)] += np.random.default_rng(1).normal(0, 3, (8, len(site), 5))
    finding = run(found)
    claim: Any = finding.claim("worst_group_change")
    assert "'A'" in claim.method
    assert claim.high < 0
    assert set(finding.tables["groups"]["attribute"]) == {"site"}


def test_chance_gives_as_many_significant_classes_as_expected():
    """Under the null, 5 % of the classes are significant, and the permutation null says so."""
    observed, expected, p, covered = [], [], [], 0
    for seed in range(80):
        finding = run(population(seed, num_seeds=8, num_examples=240, num_classes=8), num_permutations=99)
        observed.append(finding.claim("significant_classes").estimate)
        expected.append(finding.claim("significant_classes_chance").estimate)
        p.append(finding.claim("significant_classes_p").estimate)
        claim: Any = finding.claim("worst_class_change")
        assert claim.estimate == finding.to_frame()["relative_recall_difference"].min()
        # Picked for being the worst of classes that do not differ, and its interval knows it.
        covered += claim.high >= 0
    assert covered >= 72
    error = np.std(observed) / np.sqrt(80)
    assert np.mean(observed) == pytest.approx(0.05 * 8, abs=3 * error)
    assert np.mean(expected) == pytest.approx(0.05 * 8, abs=0.1)
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 2.5 * np.sqrt(level / 80)


def test_pairs_tell_more_than_welch():
    """The same small loss in every pair: the paired test sees it, Welch's drowns it in the spread of seeds."""
    found = population(schemes={"dense": 0.0, "static-int8": 0.0}, num_seeds=10, num_examples=500)
    logits = found["logits"].values
    logits[10:] = logits[:10]
    lost = np.flatnonzero(found["label"].values == 2)[:12]
    logits[10:, lost, 3] = logits[10:, lost].max(axis=-1) + 1
    finding = run(found)
    row = finding.to_frame().set_index("class").loc["class 2"]
    assert row["paired_p"] < row["welch_p"]
    assert row["permutation_p"] <= 0.01
    assert finding.claim("significant_classes_paired_q").estimate >= 1
    assert any("independent" in caveat for caveat in finding.caveats)


def test_classes_that_are_never_right_or_empty_are_left_out_and_named():
    found = population(num_seeds=4)
    found["label"].values[found["label"].values == 0] = 1
    logits = found["logits"].values
    logits[0, found["label"].values == 2] = np.eye(5)[3] * 50
    finding = run(found)
    table = finding.to_frame().set_index("class")
    assert "class 0" not in table.index
    assert np.isnan(table.loc["class 2", "relative_recall_difference"])
    assert np.isfinite(table.loc["class 2", "absolute_difference"])
    assert "class 2" not in finding.claim("worst_class_change").method
    assert sum("left out" in caveat for caveat in finding.caveats) == 2
    finding.to_json()


def test_sides_of_other_seeds_use_all_pairs():
    found = population(num_seeds=5)
    found = found.assign_coords(seed=("trial", np.arange(10)))
    first, second, _ = recalls(found, 5)
    slow = np.mean([[b / a for a in first] for b in second], axis=(0, 1)) - 1
    finding = run(found)
    np.testing.assert_allclose(finding.to_frame()["relative_recall_difference"], slow)
    assert finding.claim("worst_class_change").unit == "trial"


def test_one_model_is_refused():
    with pytest.raises(NotApplicable, match="at least 2 models"):
        run(population(num_seeds=1))


def test_answers_alone_are_enough():
    one, two = (run(file_populations.population(sides={"net": 4, "a": 4}, logits=found)) for found in (True, False))
    assert one.claims == two.claims
    claim = two.claim("worst_class_change")
    worst = two.to_frame().set_index("class")["relative_recall_difference"]
    assert claim.detail == worst.idxmin()
    assert two.claim("worst_group_change").detail in ("site = A", "site = B")
    assert "seed" not in claim.method


def test_a_single_pair_of_files_is_told_what_it_needs():
    with pytest.raises(NotApplicable, match="several models a side"):
        run(file_populations.population())
