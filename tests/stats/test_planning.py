import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from remnant.stats.planning import (
    AccuracyDistribution,
    expected_standard_error,
    false_positive_rate,
    memorization_standard_error,
    never,
    power,
    probability_above,
    trials_needed,
)


def test_fisher_s_tea_tasting_tail():
    """4 with and 4 without, a fair coin: P(difference >= 1) is that all with are right and none without: 1 / 2^8."""
    assert probability_above(1.0, np.array([0.5]), np.array([0.5]), 4, 4)[0] == pytest.approx(1 / 256, rel=1e-12)


@given(st.integers(2, 12), st.integers(2, 12), st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0.01, 0.9))
def test_tail_is_the_sum_over_all_tables(num_in, num_out, with_it, without, threshold):
    slow = 0.0
    for c1 in range(num_in + 1):
        for c0 in range(num_out + 1):
            if c1 / num_in - c0 / num_out >= threshold - 1e-9:
                slow += binom.pmf(c1, num_in, with_it) * binom.pmf(c0, num_out, without)
    fast = probability_above(threshold, np.array([with_it]), np.array([without]), num_in, num_out)[0]
    assert fast == pytest.approx(slow, abs=1e-12)


def test_false_pairs_agree_with_simulation():
    accuracy = AccuracyDistribution(0.8, 1.5)
    rng = np.random.default_rng(0)
    pairs, trials = 200_000, 60
    q = rng.beta(0.8 * 1.5, 0.2 * 1.5, pairs)
    num_in = np.clip(rng.binomial(trials, 0.7, pairs), 1, trials - 1)
    estimate = rng.binomial(num_in, q) / num_in - rng.binomial(trials - num_in, q) / (trials - num_in)
    share = np.mean(estimate >= 0.15 - 1e-9)
    expected = false_positive_rate(0.15, accuracy, trials, 0.7)
    # Counts near the threshold make the average over n1 coarse: within 3 %.
    assert abs(share - expected) < 0.03 * expected + 4 * np.sqrt(expected / pairs)


def test_published_threshold_is_safe_from_about_1500_trials_on_only():
    """CIFAR-100 at mean accuracy 0.71: 5 million pairs of one class (500 x 100 in each of 100 classes)."""
    accuracy = AccuracyDistribution(0.71, 1.0)
    found = [5e6 * false_positive_rate(0.15, accuracy, t, 0.7) for t in (100, 500, 1000, 1500)]
    assert found[0] > 100_000
    assert 500 < found[1] < 2000
    assert 1 < found[2] < 10
    assert found[3] < 0.1


def test_power_is_one_half_at_the_threshold_and_rises_with_trials():
    assert power(0.15, 0.15, 4000, 0.7) == pytest.approx(0.5, abs=0.02)
    assert 0.5 < power(0.15, 0.3, 40, 0.7) < power(0.15, 0.3, 400, 0.7) <= 1


def test_standard_errors_are_those_of_simulated_estimates():
    accuracy = AccuracyDistribution(0.7, 1000.0)  # nearly one accuracy for all
    rng = np.random.default_rng(1)
    right_in, right_out = rng.binomial(140, 0.7, 20_000) / 140, rng.binomial(60, 0.7, 20_000) / 60
    assert expected_standard_error(accuracy, 200, 0.7) == pytest.approx((right_in - right_out).std(), rel=0.02)
    assert memorization_standard_error(accuracy, 200, 0.7) == pytest.approx(right_out.std(), rel=0.02)


def test_never_in_and_never_out_of_the_published_design():
    """At 50,000 examples, p = 0.7: 1,412 in all of 10 subsets, 40 in all of 20 (50,000 x 0.7^t by hand)."""
    assert never(50_000, 10, 0.7)[1] == pytest.approx(1412.4, abs=0.1)
    assert never(50_000, 20, 0.7)[1] == pytest.approx(39.9, abs=0.1)
    assert never(50_000, 2, 0.7)[0] == pytest.approx(4500)


def test_accuracy_distribution_is_recovered_from_few_trials():
    rng = np.random.default_rng(2)
    q = rng.beta(0.8 * 2, 0.2 * 2, 50_000)
    for trials in (2, 5, 50):
        found = AccuracyDistribution.of_counts(rng.binomial(trials, q), trials)
        assert found.mean == pytest.approx(0.8, abs=0.01)
        assert found.concentration == pytest.approx(2, rel=0.1)


def test_accuracies_have_the_mean_of_the_distribution():
    assert AccuracyDistribution(0.8, 1.0).values(2000).mean() == pytest.approx(0.8, abs=1e-3)


def test_models_that_always_agree_or_are_always_right_have_a_distribution():
    assert AccuracyDistribution.of_counts(np.array([4, 4, 0, 4]), 4).concentration == 0.01
    assert 0.9 < AccuracyDistribution.of_counts(np.full(10, 3), 3).mean < 1


def test_trials_needed_is_the_first_that_is_enough():
    for number, found in {2: 4, 4: 4, 5: 5, 477: 477, 100_000: 100_000}.items():
        assert trials_needed(lambda t, least=number: t >= least) == found
    assert trials_needed(lambda t: False) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AccuracyDistribution(1.0, 1.0), r"`mean` in \(0, 1\), but got 1.0"),
        (lambda: AccuracyDistribution(0.5, 0.0), "`concentration` > 0, but got 0.0"),
        (lambda: AccuracyDistribution.of_counts(np.array([1]), 1), "at least 2 trials"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
