import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from remnant.stats.ranking import best_probability, rank_intervals, ranks, smaller_probability

tables = arrays.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.integers(0, 4))


@settings(deadline=None, max_examples=50)
@given(tables)
def test_shares_equal_loops(table):
    num, methods = table.shape
    np.testing.assert_allclose(ranks(table[0]), stats.rankdata(table[0]))
    slow = np.array(
        [
            [np.mean([(r[a] < r[b]) + 0.5 * (r[a] == r[b]) for r in table]) for b in range(methods)]
            for a in range(methods)
        ]
    )
    np.testing.assert_allclose(smaller_probability(table), slow)
    first = np.zeros(methods)
    for row in table:
        best = np.flatnonzero(row == row.min())
        first[best] += 1 / len(best) / num
    np.testing.assert_allclose(best_probability(table), first)
    assert best_probability(table).sum() == pytest.approx(1)


def test_equal_methods_have_any_probability():
    """Under the null the bootstrap probability is uniform; that is why it is not called a p-value."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        means = rng.normal(size=2)
        found.append(smaller_probability(means + rng.normal(size=(800, 2)))[0, 1])
    assert stats.kstest(found, "uniform").pvalue > 0.01


@pytest.mark.parametrize("truth", [[0.0] * 6, [0.0, 0.0, 2.0, 2.0, 5.0, 9.0], [0, 1, 2, 3, 4, 5]])
def test_rank_intervals_cover(truth):
    """True places of tied methods are a range: the interval must hold all of it."""
    rng = np.random.default_rng(1)
    truth = np.array(truth, float)
    first = 1 + (truth[None] < truth[:, None]).sum(axis=1)
    last = len(truth) - (truth[None] > truth[:, None]).sum(axis=1)
    num, covered = 300, np.zeros(len(truth))
    for _ in range(num):
        means = truth + rng.normal(size=len(truth))
        low, high = rank_intervals(means, means + rng.normal(size=(500, len(truth))))
        covered += (low <= first) & (last <= high)
    assert (covered >= 0.92 * num).all(), covered


def test_rank_intervals_of_clear_and_of_equal_methods():
    rng = np.random.default_rng(2)
    values = np.array([0.0, 10.0, 10.0, 30.0])
    noise = rng.normal(size=(500, 4))
    noise[:, 2] = noise[:, 1]
    low, high = rank_intervals(values, values + noise)
    assert low.tolist() == [1, 2, 2, 4]
    assert high.tolist() == [1, 3, 3, 4]
    low, high = rank_intervals(values[:1], values[None, :1])
    assert (low.tolist(), high.tolist()) == ([1], [1])
