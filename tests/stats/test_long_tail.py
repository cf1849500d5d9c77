"""Tests of CIEs against others: values of scipy, slow versions, and calibration where the naive test fails."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, mannwhitneyu, norm, ttest_ind

from remnant.stats import long_tail as stats
from remnant.stats.influence import contrasts, influence
from remnant.stats.influence_null import orders


def world(
    seed, *, num_trials=60, num_train=100, num_examples=160, num_classes=4, quality=0.0, influenced=0.0, effect=0.5
):
    """Correctness, subsets, labels, and CIEs that are likelier at accuracies near one half.

    Nothing has any influence, but for a share `influenced` of the CIEs that each have one training example of
    their class. Models differ in `quality`.
    """
    rng = np.random.default_rng(seed)
    included = np.stack([rng.permutation(num_train) < 0.7 * num_train for _ in range(num_trials)])
    labels, train_labels = np.arange(num_examples) % num_classes, np.arange(num_train) % num_classes
    accuracy = np.clip(rng.beta(0.6, 0.3, num_examples), 1e-3, 1 - 1e-3)
    latent = norm.ppf(accuracy) * np.sqrt(1 + quality**2)
    noise = rng.normal(size=(num_trials, num_examples)) + quality * rng.normal(size=(num_trials, 1))
    cies = rng.random(num_examples) < accuracy * (1 - accuracy)
    correct = latent + noise > 0
    for j in np.flatnonzero(cies & (rng.random(num_examples) < influenced)):
        i = rng.choice(np.flatnonzero(train_labels == labels[j]))
        correct[:, j] = rng.random(num_trials) < 0.25 + effect * included[:, i]
    return rng, correct, included, labels, train_labels, cies


def tops(rng, correct, included, labels, train_labels, num_orders=50):
    order = orders(rng, len(correct), num_orders)
    memorized = np.arange(len(train_labels)) % 3 == 0
    return stats.same_class_tops(
        correct, included, order, labels=labels, train_labels=train_labels, memorized=memorized
    )


def compared(statistic, correct, cies):
    testable = correct.any(axis=0) & ~correct.all(axis=0)
    return stats.compare(stats.levels(statistic[:, testable]), cies[testable] * 1.0, ~cies[testable] * 1.0)


def test_auc_is_mann_whitneys_u():
    """scipy.stats.mannwhitneyu, ties included."""
    rng = np.random.default_rng(0)
    scores, cases = rng.integers(0, 6, 80), rng.random(80) < 0.3
    u = mannwhitneyu(scores[cases], scores[~cases]).statistic
    assert stats.auc(scores, cases, ~cases) == pytest.approx(u / (cases.sum() * (~cases).sum()))


def test_weighted_auc_pools_pairs_of_models():
    """Shares of pairs as weights: cases and controls of all pairs of models together."""
    rng = np.random.default_rng(1)
    scores, differ = rng.integers(0, 9, 30), rng.random((5, 30)) < 0.4
    found = stats.auc(scores, differ.mean(axis=0), (~differ).mean(axis=0))
    wins = total = 0.0
    for a, b in product(range(5), range(5)):
        for i, j in product(np.flatnonzero(differ[a]), np.flatnonzero(~differ[b])):
            wins += (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
            total += 1
    assert found == pytest.approx(wins / total)


def test_standard_error_of_the_auc_is_delongs():
    """Structural components by a loop (delong1988comparing), with n instead of n - 1."""
    rng = np.random.default_rng(2)
    scores, cases = rng.integers(0, 12, 60), rng.random(60) < 0.4
    x, y = scores[cases], scores[~cases]
    psi = (x[:, None] > y) + (x[:, None] == y) / 2
    slow = np.sqrt(psi.mean(axis=1).var() / len(x) + psi.mean(axis=0).var() / len(y))
    assert stats.auc_standard_error(scores, cases, ~cases) == pytest.approx(slow)


def test_auc_properties():
    rng = np.random.default_rng(3)
    scores, cases = rng.normal(size=50), rng.random(50) < 0.5
    assert stats.auc(scores, cases, ~cases) == pytest.approx(1 - stats.auc(-scores, cases, ~cases))
    assert stats.auc(scores, cases, ~cases) == pytest.approx(1 - stats.auc(scores, ~cases, cases))
    assert stats.auc(np.exp(scores), cases, ~cases) == stats.auc(scores, cases, ~cases)
    assert stats.auc(cases, cases, ~cases) == pytest.approx(1)
    assert stats.auc(np.ones(50), cases, ~cases) == pytest.approx(0.5)
    order = rng.permutation(50)
    assert stats.auc(scores[order], cases[order], ~cases[order]) == pytest.approx(stats.auc(scores, cases, ~cases))


def test_student_t_equals_scipy():
    rng = np.random.default_rng(4)
    values, cases = rng.normal(size=(3, 40)), rng.random(40) < 0.3
    t, p = stats.student_t(values, cases, ~cases)
    expected: Any = ttest_ind(values[:, cases], values[:, ~cases], axis=1)
    assert t == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue)


def test_student_t_worked_by_hand():
    """Means 3 and 1, pooled variance (2 + 2) / 3 with n = 3 and 2: t = 2 / sqrt(4/3 (1/3 + 1/2)) = 1.8974."""
    t, _ = stats.student_t(
        np.array([[2.0, 3.0, 4.0, 0.0, 2.0]]), np.array([1, 1, 1, 0, 0], bool), np.array([0, 0, 0, 1, 1], bool)
    )
    assert t[0] == pytest.approx(1.8974, abs=1e-4)


def test_student_t_of_constants_is_nan():
    t, p = stats.student_t(np.ones((1, 6)), np.arange(6) < 3, np.arange(6) >= 3)
    assert np.isnan(t[0])
    assert np.isnan(p[0])


def test_statistics_equal_those_of_the_permuted_matrix():
    rng, correct, included, labels, train_labels, _ = world(5, num_trials=20, num_examples=24, num_train=40)
    included[:, 7] = True
    order = orders(rng, 20, 2)
    memorized = np.arange(40) % 3 == 0
    memorized[train_labels == 1] = False
    found = stats.same_class_tops(
        correct, included, order, labels=labels, train_labels=train_labels, memorized=memorized, top=3
    )
    means = stats.same_class_means(correct, included, order, labels=labels, train_labels=train_labels)
    everything = stats.linear_statistic(correct, contrasts(included, np.ones((40, 1), bool))[:, 0], order)
    for place, shuffle in enumerate(order):
        matrix = influence(correct[shuffle], included).value
        assert np.allclose(everything[place], np.nanmean(matrix, axis=1), atol=1e-12)
        for j in range(24):
            same = train_labels == labels[j]
            own = np.sort(matrix[j, same & (np.arange(40) != 7)])[::-1]
            assert means[place, j] == pytest.approx(own.mean(), abs=1e-12)
            assert found["max"][place, j] == pytest.approx(own[0], abs=1e-6)
            assert found["top"][place, j] == pytest.approx(own[:3].mean(), abs=1e-6)
            kept = np.sort(matrix[j, same & memorized & (np.arange(40) != 7)])[::-1]
            if labels[j] == 1:
                assert np.isnan(found["memorized_max"][place, j])
            else:
                assert found["memorized_max"][place, j] == pytest.approx(kept[0], abs=1e-6)
                assert found["memorized_top"][place, j] == pytest.approx(kept[:3].mean(), abs=1e-6)


def test_statistics_of_a_class_without_training_examples_are_nan():
    rng, correct, included, labels, train_labels, _ = world(6, num_examples=8)
    labels = np.where(labels == 0, 9, labels)
    found = tops(rng, correct, included, labels, train_labels, 2)
    assert np.isnan(found["top"][:, labels == 9]).all()
    assert np.isfinite(found["top"][:, labels != 9]).all()


def test_levels_are_mid_ranks_in_a_column():
    assert stats.levels(np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]])).tolist() == [[4, 2], [0, 2], [2, 2]]


def test_identical_percentiles_show_nothing():
    found = stats.compare(np.full((5, 20), 4), np.arange(20) < 8, np.arange(20) >= 8)
    assert (found.auc, found.p) == (pytest.approx(0.5), 1.0)
    assert found.low <= 0.5 <= found.high


def test_naive_test_rejects_a_true_null_and_the_calibrated_one_does_not():
    """40 worlds without influence: Student's t of the maximum nearly always rejects, the calibrated test as it may."""
    naive, calibrated, covered = [], [], []
    for seed in range(40):
        rng, correct, included, labels, train_labels, cies = world(seed, num_examples=300)
        found = tops(rng, correct, included, labels, train_labels)["max"]
        naive.append(stats.student_t(found[:1].astype(float), cies, ~cies)[1][0])
        result = compared(found, correct, cies)
        calibrated.append(result.p)
        covered.append(result.low <= 0.5 <= result.high)
    assert np.mean(np.array(naive) < 0.05) > 0.9
    assert np.median(naive) < 1e-4
    assert binomtest(int((np.array(calibrated) < 0.05).sum()), 40, 0.05, alternative="greater").pvalue > 0.01
    assert binomtest(int(np.sum(covered)), 40, 0.95, alternative="less").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("quality", [0.0, 1.0])
