"""Water and mud on the lens. Layers of all examples are arrays of shape (height, width, example)."""

import numpy as np
from numpy.typing import NDArray

from remnant.lab.corruptions import linear
from remnant.lab.corruptions.pixels import examples_first, pixels_first, tinted
from remnant.lab.corruptions.streams import Draws

_FAR = 20
"""Distances beyond this many pixels count as this."""
_WATER, _MUD = (175, 238, 238), (63, 42, 20)


def spatter(images: NDArray[np.uint8], level: tuple[float, ...], draws: Draws) -> NDArray[np.float64]:
    """Drops of water, or of mud.

    `level` is mean and spread of the noise that drops are made of, the width of the Gaussian that makes them smooth,
    the threshold, the strength of water or the softness of mud, and whether it is mud.
    """
    mean, spread, smooth, threshold, strength, is_mud = level
    number, height, width, channels = images.shape
    noise = mean + spread * draws.normal("drops", height * width).astype(np.float64).reshape(number, height, width)
    liquid = linear.gaussian(pixels_first(noise), smooth)
    liquid = np.where(liquid < threshold, 0, liquid)
    if is_mud:
        layer = linear.gaussian((liquid > threshold).astype(np.float64), strength)
        layer = examples_first(np.where(layer < 0.8, 0, layer))
        return images * (1 - layer[..., None]) + tinted(layer, _MUD, channels)
    layer = lit(np.clip(liquid * 255, 0, 255).astype(np.uint8))
    highest = layer.max(axis=(0, 1), keepdims=True)
    # An image without drops has no highest value to scale by: it stays as it is (the published code gives NaN).
    layer = strength * np.divide(layer, highest, out=np.zeros_like(layer), where=highest > 0)
    return images + tinted(examples_first(layer), _WATER, channels)


def lit(liquid: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Drops with a light from one side: height times the relief of the distance to their edges."""
    distance = np.minimum(distances(edges(liquid, 50, 150)), _FAR)
    distance = equalized(np.floor(_mean3(distance) + 1e-6).astype(np.uint8))
    relief = _correlated(distance.astype(np.float64), np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    return liquid.astype(np.float64) * np.rint(_mean3(np.clip(relief, 0, 255)))


def edges(images: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """Edges by Canny's method: Sobel gradients, the highest across each edge, and those joined to a strong one.

    Strength is |dx| + |dy|; directions are rounded to 45 degrees.
    """
    smooth, slope = np.array([1.0, 2, 1]), np.array([-1.0, 0, 1])
    height, width = images.shape[:2]

    def derived(down: NDArray, across: NDArray) -> NDArray:
        return linear.separable(
            images.astype(np.float64),
            [(linear.correlation(height, down, "nearest"), linear.correlation(width, across, "nearest"))],
        )

    dx, dy = derived(smooth, slope), derived(slope, smooth)
    strength = np.abs(dx) + np.abs(dy)
    padded = np.pad(strength, ((1, 1), (1, 1), (0, 0)))

    def beside(down: int, right: int) -> NDArray:
        return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]

    tangent = np.tan(np.pi / 8)
    level = np.abs(dy) < tangent * np.abs(dx)
    upright = np.abs(dy) > (tangent + 2) * np.abs(dx)
    rising = dx * dy < 0
    before = np.select([level, upright, rising], [beside(0, -1), beside(-1, 0), beside(-1, 1)], beside(-1, -1))
    after = np.select([level, upright, rising], [beside(0, 1), beside(1, 0), beside(1, -1)], beside(1, 1))
    diagonal = ~level & ~upright
    highest = (strength > before) & ((strength > after) | (~diagonal & (strength == after)))
    found = highest & (strength > low)
    return _joined(found & (strength > high), found)


def distances(edge: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each pixel to the nearest edge, in pixels; at least 20 where there is none within 20."""
    height, width = edge.shape[:2]
    far = float(_FAR**2)
    down = np.where(edge, 0.0, far)
    up_to = np.arange(1, _FAR + 1)
    in_column = down.copy()
    for step in up_to[up_to < height]:
        for here, there in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
            in_column[here] = np.minimum(in_column[here], down[there] + step**2)
    found = in_column.copy()
    for step in up_to[up_to < width]:
        for here, there in ((slice(step, None), slice(None, -step)), (slice(None, -step), slice(step, None))):
            found[:, here] = np.minimum(found[:, here], in_column[:, there] + step**2)
    return np.sqrt(found)


def equalized(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels spread so that all are about as frequent; images of one level stay as they are."""
    number = images.shape[2]
    values = images.reshape(-1, number).astype(np.int64)
    histogram = np.bincount((values + 256 * np.arange(number)).ravel(), minlength=256 * number).reshape(number, 256)
    total = histogram.sum(axis=1, keepdims=True)
    lowest = np.take_along_axis(histogram, (histogram > 0).argmax(axis=1)[:, None], axis=1)
    above = np.cumsum(histogram, axis=1) - lowest
    scale = np.divide(255.0, total - lowest, out=np.zeros(total.shape), where=total > lowest)
    table = np.where(total > lowest, np.rint(above * scale), np.arange(256)).clip(0, 255).astype(np.uint8)
    return table[np.arange(number), values].reshape(images.shape)


def _joined(strong: NDArray[np.bool_], candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Candidates that a chain of candidates, side by side or corner to corner, joins to a strong one."""
    while True:
        wide = strong.copy()
        wide[1:] |= strong[:-1]
        wide[:-1] |= strong[1:]
        tall = wide.copy()
        wide[:, 1:] |= tall[:, :-1]
        wide[:, :-1] |= tall[:, 1:]
        wide &= candidates
        if (wide == strong).all():
            return strong
        strong = wide


def _mean3(images: NDArray[np.float64]) -> NDArray[np.float64]:
    return _correlated(images, np.full((3, 3), 1 / 9))


def _correlated(images: NDArray[np.float64], kernel: NDArray) -> NDArray[np.float64]:
    height, width = images.shape[:2]
    return linear.separable(images, linear.kernel_terms(kernel, height, width, "mirror"))
