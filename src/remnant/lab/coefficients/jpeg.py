"""The quantized coefficients in a baseline JPEG file, computed on whole batches.

The integer arithmetic of the common libraries (libjpeg and its descendants, "islow"): colour in 16-bit
fixed point, chroma averaged over 2x2 pixels, a cosine transform with 13-bit constants in two rounded
passes, division by the scaled tables of the standard's annex K. Coefficients are those of the file,
number for number.

References
----------
wallace1992jpeg, section 4; loeffler1989practical, figure 1
"""

import math
import os
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from remnant.lab.coefficients.dct import zigzag
from remnant.lab.coefficients.tiles import as_channels, cut

BLOCK = 8
_CONSTANT_BITS, _EXTRA_BITS = 13, 2

_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip


def quantization_table(quality: int, *, chrominance: bool = False) -> Tensor:
    """Steps of the 64 coefficients in zigzag order, float64, for a quality in 1..100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    table = torch.tensor(_CHROMINANCE if chrominance else _LUMINANCE)
    return ((table * scale + 50) // 100).clamp(1, 255)[zigzag(BLOCK)].double()


def jpeg_coefficients(images: Tensor, quality: int, *, subsampled: bool = False) -> list[Tensor]:
    """Dequantized coefficients of each component of the JPEG files of uint8 images.

    Each float32 (example, 64, row, column) in zigzag order: Y, Cb and Cr of colour images, one of grey
    ones. With `subsampled` (4:2:0), Cb and Cr have half as many rows and columns. In units of the
    orthonormal cosine transform of pixels less 128. Dividing by `quantization_table` gives the file's integers.
    """
    if images.shape[1] == 1:
        return [_component(images[:, 0].int(), quantization_table(quality))]
    planes = _colours(images.int())
    if subsampled:
        planes = [planes[0], _halved(planes[1]), _halved(planes[2])]
    tables = [quantization_table(quality, chrominance=i > 0) for i in range(3)]
    return [_component(plane, table) for plane, table in zip(planes, tables, strict=True)]


def read_jpeg_coefficients(paths: Sequence[str | os.PathLike[str]]) -> list[Tensor]:
    """Dequantized coefficients of each component of JPEG files of one size, as `jpeg_coefficients` gives them.

    Needs the package jpeglib. Components keep the file's subsampling.

    Raises
    ------
    ImportError
        If jpeglib is not installed.
    ValueError
        If there are no files, one cannot be read, or their components differ in number or size.
    """
    try:
        import jpeglib
    except ImportError as error:
        raise ImportError("Reading coefficients of JPEG files needs jpeglib: pip install jpeglib.") from error
    if not paths:
        raise ValueError("Expected at least 1 JPEG file, but got none.")
    rows = []
    for path in paths:
        try:
            rows.append(_dequantized(jpeglib.read_dct(os.fspath(path))))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"Cannot read {os.fspath(path)!r} as a JPEG file: {error}.") from error
        if [part.shape for part in rows[-1]] != [part.shape for part in rows[0]]:
            raise ValueError(
                f"Expected JPEG files of one size and subsampling, but {os.fspath(path)!r} differs from "
                f"{os.fspath(paths[0])!r}. Read them separately."
            )
    order = zigzag(BLOCK)
    stacked = [np.stack(parts).astype(np.float32) for parts in zip(*rows, strict=True)]
    return [torch.from_numpy(part).flatten(3)[..., order].permute(0, 3, 1, 2) for part in stacked]


def _dequantized(file: Any) -> list[np.ndarray]:
    parts = [file.Y] if file.Cb is None else [file.Y, file.Cb, file.Cr]
    return [part * file.get_component_qt(i) for i, part in enumerate(parts)]


def _colours(images: Tensor) -> list[Tensor]:
    """Y, Cb and Cr int32 (example, height, width) in 0..255, of RGB."""
    red, green, blue = images.unbind(1)

    def mix(weights: tuple[float, float, float], offset: int) -> Tensor:
        r, g, b = (math.floor(abs(weight) * 65536 + 0.5) * (1 if weight > 0 else -1) for weight in weights)
        return (r * red + g * green + b * blue + offset) >> 16

    half, centre = 1 << 15, (128 << 16) + (1 << 15) - 1
    return [
        mix((0.29900, 0.58700, 0.11400), half),
        mix((-0.168735892, -0.331264108, 0.5), centre),
        mix((0.5, -0.418687589, -0.081312411), centre),
    ]


def _halved(plane: Tensor) -> Tensor:
    """Means of 2x2 pixels, halves rounded down in even columns and up in odd ones."""
    sums = plane[:, ::2, ::2] + plane[:, 1::2, ::2] + plane[:, ::2, 1::2] + plane[:, 1::2, 1::2]
    bias = 1 + torch.arange(sums.shape[2], device=plane.device, dtype=torch.int32) % 2
    return (sums + bias) >> 2


def _component(plane: Tensor, table: Tensor) -> Tensor:
    """Float32 (example, 64, row, column) of integers (example, height, width) in 0..255."""
    pixels = cut((plane - 128).unsqueeze(1).float(), BLOCK)
    along_rows, along_columns = _passes(plane.device)
    rows = _descaled(pixels @ along_rows, _CONSTANT_BITS - _EXTRA_BITS)
    values = _descaled(
        rows.double() @ along_columns, _CONSTANT_BITS + _EXTRA_BITS
    ).float()  # 8 times the orthonormal coefficients
    table = table.to(plane.device).float()
    # Halves are rounded away from 0. Quotients of whole numbers below 2^15 by at most 2^11 never round up to a half.
    quantized = (values.abs() / (8 * table) + 0.5).floor() * values.sign()
    return as_channels(quantized * table)


def _descaled(values: Tensor, bits: int) -> Tensor:
    return torch.floor((values + 2.0 ** (bits - 1)) / 2.0**bits)


@cache
def _passes(device: torch.device) -> tuple[Tensor, Tensor]:
    """The transform along rows, then along columns to zigzag order, of blocks as rows of 64 pixels.

    Sums of the first pass are exact in float32, those of the second in float64.
    """
    matrix, same = _integer_matrix(), torch.eye(BLOCK, dtype=torch.float64)
    first, second = torch.kron(same, matrix).T.float(), torch.kron(matrix, same)[zigzag(BLOCK)].T
    return first.to(device), second.to(device)


def _integer_matrix() -> Tensor:
    """The 8-point transform of Loeffler et al. times 2^13 sqrt(8), float64 (frequency, sample) of whole numbers.

    Its entries are sums of the constants of the fast algorithm, each rounded by itself.
    """

    def whole(value: float) -> int:
        return round(value * 2**_CONSTANT_BITS)

    one, a, b, c = (whole(value) for value in (1.0, 0.541196100, 0.765366865, 1.847759065))
    # Frequencies 0, 2, 4, 6; columns are the sums of the samples 0 and 7, 1 and 6, 2 and 5, 3 and 4.
    even = [[one, one, one, one], [a + b, a, -a, -a - b], [one, -one, -one, one], [a, a - c, c - a, -a]]
    s = whole(1.175875602)
    p, q, r, t = (s - whole(value) for value in (0.899976223, 2.562915447, 1.961570560, 0.390180644))
    # Frequencies 1, 3, 5, 7; columns are the differences of the same samples.
    odd = [
        [whole(1.501321110) + p + t - s, s, t, p],
        [s, whole(3.072711026) + q + r - s, q, r],
        [t, q, whole(2.053119869) + q + t - s, s],
        [p, r, s, whole(0.298631336) + p + r - s],
    ]
    matrix = torch.zeros(BLOCK, BLOCK, dtype=torch.float64)
    first, second = torch.tensor(even, dtype=torch.float64), torch.tensor(odd, dtype=torch.float64)
    matrix[0::2] = torch.cat([first, first.flip(1)], dim=1)
    matrix[1::2] = torch.cat([second, -second.flip(1)], dim=1)
    return matrix
