"""Searches on curves: which strengths are tried, and that the right one is found."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.search.bisection import bracket, middle
from remnant.search.proposals import next_for_objective, next_strength

METHODS = ("dr-ucb", "ei", "bisection")
POSITIONS = np.linspace(0, 1, 99)


def searched(method, margin, most=10, positions=POSITIONS) -> dict[int, float]:
    """Index to margin of what a search tries, in order."""
    tried: dict[int, float] = {}
    while len(tried) < most:
        index = next_strength(method, positions, tried)
        if index is None:
            break
        assert index not in tried
        tried[index] = margin(index)
    return tried


def strongest(tried: dict[int, float]) -> int:
    return max((index for index, margin in tried.items() if margin >= 0), default=-1)


def falling(edge: int):
    """An accuracy that falls slowly, and fast beyond the edge; inside the budget up to and with the edge."""
    return lambda index: 0.01 - 0.02 * index / 99 / 2 if index <= edge else -0.005 * (index - edge) - 0.001


@given(st.integers(-1, 98))
def test_bisection_finds_the_edge_in_seven_samples(edge):
    tried = searched("bisection", lambda index: 1.0 if index <= edge else -1.0)
    assert len(tried) <= math.ceil(math.log2(100))
    assert strongest(tried) == edge


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("edge", "within"), [(5, 1), (40, 1), (77, 1), (97, 6)])
def test_every_method_finds_the_edge_of_a_falling_curve(method, edge, within):
    """Without a sample on the far side the bound creeps: at the end of the axis it takes more samples."""
    assert strongest(searched(method, falling(edge), most=12)) == pytest.approx(edge, abs=within)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=8)
@given(seed=st.integers(0, 1000))
def test_nothing_left_of_a_feasible_sample_is_tried(method, seed):
    noise = np.random.default_rng(seed).normal(0, 0.02, 99)
    tried: dict[int, float] = {}
    for _ in range(10):
        index = next_strength(method, POSITIONS, tried)
        if index is None:
            break
        assert index > strongest(tried)
        tried[index] = falling(60)(index) + noise[index]


@pytest.mark.parametrize("method", METHODS)
def test_on_a_noisy_curve_the_search_ends_beside_a_strength_that_fails(method):
    rng = np.random.default_rng(3)
    tried = searched(method, lambda index: falling(50)(index) + rng.normal(0, 0.004), most=99)
    found = strongest(tried)
    assert tried[found] >= 0
    assert found == 98 or tried[found + 1] < 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("constant", "found"), [(1.0, 98), (0.0, 98), (-1.0, -1)])
def test_constant_functions_are_all_inside_or_all_outside(method, constant, found):
    tried = searched(method, lambda index: constant, most=200)
    assert strongest(tried) == found
    assert (98 in tried) == (found == 98)
    assert (0 in tried) == (found == -1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_grids_are_searched_to_the_end(method, size):
    positions = np.linspace(0, 1, size)
    for edge in range(-1, size):
        tried = searched(method, lambda index, edge=edge: 1.0 if index <= edge else -1.0, positions=positions)
        assert strongest(tried) == edge


@pytest.mark.parametrize("method", METHODS)
def test_the_same_samples_lead_to_the_same_next_one(method):
    tried = searched(method, falling(70), most=4)
    shuffled = dict(reversed(tried.items()))
    assert next_strength(method, POSITIONS, tried) == next_strength(method, POSITIONS, shuffled)


def test_a_feasible_sample_outvotes_infeasible_ones_below_it():
    assert bracket({10: True, 20: False, 30: True, 60: False, 50: False}, 99) == (30, 50)
    assert middle({10: True, 20: False, 30: True, 60: False, 50: False}, 99) == 40
    assert bracket({}, 99) == (-1, 99)
    assert middle({30: True, 31: False}, 99) is None


@pytest.mark.parametrize("method", METHODS)
def test_the_objective_is_optimized_below_the_strongest_feasible_strength(method):
    margins = {49: 0.01, 70: 0.001, 75: -0.02}
    peak = lambda index: -((index - 30) ** 2) / 1000  # noqa: E731
    objective = {index: peak(index) for index in margins}
    for _ in range(10):
        index = next_for_objective(method, POSITIONS, objective, margins)
        assert index is not None
        assert index < 70
        assert index not in margins
        margins[index], objective[index] = 0.02, peak(index)
    assert max(objective, key=lambda index: objective[index]) == pytest.approx(30, abs=3)


@pytest.mark.parametrize("method", METHODS)
def test_below_the_weakest_strength_or_without_a_feasible_one_there_is_nothing_to_optimize(method):
    assert next_for_objective(method, POSITIONS, {0: 1.0}, {0: 0.1}) is None
    assert next_for_objective(method, POSITIONS, {5: 1.0}, {5: -0.1}) is None


def test_objectives_that_are_not_defined_anywhere_are_looked_for_in_the_middle():
    assert next_for_objective("ei", POSITIONS, {}, {60: 0.1}) == 30
