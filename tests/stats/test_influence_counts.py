"""Packed bits and counts: shards add up to the whole, and everything follows from them."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from remnant.stats import influence as estimator
from remnant.stats.influence_counts import count, memorization
from remnant.stats.influence_groups import class_blocks, mean_on_groups
from remnant.stats.packed_bits import PackedBits, pack, stack


@pytest.fixture
def trials():
    rng = np.random.default_rng(0)
    included = rng.random((60, 45)) < 0.7
    included[:, 7], included[:, 20] = True, False
    return rng.random((60, 30)) < rng.random(30), included


def equal(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in vars(a))


def test_packing_and_unpacking_change_nothing(trials):
    for matrix in trials:
        packed = pack(matrix)
        assert np.array_equal(packed.unpacked(), matrix)
        assert np.array_equal(packed.columns(8, 20), matrix[:, 8:20])
        assert np.array_equal(packed.chosen(np.array([29, 3, 0])), matrix[:, [29, 3, 0]])
        assert np.array_equal(packed.totals(), matrix.sum(axis=0))
        assert packed.bits.nbytes == len(matrix) * -(-matrix.shape[1] // 8)


def test_shards_sum_to_the_whole_bit_for_bit(trials):
    correct, included = map(pack, trials)
    whole = count(correct, included)
    parts = [slice(0, 1), slice(1, 20), slice(20, 60)]
    shards = [
        count(*(PackedBits(bits.bits[part], bits.num_examples) for bits in (correct, included))) for part in parts
    ]
    total = shards[2] + shards[0] + shards[1]
    assert equal(total, whole)
    assert equal(total.estimate(), estimator.influence(*trials))
    assert equal(stack([pack(trials[0][part]) for part in parts]), correct)


def test_chosen_examples_are_those_of_the_whole(trials):
    correct, included = map(pack, trials)
    rows, columns = np.array([4, 0]), np.array([44, 7, 2])
    some, whole = count(correct, included, examples=rows, train_examples=columns), count(correct, included)
    assert np.array_equal(some.both, whole.both[np.ix_(rows, columns)])


def test_tables_are_those_of_scipy(trials):
    tables = count(*map(pack, trials)).tables()
    for j, i in [(0, 0), (5, 7), (29, 44)]:
        right, inside = trials[0][:, j], trials[1][:, i]
        _, reference = scipy_stats.contingency.crosstab(~inside, ~right, levels=([False, True], [False, True]))
        assert np.array_equal(tables[j, i], np.array(reference))  # pyright: ignore[reportArgumentType]


def test_memorization_of_bits_is_that_of_arrays(trials):
    _, included = trials
    right = np.random.default_rng(1).random(included.shape) < 0.6
    assert equal(memorization(pack(right), pack(included)), estimator.memorization(right, included))


def test_means_of_groups_are_means_of_the_matrix(trials):
    correct, included = trials
    matrix = estimator.influence(correct, included).value
    changed = np.arange(30) % 4 == 0
    found = mean_on_groups(pack(correct), pack(included), np.stack([changed, ~changed, changed & False], axis=1))
    assert np.allclose(found[:, 0], matrix[changed].mean(axis=0), atol=1e-14, equal_nan=True)
    assert np.allclose(found[:, 1], matrix[~changed].mean(axis=0), atol=1e-14, equal_nan=True)
    assert np.isnan(found[:, 2]).all()
    labels, train_labels = np.arange(30) % 3, np.arange(45) % 4
    blocks = class_blocks(pack(correct), pack(included), labels, train_labels, 5)
    for a in range(3):
        for b in range(4):
            assert blocks[a, b] == pytest.approx(np.nanmean(matrix[np.ix_(labels == a, train_labels == b)]))
    assert np.isnan(blocks[3:]).all()
    assert np.isnan(blocks[:, 4]).all()


def test_what_does_not_belong_together_is_refused(trials):
    correct, included = map(pack, trials)
    with pytest.raises(ValueError, match=r"Expected `bits` uint8 of shape \(60, 4\) for 30 examples"):
        PackedBits(correct.bits[:, :3], 30)
    with pytest.raises(ValueError, match="Expected a boolean matrix"):
        pack(np.zeros((3, 4)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shards of the same examples, but got \[30, 45\]"):
        stack([correct, included])
    with pytest.raises(ValueError, match="Expected counts of the same examples"):
        _ = count(correct, included) + count(correct, correct)
    with pytest.raises(ValueError, match="Expected counts of 2 or more trials, but got 1"):
        count(PackedBits(correct.bits[:1], 30), PackedBits(included.bits[:1], 45)).estimate()
    with pytest.raises(ValueError, match="of the same training examples, but got 30 and 45"):
        memorization(correct, included)
    with pytest.raises(ValueError, match="a row for each of 30 test examples, got 29"):
        mean_on_groups(correct, included, np.ones((29, 1), bool))
