"""Proximal operators: against numerical minimisation of their definition, and published values and properties."""

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remnant.lab.compress.proximal import (
    OPERATORS,
    SMOOTHING,
    group_norms,
    l1,
    l1_minus_l2,
    l_half,
    length_to_zero,
    log_sum,
    shrink_groups,
)

PENALTIES = {
    "l1": lambda x: x.sum(-1),
    "l1/2": lambda x: np.sqrt(x).sum(-1),
    "l1-2": lambda x: x.sum(-1) - np.sqrt((x**2).sum(-1)),
    "logsum": lambda x: np.log1p(x / SMOOTHING).sum(-1),
}
every_regularizer = pytest.mark.parametrize("regularizer", OPERATORS)
norms = st.lists(st.floats(0, 3), min_size=1, max_size=6)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def objective(regularizer: str, x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    return ((x - y) ** 2).sum(-1) / 2 + step * PENALTIES[regularizer](x)


@pytest.mark.parametrize("regularizer", ["l1", "l1/2", "logsum"])
@settings(deadline=None, max_examples=60)
@given(y=st.floats(0, 3), step=st.floats(1e-4, 1.5))
def test_separable_operators_minimise_their_definition(regularizer, y, step):
    """A grid on [0, y], then scipy.optimize.minimize_scalar (1.17) around its best point."""
    found = OPERATORS[regularizer](tensor([y]), step).numpy()
    grid = np.linspace(0, y, 2001)[:, None]
    values = objective(regularizer, grid, np.array([y]), step)
    best = int(values.argmin())
    bounds = grid[max(0, best - 1), 0], grid[min(2000, best + 1), 0]
    least = values[best]
    if bounds[0] < bounds[1]:
        refined = scipy.optimize.minimize_scalar(
            lambda x: float(objective(regularizer, np.array([x]), np.array([y]), step)), bounds=bounds, method="bounded"
        )
        least = min(least, refined.fun)  # pyright: ignore[reportAttributeAccessIssue]
    assert objective(regularizer, found, np.array([y]), step) <= least + 1e-9
    assert 0 <= found[0] <= y + 1e-12


@settings(deadline=None, max_examples=30)
@given(y=st.lists(st.floats(0, 3), min_size=2, max_size=4), step=st.floats(0.01, 2), seed=st.integers(0, 1000))
def test_l1_minus_l2_minimises_its_definition(y, step, seed):
    """From many starts with scipy.optimize.minimize (1.17, L-BFGS-B); the problem is not convex."""
    given_norms = np.array(y)
    found = objective("l1-2", l1_minus_l2(tensor(y), step).numpy(), given_norms, step)
    rng = np.random.default_rng(seed)
    starts = [given_norms, *np.eye(len(y)) * given_norms, *rng.uniform(0, 3, (4, len(y)))]
    for start in starts:
        result = scipy.optimize.minimize(
            lambda x: float(objective("l1-2", x, given_norms, step)),
            start + 1e-6,
            bounds=[(0, None)] * len(y),
            method="L-BFGS-B",
        )
        assert found <= result.fun + 1e-7


def test_soft_thresholding_by_hand():
    assert l1(tensor([0.0, 0.2, 0.5, 2.0]), 0.5).tolist() == [0, 0, 0, 1.5]


def test_half_thresholding_has_the_published_threshold_and_jump():
    """Xu et al. (2012), with their lambda = 2 t: 0 up to (54^(1/3) / 4) lambda^(2/3), two thirds of it right above."""
    step = 0.4
    threshold = 54 ** (1 / 3) / 4 * 0.8 ** (2 / 3)
    below, above = l_half(tensor([threshold - 1e-9, threshold + 1e-9]), step).tolist()
    assert below == 0
    assert above == pytest.approx(2 / 3 * threshold, rel=1e-4)


@given(st.floats(0.5, 50), st.floats(1e-4, 0.1))
def test_half_thresholding_solves_its_cubic(y, step):
    """Stationarity: x - y + t / (2 sqrt(x)) = 0."""
    x = float(l_half(tensor([y]), step))
    assert x - y + step / (2 * np.sqrt(x)) == pytest.approx(0, abs=1e-9)


def test_l1_minus_l2_by_hand():
    """Lou & Yan (2018), lemma 1 with alpha = 1; a group that is alone is not penalised."""
    # y = (4, 3), t = 1: z = (3, 2), x = z (1 + 1 / sqrt(13))
    expected = np.array([3, 2]) * (1 + 1 / np.sqrt(13))
    np.testing.assert_allclose(l1_minus_l2(tensor([4.0, 3.0]), 1.0), expected)
    assert l1_minus_l2(tensor([0.3, 0.7, 0.7]), 1.0).tolist() == [0, 0.7, 0]
    assert float(l1_minus_l2(tensor([1.5]), 0.4)) == pytest.approx(1.5)
    assert l1_minus_l2(tensor([0.0, 0.0]), 1.0).tolist() == [0, 0]


def test_log_sum_by_hand():
    # y = 2, e = 1, t = 1: (x - 2)(x + 1) + 1 = 0, x = (1 + sqrt(5)) / 2
    assert float(log_sum(tensor([2.0]), 1.0, 1.0)) == pytest.approx((1 + np.sqrt(5)) / 2)
    assert float(log_sum(tensor([0.9]), 1.0, 1.0)) == 0


@every_regularizer
@settings(deadline=None, max_examples=40)
@given(values=norms, step=st.floats(0, 2))
def test_larger_norms_stay_larger_and_none_grows(regularizer, values, step):
    values = sorted(values)
    found = OPERATORS[regularizer](tensor(values), step)
    assert (found >= 0).all()
    assert (found.diff() >= -1e-9).all() or regularizer == "l1-2"  # of equal norms one may stay alone
    if regularizer != "l1-2":
        assert (found <= tensor(values) + 1e-9).all()
    assert found.norm() <= tensor(values).norm() + 1e-9


@every_regularizer
@settings(deadline=None, max_examples=30)
@given(values=norms)
def test_no_step_changes_nothing(regularizer, values):
    np.testing.assert_allclose(OPERATORS[regularizer](tensor(values), 0.0), values, atol=1e-7)


@every_regularizer
@pytest.mark.parametrize("dim", [0, 1])
def test_groups_keep_their_direction(regularizer, dim):
    matrix = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4)))
    before = matrix.clone()
    shrink_groups(matrix, dim, 0.4, regularizer=regularizer, unit=2.0)
    expected = 2 * OPERATORS[regularizer](group_norms(before, dim) / 2, 0.4)
    for index in range(before.shape[dim]):
        old, new = before.select(dim, index), matrix.select(dim, index)
        np.testing.assert_allclose(new, old / old.norm() * expected[index], atol=1e-6)


