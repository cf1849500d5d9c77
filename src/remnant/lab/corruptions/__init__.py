"""The corruptions of ImageNet-C and CIFAR-10-C, for many images at once and the same on every machine.

Written from the description and the constants of hendrycks2019benchmarking; where the published code and its paper
differ, `remnant.probes.corruptions.QUIRKS` names what is kept.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.lab.corruptions import blur, digital, noise, spatter, weather
from remnant.lab.corruptions.constants import CONSTANTS, SIZES, nearest_size
from remnant.lab.corruptions.pixels import whole
from remnant.lab.corruptions.streams import Draws, fingerprints
from remnant.probes.corruptions import QUIRKS, SEVERITIES
from remnant.registry import unknown

__all__ = ["CONSTANTS", "corrupt"]

_SMALLEST = 8
_VALUES = 2**21
"""Pixel values that are corrupted at a time: 16 MiB in double precision."""

_DRAWN: dict[str, Callable[..., NDArray]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "motion_blur": blur.motion_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "speckle_noise": noise.speckle_noise,
    "spatter": spatter.spatter,
}
"""Called with images, level and random numbers."""
_FIXED: dict[str, Callable[..., NDArray]] = {
    "defocus_blur": blur.defocus_blur,
    "zoom_blur": blur.zoom_blur,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "gaussian_blur": blur.gaussian_blur,
    "saturate": digital.saturate,
}
"""Called with images and level."""


def corrupt(
    images: NDArray[np.uint8],
    ids: Sequence[object] | NDArray[Any],
    corruption: str,
    severity: int,
    *,
    constants: str = "nearest",
    quirks: Collection[str] = QUIRKS,
) -> NDArray[np.uint8]:
    """Corrupted images, of the same shape.

    Random numbers depend on corruption, severity and id alone: an image gets the same pixels whatever images come
    with it.

    Parameters
    ----------
    images
        Shape (example, height, width, channel) with 1 or 3 channels and at least 8x8 pixels.
    ids
        One for each example; their texts count.
    corruption
        A key of `CONSTANTS`.
    severity
        1 to 5.
    constants
        "32", "64", "224": the size in pixels whose published constants are taken; "nearest" for the nearest one.
    quirks
        Which of `remnant.probes.corruptions.QUIRKS` are kept.

    Raises
    ------
    ValueError
        If the images are not of this kind, or a name is unknown.

    References
    ----------
    hendrycks2019benchmarking
    """
    _check(images, ids, corruption, severity)
    size = nearest_size(*images.shape[1:3]) if constants == "nearest" else constants
    if size not in SIZES:
        raise unknown("constants", constants, ("nearest", *SIZES))
    level = CONSTANTS[corruption][size][severity - 1]
    change = _change(corruption, level, images.shape[1:3], size, quirks)
    prints = fingerprints(ids)
    out = np.empty(images.shape, np.uint8)
    # The exchanges of glass blur go pixel by pixel over all examples: they want many at a time.
    values = 8 * _VALUES if corruption == "glass_blur" else _VALUES
    step = max(1, values // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        found = change(np.ascontiguousarray(images[part]), Draws(prints[part], f"{corruption}/{severity}"))
        out[part] = found if found.dtype == np.uint8 else whole(found, truncate="truncation" in quirks)
    return out


def _change(
    corruption: str, level: Any, shape: tuple[int, int], size: str, quirks: Collection[str]
) -> Callable[[NDArray[np.uint8], Draws], NDArray]:
    """What makes corrupted images of clean ones and random numbers."""
    if corruption in _FIXED:
        return lambda images, draws: _FIXED[corruption](images, level)
    function = _DRAWN.get(corruption)
    if corruption == "glass_blur":
        function = partial(blur.glass_blur, copy="glass-copy" in quirks, truncate="truncation" in quirks)
    elif corruption == "elastic_transform":
        stretch = 244 / 224 if size == "224" and "elastic-244" in quirks else 1.0
        function = partial(digital.elastic_transform, side=min(shape) * stretch)
    assert function is not None
    return lambda images, draws: function(images, level, draws)


def _check(images: NDArray, ids: Sequence[object] | NDArray[Any], corruption: str, severity: int) -> None:
    if corruption not in CONSTANTS:
        raise unknown("corruption", corruption, CONSTANTS)
    if severity not in SEVERITIES:
        raise ValueError(f"Expected `severity` to be one of {list(SEVERITIES)}, but got {severity!r}.")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            "Expected `images` to be uint8 of shape (example, height, width, 1 or 3), but got "
            f"{images.dtype} of shape {images.shape}: corruptions are defined for pictures only."
        )
    if min(images.shape[1:3]) < _SMALLEST:
        raise ValueError(
            f"Expected `images` of at least {_SMALLEST} pixels a side, but got {images.shape[1]}x{images.shape[2]}."
        )
    if len(ids) != len(images):
        raise ValueError(f"Expected `ids` to hold one value for each of {len(images)} images, but got {len(ids)}.")
