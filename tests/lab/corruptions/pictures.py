"""Photographs for tests, without a download."""

import numpy as np
from sklearn.datasets import load_sample_images


def photographs(number, side, *, seed=0, channels=3):
    """uint8 (number, side, side, channels), random cuts of scikit-learn's sample images."""
    rng = np.random.default_rng(seed)
    windows = np.lib.stride_tricks.sliding_window_view(load_sample_images().images[0], (side, side), (0, 1))
    rows, columns = (rng.integers(0, windows.shape[axis], number) for axis in (0, 1))
    cuts = np.ascontiguousarray(np.moveaxis(windows[rows, columns], 1, 3))
    return cuts if channels == 3 else cuts[..., 1:2]
