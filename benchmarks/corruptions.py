"""Corrupted images: how long all corruptions and severities take, beside one call of a package for each image."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from sklearn.datasets import load_sample_images

from benchmarks.row import Row
from remnant.engine import num_cores
from remnant.lab.corruptions import CONSTANTS, corrupt
from remnant.probes.corruptions import SEVERITIES

NUMBER = 10_000
_BASELINE = 20
_LIMIT = 600.0


def corrupting(number: int = NUMBER) -> list[Row]:
    """All 95 variants of 10,000 32x32 images on all cores, a corruption at a time on each.

    The baseline is imagecorruptions-imaug on 20 images, one call per image and variant after a first one that
    compiles, taken times the number of images over the number of cores. It has ImageNet's constants only. Without the
    package there is no baseline.
    """
    images = _photographs(number)
    ids = [f"image-{i}" for i in range(number)]

    def all_severities(name: str) -> None:
        for severity in SEVERITIES:
            corrupt(images, ids, name, severity)

    start = time.perf_counter()
    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(all_severities, CONSTANTS))
    ours = (time.perf_counter() - start) * NUMBER / number
    row = ("95 corruptions of 10,000 32x32 images", ours, "s", f"<= {_LIMIT:.0f} s on 2 cores", ours <= _LIMIT)
    if find_spec("imagecorruptions") is None:
        return [Row(*row)]
    baseline = _one_by_one(images[:_BASELINE]) * NUMBER / _BASELINE / num_cores()
    return [Row(*row, baseline, baseline / ours)]


def _one_by_one(images: np.ndarray) -> float:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one = import_module("imagecorruptions").corrupt

        for name in CONSTANTS:
            one(images[0], corruption_name=name, severity=1)
        start = time.perf_counter()
        for name in CONSTANTS:
            for severity in SEVERITIES:
                for image in images:
                    one(image, corruption_name=name, severity=severity)
    return time.perf_counter() - start


def _photographs(number: int) -> np.ndarray:
    """uint8 (number, 32, 32, 3), random cuts of scikit-learn's sample images."""
    rng = np.random.default_rng(0)
    windows = np.lib.stride_tricks.sliding_window_view(load_sample_images().images[0], (32, 32), (0, 1))
    rows, columns = (rng.integers(0, windows.shape[axis], number) for axis in (0, 1))
    return np.ascontiguousarray(np.moveaxis(windows[rows, columns], 1, 3))
