"""Subset estimator: values of others, slow versions, properties, calibration, errors."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, ttest_ind
from statsmodels.stats.proportion import confint_proportions_2indep

from remnant.stats import influence as stats


def subsets(rng, num_trials, num_train, fraction=0.7):
    return np.stack([rng.permutation(num_train) < fraction * num_train for _ in range(num_trials)])


def published(outcome, included):
    """The two products of Feldman & Zhang's released estimator: accuracy with minus accuracy without, by masks."""
    outcome, included = outcome.astype(float), included.astype(float)

    def accuracy(mask):
        return np.einsum("kj,ki->ji", outcome, mask) / np.maximum(mask.sum(axis=0, keepdims=True), 1e-10)

    return accuracy(included) - accuracy(1 - included)


def test_influence_of_a_table_worked_by_hand():
    # Training example 0 is in trials 0, 1; the test example is right in trials 0, 1, 2: 2/2 - 1/2.
    included = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    correct = np.array([[1], [1], [1], [0]], bool)
    found = stats.influence(correct, included)
    assert found.value.tolist() == [[0.5, 0.5]]
    # p1 = 1, p0 = 1/2 with two trials each: sqrt(0 + 1/8).
    assert found.standard_error[0, 0] == pytest.approx(np.sqrt(1 / 8))
    # Permutation variance d (t - d) / ((t - 1) n1 n0) = 3 / (3 * 4).
    assert found.z[0, 0] == pytest.approx(0.5 / 0.5)
    assert found.num_in.tolist() == [2, 2]
    assert found.num_out.tolist() == [2, 2]


def test_influence_and_memorization_equal_the_published_formulas():
    rng = np.random.default_rng(1)
    included = subsets(rng, 60, 40)
    correct, own = rng.random((60, 25)) < 0.8, rng.random((60, 40)) < 0.6
    slow = published(correct, included)
    assert np.abs(stats.influence(correct, included).value - slow).max() < 1e-12
    assert np.abs(stats.memorization(own, included).value - np.diag(published(own, included))).max() < 1e-12


def test_never_left_out_gives_nan_where_the_published_estimator_says_fully_memorized():
    included = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0]], bool)
    correct = np.ones((3, 3), bool)
    assert published(correct, included)[0, 0] == 1
    found = stats.memorization(correct, included)
    assert np.isnan(found.value).tolist() == [True, False, True]
    assert np.isnan(found.standard_error).tolist() == [True, False, True]
    assert (found.num_out == 0).tolist() == [True, False, False]
    assert (found.num_in == 0).tolist() == [False, False, True]
    assert np.isnan(stats.influence(correct, included).value).tolist() == [[True, False, True]] * 3
    margins = stats.influence(correct + 0.5, included)
    assert np.isnan(margins.value[:, [0, 2]]).all()


@pytest.mark.parametrize(("num_trials", "never_out"), [(10, 1412), (20, 40), (30, 1.1)])
def test_number_of_never_left_out_examples_of_50000(num_trials, never_out):
    """50,000 x 0.7^t."""
    assert pytest.approx(never_out, rel=0.03) == 50_000 * 0.7**num_trials
    included = np.random.default_rng(num_trials).random((num_trials, 50_000)) < 0.7
    found = stats.memorization(np.ones_like(included), included)
    assert abs(np.isnan(found.value).sum() - never_out) < 4 * np.sqrt(never_out) + 1


@pytest.mark.parametrize(
    ("num_trials", "error", "bound"),
    # The bound is lemma 2.1 of feldman2020what: 1 / (p t) + 1 / ((1 - p) t) + exp(-p t / 16) / 2 with p = 0.3.
    [(100, 0.109, 0.353), (500, 0.049, 0.098), (2000, 0.024, 0.049), (4000, 0.017, 0.035)],
)
def test_worst_standard_error_and_the_bound_of_feldman_and_zhang(num_trials, error, bound):
    assert stats.worst_standard_error(num_trials, 0.7) == pytest.approx(error, abs=6e-4)
    lemma = np.sqrt(1 / (0.3 * num_trials) + 1 / (0.7 * num_trials) + np.exp(-0.3 * num_trials / 16) / 2)
    assert lemma == pytest.approx(bound, abs=6e-4)
    assert stats.worst_standard_error(num_trials, 0.7) < lemma


