from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from remnant.stats.paired import mcnemar_exact, paired_t


def test_exact_mcnemar_equals_published_value():
    """Fagerland, Lydersen & Laake (2013), table 3: 1 against 7 discordant children, exact conditional p = 0.070."""
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 200), st.integers(0, 200))
def test_exact_mcnemar_equals_that_of_statsmodels(b, c):
    if b + c == 0:
        assert np.isnan(mcnemar_exact(b, c))
        return
    expected: Any = mcnemar([[5, b], [c, 5]], exact=True)
    assert mcnemar_exact(b, c) == pytest.approx(expected.pvalue, abs=1e-12)
    assert mcnemar_exact(b, c) == mcnemar_exact(c, b)


def test_exact_mcnemar_is_never_liberal():
    rng = np.random.default_rng(0)
    n = rng.poisson(20, 20_000)
    p = mcnemar_exact(b := rng.binomial(n, 0.5), n - b)
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() <= level + 2 * np.sqrt(level / 20_000)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="discordant examples >= 0"):
        mcnemar_exact(-1, 2)


def test_paired_t_equals_that_of_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(7, 5)), rng.normal(size=(7, 5)) + 0.4
    t, p = paired_t(a, b)
    expected = stats.ttest_rel(a, b)
    np.testing.assert_allclose(t, expected.statistic)
    np.testing.assert_allclose(p, expected.pvalue)


def test_paired_t_without_spread():
    same = np.full((4, 3), 0.1) + np.array([0.0, 0.2, 0.7])
    t, p = paired_t(same, same)
    assert (t == 0).all()
    assert (p == 1).all()
    t, p = paired_t(same + 0.3, same)
    assert (t == np.inf).all()
    assert (p == 0).all()


def test_paired_t_needs_two_pairs():
    with pytest.raises(ValueError, match="at least 2 pairs"):
        paired_t(np.zeros((1, 3)), np.zeros((1, 3)))


def test_paired_p_is_uniform_for_alike_pairs():
    rng = np.random.default_rng(3)
    common = rng.normal(size=(8, 4000))
    a, b = (common + 0.3 * rng.normal(size=common.shape) for _ in range(2))
    p = paired_t(a, b)[1]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_mcnemar_is_exactly_one_for_numbers_as_even_as_they_can_be():
    """Rounding below 1 would put such examples before others with p = 1."""
    b = np.arange(1, 2000)
    assert np.all(mcnemar_exact(b, b) == 1)
    assert np.all(mcnemar_exact(b, b - 1) == 1)
    assert np.all(mcnemar_exact(b, b + 1) == 1)
