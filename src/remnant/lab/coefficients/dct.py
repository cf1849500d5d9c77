"""The orthonormal cosine transform of square blocks."""

import math
from functools import cache

import torch
from torch import Tensor

from remnant.lab.coefficients.tiles import as_blocks, joined, spread, times, words


def dct_matrix(block: int) -> Tensor:
    """Orthonormal DCT-II, float64 (frequency, sample): sqrt(2 / b) cos(pi (2 n + 1) k / 2 b), 1 / sqrt(b) for k = 0."""
    sample = torch.arange(block, dtype=torch.float64)
    angles = math.pi / (2 * block) * sample[:, None] * (2 * sample[None, :] + 1)
    matrix = angles.cos() * math.sqrt(2 / block)
    matrix[0] = 1 / math.sqrt(block)
    return matrix


def zigzag(block: int) -> list[int]:
    """Positions block * row + column along the antidiagonals of a block, as in a JPEG file."""

    def place(position: int) -> tuple[int, int]:
        row, column = divmod(position, block)
        return row + column, row if (row + column) % 2 else column

    return sorted(range(block * block), key=place)


def dct(images: Tensor, block: int, out: Tensor) -> None:
    """Writes the coefficients of uint8 images (example, channel, height, width) to a contiguous float32 tensor.

    That is (example, row, column, channel * block^2), in zigzag order for each channel. The sum of squares is
    that of the pixels.
    """
    channels = images.shape[1]
    times(words(images, block), _spread(block, channels, images.device), channels, out)


def inverse_dct(coefficients: Tensor, block: int) -> Tensor:
    """Images float32 (example, channel, height, width) of what `dct` gives.

    Raises
    ------
    ValueError
        If the number of channels is not a multiple of block^2.
    """
    blocks = as_blocks(coefficients.float(), block * block)
    return joined(blocks @ _two_dimensional(block, coefficients.device))


@cache
def _spread(block: int, channels: int, device: torch.device) -> Tensor:
    return spread(_two_dimensional(block, torch.device("cpu")).T, channels).to(device)


def _two_dimensional(block: int, device: torch.device) -> Tensor:
    """Float32 (zigzag coefficient, pixel)."""
    matrix = torch.kron(dct_matrix(block), dct_matrix(block))[zigzag(block)]
    return matrix.to(torch.float32).to(device)