def test_z_is_the_correlation_of_membership_and_outcome():
    rng = np.random.default_rng(2)
    included = subsets(rng, 30, 20)
    for outcome in (rng.random((30, 5)) < 0.5, rng.normal(size=(30, 5))):
        found = stats.influence(outcome, included)
        for j, i in ((0, 0), (4, 19), (2, 7)):
            correlation: Any = pearsonr(outcome[:, j].astype(float), included[:, i].astype(float))
            assert found.z[j, i] == pytest.approx(np.sqrt(29) * correlation.statistic, abs=1e-5)


def test_margins_have_the_standard_error_of_students_t():
    rng = np.random.default_rng(3)
    included, margin = subsets(rng, 40, 10), 100 + rng.normal(size=(40, 6))
    found = stats.influence(margin, included)
    for j, i in ((0, 0), (5, 9), (3, 4)):
        t: Any = ttest_ind(margin[included[:, i], j], margin[~included[:, i], j])
        assert found.value[j, i] / found.standard_error[j, i] == pytest.approx(t.statistic, abs=1e-4)
    own = rng.normal(size=(40, 10))
    memorized = stats.memorization(own, included)
    assert memorized.value[3] == pytest.approx(own[included[:, 3], 3].mean() - own[~included[:, 3], 3].mean())


def test_chosen_pairs_equal_the_matrix():
    rng = np.random.default_rng(4)
    included = subsets(rng, 30, 20)
    for outcome in (rng.random((30, 8)) < 0.5, rng.normal(size=(30, 8))):
        j, i = np.array([0, 3, 3, 7]), np.array([19, 0, 5, 5])
        full, pairs = stats.influence(outcome, included), stats.influence_of_pairs(outcome, included, j, i)
        for name in ("value", "standard_error", "z"):
            assert np.abs(getattr(full, name)[j, i] - getattr(pairs, name)).max() < 1e-5


def test_counts_are_exact_integers():
    rng = np.random.default_rng(5)
    correct, included = rng.random((700, 30)) < 0.9, rng.random((700, 40)) < 0.7
    assert np.array_equal(stats.counts(correct, included), correct.T.astype(int) @ included.astype(int))


def test_counts_of_shards_add_up():
    rng = np.random.default_rng(6)
    correct, included = rng.random((50, 7)) < 0.5, rng.random((50, 9)) < 0.7
    parts = sum(stats.counts(correct[k], included[k]) for k in (slice(0, 13), slice(13, 50)))
    assert np.array_equal(stats.counts(correct, included), parts)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_influence_properties(seed):
    rng = np.random.default_rng(seed)
    num_trials = int(rng.integers(3, 12))
    included = rng.random((num_trials, 6)) < 0.6
    correct = rng.random((num_trials, 5)) < rng.random(5)
    found = stats.influence(correct, included)
    defined = (found.num_in > 0) & (found.num_out > 0)
    assert np.isnan(found.value[:, ~defined]).all()
    assert (np.abs(found.value[:, defined]) <= 1).all()
    order = rng.permutation(num_trials)
    again = stats.influence(correct[order], included[order])
    assert np.array_equal(found.value, again.value, equal_nan=True)
    opposite = stats.influence(correct, ~included)
    assert np.allclose(opposite.value, -found.value, equal_nan=True)
    wrong = stats.influence(~correct, included)
    assert np.allclose(wrong.value, -found.value, equal_nan=True)
    assert np.allclose(wrong.standard_error, found.standard_error, equal_nan=True)
    constant = correct.all(axis=0) | ~correct.any(axis=0)
    assert (found.value[np.ix_(constant, defined)] == 0).all()
    assert np.isnan(found.z[constant]).all()
    itself = stats.influence(included, included).value
    assert (np.diag(itself)[defined] == 1).all()


def test_contrasts_give_means_of_the_matrix_without_it():
    rng = np.random.default_rng(7)
    included, correct = subsets(rng, 40, 30), rng.random((40, 12)) < 0.7
    included[:, 4] = True  # never left out: no estimate, so not part of any mean
    members = np.stack([np.ones(30, bool), np.arange(30) % 3 == 1, np.arange(30) == 4], axis=1)
    found = correct.T.astype(float) @ stats.contrasts(included, members)
    matrix = stats.influence(correct, included).value
    assert np.allclose(found[:, 0], np.nanmean(matrix, axis=1), atol=1e-12)
    assert np.allclose(found[:, 1], np.nanmean(matrix[:, 1::3], axis=1), atol=1e-12)
    assert np.isnan(found[:, 2]).all()


