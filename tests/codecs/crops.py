"""Photographs for the tests of codecs."""

from functools import cache

import numpy as np
from sklearn.datasets import load_sample_images


@cache
def crops(number: int = 10, height: int = 32, width: int = 32, channels: int = 3) -> np.ndarray:
    """Pieces of scikit-learn's two sample photographs, shrunk threefold; uint8 (number, height, width, channels)."""
    photographs = [np.asarray(image)[::3, ::3] for image in load_sample_images().images]
    rng = np.random.default_rng(0)
    found = np.empty((number, height, width, 3), np.uint8)
    for i in range(number):
        image = photographs[i % 2]
        top, left = rng.integers(0, image.shape[0] - height), rng.integers(0, image.shape[1] - width)
        found[i] = image[top : top + height, left : left + width]
    found = found[..., :channels]
    found.flags.writeable = False
    return found
