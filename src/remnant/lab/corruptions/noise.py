"""Noise of single pixels. Images are uint8 (example, height, width, channel), results in grey levels."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import pdtr

from remnant.lab.corruptions.streams import Draws

_CELLS = 2**16


def gaussian_noise(images: NDArray[np.uint8], scale: float, draws: Draws) -> NDArray[np.float32]:
    """x + scale z, with z standard normal, for x in [0, 1]."""
    return images + np.float32(255 * scale) * _shaped(draws.normal("noise", _values(images)), images)


def speckle_noise(images: NDArray[np.uint8], scale: float, draws: Draws) -> NDArray[np.float32]:
    """x + x scale z, with z standard normal."""
    return images * (1 + np.float32(scale) * _shaped(draws.normal("noise", _values(images)), images))


def shot_noise(images: NDArray[np.uint8], photons: int, draws: Draws) -> NDArray[np.float64]:
    """Poisson(photons x) / photons: fewer photons, more noise."""
    quantiles = poisson_quantiles(photons)
    found = quantiles[images, _shaped(draws.sixteenths("noise", _values(images)), images)]
    return found.astype(np.float64) * (255 / photons)


def impulse_noise(images: NDArray[np.uint8], share: float, draws: Draws) -> NDArray[np.uint8]:
    """A share of all values becomes 0 or 1, either as likely; in colour images each channel on its own.

    The share is kept to 2**-16.
    """
    found = _shaped(draws.sixteenths("noise", _values(images)), images)
    changed = round(share * _CELLS)
    return np.where(found < changed // 2, np.uint8(255), np.where(found < changed, np.uint8(0), images))


def poisson_quantiles(photons: int) -> NDArray[np.uint16]:
    """Shape (256, 65536): the Poisson counts of 65,536 equally likely cells at each of 256 grey levels, rising."""
    means = np.arange(256) * (photons / 255)
    most = int(photons + 10 * np.sqrt(photons) + 20)
    cumulative = pdtr(np.arange(most)[None], np.maximum(means, 1e-300)[:, None])
    ends = np.rint(cumulative * _CELLS).astype(np.int64)
    ends[:, -1] = _CELLS
    counts = np.diff(ends, axis=1, prepend=0)
    table = np.empty((256, _CELLS), np.uint16)
    for level in range(256):
        table[level] = np.repeat(np.arange(most, dtype=np.uint16), counts[level])
    return table


def _values(images: NDArray) -> int:
    return int(np.prod(images.shape[1:]))


def _shaped(drawn: NDArray, images: NDArray) -> NDArray:
    return drawn.reshape(images.shape)