def test_p_values_are_uniform_without_influence(quality):
    """200 worlds, also where models differ in quality, which all test examples share."""
    p = {}
    for seed in range(200):
        rng, correct, included, labels, train_labels, cies = world(1000 + seed, quality=quality)
        for name, statistic in tops(rng, correct, included, labels, train_labels).items():
            p.setdefault(name, []).append(compared(statistic, correct, cies).p)
    for values in p.values():
        assert kstest(values, "uniform").pvalue > 0.005
        assert binomtest(int((np.array(values) < 0.05).sum()), 200, 0.05).pvalue > 0.005


def test_dependence_between_test_examples_is_accounted_for():
    """CIEs of one class, models that differ in quality, mean influence of the class.

    Test examples of a class share one regressor, the number of its training examples in a subset, so that tests
    for independent examples reject a true null far too often. 100 worlds.
    """
    independent, calibrated = 0, 0
    for seed in range(100):
        rng, correct, included, labels, train_labels, _ = world(2000 + seed, quality=1.5)
        cies = labels == 0
        order = orders(rng, len(correct), 50)
        means = stats.same_class_means(correct, included, order, labels=labels, train_labels=train_labels)
        found = compared(means, correct, cies)
        independent += found.p_independent < 0.05
        calibrated += found.p < 0.05
    assert independent > 20
    assert binomtest(calibrated, 100, 0.05, alternative="greater").pvalue > 0.01


