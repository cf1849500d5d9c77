from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.stats.two_way import two_way_mean


def of(tables):
    """Arguments of `two_way_mean` for tables of shape (table, pair, example)."""
    totals = tables.sum(axis=2).T
    return (
        totals,
        (tables**2).sum(axis=(1, 2)),
        (tables.sum(axis=1) ** 2).sum(axis=1),
        np.full(len(tables), tables.shape[2]),
    )


def test_variance_equals_that_of_sums_over_clusters():
    """Cameron, Gelbach & Miller (2011), two-way clustering: by pairs plus by examples minus by both."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 5, 1)) + rng.normal(size=(3, 1, 40)) + rng.normal(size=(3, 5, 40))
    found = two_way_mean(*of(table))
    for estimate, variance, values in zip(found.estimate, found.variance, table, strict=True):
        assert estimate == pytest.approx(values.mean())
        pairs = values.mean(axis=1).var(ddof=1) / 5
        examples = values.mean(axis=0).var(ddof=1) / 40
        assert variance == pytest.approx(max(pairs + examples - values.var(ddof=1) / 200, pairs, examples))


def test_one_source_of_noise_is_a_t_test():
    rng = np.random.default_rng(1)
    pairs = np.repeat(rng.normal(size=(1, 6, 1)), 5000, axis=2)
    low, high = two_way_mean(*of(pairs)).interval()
    assert (low[0], high[0]) == pytest.approx(
        stats.t.interval(0.95, 5, pairs.mean(), stats.sem(pairs[0, :, 0])), rel=1e-3
    )
    examples = np.repeat(rng.normal(size=(1, 1, 60)), 4, axis=1)
    found = two_way_mean(*of(examples))
    expected: Any = stats.ttest_1samp(examples[0, 0], 0)
    assert found.two_sided_p()[0] == pytest.approx(expected.pvalue)
    expected = stats.ttest_1samp(examples[0, 0], 0.3, alternative="less")
    assert found.below_p(0.3)[0] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("spread", [(0.0, 0.0), (0.3, 0.0), (0.0, 1.0), (0.2, 1.0)])
def test_intervals_cover_over_pairs_and_examples(spread):
    rng = np.random.default_rng(2)
    by_pair, by_example = spread
    num = 1500
    table = (
        by_pair * rng.normal(size=(num, 5, 1))
        + by_example * rng.normal(size=(num, 1, 60))
        + rng.normal(size=(num, 5, 60))
    )
    low, high = two_way_mean(*of(table)).interval()
    assert 0.94 <= ((low <= 0) & (high >= 0)).mean() <= 0.995


def test_values_that_do_not_vary():
    found = two_way_mean(*of(np.zeros((1, 3, 10))))
    assert found.variance == 0
    assert np.isnan(found.two_sided_p())
    assert found.interval() == (0, 0)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="at least 2 pairs and 2 examples"):
        two_way_mean([[1]], [1], [1], [5])
    with pytest.raises(ValueError, match="2 examples"):
        two_way_mean([[1], [1]], [2], [4], [1])
