"""Contrast, colour, warping and coding. Images are uint8 (example, height, width, channel), results in grey levels."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from remnant.lab.corruptions import linear
from remnant.lab.corruptions.streams import Draws


def contrast(images: NDArray[np.uint8], factor: float) -> NDArray[np.float64]:
    """Differences from the mean of each channel, times a factor."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    return (images - mean) * factor + mean


def saturate(images: NDArray[np.uint8], level: tuple[float, float]) -> NDArray[np.float64]:
    """Saturation times a factor plus an amount, in the colour space of hue, saturation and value.

    A grey pixel has the hue red, as in scikit-image. Images of one channel have no saturation and stay as they are.
    """
    if images.shape[3] == 1:
        return images.astype(np.float64)
    factor, amount = level
    value = images.max(axis=3, keepdims=True).astype(np.float64)
    lack = value - images
    spread = lack.max(axis=3, keepdims=True)
    saturation = spread / np.maximum(value, 1)
    changed = np.clip(saturation * factor + amount, 0, 1)
    red = np.array([0.0, 1.0, 1.0]) * value * changed
    return value - np.where(spread > 0, lack * (changed / np.where(spread > 0, saturation, 1)), red)


def elastic_transform(
    images: NDArray[np.uint8], level: tuple[float, float, float], draws: Draws, *, side: float
) -> NDArray[np.float64]:
    """A random affine map, then random smooth shifts of single pixels.

    `level` is size and smoothness of the shifts and the range by which three points move, in sides of the image.
    """
    size, smoothness, range_ = (number * side for number in level)
    number, height, width, _ = images.shape
    moves = draws.uniform("points", 6, -range_, range_).reshape(number, 3, 2)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    planes = torch.from_numpy(np.moveaxis(images, 3, 1).astype(np.float64))
    planes = _sampled(planes, *affine(moves, x, y), mirror=True)
    if size > 0:
        shifts = draws.uniform("shifts", 2 * height * width, -1, 1).reshape(number, 2, height, width)
        shifts = np.moveaxis(shifts, (2, 3), (0, 1))
        shifts = size * linear.gaussian(shifts, smoothness, truncate=3, border="reflect")
        right, down = np.moveaxis(shifts, (3, 2), (0, 1))
        planes = _sampled(planes, x + right, y + down, mirror=False)
    return np.moveaxis(planes.numpy(), 1, 3)


def affine(moves: NDArray[np.float64], x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Where each pixel comes from, shapes (example, height, width), when three points move by `moves`.

    The points lie a third of the shorter side from the middle: below to the right, above to the right, and above to
    the left. `moves` has shape (example, point, 2), x before y.
    """
    height, width = x.shape
    middle, reach = np.array([height // 2, width // 2]), min(height, width) // 3
    points = middle + reach * np.array([[1, 1], [1, -1], [-1, -1]])
    moved = points + moves
    first, second = moved[:, 1] - moved[:, 0], moved[:, 2] - moved[:, 0]
    turn = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    to_first, to_second = points[1] - points[0], points[2] - points[0]
    dx, dy = (grid - moved[:, 0, i, None, None] for i, grid in enumerate((x, y)))
    along_first = (dx * second[:, 1, None, None] - dy * second[:, 0, None, None]) / turn[:, None, None]
    along_second = (dy * first[:, 0, None, None] - dx * first[:, 1, None, None]) / turn[:, None, None]
    from_x, from_y = (points[0, i] + along_first * to_first[i] + along_second * to_second[i] for i in (0, 1))
    return from_x, from_y


def pixelate(images: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    """Means over boxes: made smaller by a factor, and as large as before again."""
    height, width = images.shape[1:3]
    planes = np.moveaxis(images, 3, 1)
    for size in ((int(width * factor), int(height * factor)), (width, height)):
        planes = _boxes(planes, size[0])
        planes = _boxes(planes.swapaxes(2, 3), size[1]).swapaxes(2, 3)
    return np.moveaxis(planes, 1, 3)


def jpeg_compression(images: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Written to JPEG by Pillow, with halved colour, and read."""
    out = np.empty_like(images)
    for place, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(buffer, "JPEG", quality=quality)
        out[place] = np.asarray(Image.open(buffer)).reshape(image.shape)
    return out


def _boxes(planes: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Lines brought to a width by Pillow's box filter; lines of all planes as one tall image, for one call."""
    lines = np.ascontiguousarray(planes).reshape(-1, planes.shape[-1])
    found = Image.fromarray(lines).resize((width, len(lines)), Image.Resampling.BOX)
    return np.asarray(found).reshape(*planes.shape[:-1], width)


def _sampled(planes: torch.Tensor, x: NDArray, y: NDArray, *, mirror: bool) -> torch.Tensor:
    """Values of planes (example, channel, height, width) between pixels; `mirror` about border pixels, else edges."""
    places = []
    for at, size in ((x, planes.shape[3]), (y, planes.shape[2])):
        places.append(2 * at / (size - 1) - 1 if mirror else (2 * at + 1) / size - 1)
    grid = torch.from_numpy(np.stack(places, axis=-1))
    return functional.grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=mirror)
