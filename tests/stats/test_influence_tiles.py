"""Tiles and their reductions equal the whole matrix."""

from functools import partial
from typing import Any

import numpy as np
import pytest

from remnant.stats import influence_tiles as tiled
from remnant.stats.influence import influence


@pytest.fixture
def population():
    rng = np.random.default_rng(0)
    included = rng.random((50, 90)) < 0.7
    included[:, 11] = True
    included[:, 60] = False
    correct = rng.random((50, 40)) < rng.random(40)
    correct[:, 5] = True
    margin = rng.normal(3, 2, (50, 40))
    return correct, margin, included


def assembled(blocks, shape):
    matrix, z = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for tile in blocks:
        matrix[np.ix_(tile.examples, tile.train_examples)] = tile.influence
        z[np.ix_(tile.examples, tile.train_examples)] = tile.z
    return matrix, z


@pytest.mark.parametrize(("rows", "columns"), [(128, 2048), (7, 13), (1, 90), (40, 1)])
def test_tiles_are_the_matrix(population, rows, columns):
    correct, margin, included = population
    for outcome in (correct, margin):
        matrix, z = assembled(tiled.tiles(outcome, included, rows=rows, columns=columns), (40, 90))
        full = influence(outcome, included)
        assert np.allclose(matrix, full.value, atol=1e-6, equal_nan=True)
        assert np.allclose(z, full.z, atol=2e-5, equal_nan=True)


def test_float32_error_is_within_the_stated_one():
    rng = np.random.default_rng(1)
    for fraction in (0.02, 0.5, 0.98):
        included, correct = rng.random((500, 60)) < fraction, rng.random((500, 60)) < 0.9
        matrix, _ = assembled(tiled.tiles(correct, included), (60, 60))
        error = np.abs(matrix.astype(np.float64) - influence(correct, included).value)
        assert np.nanmax(error) < 3e-7 < tiled.TOLERANCE


def test_results_do_not_depend_on_the_tiling(population):
    correct, _, included = population
    first, _ = assembled(tiled.tiles(correct, included), (40, 90))
    second, _ = assembled(tiled.tiles(correct, included, rows=3, columns=17), (40, 90))
    assert np.array_equal(first, second, equal_nan=True)


def test_tiles_of_chosen_examples(population):
    correct, _, included = population
    rows, columns = np.array([3, 30, 4]), np.array([88, 11, 0, 2])
    matrix, _ = assembled(tiled.tiles(correct, included, examples=rows, train_examples=columns), (40, 90))
    full = influence(correct, included).value
    kept = np.array([88, 0, 2])
    assert np.allclose(matrix[np.ix_(rows, kept)], full[np.ix_(rows, kept)], atol=1e-6)
    assert np.isfinite(matrix).sum() == 9


@pytest.mark.parametrize("sign", [1, -1])
def test_top_k_equals_a_full_sort(population, sign):
    correct, _, included = population
    reduce = partial(tiled.top_k, num_examples=40, k=4, sign=sign)
    found = tiled.fold(tiled.tiles(correct, included, rows=9, columns=20), {"top": reduce})["top"]
    matrix, _ = assembled(tiled.tiles(correct, included), (40, 90))
    key = np.where(np.isnan(matrix), np.inf, -sign * matrix)
    order = np.argsort(key, axis=1, kind="stable")[:, :4]
    assert np.array_equal(found.train_examples, order)
    assert np.array_equal(found.values, -np.take_along_axis(key, order, axis=1))


def test_top_k_of_fewer_training_examples_is_padded(population):
    correct, _, included = population
    blocks = tiled.tiles(correct, included, examples=np.arange(2), train_examples=np.array([0, 1]))
    found = tiled.fold(blocks, {"top": partial(tiled.top_k, num_examples=40, k=3)})["top"]
    assert np.isneginf(found.values[0, 2])
    assert found.train_examples[0, 2] == -1
    assert np.isneginf(found.values[2:]).all()


def test_counts_above_thresholds_equal_a_loop(population):
    correct, _, included = population
    labels, train_labels = np.arange(40) % 3, np.arange(90) % 3
    thresholds = np.array([0.1, 0.15, 0.3])
    reduce = partial(tiled.count_above, thresholds=thresholds, labels=labels, train_labels=train_labels)
    found = tiled.fold(tiled.tiles(correct, included, rows=11, columns=33), {"n": reduce})["n"]
    matrix = influence(correct, included).value
    same = labels[:, None] == train_labels
    expected = [[int((matrix >= x - 1e-9).sum()) for x in thresholds]]
    expected += [[int(((matrix >= x - 1e-9) & same).sum()) for x in thresholds]]
    assert found.tolist() == expected


def test_influence_equal_to_a_threshold_passes_it():
    """50 trials in, 50 out, 45 and 35 right: exactly 0.2, which float32 does not hold."""
    included = np.repeat([True, False], 50)[:, None]
    correct = np.r_[np.arange(50) < 45, np.arange(50) < 35][:, None]
    assert influence(correct, included).value[0, 0] == 0.2
    assert len(tiled.pairs_above(tiled.tiles(correct, included), 0.2).influence) == 1
    assert len(tiled.pairs_above(tiled.tiles(correct, included), 0.2001).influence) == 0


def test_histogram_of_z_equals_numpy(population):
    correct, margin, included = population
    edges = np.linspace(-2.5, 2.5, 21)
    for outcome in (correct, margin):
        reduce = partial(tiled.histogram_z, edges=edges)
        found = tiled.fold(tiled.tiles(outcome, included, rows=13, columns=31), {"z": reduce})["z"]
        z = influence(outcome, included).z
        wide = np.r_[-np.inf, edges[1:-1] - 1e-6, np.inf]
        assert found.tolist() == np.histogram(z[np.isfinite(z)], wide)[0].tolist()


def test_pairs_above_a_threshold(population):
    correct, _, included = population
    found = tiled.pairs_above(tiled.tiles(correct, included, rows=6, columns=50), 0.25)
    matrix = influence(correct, included).value
    expected = {tuple(pair) for pair in np.argwhere(matrix >= 0.25 - 1e-9).tolist()}
    assert set(zip(found.examples.tolist(), found.train_examples.tolist(), strict=True)) == expected
    assert np.allclose(found.influence, matrix[found.examples, found.train_examples], atol=1e-6)
    none = tiled.pairs_above(tiled.tiles(correct, included, train_examples=np.array([], int)), 0.25)
    assert len(none.examples) == 0


def test_largest_equals_a_sort():
    values = np.random.default_rng(2).integers(0, 9, (3, 4, 10)).astype(np.float32)
    assert np.array_equal(tiled.largest(values, 3), -np.sort(-values, axis=-1)[..., :3])


def test_tiles_refuse_what_the_estimator_refuses():
    included: Any = np.zeros((3, 2))
    with pytest.raises(ValueError, match="dtype bool"):
        next(tiled.tiles(np.zeros((3, 2), bool), included))
