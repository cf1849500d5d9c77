from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import effectsize_smd

from remnant.stats.resampling import relabelings
from remnant.stats.two_sample import (
    fisher_exact,
    hedges_g,
    hedges_g_paired,
    permuted_welch,
    small_sample_correction,
    welch,
)

SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
"""Student's sleep data, as in R's `sleep`."""


def test_welch_equals_that_of_r():
    """R 4, `t.test(extra ~ group, data = sleep)`: t = -1.8608, df = 17.776, p-value = 0.07939."""
    np.testing.assert_allclose(welch(*SLEEP), (-1.8608, 17.776, 0.07939), rtol=1e-4)


def test_welch_equals_that_of_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 8)), rng.normal(0.5, 3, size=(9, 8))
    t, df, p = welch(a, b)
    expected: Any = stats.ttest_ind(a, b, equal_var=False)
    np.testing.assert_allclose(t, expected.statistic)
    np.testing.assert_allclose(df, expected.df)
    np.testing.assert_allclose(p, expected.pvalue)


def test_welch_without_spread():
    flat = np.full((3, 2), 0.1)
    t, _, p = welch(flat, flat)
    assert (t == 0).all()
    assert (p == 1).all()
    t, _, p = welch(flat, flat + 0.2)
    assert (t == -np.inf).all()
    assert (p == 0).all()


def test_welch_p_is_uniform_under_unequal_variances():
    rng = np.random.default_rng(1)
    p = welch(rng.normal(0, 1, (10, 4000)), rng.normal(0, 4, (10, 4000)))[2]
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=0.02)


def test_one_trial_is_refused():
    for function in (welch, hedges_g):
        with pytest.raises(ValueError, match="at least 2 trials"):
            function(np.zeros((1, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="at least 2 pairs"):
        hedges_g_paired(np.zeros((1, 2)), np.zeros((1, 2)))


def test_permuted_welch_equals_welch_of_dealt_trials():
    rng = np.random.default_rng(2)
    a, b = 100 + rng.normal(size=(4, 3)), 100 + rng.normal(size=(5, 3))
    pooled = np.concatenate([a, b])
    ways = relabelings(4, 5, 200, rng)
    for level in (0.05, 0.3):
        t, significant = permuted_welch(a, b, ways.in_first, level=level)
        assert significant.any()
        assert not significant.all()
        for row, in_first in enumerate(ways.in_first):
            expected = welch(pooled[in_first], pooled[~in_first])
            np.testing.assert_allclose(t[row], expected[0], rtol=1e-6)
            np.testing.assert_array_equal(significant[row], expected[2] <= level)


def test_hedges_g_equals_that_of_statsmodels():
    a, b = (np.array(x) for x in SLEEP)
    g, low, high = hedges_g(a, b)
    expected = effectsize_smd(a.mean(), a.std(ddof=1), 10, b.mean(), b.std(ddof=1), 10)[0]
    # statsmodels approximates the small-sample correction by 1 - 3 / (4 df - 1).
    assert g == pytest.approx(expected, rel=2e-4)
    assert low < g < high


def test_small_sample_correction_equals_hedges_table():
    """Hedges (1981), table 1: J(2) = 0.5642, J(10) = 0.9228, J(50) = 0.9849."""
    found = [small_sample_correction(df) for df in (2, 10, 50)]
    np.testing.assert_allclose(found, (0.5642, 0.9228, 0.9849), atol=1e-4)


@pytest.mark.parametrize("n", [2, 4, 15])
@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_interval_of_g_inverts_the_noncentral_t(n, shift):
    rng = np.random.default_rng(n)
    a, b = rng.normal(shift, 1, n), rng.normal(0, 1, n)
    _, low, high = hedges_g(a, b)
    test: Any = stats.ttest_ind(a, b)
    t, root, df = test.statistic, np.sqrt(2 / n), 2 * n - 2
    for end, tail in ((low, 0.975), (high, 0.025)):
        exact = optimize.brentq(lambda nc, tail=tail: stats.nct.cdf(t, df, nc) - tail, t - 30, t + 30)
        assert stats.nct.cdf(t, df, end / root) == pytest.approx(tail, abs=0.005)
        assert end == pytest.approx(exact * root, rel=0.05, abs=0.1)


def test_intervals_of_g_cover():
    rng = np.random.default_rng(4)
    for n in (5, 20):
        a, b = rng.normal(0.8, 1, (n, 4000)), rng.normal(0, 1, (n, 4000))
        _, low, high = hedges_g(a, b)
        assert ((low <= 0.8) & (high >= 0.8)).mean() == pytest.approx(0.95, abs=0.012)
    common = rng.normal(size=(20, 4000)) * np.sqrt(0.8)
    a, b = (common + np.sqrt(0.2) * rng.normal(size=common.shape) for _ in range(2))
    g, low, high = hedges_g_paired(a + 0.8, b)
    assert ((low <= 0.8) & (high >= 0.8)).mean() == pytest.approx(0.955, abs=0.015)
    # Pairs that are alike tell more than independent samples.
    unpaired = hedges_g(a + 0.8, b)
    assert np.median(high - low) < 0.8 * np.median(unpaired[2] - unpaired[1])
    assert g.mean() == pytest.approx(0.8, abs=0.02)


def test_g_changes_sign_with_the_samples_and_is_undefined_without_spread():
    a, b = (np.array(x) for x in SLEEP)
    for function in (hedges_g, hedges_g_paired):
        g, low, high = function(a, b)
        np.testing.assert_allclose(function(b, a), (-g, -high, -low))
        assert np.isnan(function(np.ones((3, 1)), np.ones((3, 1)))).all()
    assert np.isnan(hedges_g_paired([1.0, 2.0], [2.0, 4.0])).all()


def slow_fisher(first, n_first, second, n_second) -> float:
    found: Any = stats.fisher_exact([[first, n_first - first], [second, n_second - second]])
    return found.pvalue


def test_fisher_equals_the_tea_tasting_and_scipy():
    """Fisher (1935): of 4 and 4 cups, 3 and 1 called milk-first: two-sided p = 0.4857."""
    p, _ = fisher_exact([3], 4, [1], 4)
    assert p[0] == pytest.approx(0.4857, abs=5e-5)
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 8, 60), rng.integers(0, 6, 60)
    p, smallest = fisher_exact(x, 7, y, 5)
    for i in range(60):
        assert p[i] == pytest.approx(slow_fisher(x[i], 7, y[i], 5))
        total = x[i] + y[i]
        reachable = range(max(0, total - 5), min(7, total) + 1)
        least = min(slow_fisher(k, 7, total - k, 5) for k in reachable)
        assert smallest[i] == pytest.approx(least)


def test_mirrored_tables_have_the_same_p_to_the_last_bit():
    """Lists in order of p then fall back on their second key."""
    x, y = (values.ravel() for values in np.meshgrid(np.arange(21), np.arange(21)))
    p, _ = fisher_exact(x, 20, y, 20)
    np.testing.assert_array_equal(p, fisher_exact(y, 20, x, 20)[0])
    np.testing.assert_array_equal(p, fisher_exact(20 - x, 20, 20 - y, 20)[0])
