"""Blurs. Images are uint8 (example, height, width, channel), results in grey levels."""

import numpy as np
from numpy.typing import NDArray

from remnant.lab.corruptions import linear
from remnant.lab.corruptions.pixels import examples_first, pixels_first, whole
from remnant.lab.corruptions.streams import Draws


def gaussian_blur(images: NDArray[np.uint8], sigma: float) -> NDArray[np.float64]:
    """Gaussian of standard deviation `sigma` in pixels."""
    return examples_first(linear.gaussian(pixels_first(images), sigma))


def defocus_blur(images: NDArray[np.uint8], level: tuple[float, float]) -> NDArray[np.float64]:
    """Mean over a disk of a radius in pixels, whose edge is softened by a Gaussian."""
    height, width = images.shape[1:3]
    terms = linear.kernel_terms(disk(*level), height, width, "mirror")
    return examples_first(linear.separable(pixels_first(images), terms))


def zoom_blur(images: NDArray[np.uint8], level: tuple[float, float]) -> NDArray[np.float64]:
    """Mean of the image and of its enlargements by 1, 1 + step, ..., up to a factor."""
    stop, step = level
    factors = np.arange(1, stop, step)  # rounding decides whether `stop` is in, as in the published code
    height, width = images.shape[1:3]
    terms = [(linear.zoom(height, 1), linear.zoom(width, 1))]
    terms += [(linear.zoom(height, factor), linear.zoom(width, factor)) for factor in factors]
    return examples_first(linear.separable(pixels_first(images), terms)) / len(terms)


def motion_blur(images: NDArray[np.uint8], level: tuple[int, float], draws: Draws) -> NDArray[np.float32]:
    """One-sided Gaussian trace in a direction of -45 to 45 degrees; rounded, as ImageMagick does."""
    angles = draws.uniform("angle", 1, -45, 45)[:, 0]
    planes = np.moveaxis(images, 3, 1).astype(np.float32)
    return np.rint(np.moveaxis(traced(planes, angles, *level), 1, 3))


def glass_blur(
    images: NDArray[np.uint8], level: tuple[float, int, int], draws: Draws, *, copy: bool, truncate: bool
) -> NDArray[np.float64]:
    """Blur, then each pixel exchanged with a near one, then blur.

    `copy` takes the near pixel and leaves it where it is, as the published code does.
    """
    sigma, reach, rounds = level
    number, height, width, channels = images.shape
    soft = linear.gaussian(pixels_first(images), sigma)
    soft = whole(soft, truncate=truncate).reshape(height * width, number, channels)
    source = shuffled(height, width, reach, rounds, draws, copy=copy)
    mixed = np.take_along_axis(soft, source[:, :, None], axis=0).reshape(height, width, number, channels)
    return examples_first(linear.gaussian(mixed, sigma))


def shuffled(height: int, width: int, reach: int, rounds: int, draws: Draws, *, copy: bool) -> NDArray[np.int64]:
    """Which pixel stands at each place after the exchanges, shape (height * width, example).

    Places are visited from the last to the first, each `rounds` times; the partner lies -reach to reach - 1 rows
    below and columns beside.
    """
    lines, across = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    number = len(draws.fingerprints)
    columns = np.arange(number)
    source = np.repeat(np.arange(height * width), number).reshape(-1, number)
    flat = source.reshape(-1)
    places = (lines[:, None] * width + across).ravel()
    for turn in range(rounds):
        found = draws.sixteenths(f"partner {turn}", 2 * len(places)).T.astype(np.int64) * (2 * reach) >> 16
        steps = (found[: len(places)] - reach) * width + found[len(places) :] - reach
        partners = (places[:, None] + steps) * number + columns
        for place, partner in zip(places, partners, strict=True):
            taken = flat[partner]
            if not copy:
                flat[partner] = source[place]
            source[place] = taken
    return source


def traced(planes: NDArray[np.float32], angles: NDArray, radius: int, sigma: float) -> NDArray[np.float32]:
    """Planes (example, channel, height, width) blurred along a line that leaves each pixel at an angle in degrees.

    sum_i w_i x(p + o_i), i = 0 ... 2 radius, with w_i the normalized Gaussian of i and o_i the pixel nearest to the
    point at distance i. Beyond the border stands the border.
    """
    length = 2 * radius + 1
    weights = np.exp(-0.5 * (np.arange(length) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    radians = np.deg2rad(angles)[:, None] * np.ones(length)
    down = np.ceil(np.arange(length) * np.sin(radians) - 0.5).astype(int)
    right = np.ceil(np.arange(length) * np.cos(radians) - 0.5).astype(int)
    height, width = planes.shape[2:]
    margin = length - 1
    padded = np.pad(planes, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    rows, out = np.arange(len(planes)), np.zeros_like(planes)
    for i in np.flatnonzero(weights > 1e-7):
        out += weights[i] * windows[rows, :, margin + down[:, i], margin + right[:, i]]
    return out


def disk(radius: float, softness: float) -> NDArray[np.float64]:
    """Kernel of a disk, normalized, after a Gaussian of standard deviation `softness` on 3 or 5 pixels."""
    reach, ends = (8, 1) if radius <= 8 else (int(radius), 2)
    steps = np.arange(-reach, reach + 1)
    plain = (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.float64)
    edge = np.exp(-0.5 * (np.arange(-ends, ends + 1) / softness) ** 2)
    soft = linear.correlation(len(steps), edge / edge.sum(), "mirror")
    return linear.separable(plain / plain.sum(), [(soft, soft)])
