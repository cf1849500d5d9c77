from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.stats.difficulty import el2n, forgetting_events, held_out_influence


def test_forgetting_events_worked_by_hand():
    """Columns: learned and kept, forgotten twice, never right (all 5 presentations), forgotten at the end."""
    correct = np.array([[0, 1, 0, 0], [1, 0, 0, 1], [1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]], bool)
    assert forgetting_events(correct).tolist() == [0, 2, 5, 1]


def published_forgetting(row):
    """The published rule of Toneva et al.: transitions from 1 to 0, or all presentations if there is no 1."""
    if 1 not in row:
        return len(row)
    return sum(after - before == -1 for before, after in pairwise(row))


@given(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=12))
def test_forgetting_events_are_those_of_a_slow_loop(rows):
    correct = np.array(rows, bool)
    expected = [published_forgetting([int(row[k]) for row in rows]) for k in range(4)]
    assert forgetting_events(correct).tolist() == expected


def test_el2n_worked_by_hand():
    """Probabilities 1/2, 1/2: sqrt(2) / 2. Sure and right: 0. Sure and wrong: sqrt(2)."""
    found = el2n(np.array([[0.0, 0], [1000, 0], [1000, 0]]), np.array([0, 0, 1]))
    assert found == pytest.approx([np.sqrt(0.5), 0, np.sqrt(2)])


def test_el2n_does_not_depend_on_a_constant_and_keeps_its_bounds():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, (50, 7)), rng.integers(0, 7, 50)
    found = el2n(logits, labels)
    assert found == pytest.approx(el2n(logits + rng.normal(0, 9, (50, 1)), labels))
    assert ((found >= 0) & (found <= np.sqrt(2))).all()


def slow_influence(correct, included, i, j):
    out = ~included[:, j]
    with_i, without_i = out & included[:, i], out & ~included[:, i]
    if with_i.sum() < 2 or without_i.sum() < 2:
        return np.nan
    return correct[with_i, j].mean() - correct[without_i, j].mean()


@pytest.mark.parametrize("same_class", [False, True])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_held_out_influence_is_that_of_a_slow_loop(reduce, same_class):
    rng = np.random.default_rng(1)
    included, correct = rng.random((12, 90)) < 0.6, rng.random((12, 90)) < 0.5
    included[:, 5] = True  # never out: unknown
    validation = np.arange(0, 90, 1)
    labels = rng.integers(0, 3, 90) if same_class else None
    found = held_out_influence(correct, included, validation, labels=labels, reduce=reduce, least=2)
    for i in (0, 3, 5, 89):
        pairs = [j for j in validation if labels is None or labels[i] == labels[j]]
        effects = [slow_influence(correct, included, i, j) for j in pairs]
        defined = [e for e in effects if not np.isnan(e)]
        expected = np.nan if not defined else max(defined) if reduce == "max" else np.mean(defined)
        assert found[i] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert np.isnan(found[5])


def test_pairs_with_few_trials_are_unknown():
    included = np.arange(8)[:, None] // 2 % 2 == np.arange(2)
    found = held_out_influence(np.ones((8, 2), bool), included, np.arange(2))
    assert np.isnan(found).all()


def test_an_example_that_decides_another_one_stands_out():
    rng = np.random.default_rng(2)
    included = rng.random((2000, 40)) < 0.5
    correct = rng.random((2000, 40)) < 0.5
    correct[:, 7] = rng.random(2000) < 0.2 + 0.6 * included[:, 3]
    found = held_out_influence(correct, included, np.arange(40))
    assert found.argmax() == 3
    assert found[3] == pytest.approx(0.6, abs=0.1)


def test_bad_input_is_a_clear_error():
    with pytest.raises(ValueError, match="`reduce` to be 'max' or 'mean'"):
        held_out_influence(np.ones((3, 2), bool), np.ones((3, 2), bool), np.arange(2), reduce="sum")  # pyright: ignore
    with pytest.raises(ValueError, match="from 2 to"):
        held_out_influence(np.ones((1, 2), bool), np.ones((1, 2), bool), np.arange(2))
