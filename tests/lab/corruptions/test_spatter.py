from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from remnant.lab.corruptions import linear, spatter


def blobs(number=20, side=40, seed=0):
    noise = np.random.default_rng(seed).normal(0.65, 0.3, (side, side, number))
    smooth = linear.gaussian(noise, 1.5)
    return (np.where(smooth < 0.69, 0, np.clip(smooth, 0, 1)) * 255).astype(np.uint8)


def test_edges_equal_those_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pictures = blobs()
    found = spatter.edges(pictures, 50, 150)
    expected = np.stack([cv2.Canny(np.ascontiguousarray(pictures[:, :, i]), 50, 150) > 0 for i in range(20)], axis=2)
    assert expected.mean() > 0.05
    np.testing.assert_array_equal(found, expected)


def test_equalized_levels_equal_those_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    pictures = np.random.default_rng(0).integers(3, 21, (40, 40, 5)).astype(np.uint8)
    pictures[:, :, 4] = 7
    found = spatter.equalized(pictures)
    expected = np.stack([cv2.equalizeHist(np.ascontiguousarray(pictures[:, :, i])) for i in range(5)], axis=2)
    np.testing.assert_array_equal(found, expected)


def test_distances_equal_those_of_scipy_up_to_20():
    edge = np.random.default_rng(0).random((50, 64, 6)) < 0.004
    edge[:, :, 5] = False
    found = np.minimum(spatter.distances(edge), 20)
    for i in range(5):
        exact: Any = ndimage.distance_transform_edt(~edge[:, :, i])
        np.testing.assert_allclose(found[:, :, i], np.minimum(exact, 20))
    assert (found[:, :, 5] == 20).all()
