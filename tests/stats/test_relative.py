import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from remnant.stats.relative import ratio


def test_ratio_equals_table_3_of_the_paper():
    """Hooker et al. (2019), Table 3 at 90 %: shot noise 43.82 -> 30.80 is -29.71, zoom blur 37.16 -> 31.78 -14.47."""
    found = ratio([[43.82, 37.16]], [[30.80, 31.78]]).estimate - 1
    np.testing.assert_allclose(100 * found, [-29.71, -14.47], atol=0.011)


def test_interval_equals_that_of_a_regression_through_the_weights():
    """The standard error by hand: sd of (y - r x) / mean(x) over the root of n (Cochran 1977, eq. 6.13)."""
    rng = np.random.default_rng(0)
    x = rng.uniform(1, 2, 50)
    y = 0.8 * x + rng.normal(0, 0.1, 50)
    found = ratio(x, y).interval()
    r = y.sum() / x.sum()
    error = np.sqrt(((y - r * x) ** 2).sum() / 49) / x.mean() / np.sqrt(50)
    assert found.standard_error == pytest.approx(error)
    assert found.high - r == pytest.approx(error * stats.t.ppf(0.975, 49))


def test_interval_covers_and_is_near_the_bootstrap():
    rng = np.random.default_rng(1)
    right = rng.random((400, 200)) < 0.6
    still = right & (rng.random((400, 200)) < 0.8)
    many = [ratio(x, y).interval() for x, y in zip(right, still, strict=True)]
    covered = sum(found.low <= 0.8 <= found.high for found in many)
    assert covered / 400 == pytest.approx(0.95, abs=2.6 * np.sqrt(0.95 * 0.05 / 400))
    drawn = rng.integers(0, 200, (2000, 200))
    slow = (still[0][drawn].sum(1) / right[0][drawn].sum(1)).std()
    assert many[0].standard_error == pytest.approx(slow, rel=0.1)


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20), st.floats(0.1, 5))
def test_proportional_sides_have_no_spread(values, factor):
    x = np.array(values)
    found = ratio(x, factor * x)
    assert found.estimate == pytest.approx(factor)
    np.testing.assert_allclose(found.influence, 0, atol=1e-9)
    assert ratio(x, x).estimate == 1


def test_means_and_differences_keep_their_units():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(1, 2, (2, 30, 4))
    whole, first = ratio(x, y), ratio(x[:, 0], y[:, 0])
    mean = whole.mean()
    assert mean.estimate == pytest.approx(np.mean([ratio(x[:, i], y[:, i]).estimate for i in range(4)]))
    np.testing.assert_allclose(mean.influence, whole.influence.mean(axis=1))
    change = mean.minus(first)
    jackknife = np.array(
        [
            np.mean(np.delete(y, i, 0).mean(0) / np.delete(x, i, 0).mean(0))
            - np.delete(y[:, 0], i).mean() / np.delete(x[:, 0], i).mean()
            for i in range(30)
        ]
    )
    error = np.sqrt(29 / 30 * ((jackknife - jackknife.mean()) ** 2).sum())
    assert change.interval().standard_error == pytest.approx(error, rel=0.05)


def test_nothing_is_relative_to_0_and_one_unit_has_no_interval():
    assert np.isnan(ratio([0.0, 0.0], [1.0, 1.0]).estimate)
    assert np.isnan(ratio([1.0], [0.5]).interval().low)


def test_units_that_differ_are_refused():
    with pytest.raises(ValueError, match="same units on both sides"):
        ratio([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="same units"):
        ratio([], [])