def test_l1_on_groups_is_the_scale_of_the_paper():
    """Li et al. (2020): max(0, 1 - lr lambda / (||a|| + 1e-8)) times the group."""
    matrix = tensor([[3.0, 4.0], [0.03, 0.04], [0.0, 0.0]])
    shrink_groups(matrix, 0, 0.5, regularizer="l1")
    np.testing.assert_allclose(matrix, [[2.7, 3.6], [0, 0], [0, 0]], atol=1e-7)


@pytest.mark.parametrize(
    ("regularizer", "slope"),
    [("l1", lambda x: 1.0), ("l1/2", lambda x: 0.5 / np.sqrt(x)), ("logsum", lambda x: 1 / (SMOOTHING + x))],
)
def test_length_to_zero_is_the_integral_of_the_inverse_slope(regularizer, slope):
    """Integral by scipy.integrate.quad (1.17)."""
    for norm in (0.0, 0.3, 2.0):
        expected, _ = scipy.integrate.quad(lambda x: 1 / slope(x), 1e-12, max(norm, 1e-12))
        assert length_to_zero(norm, regularizer) == pytest.approx(expected, abs=1e-9)


@every_regularizer
def test_many_small_steps_of_that_length_take_just_that_group_to_zero(regularizer):
    values = tensor([0.5, 0.98, 1.05, 2.0])
    for _ in range(2000):
        values = OPERATORS[regularizer](values, length_to_zero(1.0, regularizer) / 2000)
    if regularizer != "l1-2":
        assert (values > 0).tolist() == [False, False, True, True]
    assert float(values[0]) < 0.01
    assert float(values[3]) >= 1 - 1e-6


def test_norms_of_rows_and_columns():
    matrix = tensor([[3.0, 0.0], [4.0, 2.0]])
    assert group_norms(matrix, 0).tolist() == [3, pytest.approx(np.sqrt(20))]
    assert group_norms(matrix, 1).tolist() == [5, 2]
