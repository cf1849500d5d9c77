"""Images and arrays that coders find hard, and easy ones."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor


@functools.cache
def photograph(height: int = 32, width: int = 48) -> np.ndarray:
    """uint8 (height, width, 3) of scikit-learn's first sample image."""
    return np.ascontiguousarray(load_sample_images().images[0][120 : 120 + height, 200 : 200 + width])


def pictures(side: int = 32, number: int = 6) -> Tensor:
    """uint8 (example, 3, side, side): cuts of photographs, noise, one colour, black, white, few levels."""
    rng = np.random.default_rng(0)
    sources = load_sample_images().images
    places = rng.integers(0, 300, (number, 2))
    cuts = [sources[i % 2][y : y + side, x : x + side] for i, (y, x) in enumerate(places)]
    shape = (side, side, 3)
    made = [
        rng.integers(0, 256, shape),
        rng.integers(0, 2, shape),
        255 * rng.integers(0, 2, shape),
        np.full(shape, 77),
        np.zeros(shape),
        np.full(shape, 255),
        rng.integers(0, 256, shape) >> rng.integers(0, 8, (side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1),
    ]
    stacked = np.stack([np.asarray(image, np.uint8) for image in [*cuts, *made]])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)


def float_arrays() -> dict[str, np.ndarray]:
    """float32 arrays by what they are."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(32, 32))
    per_block = np.kron(10.0 ** rng.uniform(-28, 37, (8, 8)), np.ones((4, 4)))
    arrays = {
        "photograph": photograph()[..., 1],
        "photograph around 0": photograph()[..., 0] / 255 - 0.5,
        "noise": noise,
        "sparse": noise * (rng.random((32, 32)) < 0.1),
        "zeros": np.zeros((8, 8)),
        "constant": np.full((8, 8), 7.3),
        "huge range": noise * 10.0 ** rng.uniform(-28, 37, (32, 32)),
        "huge range of blocks": noise * per_block,
        "largest": np.where(np.indices((8, 8)).sum(0) % 2, 3.4e38, -3.4e38),
        "smallest": np.full((4, 4), 2.0**-98) * np.array([1, -0.3, 0.5, 1e-5]),
        "subnormal beside 1": np.where(np.indices((8, 8))[0] % 4 == 0, 1.0, 1e-42),
        "stack": rng.normal(size=(2, 3, 8, 12)),
    }
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def integer_arrays() -> dict[str, np.ndarray]:
    """int32 arrays by what they are."""
    rng = np.random.default_rng(2)
    limit = 2**30 - 1
    arrays = {
        "photograph": photograph()[..., 1],
        "noise": rng.integers(-limit, limit + 1, (32, 32)),
        "small": rng.integers(-3, 4, (32, 32)),
        "zeros": np.zeros((4, 4)),
        "largest": np.where(np.indices((8, 8)).sum(0) % 2, limit, -limit),
    }
    return {name: np.ascontiguousarray(array, np.int32) for name, array in arrays.items()}
