"""Linear changes of images as sums of separable ones, with the borders in the matrices.

Images are arrays of shape (height, width, ...): every change is then a sparse matrix times long rows.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Border = str
"""How an image goes on beyond its border: "nearest" (aaa|abc), "reflect" (cba|abc), "mirror" (dcb|abc)."""
_NEGLIGIBLE = 1e-9
"""Weights relative to the largest one that are left out: less than a millionth of a grey level in all."""


def separable(
    images: NDArray[np.floating], terms: Iterable[tuple[sparse.csr_array, sparse.csr_array]]
) -> NDArray[np.float64]:
    """Sum over terms (R, S) of R X S^T for each image X; images of shape (height, width, ...)."""
    flat = np.ascontiguousarray(images, np.float64).reshape(len(images), -1)
    out = np.zeros((*images.shape[:2], flat.shape[1] // images.shape[1]))
    for rows, columns in terms:
        between = (rows @ flat).reshape(out.shape)
        for place, line in enumerate(between):
            out[place] += columns @ line
    return out.reshape(images.shape)


def gaussian(
    images: NDArray, sigma: float, *, truncate: float = 4.0, border: Border = "nearest"
) -> NDArray[np.float64]:
    """Images of shape (height, width, ...) blurred by a Gaussian that ends at `truncate` standard deviations.

    As scikit-image's and SciPy's: weights at whole pixels, normalized; a radius of 0 changes nothing.
    """
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.asarray(images, np.float64)
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    height, width = images.shape[:2]
    return separable(images, [(correlation(height, kernel, border), correlation(width, kernel, border))])


def kernel_terms(
    kernel: NDArray, height: int, width: int, border: Border
) -> list[tuple[sparse.csr_array, sparse.csr_array]]:
    """The correlation with a kernel of two dimensions as separable terms."""
    left, values, right = np.linalg.svd(kernel)
    kept = values > _NEGLIGIBLE * values[0]
    return [
        (correlation(height, left[:, i] * values[i], border), correlation(width, right[i], border))
        for i in np.flatnonzero(kept)
    ]


def correlation(size: int, kernel: NDArray, border: Border) -> sparse.csr_array:
    """Matrix of the correlation of a line of `size` pixels with a kernel of odd length."""
    radius = len(kernel) // 2
    kept = np.flatnonzero(np.abs(kernel) > _NEGLIGIBLE * np.abs(kernel).max())
    rows = np.repeat(np.arange(size), len(kept))
    columns = inside(rows + np.tile(kept - radius, size), size, border)
    return sparse.csr_array((np.tile(kernel[kept], size), (rows, columns)), shape=(size, size))


def zoom(size: int, factor: float) -> sparse.csr_array:
    """Matrix that enlarges the middle of a line by a factor >= 1, between pixels by linear interpolation.

    The middle ceil(size / factor) pixels become round(that * factor) ones, the first on the first and the last on the
    last, and of these the middle `size` are kept.
    """
    part = int(np.ceil(size / factor))
    longer = max(round(part * factor), size)
    top, trim = (size - part) // 2, (longer - size) // 2
    at = np.arange(trim, trim + size) * ((part - 1) / max(longer - 1, 1))
    low = np.minimum(at.astype(int), max(part - 2, 0))
    high = np.minimum(low + 1, part - 1)
    rows = np.arange(size)
    entries = (np.concatenate([1 - (at - low), at - low]), (np.tile(rows, 2), top + np.concatenate([low, high])))
    return sparse.csr_array(entries, shape=(size, size))


def inside(places: NDArray[np.integer], size: int, border: Border) -> NDArray[np.integer]:
    """The pixel of the line that stands for each place on or beyond it."""
    if border == "nearest":
        return np.clip(places, 0, size - 1)
    period = 2 * size if border == "reflect" else max(2 * size - 2, 1)
    folded = places % period
    return np.minimum(folded, (period - 1 if border == "reflect" else period) - folded)
