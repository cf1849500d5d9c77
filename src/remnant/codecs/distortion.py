"""How far decoded images are from the originals: PSNR and SSIM of every image."""

from dataclasses import dataclass

import numpy as np

from remnant.codecs.codec import check_images, in_threads

LEVELS = 255
"""Data range: the difference of the highest and the lowest value that a pixel can have."""

CHUNK_VALUES = 2**18


@dataclass(frozen=True, eq=False)
class Distortion:
    """PSNR and SSIM of every image of a data set."""

    mean_squared_error: np.ndarray
    """(n,) float64, over pixels and channels."""
    ssim: np.ndarray
    """(n,) float64."""

    @property
    def psnr(self) -> np.ndarray:
        """(n,) 10 log10(255**2 / mean squared error), in dB; inf where an image is unchanged."""
        return _decibels(self.mean_squared_error)

    @property
    def data_set_psnr(self) -> float:
        """PSNR in dB of the mean squared error over all images; inf if none is changed.

        The mean of PSNRs is infinite as soon as one image is unchanged; this is not.
        """
        return float(_decibels(self.mean_squared_error.mean()))

    @property
    def mean_ssim(self) -> float:
        """Mean of the images' SSIM."""
        return float(self.ssim.mean())


def distortion(images: np.ndarray, decoded: np.ndarray, *, window: int = 7, workers: int | None = None) -> Distortion:
    """PSNR and SSIM of `decoded` against `images`, both uint8 (n, height, width, channels).

    SSIM is that of Wang et al. with K1 = 0.01, K2 = 0.03 and a data range of 255, in a uniform window of
    `window` x `window` pixels with the unbiased variance, averaged over the positions at which the window lies
    within the image, then over channels. It is 1 for an unchanged image, symmetric, and can be
    negative. These are the defaults of scikit-image; the paper has a Gaussian window of 11 x 11.

    Raises
    ------
    ValueError
        If the arrays differ in shape, or `window` is even, below 3, or larger than a side.

    References
    ----------
    wang2004image, section III B
    """
    images, decoded = check_images(images), check_images(decoded)
    if images.shape != decoded.shape:
        raise ValueError(f"Expected `decoded` to have the shape {images.shape} of `images`, but got {decoded.shape}.")
    smallest = min(images.shape[1:3])
    if window % 2 == 0 or not 3 <= window <= smallest:
        raise ValueError(f"Expected `window` to be odd and in 3..{smallest}, the shorter side, but got {window}.")
    errors, similarities = np.empty(len(images)), np.empty(len(images))
    size = max(1, CHUNK_VALUES // images[0].size)

    def part(start: int) -> None:
        rows = slice(start, start + size)
        errors[rows] = _mean_squared_errors(images[rows], decoded[rows])
        similarities[rows] = _ssim(images[rows], decoded[rows], window)

    for _ in in_threads(part, range(0, len(images), size), workers):
        pass
    return Distortion(errors, similarities)


def _mean_squared_errors(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    difference = (a.astype(np.int32) - b).reshape(len(a), -1)
    # 65,025 times the values of an image passes 2**31 from 33,000 values on.
    return np.einsum("ij,ij->i", difference, difference, dtype=np.int64) / difference.shape[1]


def _ssim(a: np.ndarray, b: np.ndarray, window: int) -> np.ndarray:
    x, y = (np.moveaxis(images, 3, 1).astype(np.uint32) for images in (a, b))
    n = window**2
    sum_x, sum_y = _window_sums(x, window), _window_sums(y, window)
    # n times sums of squares and products, less products of sums: n (n - 1) times the unbiased (co)variances.
    spread = n * (_window_sums(x * x, window) + _window_sums(y * y, window)) - sum_x**2 - sum_y**2
    together = n * _window_sums(x * y, window) - sum_x * sum_y
    c1, c2 = (0.01 * LEVELS) ** 2 * n**2, (0.03 * LEVELS) ** 2 * n * (n - 1)
    numerator = (2 * sum_x * sum_y + c1) * (2 * together + c2)
    denominator = (sum_x**2 + sum_y**2 + c1) * (spread + c2)
    # One row in memory for each image: sums then do not depend on how many there are.
    return np.ascontiguousarray(numerator / denominator).reshape(len(a), -1).mean(1)


def _window_sums(values: np.ndarray, window: int) -> np.ndarray:
    """Sums over all windows within the last two axes, float64 and exact.

    Running sums in uint32 may wrap; their differences are exact all the same, as a window's sum is below 2**32.
    """
    for axis in (2, 3):
        total = np.cumsum(values, axis, dtype=np.uint32)
        upper = np.moveaxis(total, axis, 0)
        sums = upper[window - 1 :].copy()
        sums[1:] -= upper[:-window]
        values = np.moveaxis(sums, 0, axis)
    return values.astype(np.float64)


def _decibels(mean_squared_error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(LEVELS**2 / np.asarray(mean_squared_error))
