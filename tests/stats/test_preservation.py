from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from remnant.stats.preservation import is_preserved, log_ratios, spearman, spearman_interval, typical_factor

positive = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=30)


def test_rank_correlation_equals_the_example_of_scipy():
    """Documentation of scipy.stats.spearmanr, first example: 0.8207826816681233."""
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233, abs=1e-12)


def test_interval_of_a_rank_correlation_equals_that_of_statpsych():
    """R package statpsych, example of ci.spear (Bonett & Wright 2000): 0.8699639, 0.5840951 to 0.9638297."""
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = spearman(y, x)
    assert found == pytest.approx(0.8699639, abs=5e-8)
    assert spearman_interval(found, 15) == pytest.approx((0.5840951, 0.9638297), abs=5e-8)


def test_rank_correlation_equals_that_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, (2, 25))
        expected: Any = stats.spearmanr(a, b)
        assert spearman(a, b) == pytest.approx(expected.statistic, abs=1e-12)


def test_undefined_correlations_are_nan():
    assert np.isnan(spearman([1], [2]))
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert np.isnan(spearman_interval(float("nan"), 20)).all()
    assert np.isnan(spearman_interval(0.5, 3)).all()
    assert spearman_interval(1.0, 20) == (1.0, 1.0)


def test_interval_of_a_rank_correlation_covers():
    """Normal pairs with r = 0.7: the rank correlation is 6 / pi * arcsin(r / 2) (Pearson 1907)."""
    rng, truth = np.random.default_rng(1), 6 / np.pi * np.arcsin(0.35)
    covered = 0
    for _ in range(600):
        a = rng.normal(size=60)
        b = 0.7 * a + np.sqrt(1 - 0.49) * rng.normal(size=60)
        low, high = spearman_interval(spearman(a, b), 60)
        covered += low <= truth <= high
    assert abs(covered / 600 - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / 600)


@settings(deadline=None, max_examples=40)
@given(positive, st.floats(0.01, 100))
def test_a_common_factor_is_the_ratio_of_every_example(values, factor):
    ratios = log_ratios(values, np.multiply(values, factor))
    np.testing.assert_allclose(ratios, np.log(factor), atol=1e-9)
    assert typical_factor(ratios) == pytest.approx(max(factor, 1 / factor), rel=1e-9)
    assert typical_factor(-ratios) == pytest.approx(typical_factor(ratios))


@settings(deadline=None, max_examples=40)
@given(positive, positive, st.floats(1, 10))
def test_preservation_is_symmetric_and_grows_with_the_factor(first, second, factor):
    num = min(len(first), len(second))
    ratios = log_ratios(first[:num], second[:num])
    kept = is_preserved(ratios, factor)
    np.testing.assert_array_equal(kept, is_preserved(-ratios, factor))
    assert (is_preserved(ratios, factor * 1.5) >= kept).all()
    slow = [1 / factor - 1e-9 <= b / a <= factor + 1e-9 for a, b in zip(first, second, strict=False)]
    np.testing.assert_array_equal(kept, slow)


def test_ends_of_the_factor_are_included():
    assert is_preserved(log_ratios([1, 1, 1, 1], [1.1, 1 / 1.1, 1.1001, 0.909]), 1.1).tolist() == [
        True,
        True,
        False,
        False,
    ]
    assert is_preserved(0.0, 1).item()


def test_typical_factor_by_hand():
    """Ratios 1, 2 and 1/4: |ln| has the median ln 2."""
    assert typical_factor(np.log([1, 2, 0.25])) == pytest.approx(2)
    assert np.isnan(typical_factor([]))


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"Expected `factor` >= 1, but got 0.9"):
        is_preserved([0.0], 0.9)
    with pytest.raises(ValueError, match="Expected `factor` >= 1"):
        is_preserved([0.0], float("nan"))
    with pytest.raises(
        ValueError, match=r"Expected `second` to be positive and finite, but 1 values are not, such as 0"
    ):
        log_ratios([1, 2], [1, 0])
    with pytest.raises(ValueError, match="Expected `first` to be positive"):
        log_ratios([np.inf], [1])
    with pytest.raises(ValueError, match="of one shape"):
        log_ratios([1, 2], [1])
