"""Snow, frost, fog and light. Images are uint8 (example, height, width, channel), results in grey levels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from remnant.lab.corruptions import linear
from remnant.lab.corruptions.blur import traced
from remnant.lab.corruptions.pixels import brightest, examples_first, grey, pixels_first
from remnant.lab.corruptions.streams import Draws, fingerprints

_FROSTS = (
    ((78, 149, 166), 19),
    ((201, 205, 214), 22),
    ((201, 205, 214), 22),
    ((138, 153, 165), 28),
    ((112, 123, 135), 43),
)
"""Mean colour and spread in grey levels of the five photographs of frost that the published code draws from."""


def snow(images: NDArray[np.uint8], level: tuple[float, ...], draws: Draws) -> NDArray[np.float64]:
    """Falling flakes over a whitened image.

    `level` is mean and spread of the noise that flakes are made of, its enlargement, the threshold, radius and spread
    of the trace, and the share of the image that is not whitened.
    """
    mean, spread, factor, threshold, radius, sigma, share = level
    number, height, width = images.shape[:3]
    noise = mean + spread * draws.normal("flakes", height * width).astype(np.float64).reshape(number, height, width)
    layer = linear.separable(pixels_first(noise), [(linear.zoom(height, factor), linear.zoom(width, factor))])
    layer = np.where(layer < threshold, 0, np.clip(layer, 0, 1))
    # Bytes before and after the trace, as the images that the published code hands to ImageMagick.
    planes = np.floor(examples_first(layer)[:, None] * 255 + 1e-6).astype(np.float32)
    angles = draws.uniform("angle", 1, -135, -45)[:, 0]
    flakes = np.rint(traced(planes, angles, int(radius), sigma)).astype(np.float64)[:, 0, :, :, None]
    pale = share * images + (1 - share) * np.maximum(images, grey(images.astype(np.float64)) * 1.5 + 127.5)
    return pale + flakes + flakes[:, ::-1, ::-1]


def frost(images: NDArray[np.uint8], level: tuple[float, float], draws: Draws) -> NDArray[np.float64]:
    """Weighted sum of the image and a random cut of one of five textures; see `frost_texture`."""
    height, width, channels = images.shape[1:]
    side = 4 * max(height, width)
    which, down, right = draws.uniform("cut", 3).T
    which = (which * len(_FROSTS)).astype(int)
    down, right = (down * (side - height)).astype(int), (right * (side - width)).astype(int)
    out = level[0] * images.astype(np.float64)
    for kind in range(len(_FROSTS)):
        rows = np.flatnonzero(which == kind)
        texture = frost_texture(kind, side)
        texture = texture if channels == 3 else np.rint(grey(texture[None]))[0]
        cuts = np.lib.stride_tricks.sliding_window_view(texture, (height, width), axis=(0, 1))
        out[rows] += level[1] * np.moveaxis(cuts[down[rows], right[rows]], 1, 3)
    return out


@lru_cache(maxsize=len(_FROSTS))
def frost_texture(kind: int, side: int) -> NDArray[np.uint8]:
    """A drawn stand-in for a photograph of frost, of shape (side, side, 3).

    Ridges 1 - |n| of Gaussian fields n at six scales, halving from an eighth of the side on, weighted by the root of
    the scale and with the mean colour and the spread of the photograph. It shares these moments with the published
    corruption and not its crystals.
    """
    colour, spread = _FROSTS[kind]
    draws = Draws(fingerprints([kind]), "frost texture")
    frequency = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side) ** 2
    total = np.zeros((side, side))
    for octave in range(6):
        scale = side / 8 / 2**octave
        white = draws.normal(f"octave {octave}", side * side).astype(np.float64).reshape(side, side)
        field = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-2 * (np.pi * scale / 4) ** 2 * frequency), (side, side))
        total -= np.sqrt(scale) * np.abs(field) / np.abs(field).mean()
    total = (total - total.mean()) / total.std()
    return np.rint(np.clip(np.array(colour) + spread * total[..., None], 0, 255)).astype(np.uint8)


def fog(images: NDArray[np.uint8], level: tuple[float, float], draws: Draws) -> NDArray[np.float64]:
    """A fractal cloud added, and the sum scaled to keep the brightest value.

    `level` is the amount of fog, and by how much the roughness of the cloud falls from scale to scale.
    """
    amount, decay = level
    height, width = images.shape[1:3]
    side = 1 << (max(height, width) - 1).bit_length()
    cloud = plasma(draws.uniform("cloud", side * side - 1, -1, 1), side, decay)[:, :height, :width, None]
    highest = np.maximum(brightest(images) / 255, 1e-12)
    return (images + 255 * amount * cloud) * (highest / (highest + amount))


def plasma(uniform: NDArray[np.float64], side: int, decay: float) -> NDArray[np.float64]:
    """Fractal height maps by the diamond-square algorithm, in [0, 1], shape (example, side, side).

    Parameters
    ----------
    uniform
        Random numbers in [-1, 1), shape (example, side**2 - 1), in the order in which they are taken.
    side
        A power of 2. Maps continue on the other side.
    decay
        By how much random steps become smaller, squared, from one scale to the next.
    """
    maps = np.zeros((len(uniform), side, side))
    step, size, taken = side, 100.0, 0

    def moved(total: NDArray) -> NDArray:
        nonlocal taken
        count = total.shape[1] * total.shape[2]
        found = uniform[:, taken : taken + count].reshape(total.shape)
        taken += count
        return total / 4 + size * size * found

    while step >= 2:
        half = step // 2
        corners = maps[:, ::step, ::step]
        squares = corners + np.roll(corners, -1, axis=1)
        maps[:, half::step, half::step] = moved(squares + np.roll(squares, -1, axis=2))
        centres = maps[:, half::step, half::step]
        above = centres + np.roll(centres, 1, axis=1) + (corners + np.roll(corners, -1, axis=2))
        maps[:, ::step, half::step] = moved(above)
        beside = centres + np.roll(centres, 1, axis=2) + (corners + np.roll(corners, -1, axis=1))
        maps[:, half::step, ::step] = moved(beside)
        step, size = half, size / decay
    maps -= maps.min(axis=(1, 2), keepdims=True)
    return maps / maps.max(axis=(1, 2), keepdims=True)


def brightness(images: NDArray[np.uint8], amount: float) -> NDArray[np.float64]:
    """Value added in the colour space of hue, saturation and value; black becomes grey."""
    value = images.max(axis=3, keepdims=True).astype(np.float64)
    raised = np.minimum(value + 255 * amount, 255)
    return np.where(value > 0, images * (raised / np.maximum(value, 1)), raised)
