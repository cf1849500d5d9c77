from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats.contingency import odds_ratio

from remnant.stats.group_odds import representation, weighted_odds_ratio


def table(x, n, num_chosen, total):
    return np.array([[x, n - x], [num_chosen - x, total - num_chosen - n + x]])


def test_tea_tasting_as_published():
    """Fisher's tea tasting in R's documentation of fisher.test: matrix(c(3, 1, 1, 3), 2) has p = 0.2429 one-sided (so
    0.4857 two-sided), odds ratio 6.408309 and the one-sided 95 % interval from 0.3135693."""
    found = representation([3], [4], num_chosen=4, total=8, level=0.9, mid_p=False)
    assert found.p[0] == pytest.approx(2 * 0.2429, abs=1e-4)
    assert found.odds_ratio[0] == pytest.approx(6.408309, rel=1e-5)
    assert found.low[0] == pytest.approx(0.3135693, rel=1e-4)
    assert found.expected[0] == 2


def test_every_small_table_equals_scipy():
    """p, conditional estimate and exact interval by scipy.stats 1.17, one table at a time."""
    total, num_chosen = 17, 6
    cases = [(x, n) for n in range(1, 17) for x in range(max(0, n + num_chosen - total), min(n, num_chosen) + 1)]
    x, n = np.array(cases).T
    found = representation(x, n, num_chosen=num_chosen, total=total, mid_p=False)
    for place, (a, size) in enumerate(cases):
        cells = table(a, size, num_chosen, total)
        assert found.p[place] == pytest.approx(stats.fisher_exact(cells)[1])
        other = odds_ratio(cells)
        interval = other.confidence_interval()
        np.testing.assert_allclose(
            [found.odds_ratio[place], found.low[place], found.high[place]],
            [other.statistic, interval.low, interval.high],
            rtol=1e-5,
        )


def test_large_tables_equal_scipy_too():
    """Only the middle of a long distribution is used for intervals."""
    cells = table(230, 2000, 1500, 20_000)
    found = representation([230], [2000], num_chosen=1500, total=20_000, mid_p=False)
    other, interval = odds_ratio(cells), odds_ratio(cells).confidence_interval()
    assert found.odds_ratio[0] == pytest.approx(other.statistic, rel=1e-6)
    assert found.low[0] == pytest.approx(interval.low, rel=1e-6)
    assert found.high[0] == pytest.approx(interval.high, rel=1e-6)
    assert found.p[0] == pytest.approx(stats.fisher_exact(cells)[1], rel=1e-6)


def test_ends_of_the_mid_p_interval_give_half_of_the_level():
    """By SciPy's noncentral hypergeometric distribution of Fisher."""
    x, n, num_chosen, total = 9, 30, 20, 120
    found = representation([x], [n], num_chosen=num_chosen, total=total, level=0.9)
    law: Any = stats.nchypergeom_fisher
    low, high = law(total, n, num_chosen, found.low[0]), law(total, n, num_chosen, found.high[0])
    assert low.sf(x) + low.pmf(x) / 2 == pytest.approx(0.05, abs=1e-6)
    assert high.cdf(x - 1) + high.pmf(x) / 2 == pytest.approx(0.05, abs=1e-6)
    assert law(total, n, num_chosen, found.odds_ratio[0]).mean() == pytest.approx(x, abs=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_outside_is_the_inverse_of_inside(seed, inside, outside):
    rng = np.random.default_rng(seed)
    total = inside + outside
    flags = rng.random(total) < 0.4
    num, x = int(flags.sum()), int(flags[:inside].sum())
    found = representation([x, num - x], [inside, outside], num_chosen=num, total=total)
    assert found.p[0] == pytest.approx(found.p[1], nan_ok=True)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(found.odds_ratio[0], 1 / found.odds_ratio[1], rtol=1e-6)
        np.testing.assert_allclose(found.low[0], 1 / found.high[1], rtol=1e-6)
    if not np.isnan(found.p[0]):
        assert found.low[0] <= found.odds_ratio[0] <= found.high[0]
        wide = representation([x], [inside], num_chosen=num, total=total, mid_p=False)
        assert wide.low[0] <= found.low[0] * (1 + 1e-6)
        assert wide.high[0] >= found.high[0] * (1 - 1e-6)


def test_nothing_is_said_without_a_choice():
    found = representation([0, 5], [4, 10], num_chosen=5, total=10)
    assert np.isnan(found.p[1])
    assert np.isnan(found.odds_ratio[1])
    empty = representation([0], [4], num_chosen=0, total=10)
    assert np.isnan([empty.p[0], empty.odds_ratio[0], empty.low[0], empty.high[0]]).all()


def test_intervals_cover_and_p_is_not_too_small_without_association():
    rng = np.random.default_rng(0)
    x = rng.hypergeometric(80, 320, 60, size=2000)
    found = representation(x, np.full(2000, 80), num_chosen=60, total=400)
    covered = np.mean((found.low <= 1) & (found.high >= 1))
    assert 0.92 <= covered <= 0.975
    assert np.mean(found.p <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.05 / 2000)


def test_weighted_odds_ratio_of_flags_is_the_sample_odds_ratio():
    flags = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0.0])
    group = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], bool)
    assert weighted_odds_ratio(flags, group) == pytest.approx((2 * 4) / (2 * 1))
    assert weighted_odds_ratio(np.full(9, 0.3), group) == pytest.approx(1)
    assert weighted_odds_ratio(group.astype(float), group) == np.inf
    assert np.isnan(weighted_odds_ratio(flags, np.ones(9, bool)))
    assert np.isnan(weighted_odds_ratio(np.zeros(9), group))


def test_errors():
    with pytest.raises(ValueError, match="Expected numbers of chosen"):
        representation([5], [4], num_chosen=5, total=10)
    with pytest.raises(ValueError, match="Expected numbers of chosen"):
        representation([0], [8], num_chosen=5, total=10)
    with pytest.raises(ValueError, match="Expected `level`"):
        representation([1], [4], num_chosen=5, total=10, level=1.0)
