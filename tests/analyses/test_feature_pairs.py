from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.feature_pairs import (
    answers_of,
    over_models,
    over_pairs,
    reference_pairs,
    seed_pairs,
    welch_interval,
)
from remnant.finding import NotApplicable
from remnant.population import SchemaError, predictions
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(**options):
    return simulate.population(np.random.default_rng(0), **options)


def test_pairs_have_the_same_seed():
    found = population(num_seeds=3, num_subset_trials=2)
    measured = found.isel(trial=[7, 0, 2, 1, 3, 5])  # a subset trial, dense 0, 2, 1, and pruned 0 and 2
    (pairs,) = seed_pairs(measured, found)
    assert pairs.scheme == PRUNED
    assert pairs.seeds.tolist() == [0, 2]
    assert pairs.rows == [(1, 4), (2, 5)]


def test_reference_pairs_use_every_model_alike():
    found = population(num_seeds=6)
    assert len(reference_pairs(found, found, None, 100)) == 15
    few = reference_pairs(found, found, None, 6)
    assert np.bincount(np.ravel(few)).tolist() == [2] * 6
    assert reference_pairs(found, found, None, 0) == []
    assert reference_pairs(population(num_seeds=1), population(num_seeds=1), None, 9) == []


def test_answers_are_those_of_the_probed_trials_and_examples():
    found = population(num_seeds=2, num_examples=50)
    measured = found.isel(trial=[3, 0], example=[7, 3, 9])
    assert (answers_of(found, measured) == predictions(found)[np.ix_([3, 0], [7, 3, 9])]).all()
    with pytest.raises(
        SchemaError, match="probed examples to be in the population, but 1 are not, such as 'test-00009'"
    ):
        answers_of(found.isel(example=slice(9)), measured)


def test_what_was_not_probed_is_named():
    found = population(num_seeds=2)
    with pytest.raises(NotApplicable, match="the reference 'dense' and of a compressed scheme, but the probe has seen"):
        seed_pairs(found.isel(trial=[2, 3]), found)
    with pytest.raises(NotApplicable, match=r"seen \['dense'\]"):
        seed_pairs(found.isel(trial=[0]), found)
    with pytest.raises(SchemaError, match=r"its seeds are \[1\] and those of 'dense' are \[0\]"):
        seed_pairs(found.isel(trial=[0, 3]), found)


def test_intervals_are_those_of_scipy():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=9), rng.normal(size=5)
    ends: Any = over_pairs(x)
    np.testing.assert_allclose(ends, stats.t.interval(0.95, 8, x.mean(), stats.sem(x)))
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()  # pyright: ignore
    ends = welch_interval(x, y)
    np.testing.assert_allclose(ends, expected)
    assert over_pairs(x[:1]) is over_pairs(np.ones(3)) is welch_interval(x, y[:1]) is None


def test_interval_over_models_is_the_jackknife():
    pairs = [(0, 4), (0, 7), (4, 7), (4, 9), (7, 9), (0, 9)]
    values = np.random.default_rng(2).normal(size=6)
    without = np.array([np.mean([v for p, v in zip(pairs, values, strict=True) if m not in p]) for m in (0, 4, 7, 9)])
    error = np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2))
    half = stats.t.ppf(0.975, 3) * error
    ends: Any = over_models(pairs, values)
    np.testing.assert_allclose(ends, (values.mean() - half, values.mean() + half))
    assert over_models(pairs[:1], values[:1]) is None


def test_interval_over_models_covers():
    """Values of pairs are sums of what their two models bring along: the mean is 0."""
    rng, covered = np.random.default_rng(3), 0
    pairs = [(a, b) for a in range(8) for b in range(a)]
    for _ in range(300):
        own = rng.normal(size=8)
        low, high = over_models(pairs, np.array([own[a] + own[b] for a, b in pairs])) or (1, -1)
        covered += low <= 0 <= high
    assert 0.91 <= covered / 300 <= 0.98
