from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from remnant.stats.paired_bootstrap import bca_interval, patterns, percentile_interval, resampled_means

outcomes = arrays.arrays(np.int8, st.tuples(st.integers(1, 70), st.integers(1, 30)), elements=st.integers(-1, 1))


def draw(rng, num_columns, num_examples):
    return rng.choice(np.array([-1, 0, 1], np.int8), p=[0.15, 0.75, 0.1], size=(num_columns, num_examples))


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(1, 30))
def test_patterns_count_what_happens_together(table, cut):
    found = patterns([table[:, :cut], table[:, cut:]] if cut < table.shape[1] else [table])
    expected, counts = np.unique(table.T[table.any(axis=0)], axis=0, return_counts=True)
    order = np.lexsort(found.values.T)
    np.testing.assert_array_equal(found.values[order], expected[np.lexsort(expected.T)])
    np.testing.assert_array_equal(found.counts[order], counts[np.lexsort(expected.T)])
    np.testing.assert_allclose(found.means, table.mean(axis=1))
    np.testing.assert_array_equal(found.count(-1), (table == -1).sum(axis=1))
    assert found.num_examples == table.shape[1]


@pytest.mark.parametrize("most", [4096, 3])
def test_resamples_have_the_moments_of_a_bootstrap(most):
    """The bootstrap mean of n values has their mean and covariance / n (Efron 1979)."""
    rng = np.random.default_rng(0)
    table = draw(rng, 3, 2000)
    table[2] = table[0]
    means = resampled_means(patterns([table]), rng, num=20_000, most=most)
    np.testing.assert_allclose(means.mean(axis=0), table.mean(axis=1), atol=4e-4)
    covariance = np.cov(table, ddof=0) / 2000
    np.testing.assert_allclose(np.cov(means.T), covariance, atol=0.04 * covariance.max())
    np.testing.assert_allclose(means[:, 0], means[:, 2], atol=1e-9)


def test_resamples_are_those_of_examples():
    """Against resampling the examples themselves: the same distribution (Kolmogorov-Smirnov)."""
    rng = np.random.default_rng(1)
    table = draw(rng, 2, 300)
    slow = np.array([np.diff(table[:, rng.integers(0, 300, 300)].mean(axis=1))[0] for _ in range(4000)])
    for most in (4096, 1):
        fast = np.diff(resampled_means(patterns([table]), rng, num=4000, most=most), axis=1)[:, 0]
        # Ties of the lattice are broken alike on both sides.
        jitter = rng.uniform(-1 / 600, 1 / 600, (2, 4000))
        found: Any = stats.ks_2samp(slow + jitter[0], fast + jitter[1])
        assert found.pvalue > 0.01


def test_bca_interval_equals_that_of_scipy():
    rng = np.random.default_rng(2)
    d = np.repeat([-1.0, 1.0, 0.0], [30, 8, 162])
    found = patterns([d.astype(np.int8)[None]])
    means = resampled_means(found, rng, num=200_000)[:, 0]
    values, counts = np.append(found.values[:, 0], 0).astype(float), np.append(found.counts, 162)
    expected = stats.bootstrap((d,), np.mean, n_resamples=50_000, method="BCa", rng=rng, batch=5000).confidence_interval
    assert bca_interval(means, values, counts) == pytest.approx((expected.low, expected.high), abs=0.003)
    plain = stats.bootstrap((d,), np.mean, n_resamples=50_000, method="percentile", rng=rng, batch=5000)
    expected = plain.confidence_interval
    assert percentile_interval(means) == pytest.approx((expected.low, expected.high), abs=0.003)


def test_bca_interval_of_skewed_values_equals_that_of_scipy():
    rng = np.random.default_rng(4)
    values = rng.exponential(size=25)
    means = rng.multinomial(25, np.full(25, 1 / 25), size=100_000) @ values / 25
    found = bca_interval(means, values, np.ones(25, int))
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="BCa", rng=rng).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found[0] > percentile_interval(means)[0] + 0.03


def test_intervals_cover():
    rng = np.random.default_rng(3)
    covered = np.zeros(2)
    for _ in range(300):
        b, c, _ = rng.multinomial(500, [0.08, 0.05, 0.87])
        found = patterns([np.repeat([-1, 1, 0], [b, c, 500 - b - c]).astype(np.int8)[None]])
        means = resampled_means(found, rng, num=1000)[:, 0]
        values, counts = np.append(found.values[:, 0], 0).astype(float), np.append(found.counts, 500 - b - c)
        for place, (low, high) in enumerate((percentile_interval(means), bca_interval(means, values, counts))):
            covered[place] += low <= -0.03 <= high
    assert (covered >= 273).all(), covered
    assert (covered <= 296).all(), covered


def test_nothing_to_resample():
    found = patterns([np.zeros((2, 5), np.int8)])
    assert not resampled_means(found, np.random.default_rng(0), num=10).any()
    assert bca_interval(np.zeros(10), np.zeros(1), np.array([5])) == (0, 0)
    with pytest.raises(ValueError, match="at least one example"):
        patterns([np.zeros((2, 0), np.int8)])
