from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from remnant.stats.rates import (
    clopper_pearson,
    counts_by_group,
    group_sizes,
    newcombe,
    newcombe_paired,
    quantile_interval,
    rate_by_group,
    wilson,
)

COUNTS = [(0, 10), (10, 10), (1, 3), (17, 60), (999, 10_000), (1, 1)]


@pytest.mark.parametrize(("successes", "n"), COUNTS)
def test_intervals_of_one_share_equal_those_of_statsmodels(successes, n):
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "beta")):
        expected: Any = proportion_confint(successes, n, method=method)
        np.testing.assert_allclose(ours(successes, n), expected, atol=1e-10)


def test_difference_of_two_shares_equals_newcombe_1998():
    """Newcombe (1998), Statistics in Medicine 17:873-890, table II, example (a), method 10: 56/70 - 48/80."""
    np.testing.assert_allclose(newcombe(56, 70, 48, 80), (0.0524, 0.3339), atol=5e-5)
    np.testing.assert_allclose(
        newcombe(3, 20, 9, 31), confint_proportions_2indep(3, 20, 9, 31, method="newcomb"), atol=1e-10
    )


def test_difference_of_paired_shares_equals_published_intervals():
    # Fagerland, Lydersen & Laake (2014), Statistics in Medicine 33:2850-2875: airway hyper-responsiveness before and
    # after stem cell transplantation (Bentur et al. 2009), Newcombe square-and-add: -0.507 to -0.026.
    np.testing.assert_allclose(newcombe_paired(1, 1, 7, 12), (-0.507, -0.026), atol=5e-4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(lambda table: sum(table) > 0))
def test_paired_interval_holds_the_difference_and_mirrors(table):
    a, b, c, d = table
    low, high = newcombe_paired(a, b, c, d)
    assert -1 - 1e-9 <= low <= (b - c) / sum(table) + 1e-9
    assert (b - c) / sum(table) - 1e-9 <= high <= 1 + 1e-9
    np.testing.assert_allclose(newcombe_paired(a, c, b, d), (-high, -low), atol=1e-12)


def test_intervals_cover_at_their_level():
    rng = np.random.default_rng(0)
    n, num = 40, 4000
    for share in (0.02, 0.2, 0.5):
        x = rng.binomial(n, share, num)
        low, high = clopper_pearson(x, np.full(num, n))
        assert ((low <= share) & (share <= high)).mean() >= 0.95 - 0.01
        low, high = wilson(x, np.full(num, n))
        assert 0.90 <= ((low <= share) & (share <= high)).mean() <= 0.99
    x, y = rng.binomial(n, 0.3, num), rng.binomial(50, 0.45, num)
    low, high = newcombe(x, n, y, 50)
    assert 0.93 <= ((low <= -0.15) & (high >= -0.15)).mean() <= 0.97
    table = rng.multinomial(80, [0.6, 0.15, 0.1, 0.15], num).T
    low, high = newcombe_paired(*table)
    assert 0.93 <= ((low <= 0.05) & (high >= 0.05)).mean() <= 0.98


def test_rate_by_group_equals_loops():
    rng = np.random.default_rng(1)
    flags, group = rng.random((4, 30)) < 0.6, rng.integers(0, 3, 30)
    slow = [[flags[k, group == g].mean() for g in range(3)] for k in range(4)]
    found = rate_by_group(flags, group, 4)
    np.testing.assert_allclose(found[:, :3], slow)
    assert np.isnan(found[:, 3]).all()


def test_counts_in_blocks_equal_loops(monkeypatch):
    monkeypatch.setattr("remnant.stats.rates._ROWS", 7)
    rng = np.random.default_rng(2)
    flags, group = rng.random((3, 40)) < 0.5, rng.integers(0, 4, 40).astype(np.int8)
    assert counts_by_group(flags, group, 5).tolist() == [
        [int((row & (group == g)).sum()) for g in range(5)] for row in flags
    ]
    assert group_sizes(group, 5).tolist() == [int((group == g).sum()) for g in range(5)]


def test_quantile_interval_equals_that_of_scipy():
    """Conover (1999), Practical Nonparametric Statistics, section 3.2, as in scipy.stats.quantile_test."""
    rng = np.random.default_rng(3)
    for n, share in ((16, 0.75), (59, 0.5), (400, 0.9), (1000, 0.99)):
        values = np.sort(rng.exponential(size=n))
        expected: Any = stats.quantile_test(values, p=share).confidence_interval()
        np.testing.assert_allclose(quantile_interval(values, share), (expected.low, expected.high))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 300), st.sampled_from([0.01, 0.5, 0.9, 0.99]))
def test_ranks_of_the_quantile_interval_hold_their_level(n, share):
    """The chance that the number of values below the quantile lies between the ranks, by the binomial itself."""
    low, high = quantile_interval(np.arange(1.0, n + 1), share)
    first, last = (0 if np.isnan(low) else low), (n + 1 if np.isnan(high) else high)
    inside = stats.binom.cdf(last - 1, n, share) - stats.binom.cdf(first - 1, n, share)
    assert inside >= 0.95 - 1e-9
    narrower = stats.binom.cdf(last - 2, n, share), stats.binom.cdf(first, n, share)
    assert narrower[0] < 0.975 or np.isnan(high)
    assert narrower[1] > 0.025 or np.isnan(low)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="Expected `n` >= 1"):
        wilson(0, 0)
    with pytest.raises(ValueError, match=r"Expected `successes` in \[0, n\]"):
        clopper_pearson(5, 4)
    with pytest.raises(ValueError, match=r"Expected `level` in \(0, 1\)"):
        wilson(1, 2, level=95)
    with pytest.raises(ValueError, match="sum > 0"):
        newcombe_paired(0, 0, 0, 0)
