"""What chance gives: hypergeometric sums against scipy, loops and permutations."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import hypergeom, kstest, norm, t

from remnant.stats import influence_null as null
from remnant.stats import influence_tiles as tiled
from remnant.stats.influence import influence


def population(seed, num_trials=40, num_examples=30, num_train=50):
    rng = np.random.default_rng(seed)
    included = np.stack([rng.permutation(num_train) < 0.7 * num_train for _ in range(num_trials)])
    return rng.random((num_trials, num_examples)) < rng.beta(0.6, 0.3, num_examples), included


def test_expected_pairs_equal_scipys_hypergeometric_tails():
    """scipy.stats.hypergeom.sf for every pair."""
    correct, included = population(0)
    labels, train_labels = np.arange(30) % 4, np.arange(50) % 4
    right, num_in = correct.sum(axis=0), included.sum(axis=0)
    thresholds = np.array([0.1, 0.15, 0.3, 0.5])
    cells = null.pair_counts(right, num_in, 40, labels=labels, train_labels=train_labels)
    found = null.expected_above(cells, thresholds)
    for place, threshold in enumerate(thresholds):
        total = 0.0
        for j in range(30):
            for i in np.flatnonzero(train_labels == labels[j]):
                least = np.ceil((threshold * num_in[i] * (40 - num_in[i]) + right[j] * num_in[i]) / 40 - 1e-9)
                total += hypergeom.sf(least - 1, 40, right[j], num_in[i])
        assert found[place] == pytest.approx(total, rel=1e-9)


def test_all_pairs_are_expected_above_minus_one():
    correct, included = population(1)
    cells = null.pair_counts(correct.sum(axis=0), included.sum(axis=0), 40)
    assert null.expected_above(cells, np.array([-1.0]))[0] == pytest.approx(30 * 50)
    edges = np.linspace(-10, 10, 81)
    varies = (correct.any(axis=0) & ~correct.all(axis=0)).sum()
    assert null.expected_z(cells, edges).sum() == pytest.approx(varies * 50)


def test_never_in_and_never_out_do_not_count():
    cells = null.pair_counts(np.array([3, 4]), np.array([0, 10, 5]), 10)
    assert null.expected_above(cells, np.array([-1.0]))[0] == pytest.approx(2)


def test_expected_pairs_are_the_mean_over_permutations():
    """Permutations of the trials against the subsets keep n1 and d; 4,000 of them."""
    correct, included = population(2, num_trials=20, num_examples=12, num_train=15)
    labels, train_labels = np.arange(12) % 2, np.arange(15) % 2
    orders = null.orders(np.random.default_rng(0), 20, 4000)
    counted = null.permuted_pair_counts(
        correct, included, orders, labels=labels, train_labels=train_labels, threshold=0.3
    )
    cells = null.pair_counts(correct.sum(axis=0), included.sum(axis=0), 20, labels=labels, train_labels=train_labels)
    expected = null.expected_above(cells, np.array([0.3]))[0]
    error = counted[1:].std() / np.sqrt(4000)
    assert abs(counted[1:].mean() - expected) < 4 * error
    same = labels[:, None] == train_labels
    assert counted[0] == ((influence(correct, included).value >= 0.3 - 1e-9) & same).sum()


def test_expected_z_is_the_mean_over_populations():
    edges = np.linspace(-4, 4, 33)
    found, expected = np.zeros(32), np.zeros(32)
    for seed in range(20):
        correct, included = population(100 + seed, num_trials=60, num_train=200)
        reduce = partial(tiled.histogram_z, edges=edges)
        found += tiled.fold(tiled.tiles(correct, included), {"z": reduce})["z"]
        expected += null.expected_z(null.pair_counts(correct.sum(axis=0), included.sum(axis=0), 60), edges)
    assert found.sum() == pytest.approx(expected.sum())
    # Pairs of a test example depend on each other, so the counts vary more than Poisson's.
    assert (np.abs(found - expected) < 8 * np.sqrt(expected + 1)).all()


def test_memorized_examples_by_chance():
    cells = null.own_counts(np.array([7, 7, 10]), np.array([6, 6, 6]), 10)
    tail = hypergeom.sf(4, 10, 7, 6)  # c >= 5 of 6: (10 c - 42) / 24 >= 0.3
    assert null.expected_above(cells, np.array([0.3]))[0] == pytest.approx(2 * tail)


def test_z_tail_is_students():
    """The t statistic of a correlation r has t - 2 degrees of freedom."""
    z, num_trials = 2.3, 30
    r = z / np.sqrt(num_trials - 1)
    statistic = r * np.sqrt((num_trials - 2) / (1 - r**2))
    assert null.z_tail(np.array([z]), num_trials)[0] == pytest.approx(t.sf(statistic, num_trials - 2))
    assert null.z_tail(np.array([2.0]), 10**6)[0] == pytest.approx(norm.sf(2.0), rel=1e-3)
    assert null.z_tail(np.array([np.inf, -np.inf]), 30).tolist() == [0, 1]
    edges = np.linspace(-10, 10, 81)
    assert null.expected_z_real(1000, edges, 30).sum() == pytest.approx(1000)


def test_z_of_normal_margins_follows_students_tail():
    rng = np.random.default_rng(3)
    _, included = population(3, num_trials=25, num_train=40)
    z = influence(rng.normal(size=(25, 4000)), included).z[:, 0]
    assert kstest(null.z_tail(z, 25), "uniform").pvalue > 0.01


def test_permuted_influence_is_the_influence_of_permuted_outcomes():
    correct, included = population(4, num_examples=9, num_train=11)
    orders = null.orders(np.random.default_rng(1), 40, 3)
    found = np.full((4, 9, 11), np.nan)
    for order, part, block in null.permuted_influence(correct, included, orders):
        found[order, part] = block
    for place, order in enumerate(orders):
        assert np.allclose(found[place], influence(correct[order], included).value, atol=1e-6)


def test_permutation_p_of_the_number_of_pairs_is_uniform_without_influence():
    """The rank of the true number among permuted ones, with models of varying quality; 300 populations."""
    ranks = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        _, included = population(seed, num_trials=30, num_train=30)
        quality = rng.normal(0, 1, 30)
        correct = quality[:, None] + rng.normal(1, 1, (30, 20)) > 0
        counted = null.permuted_pair_counts(
            correct,
            included,
            null.orders(rng, 30, 39),
            labels=np.zeros(20, int),
            train_labels=np.zeros(30, int),
            threshold=0.3,
        )
        ranks.append((counted[1:] > counted[0]).sum() + rng.integers(0, (counted[1:] == counted[0]).sum() + 1))
    assert kstest((np.array(ranks) + 0.5) / 40, "uniform").pvalue > 0.01


def test_first_order_is_the_true_one():
    orders = null.orders(np.random.default_rng(0), 7, 5)
    assert orders[0].tolist() == list(range(7))
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(7), (6, 1)))
