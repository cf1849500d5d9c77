from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from remnant.lab.corruptions import linear

BORDERS = {"nearest": "nearest", "reflect": "reflect", "mirror": "mirror"}


def image(height=11, width=9, seed=0):
    return np.random.default_rng(seed).random((height, width))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 6.0])
def test_gaussian_equals_that_of_scipy(sigma, border):
    expected = ndimage.gaussian_filter(image(), sigma, mode=border, truncate=3)
    np.testing.assert_allclose(linear.gaussian(image(), sigma, truncate=3, border=border), expected, atol=1e-7)


@pytest.mark.parametrize("border", BORDERS)
def test_kernel_terms_equal_the_correlation_of_scipy(border):
    kernel = np.random.default_rng(1).random((5, 5))
    found = linear.separable(image(), linear.kernel_terms(kernel, 11, 9, border))
    np.testing.assert_allclose(found, ndimage.correlate(image(), kernel, mode=border), atol=1e-7)


@pytest.mark.parametrize("size", [8, 28, 32, 64])
@pytest.mark.parametrize("factor", [1, 1.01, 1.13, 1.25, 2, 3, 4.5])
def test_zoom_equals_the_trimmed_zoom_of_scipy(size, factor):
    picture = image(size, size)
    part = int(np.ceil(size / factor))
    top = (size - part) // 2
    expected: Any = ndimage.zoom(picture[top : top + part, top : top + part], factor, order=1)
    trim = (len(expected) - size) // 2
    expected = expected[trim : trim + size, trim : trim + size]
    found = linear.separable(picture, [(linear.zoom(size, factor), linear.zoom(size, factor))])
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_many_images_are_changed_as_each_alone():
    pictures = np.random.default_rng(2).random((11, 9, 4, 3))
    found = linear.gaussian(pictures, 1.3)
    for i in range(4):
        for c in range(3):
            np.testing.assert_array_equal(found[:, :, i, c], linear.gaussian(pictures[:, :, i, c], 1.3))


@pytest.mark.parametrize("border", BORDERS)
def test_places_far_beyond_the_border_are_those_of_numpy(border):
    mode: Any = {"nearest": "edge", "reflect": "symmetric", "mirror": "reflect"}[border]
    for size in (1, 2, 5):
        expected = np.pad(np.arange(size), 17, mode=mode)
        np.testing.assert_array_equal(linear.inside(np.arange(-17, size + 17), size, border), expected)
