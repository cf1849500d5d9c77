"""ZFP's coefficients of 8-bit images, as one matrix product.

A block of bytes scaled to 30 bits has at least 22 zeros behind it, so the shifts of ZFP's lifting
steps lose nothing: its integer transform is then the matrix F exactly, and float32 holds all results.
"""

from functools import cache

import torch
from torch import Tensor

from remnant.lab.coefficients.tiles import joined, spread, times, words
from remnant.lab.coefficients.zfp_blocks import SEQUENCY, SIDE, from_negabinary, to_negabinary
from remnant.lab.coefficients.zfp_rate import HEADER, bits_per_block, within

SIZE = SIDE * SIDE
_EXACT = 18
"""Planes that hold every bit of a byte's coefficients, which are multiples of 2^-8."""
_ROUNDING = 1.5 * 2.0**23
_EXPONENT = 0x7F800000
"""Bits of the exponent of a float32: of the number, they leave its highest bit."""
_FORWARD = ((4, 4, 4, 4), (5, 1, -1, -5), (-4, 4, 4, -4), (-2, 6, -6, 2))
"""16 F."""
_BACKWARD = ((4, 6, -4, -1), (4, 2, 4, 5), (4, -2, 4, -5), (4, -6, -4, 1))
"""4 times the inverse of F."""


def pixel_coefficients(images: Tensor, precision: int, out: Tensor) -> None:
    """Writes the coefficients of ZFP's fixed-precision mode for uint8 images, taken as floats 0..255.

    To a contiguous float32 tensor (example, height / 4, width / 4, channel * 16), in sequency order.
    Dropping all but the highest p planes of a negabinary number rounds it to a multiple of
    q = 2^(e + 2 - p), where 2^(e - 1) <= largest pixel < 2^e:  q floor(x / q + a), with a the share of
    the digits below that count negatively, near 2/3 for even p and 1/3 for odd p.
    """
    values, highest = _exact(images, out)
    if precision < _EXACT:
        # Next to 1.5 * 2^23 q, float32 holds the multiples of q alone: adding it rounds, and subtracting it is exact.
        step = 2.0 ** (3 - precision)
        values.add_(highest, alpha=step * _offset(precision))
        values.add_(highest, alpha=step * _ROUNDING).sub_(highest, alpha=step * _ROUNDING)


def rate_coefficients(images: Tensor, rate: float, out: Tensor) -> None:
    """As `pixel_coefficients`, of ZFP's fixed-rate mode with `rate` bits per value."""
    budget = bits_per_block(rate, torch.float32) - HEADER
    values, highest = _exact(images, out)
    power = torch.where(highest > 0, 2 * highest, 1)
    integers = (values * (2.0**30 / power)).to(torch.int32).view(-1, SIZE)
    kept = from_negabinary(within(to_negabinary(integers.T.contiguous()), budget))
    values.copy_(kept.T.reshape(values.shape)).mul_(power * 2.0**-30)


def pixels_back(blocks: Tensor) -> Tensor:
    """Float32 images (example, channel, height, width) of coefficients (example, row, column, channel, 16).

    What ZFP decodes, bit for bit, from the coefficients of 8-bit images.
    """
    backward = torch.tensor(_BACKWARD, dtype=torch.float32, device=blocks.device)
    order = torch.tensor(SEQUENCY, device=blocks.device)
    # Row and column frequency of each coefficient, to row and column of a pixel.
    matrix = torch.einsum("ai,bj->ijab", backward, backward).reshape(SIZE, SIZE)[order] / 16
    return joined(blocks.to(torch.float32) @ matrix)


def _exact(images: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """`out` with every bit of the coefficients (example, row, column, channel, 16), and `_highest_bits` (..., 1)."""
    rows = words(images, SIDE)
    values = times(rows, _matrix(images.shape[1], images.device), images.shape[1], out)
    return values, _highest_bits(rows).view(*values.shape[:4], 1)


@cache
def _matrix(channels: int, device: torch.device) -> Tensor:
    forward = torch.tensor(_FORWARD, dtype=torch.float32)
    one = torch.einsum("ia,jb->abij", forward, forward).reshape(SIZE, SIZE)[:, list(SEQUENCY)] / 256
    return spread(one, channels).to(device)


def _highest_bits(rows: Tensor) -> Tensor:
    """2^(e - 1) float32 (block, channel), the highest bit of the largest pixel of each block; 0 for blocks of zeros."""
    channels = rows.shape[4]
    # The highest bit of the largest byte is that of all bytes together. Neighbours are `channels` bytes away.
    column = (rows[:, :, 0] | rows[:, :, 1] | rows[:, :, 2] | rows[:, :, 3]).view(-1).view(torch.uint8)
    pairs = column[:-channels] | column[channels:]
    fours = pairs[: -2 * channels] | pairs[2 * channels :]
    blocks = len(column) // (SIDE * channels)
    bits = fours.as_strided((blocks, channels), (SIDE * channels, 1)).float()
    bits.view(torch.int32).bitwise_and_(_EXPONENT)
    return bits


def _offset(precision: int) -> float:
    """The share of negative digits below the kept ones less a half, as rounding to the nearest adds one.

    Coefficients of bytes are multiples of 2^(precision - 18) steps or of more. On this grid the share is cut off; half
    of its spacing keeps sums from being halfway between two multiples.
    """
    grid = 2.0 ** (_EXACT - precision)
    return (int((2 if precision % 2 == 0 else 1) * grid / 3) + 0.5) / grid - 0.5
