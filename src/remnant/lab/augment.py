"""Random changes of a training batch, on whole batches at once.

Images are uint8 before normalization (the usual, and the fastest: what is filled is black), or
float. Results have the channels last in memory. Each image has its own random numbers, from `rng`.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from remnant.lab.dataset import ComputedInputs, Images, take
from remnant.registry import unknown


def augment(images: Tensor, names: Sequence[str], rng: np.random.Generator) -> Tensor:
    """The images after the random changes called `names`, in this order.

    Raises
    ------
    ValueError
        If a name is unknown, or the inputs are not pictures (example, channel, height, width).
    """
    for name in names:
        if name not in CHANGES:
            raise unknown("augmentation", name, CHANGES)
        if images.ndim != 4:
            raise ValueError(
                f"Expected pictures (example, channel, height, width) for the augmentation {name!r}, "
                f"but got inputs of shape {tuple(images.shape)}. Use `augmentation` = ()."
            )
        images = CHANGES[name](images, rng)
    return images


def augmented(source: Images, batch: Tensor, names: Sequence[str], rng: np.random.Generator) -> Tensor:
    """The examples of a batch after random changes.

    Where the inputs are computed from images, such as transform coefficients, it is the images that are changed.
    """
    if isinstance(source, ComputedInputs):
        return source.compute(augment(take(source.images, batch), names, rng))
    return augment(take(source, batch), names, rng)


def crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images shifted by up to an eighth of their sides: zeros all around, then a window at a random place.

    4 pixels for 32x32 images, as He et al. do on CIFAR-10; 1 for 8x8, 28 for 224x224. Every shift,
    no shift among them, has the same probability.

    References
    ----------
    he2016deep, section 4.2
    """
    number, channels, height, width = images.shape
    up, left = max(1, height // 8), max(1, width // 8)
    padded = images.new_zeros(number, height + 2 * up, width + 2 * left, channels)
    padded[:, up : up + height, left : left + width] = images.permute(0, 2, 3, 1)
    row, column = rng.integers(0, 2 * up + 1, number), rng.integers(0, 2 * left + 1, number)
    # All windows as one view, indexed by the pixel where they begin; their rows are copied whole.
    rows, columns = padded.shape[1:3]
    count = (number * rows - height) * columns + columns - width + 1
    windows = padded.as_strided((count, height, width * channels), (channels, columns * channels, 1))
    start = torch.from_numpy((np.arange(number) * rows + row) * columns + column).to(images.device)
    return windows.index_select(0, start).view(number, height, width, channels).permute(0, 3, 1, 2)


def flip(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images of which each is mirrored left to right with probability 1/2."""
    chosen = rng.random(len(images)) < 0.5
    source = np.arange(len(images))
    source[chosen] = len(images) + np.arange(chosen.sum())
    rows = images.permute(0, 2, 3, 1)
    mirrored = rows.index_select(0, torch.from_numpy(np.flatnonzero(chosen)).to(images.device)).flip(2)
    both = torch.cat([rows, mirrored])
    return both.index_select(0, torch.from_numpy(source).to(images.device)).permute(0, 3, 1, 2)


def cutout(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images with a square of zeros of half their smaller side around a random pixel.

    The square is cut off at the border, as DeVries & Taylor do (16 pixels for 32x32 images).

    References
    ----------
    devries2017improved, section 3.2
    """
    number, channels, height, width = images.shape
    side = max(1, min(height, width) // 2)
    top, left = (rng.integers(0, size, number) - side // 2 for size in (height, width))
    rows = _between(np.arange(height), top, side)
    columns = np.repeat(_between(np.arange(width), left, side), channels, axis=1)
    keep = torch.from_numpy(~(rows[:, :, np.newaxis] & columns[:, np.newaxis, :])).to(images.device)
    flat = images.permute(0, 2, 3, 1).reshape(number, height, width * channels)
    return (flat * keep).view(number, height, width, channels).permute(0, 3, 1, 2)


def resized_crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Rectangles of 8 % to 100 % of the area and aspect 3/4 to 4/3, brought to the size of the image.

    The distribution of Szegedy et al. as everyone trains ImageNet with it: ten attempts to draw a
    rectangle that fits, else the whole image. Bilinear; an enlargement, so without antialiasing.

    References
    ----------
    szegedy2015going, section 6
    """
    number, _, height, width = images.shape
    share = rng.uniform(0.08, 1.0, (number, 10))
    aspect = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), (number, 10)))
    # Sides relative to those of the image.
    across = np.sqrt(share * aspect * height / width)
    down = np.sqrt(share / aspect * width / height)
    fits = (across <= 1) & (down <= 1)
    first = fits.argmax(axis=1)
    each = np.arange(number)
    across = np.where(fits.any(axis=1), across[each, first], 1.0)
    down = np.where(fits.any(axis=1), down[each, first], 1.0)
    # Coordinates run from -1 to 1 over the image.
    right, low = (rng.uniform(-1, 1, number) * (1 - size) for size in (across, down))
    zero = np.zeros(number)
    matrix = np.stack([across, zero, right, zero, down, low], axis=1).reshape(number, 2, 3)
    theta = torch.from_numpy(matrix.astype(np.float32)).to(images.device)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    floats = images.float().contiguous(memory_format=torch.channels_last)
    sampled = functional.grid_sample(floats, grid, mode="bilinear", padding_mode="border", align_corners=False)
    result = sampled if images.is_floating_point() else sampled.round_().clamp_(0, 255).to(images.dtype)
    return result.contiguous(memory_format=torch.channels_last)


CHANGES: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "crop": crop,
    "flip": flip,
    "cutout": cutout,
    "resized-crop": resized_crop,
}


def _between(positions: np.ndarray, start: np.ndarray, length: int) -> np.ndarray:
    """Whether each position is in [start, start + length), shape (start, position)."""
    distance = positions[np.newaxis, :] - start[:, np.newaxis]
    return (distance >= 0) & (distance < length)
