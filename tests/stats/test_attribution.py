from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import jaccard_score

from remnant.stats.attribution import (
    chance_overlap,
    flagged_difference,
    flagged_difference_p,
    normalized,
    rank_correlation,
    top_overlap,
    weighted_jaccard,
)

MAPS = arrays(np.float64, (3, 4), elements=st.floats(0, 100, width=32))


def draw(seed=0, shape=(6, 5, 7)):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape), rng.normal(size=shape)


def slow_jaccard(a, b):
    least = most = 0.0
    for x, y in zip(a.ravel(), b.ravel(), strict=True):
        least, most = least + min(x, y), most + max(x, y)
    return least / most


def slow_top(a, b, k):
    sets = [
        {place for value, place in sorted((-v, i) for i, v in enumerate(x.ravel()))[:k] if value < 0} for x in (a, b)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_maps_by_hand():
    a, b = np.array([[1.0, 3.0], [0.0, 0.0]]), np.array([[2.0, 1.0], [1.0, 0.0]])
    assert weighted_jaccard(a, b) == pytest.approx((1 + 1) / (2 + 3 + 1))
    # Over their sums: (1/4, 3/4, 0) and (1/2, 1/4, 1/4).
    assert weighted_jaccard(normalized(a), normalized(b)) == pytest.approx((1 / 4 + 1 / 4) / (1 / 2 + 3 / 4 + 1 / 4))
    signed = np.array([[-3.0, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(normalized(signed), [[0, 0.5], [0, 0.5]])
    np.testing.assert_allclose(normalized(signed, "absolute"), [[0.6, 0.2], [0, 0.2]])


def test_maps_of_zeros_and_ones_have_the_jaccard_index_of_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = rng.random((20, 6, 6)) < 0.4, rng.random((20, 6, 6)) < 0.4
    expected = [jaccard_score(x.ravel(), y.ravel()) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(weighted_jaccard(a, b), expected)
    # Maps with only so many pixels above 0 as are asked for are sets too.
    np.testing.assert_allclose(top_overlap(a, b, share=1.0), expected)


def test_rank_correlation_is_that_of_scipy_with_ties():
    a, b = (np.round(x, 0) for x in draw())
    for found, x, y in zip(rank_correlation(a, b), a, b, strict=True):
        expected: Any = stats.spearmanr(x.ravel(), y.ravel())
        assert found == pytest.approx(expected.statistic)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_slow_versions_agree(share):
    a, b = draw(1)
    one, two = normalized(a), normalized(b, "absolute")
    np.testing.assert_allclose(weighted_jaccard(one, two), [slow_jaccard(x, y) for x, y in zip(one, two, strict=True)])
    a, b = (np.round(x, 0) for x in (a, b))
    k = max(1, round(share * 35))
    expected = [slow_top(x, y, k) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(top_overlap(a, b, share=share), expected)


@settings(deadline=None)
@given(MAPS, MAPS, st.floats(1e-3, 1e3))
def test_jaccard_of_normalized_maps_is_symmetric_bounded_and_knows_no_scale(a, b, scale):
    one, two = normalized(a), normalized(b)
    found = weighted_jaccard(one, two)
    if not (a.any() or b.any()):
        assert np.isnan(found)
        return
    assert 0 <= found <= 1
    assert weighted_jaccard(two, one) == found
    assert weighted_jaccard(normalized(scale * a), two) == pytest.approx(float(found), abs=1e-9)
    if a.any():
        assert weighted_jaccard(one, one) == 1
    if a.any() and b.any():
        apart = np.abs(one - two).sum() / 2
        assert found == pytest.approx((1 - apart) / (1 + apart), abs=1e-12)


def test_huge_and_tiny_maps_add_up_to_one():
    a = np.abs(draw(2)[0])
    for scale in (1e-300, 1e300):
        np.testing.assert_allclose(normalized(scale * a), normalized(a), rtol=1e-12)


def test_orders_that_are_equal_or_reversed_have_correlation_one():
    a, _ = draw(3)
    np.testing.assert_allclose(rank_correlation(a, np.exp(a)), 1)
    np.testing.assert_allclose(rank_correlation(a, -a), -1)
    assert np.isnan(rank_correlation(a, np.ones_like(a))).all()


def test_maps_without_pixels_above_zero_have_no_highest_ones():
    a = np.zeros((1, 4, 4))
    b = a.copy()
    b[0, 1, 1] = 2
    assert np.isnan(top_overlap(a, a)).all()
    assert top_overlap(a, b) == 0
    assert top_overlap(b, b) == 1


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_unrelated_maps_overlap_as_chance_says(share):
    rng = np.random.default_rng(4)
    a, b = rng.random((3000, 10, 10)), rng.random((3000, 10, 10))
    assert top_overlap(a, b, share=share).mean() == pytest.approx(chance_overlap(share, 100), abs=0.006)


def test_difference_of_flagged_examples_by_hand():
    values = np.array([[1.0, 2.0, 6.0, np.nan], [1.0, 1.0, 1.0, 1.0]])
    flags = np.array([[True, False, False, True], [False, False, False, False]])
    found = flagged_difference(values, flags)
    assert found[0] == 1 - 4
    assert np.isnan(found[1])
    rng = np.random.default_rng(0)
    assert np.isnan(flagged_difference_p(values[1:], flags[1:], rng=rng))


def test_p_of_flagged_examples_is_that_of_scipy():
    rng = np.random.default_rng(5)
    values, flags = rng.normal(size=(1, 40)), np.arange(40)[None] < 9
    values[flags] += 0.5

    def statistic(x, y, axis):
        return np.abs(x.mean(axis=axis) - y.mean(axis=axis))

    expected = stats.permutation_test(
        (values[flags], values[~flags]), statistic, alternative="greater", n_resamples=9999, vectorized=True, rng=rng
    )
    found = flagged_difference_p(values, flags, rng=rng, num=9999)
    assert found == pytest.approx(expected.pvalue, abs=0.015)


def test_p_of_flagged_examples_is_uniform_where_flags_mean_nothing():
    """Three pairs of models with the same hard examples, flagged alike: the pairs are no independent evidence."""
    rng = np.random.default_rng(6)
    found = []
    for _ in range(400):
        values = rng.normal(size=60) + 0.3 * rng.normal(size=(3, 60))
        flags = (rng.normal(size=60) + 0.3 * rng.normal(size=(3, 60))) > 1
        found.append(flagged_difference_p(values, flags, rng=rng, num=99))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 400))


def test_refusals_say_what_was_expected():
    a = np.ones((2, 3, 3))
    with pytest.raises(ValueError, match="one shape"):
        weighted_jaccard(a, a[:1])
    with pytest.raises(ValueError, match="one shape"):
        rank_correlation(a[0, 0], a[0, 0])
    with pytest.raises(ValueError, match="below 0"):
        weighted_jaccard(a, -a)
    with pytest.raises(ValueError, match="`share` in"):
        top_overlap(a, a, share=0)
    with pytest.raises(ValueError, match="`part` to be one of"):
        normalized(a, "negative")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="finite `maps`, but 1 values"):
        normalized(np.array([[1.0, np.nan]]))