def test_mean_influence_is_zero_when_subsets_and_examples_are_balanced():
    """Complementary halves: every subset has one size, every example is in half of them."""
    rng = np.random.default_rng(8)
    halves = subsets(rng, 20, 50, 0.5)
    included = np.concatenate([halves, ~halves])
    contrast = stats.contrasts(included, np.ones((50, 1), bool))
    assert np.abs(contrast).max() < 1e-15
    alone = stats.contrasts(subsets(rng, 40, 50), np.ones((50, 1), bool))
    assert 1e-5 < np.abs(alone).max() < 1e-2


@pytest.mark.parametrize(
    ("right_in", "num_in", "right_out", "num_out"), [(70, 70, 2, 30), (56, 70, 48, 80), (9, 10, 3, 10)]
)
def test_newcombe_interval_equals_statsmodels(right_in, num_in, right_out, num_out):
    """statsmodels 0.14, confint_proportions_2indep(method="newcomb"); the second case is Newcombe's (a)."""
    found = stats.newcombe_interval(np.array(right_in), np.array(num_in), np.array(right_out), np.array(num_out))
    assert found == pytest.approx(confint_proportions_2indep(right_in, num_in, right_out, num_out, method="newcomb"))


def test_newcombe_interval_of_the_published_example():
    """56/70 - 48/80: 0.0524 to 0.3339 (newcombe1998interval, table II, column a, method 10)."""
    low, high = stats.newcombe_interval(np.array(56), np.array(70), np.array(48), np.array(80))
    assert (round(float(low), 4), round(float(high), 4)) == (0.0524, 0.3339)


def test_newcombe_interval_is_nan_without_trials_and_wide_at_the_edge():
    low, high = stats.newcombe_interval(np.array([5, 0]), np.array([5, 5]), np.array([0, 0]), np.array([0, 5]))
    assert np.isnan(low[0])
    assert low[1] < -0.3
    assert high[1] > 0.3


def test_standard_error_and_interval_of_memorization_hold():
    """Right with probability 0.9 when in and 0.4 when out: 2,000 populations of 100 trials."""
    rng = np.random.default_rng(9)
    included = rng.random((100, 2000)) < 0.7
    correct = rng.random((100, 2000)) < np.where(included, 0.9, 0.4)
    found = stats.memorization(correct, included)
    assert found.value.mean() == pytest.approx(0.5, abs=0.01)
    assert found.value.std() == pytest.approx(found.standard_error.mean(), rel=0.06)
    right = (correct & included).sum(axis=0), (correct & ~included).sum(axis=0)
    low, high = stats.newcombe_interval(right[0], found.num_in, right[1], found.num_out)
    assert 0.94 < ((low <= 0.5) & (high >= 0.5)).mean() < 0.97


def test_z_has_unit_variance_without_influence():
    rng = np.random.default_rng(10)
    included = subsets(rng, 50, 300)
    for outcome in (rng.random((50, 300)) < 0.8, rng.standard_t(4, (50, 300))):
        z = stats.influence(outcome, included).z
        assert np.nanmean(z) == pytest.approx(0, abs=0.02)
        assert np.nanvar(z) == pytest.approx(1, abs=0.02)


def test_errors_name_what_came():
    included = np.zeros((4, 3), bool)
    with pytest.raises(ValueError, match="Expected `included` of dtype bool, but got int64"):
        stats.influence(np.zeros((4, 2), bool), included.astype(int))
    with pytest.raises(ValueError, match=r"Expected outcomes of dtype bool .* got int64"):
        stats.influence(np.zeros((4, 2), int), included)
    with pytest.raises(ValueError, match="one row of outcomes for each of 4 subsets, but got 3"):
        stats.influence(np.zeros((3, 2), bool), included)
    with pytest.raises(ValueError, match="Expected from 2 to 16777215 trials, but got 1"):
        stats.influence(np.zeros((1, 2), bool), included[:1])
    with pytest.raises(ValueError, match="Expected finite outcomes"):
        stats.influence(np.full((4, 2), np.nan), included)
    with pytest.raises(ValueError, match=r"of one shape, but got \(4, 2\), \(4, 3\)"):
        stats.memorization(np.zeros((4, 2), bool), included)
