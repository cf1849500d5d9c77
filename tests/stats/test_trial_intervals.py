"""Intervals over trials."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from remnant.stats.trial_intervals import block_jackknife, mean_interval


def test_mean_interval_equals_scipy():
    values = np.random.default_rng(0).normal(size=9)
    found, expected = mean_interval(values), ttest_1samp(values, 0).confidence_interval()
    assert (float(found.low), float(found.high)) == pytest.approx((expected.low, expected.high))


def test_mean_of_one_value_has_no_interval():
    found = mean_interval(np.array([[0.5, 1.0]]))
    assert found.estimate.tolist() == [0.5, 1.0]
    assert np.isnan(found.low).all()


def test_jackknife_of_a_mean_is_the_usual_standard_error():
    """Leaving out single trials (fewer than 8, so that each is a block), the jackknife of a mean is exact."""
    values = np.random.default_rng(1).normal(size=7)
    found = block_jackknife(lambda kept: values[kept].mean(), 7)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / np.sqrt(7))
    assert (found.low, found.high) == pytest.approx((mean_interval(values).low, mean_interval(values).high))


def test_blocks_partition_the_trials_and_keep_neighbours_together():
    seen = []
    block_jackknife(lambda kept: seen.append(kept) or np.array(0.0), 50)
    left_out = [sorted(set(range(50)) - set(kept.tolist())) for kept in seen[1:]]
    assert sorted(k for block in left_out for k in block) == list(range(50))
    assert len(left_out) == 20
    assert all((k + 1 if k % 2 == 0 else k - 1) in block for block in left_out for k in block)


def test_jackknife_interval_covers():
    """Share above a threshold and mean, of 40 skewed values each; 500 repetitions."""
    rng = np.random.default_rng(2)
    sums = rng.gamma(40, size=10**6) + 0.3 * rng.normal(0, np.sqrt(40), 10**6)
    truth = np.array([1, (sums > 40).mean()])
    covered = np.zeros(2)
    for _ in range(500):
        values = rng.exponential(size=(40, 30))
        shift = rng.normal(0, 0.3, (40, 1))  # what the values of a trial share

        def statistic(kept, values=values + shift):
            return np.array([values[kept].mean(), (values[kept].mean(axis=0) > 1).mean()])

        found = block_jackknife(statistic, 40)
        covered += (found.low <= truth) & (truth <= found.high)
    assert 0.92 < covered[0] / 500 < 0.98
    assert covered[1] / 500 > 0.9


def test_jackknife_needs_two_trials():
    with pytest.raises(ValueError, match="Expected at least 2 trials for a jackknife, but got 1"):
        block_jackknife(lambda kept: np.array(0.0), 1)
