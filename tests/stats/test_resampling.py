import numpy as np
import pytest
from scipy import stats

from remnant.stats.resampling import (
    bootstrap_difference,
    bootstrap_mean,
    jackknife,
    permutation_p,
    relabelings,
    swaps,
)


def test_few_trials_give_all_relabelings_once():
    ways = relabelings(2, 3, 1000, np.random.default_rng(0))
    assert ways.exact
    assert len(ways.in_first) == 10
    assert len(np.unique(ways.in_first, axis=0)) == 10
    assert (ways.in_first.sum(axis=1) == 2).all()


def test_many_trials_give_random_relabelings_all_equally_likely():
    ways = relabelings(3, 5, 50, np.random.default_rng(0))
    assert not ways.exact
    assert ways.in_first.shape == (50, 8)
    assert (ways.in_first.sum(axis=1) == 3).all()
    often = relabelings(2, 10, 65, np.random.default_rng(1))
    assert not often.exact
    many = np.concatenate([relabelings(10, 10, 4000, np.random.default_rng(2)).in_first])
    assert np.abs(many.mean(axis=0) - 0.5).max() < 0.04


def test_swaps_hold_one_of_each_pair():
    for num in (4, 100):
        ways = swaps(5, num, np.random.default_rng(0))
        assert ways.exact == (num >= 32)
        assert (ways.in_first[:, :5] != ways.in_first[:, 5:]).all()
    assert len(np.unique(swaps(5, 32, np.random.default_rng(0)).in_first, axis=0)) == 32


def test_permutation_p_equals_that_of_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=4), rng.normal(size=4) + 1
    pooled = np.concatenate([a, b])
    ways = relabelings(4, 4, 100, rng)
    null = np.array([pooled[row].mean() - pooled[~row].mean() for row in ways.in_first])
    expected = stats.permutation_test(
        (a, b), lambda x, y: x.mean() - y.mean(), alternative="greater", n_resamples=1000, vectorized=False
    )
    assert permutation_p(a.mean() - b.mean(), null, exact=ways.exact) == pytest.approx(expected.pvalue)


def test_random_p_is_never_zero():
    assert permutation_p(10.0, np.zeros(99)) == 0.01
    assert permutation_p([0.0, 10.0], np.zeros((99, 2))).tolist() == [1.0, 0.01]


def test_jackknife_of_the_mean_equals_its_standard_error():
    x = np.array([3.0, 1.0, 4.0, 1.0, 5.0])
    found = jackknife(lambda kept: x[kept].mean(), 5)
    assert found.estimate == pytest.approx(2.8)
    assert found.standard_error == pytest.approx(stats.sem(x))
    low, high = stats.t.interval(0.95, 4, 2.8, stats.sem(x))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_jackknife_interval_of_a_mean_over_pairs_covers():
    """Mean |x_i - x_j| of normal values: 2 / sqrt(pi)."""
    rng = np.random.default_rng(5)
    truth, covered = 2 / np.sqrt(np.pi), []
    for _ in range(400):
        x = rng.normal(size=12)
        distance = np.abs(x[:, None] - x)

        def mean(kept, distance=distance):
            return distance[np.ix_(kept, kept)].sum() / (len(kept) * (len(kept) - 1))

        found = jackknife(mean, 12)
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.04)


def test_jackknife_needs_three():
    with pytest.raises(ValueError, match="at least 3 trials"):
        jackknife(lambda kept: 0.0, 2)


def test_bootstrap_equals_that_of_scipy():
    rng = np.random.default_rng(6)
    x, y = rng.exponential(size=25), rng.exponential(1.5, size=30)
    expected = stats.bootstrap(
        (x,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose(bootstrap_mean(x, rng=rng, num=20_000), expected, atol=0.04)
    expected = stats.bootstrap(
        (x, y),
        lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
        method="BCa",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).confidence_interval
    np.testing.assert_allclose(bootstrap_difference(x, y, rng=rng, num=20_000), expected, atol=0.05)


def test_bootstrap_covers():
    rng = np.random.default_rng(7)
    x, y = rng.exponential(size=(30, 500)), rng.exponential(size=(30, 500))
    low, high = bootstrap_mean(x, rng=rng, num=1000)
    assert ((low <= 1) & (high >= 1)).mean() == pytest.approx(0.93, abs=0.035)
    low, high = bootstrap_difference(x, y, rng=rng, num=1000)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.94, abs=0.035)


def test_bootstrap_of_equal_values_has_no_width():
    low, high = bootstrap_mean(np.full((5, 2), 0.3), rng=np.random.default_rng(0), num=50)
    np.testing.assert_allclose(low, 0.3)
    np.testing.assert_allclose(high, 0.3)


def test_bootstrap_needs_two_values():
    with pytest.raises(ValueError, match="at least 2 values"):
        bootstrap_mean([1.0], rng=np.random.default_rng(0))


@pytest.mark.parametrize(("num_first", "num_second"), [(2, 2), (2, 4), (3, 2)])
def test_the_observed_arrangement_is_among_all(num_first, num_second):
    ways = relabelings(num_first, num_second, 1000, np.random.default_rng(0)).in_first
    observed = np.arange(num_first + num_second) < num_first
    assert (ways == observed).all(axis=1).sum() == 1
