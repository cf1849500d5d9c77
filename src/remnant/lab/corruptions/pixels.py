"""Grey levels as bytes, and the order of the axes of images."""

import numpy as np
from numpy.typing import NDArray

GREY = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""


def whole(values: NDArray[np.floating], *, truncate: bool) -> NDArray[np.uint8]:
    """Grey levels as bytes, within 0 and 255: cut off, or rounded.

    What lies less than a millionth below a whole number counts as that: means of equal values, where rounding
    errors of the machine would decide, stay what they are.
    """
    values = np.clip(values, 0, 255)
    return (values + 1e-6 if truncate else np.rint(values)).astype(np.uint8)


def brightest(images: NDArray) -> NDArray:
    """Highest value of each image, shape (example, 1, 1, 1)."""
    return images.max(axis=(1, 2, 3), keepdims=True)


def grey(images: NDArray[np.floating]) -> NDArray[np.floating]:
    """Brightness of each pixel, shape (example, height, width, 1)."""
    return images if images.shape[3] == 1 else (images @ GREY)[..., None]


def tinted(layer: NDArray[np.floating], colour: tuple[int, int, int], channels: int) -> NDArray[np.floating]:
    """A layer (example, height, width) in a colour of grey levels, or in its brightness: one channel more."""
    weights = np.array(colour, np.float64)
    return layer[..., None] * (weights if channels == 3 else weights @ GREY[:, None])


def pixels_first(images: NDArray) -> NDArray[np.float64]:
    """(example, height, width, ...) as (height, width, example, ...)."""
    return np.ascontiguousarray(np.moveaxis(images, 0, 2), np.float64)


def examples_first(images: NDArray) -> NDArray:
    """The inverse of `pixels_first`."""
    return np.moveaxis(images, 2, 0)
