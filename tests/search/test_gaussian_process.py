from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from remnant.search.gaussian_process import BOUNDS, Kernel, fit, log_likelihood

RNG = np.random.default_rng(0)
POINTS = np.sort(RNG.random(9))
VALUES = 0.9 - 0.5 * POINTS**4 + RNG.normal(0, 0.01, 9)
GRID = np.linspace(-0.2, 1.2, 57)
KERNELS = [Kernel(), Kernel(2.0, 0.1, 0.05), Kernel(0.3, 3.0, 0.5)]


def scikit(kernel: Kernel, points: np.ndarray, values: np.ndarray) -> Any:
    """scikit-learn's regressor with the same kernel; its `alpha` is noise that predictions are without."""
    same = ConstantKernel(kernel.variance) * Matern(kernel.length, nu=2.5)
    return regressor(same, kernel.noise).fit(points, values)


def regressor(kernel: Any, noise: float) -> Any:
    fixed: Any = None
    return GaussianProcessRegressor(kernel, alpha=noise, optimizer=fixed)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dimensions", [1, 3])
def test_mean_and_deviation_are_those_of_scikit_learn(kernel, dimensions):
    rng = np.random.default_rng(1)
    points, where = rng.random((12, dimensions)), rng.random((40, dimensions))
    values = np.sin(5 * points).sum(axis=1)
    process = fit(points, values, kernel=kernel)
    expected = scikit(kernel, points, (values - values.mean()) / values.std())
    mean, deviation = expected.predict(where, return_std=True)
    found = process.predict(where)
    np.testing.assert_allclose(found[0], values.mean() + values.std() * mean, atol=1e-6)
    np.testing.assert_allclose(found[1], values.std() * deviation, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_likelihood_is_that_of_scikit_learn_and_the_gradient_that_of_differences(kernel):
    noisy = ConstantKernel(kernel.variance) * Matern(kernel.length, nu=2.5) + WhiteKernel(kernel.noise)
    expected = regressor(noisy, 1e-10).fit(POINTS[:, None], VALUES)
    theta = np.log([kernel.variance, kernel.length, kernel.noise])
    value, gradient = log_likelihood(kernel, POINTS, VALUES)
    by_scikit, its_gradient = expected.log_marginal_likelihood(theta, eval_gradient=True)
    assert value == pytest.approx(by_scikit, abs=1e-6)
    np.testing.assert_allclose(gradient, its_gradient, rtol=1e-5, atol=1e-6)
    slopes: Any = approx_fprime(theta, lambda logs: log_likelihood(Kernel(*np.exp(logs)), POINTS, VALUES)[0])
    np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=1e-3)


def test_the_fitted_kernel_is_as_likely_as_any_on_a_grid():
    process = fit(POINTS, VALUES)
    standard = (VALUES - VALUES.mean()) / VALUES.std()

    def posterior(variance, length, noise):
        value, _ = log_likelihood(Kernel(variance, length, noise), POINTS, standard)
        return value - 0.5 * np.log(length / 0.5) ** 2 - 0.5 * (np.log(noise / 1e-3) / 2) ** 2

    kernel = process.kernel
    others = [
        posterior(variance, length, noise)
        for variance in np.geomspace(*BOUNDS[0], 9)
        for length in np.geomspace(*BOUNDS[1], 9)
        for noise in np.geomspace(*BOUNDS[2], 9)
    ]
    assert posterior(kernel.variance, kernel.length, kernel.noise) >= max(others) - 1e-6
    assert process.log_likelihood == pytest.approx(log_likelihood(kernel, POINTS, standard)[0])


def test_without_noise_the_samples_are_met_and_far_away_the_prior_returns():
    process = fit(POINTS, VALUES, kernel=Kernel(1.0, 0.3, 1e-10))
    mean, deviation = process.predict(POINTS)
    np.testing.assert_allclose(mean, VALUES, atol=1e-6)
    assert deviation.max() < 1e-4
    mean, deviation = process.predict([100.0])
    assert mean[0] == pytest.approx(VALUES.mean())
    assert deviation[0] == pytest.approx(VALUES.std())


@given(st.floats(0.1, 100), st.floats(-50, 50))
def test_scale_and_shift_of_the_values_carry_over(scale, shift):
    mean, deviation = fit(POINTS, VALUES, kernel=KERNELS[1]).predict(GRID)
    other = fit(POINTS, scale * VALUES + shift, kernel=KERNELS[1]).predict(GRID)
    np.testing.assert_allclose(other[0], scale * mean + shift, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other[1], scale * deviation, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("points", [[0.5], [0.5, 0.5], [0.1, 0.5, 0.9]])
def test_one_sample_repeated_samples_and_a_constant_function_are_fine(points):
    process = fit(points, [0.7] * len(points))
    mean, deviation = process.predict(GRID)
    np.testing.assert_allclose(mean, 0.7)
    assert np.isfinite(deviation).all()


@pytest.mark.parametrize(
    ("points", "values", "message"),
    [
        ([], [], "one of `values` for each"),
        ([0.1, 0.2], [1.0], "one of `values` for each"),
        ([0.1], [np.nan], "Expected finite"),
        ([np.inf], [1.0], "Expected finite"),
    ],
)
def test_mistakes_are_clear_errors(points, values, message):
    with pytest.raises(ValueError, match=message):
        fit(points, values)