def test_influence_of_single_training_examples_is_found():
    """Half of the CIEs have one training example worth +0.5: every one of 10 worlds is significant."""
    for seed in range(10):
        rng, correct, included, labels, train_labels, cies = world(
            3000 + seed, num_examples=300, num_trials=100, influenced=0.5
        )
        found = tops(rng, correct, included, labels, train_labels)
        for name in ("max", "top"):
            result = compared(found[name], correct, cies)
            assert result.p < 0.05
            assert result.auc > 0.5
            assert result.low > 0.5


def test_p_for_independent_examples_is_near_mann_whitneys():
    """scipy.stats.mannwhitneyu pools the variance under the null, DeLong's is that of each side."""
    rng = np.random.default_rng(7)
    for shift in (0, 5, 10):
        levels, cases = rng.integers(0, 101, (51, 400)), np.arange(400) < 100
        levels[0, cases] += shift
        found = stats.compare(levels, cases * 1.0, ~cases * 1.0)
        assert found.p_independent == pytest.approx(mannwhitneyu(levels[0, cases], levels[0, ~cases]).pvalue, rel=0.4)


def test_errors_name_the_side_and_its_number():
    levels = np.zeros((5, 4), int)
    with pytest.raises(ValueError, match="at least 2 test examples among `cases`, but got 1"):
        stats.compare(levels, np.array([1, 0, 0, 0]), np.array([0, 1, 1, 1]))
    with pytest.raises(ValueError, match="at least 2 test examples among `controls`, but got 0"):
        stats.compare(levels, np.ones(4), np.zeros(4))
    with pytest.raises(ValueError, match="at least 2 random orders of the trials, but got 1"):
        stats.compare(levels[:2], np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
