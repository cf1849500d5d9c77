from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from remnant.search.acquisition import (
    constrained_expected_improvement,
    domain_restricted,
    expected_improvement,
    probability_of_feasibility,
    upper_confidence_bound,
)

numbers = st.floats(-5, 5)


@settings(max_examples=30)
@given(numbers, st.floats(0.01, 3), numbers)
def test_expected_improvement_is_the_integral_of_the_gain(mean, deviation, best):
    density = partial(stats.norm.pdf, loc=mean, scale=deviation)
    top = mean + 12 * deviation
    expected = integrate.quad(lambda f: (f - best) * density(f), best, max(top, best), limit=200, points=[
        min(max(mean, best), max(top, best))
    ])[0]  # fmt: skip
    assert expected_improvement(mean, deviation, best) == pytest.approx(expected, abs=1e-6)


def test_a_known_value_improves_by_its_difference_or_not_at_all():
    np.testing.assert_array_equal(expected_improvement([1.0, 3.0], [0.0, 0.0], 2.0), [0.0, 1.0])


@given(numbers, st.floats(0, 3), numbers)
def test_expected_improvement_is_at_least_the_improvement_of_the_mean(mean, deviation, best):
    assert expected_improvement(mean, deviation, best) >= max(mean - best, 0) - 1e-9


@given(numbers, st.floats(0.01, 3))
def test_the_probability_of_feasibility_is_that_of_the_normal_law(mean, deviation):
    assert probability_of_feasibility(mean, deviation) == pytest.approx(stats.norm(mean, deviation).sf(0))


def test_a_known_margin_is_feasible_or_not():
    np.testing.assert_array_equal(probability_of_feasibility([-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]), [0, 1, 1])
    np.testing.assert_array_equal(constrained_expected_improvement([2.0, 2.0], [-1.0, 1.0], [0.0, 0.0]), [0, 2])


def test_a_constrained_improvement_is_the_mean_over_simulated_functions():
    rng = np.random.default_rng(0)
    f, margin = rng.normal(0.3, 0.5, 10**6), rng.normal(-0.2, 0.4, 10**6)
    simulated = (np.maximum(f - 0.5, 0) * (margin >= 0)).mean()
    found = constrained_expected_improvement(expected_improvement(0.3, 0.5, 0.5), -0.2, 0.4)
    assert found == pytest.approx(simulated, rel=0.02)


def test_the_bound_goes_from_exploring_to_exploiting():
    mean, deviation = [0.1, 0.5], [0.9, 0.2]
    np.testing.assert_allclose(upper_confidence_bound(mean, deviation, gamma=0.0), deviation)
    np.testing.assert_allclose(upper_confidence_bound(mean, deviation, gamma=1.0), mean)
    np.testing.assert_allclose(upper_confidence_bound(mean, deviation, gamma=0.25), [0.7, 0.275])


def test_gamma_is_a_share():
    with pytest.raises(ValueError, match=r"Expected `gamma` in \[0, 1\], but got 2"):
        upper_confidence_bound([0.0], [1.0], gamma=2)


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=8, unique_by=lambda one: one[0]),
    st.integers(0, 100),
)
def test_nothing_left_of_a_feasible_sample_and_no_sample_is_allowed(samples, seed):
    points = np.arange(21) / 20
    bound = np.random.default_rng(seed).normal(size=21)
    sampled = np.array([points[index] for index, _ in samples])
    feasible = np.array([met for _, met in samples], bool)
    found = domain_restricted(bound, points, sampled, feasible)
    for point, value, given_bound in zip(points, found, bound, strict=True):
        allowed = all(point > s for s in sampled[feasible]) and point not in sampled
        assert value == (given_bound if allowed else -np.inf)
