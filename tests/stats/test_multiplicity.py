import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from remnant.stats.multiplicity import benjamini_hochberg, benjamini_yekutieli, holm

METHODS = [(benjamini_hochberg, "fdr_bh"), (benjamini_yekutieli, "fdr_by"), (holm, "holm")]
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_rejections_equal_those_of_benjamini_and_hochberg():
    """Benjamini & Hochberg (1995), section 3.2: 15 hypotheses; 4 are rejected at 0.05, 3 by Bonferroni."""
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.759,
        1,
    ]
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4
    assert (holm(p) <= 0.05).sum() == 3


@pytest.mark.parametrize(("ours", "method"), METHODS)
@settings(deadline=None, max_examples=40)
@given(p=P_VALUES)
def test_adjusted_p_equal_those_of_statsmodels(ours, method, p):
    np.testing.assert_allclose(ours(p), np.asarray(multipletests(p, method=method)[1]), atol=1e-12)


@pytest.mark.parametrize(("ours", "method"), METHODS)
@settings(deadline=None, max_examples=40)
@given(p=P_VALUES)
def test_adjusted_p_are_monotone_and_not_below_p(ours, method, p):
    p = np.array(p)
    adjusted = ours(p)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= -1e-12).all()
    order = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_allclose(ours(p[order]), adjusted[order])


def test_undefined_tests_do_not_count():
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(benjamini_hochberg(p)[[0, 2]], benjamini_hochberg(p[[0, 2]]))
    assert np.isnan(benjamini_hochberg(p)[1])
    assert np.isnan(holm([np.nan, np.nan])).all()


def test_false_discoveries_keep_their_rate():
    """1,000 families of 80 true and 20 false nulls, q <= 0.1: the false discovery rate is 0.1 x 0.8."""
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(1000):
        p = np.concatenate([rng.random(80), rng.random(20) * 0.002])
        rejected = benjamini_hochberg(p) <= 0.1
        rates.append(rejected[:80].sum() / max(rejected.sum(), 1))
    assert np.mean(rates) == pytest.approx(0.08, abs=0.006)


def test_values_that_are_no_p_are_refused():
    with pytest.raises(ValueError, match=r"Expected `p` in \[0, 1\]"):
        benjamini_hochberg([0.5, 1.5])
    with pytest.raises(ValueError, match="one dimension"):
        holm([[0.5]])
