"""ZFP's coefficients of 8-bit images, as one matrix product.

A block of bytes scaled to 30 bits has at least 22 zeros behind it, so the shifts of ZFP's lifting
steps lose nothing: its integer transform is then the matrix F exactly, and float32 holds all results.
"""

from functools import cache

import torch
from torch import Tensor

from remnant.lab.coefficients.tiles import as_channels, joined, spread, times, words
from remnant.lab.coefficients.zfp_blocks import PLANES, SEQUENCY, SIDE, from_negabinary, to_negabinary
from remnant.lab.coefficients.zfp_rate import HEADER, bits_per_block, within

SIZE = SIDE * SIDE
_FORWARD = ((4, 4, 4, 4), (5, 1, -1, -5), (-4, 4, 4, -4), (-2, 6, -6, 2))
"""16 F."""
_BACKWARD = ((4, 6, -4, -1), (4, 2, 4, 5), (4, -2, 4, -5), (4, -6, -4, 1))
"""4 times the inverse of F."""


def pixel_coefficients(images: Tensor, precision: int) -> Tensor:
    """The coefficients of ZFP's fixed-precision mode for uint8 images, taken as floats 0..255.

    Float32 (example, channel * 16, height / 4, width / 4), channels last in memory, in sequency order.
    Dropping all but the highest p planes of a negabinary number rounds it to a multiple of
    q = 2^(e + 2 - p), where 2^(e - 1) <= largest pixel < 2^e:  q floor(x / q + a), with a the share of
    the digits below that count negatively, near 2/3 for even p and 1/3 for odd p.
    """
    values, power = _exact(images)
    step = power.mul_(2.0 ** (2 - precision))
    values.mul_(1 / step).add_(_offset(precision)).floor_().mul_(step)
    return as_channels(values)


def rate_coefficients(images: Tensor, rate: float) -> Tensor:
    """As `pixel_coefficients`, of ZFP's fixed-rate mode with `rate` bits per value."""
    budget = bits_per_block(rate, torch.float32) - HEADER
    values, power = _exact(images)
    integers = values.mul_(2.0**30 / power).to(torch.int32).view(-1, SIZE)
    kept = from_negabinary(within(to_negabinary(integers.T.contiguous()), budget))
    return as_channels(kept.T.reshape(values.shape).float().mul_(power * 2.0**-30))


def pixels_back(blocks: Tensor) -> Tensor:
    """Float32 images (example, channel, height, width) of coefficients (example, row, column, channel, 16).

    What ZFP decodes, bit for bit, from the coefficients of 8-bit images.
    """
    backward = torch.tensor(_BACKWARD, dtype=torch.float32, device=blocks.device)
    order = torch.tensor(SEQUENCY, device=blocks.device)
    # Row and column frequency of each coefficient, to row and column of a pixel.
    matrix = torch.einsum("ai,bj->ijab", backward, backward).reshape(SIZE, SIZE)[order] / 16
    return joined(blocks.to(torch.float32) @ matrix)


def _exact(images: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients with every bit (example, row, column, channel, 16), and their `_powers` (..., channel, 1)."""
    rows = words(images, SIDE)
    values = times(rows, _matrix(images.shape[1], images.device), images.shape[1])
    return values, _powers(rows).view(*values.shape[:4], 1)


@cache
def _matrix(channels: int, device: torch.device) -> Tensor:
    forward = torch.tensor(_FORWARD, dtype=torch.float32)
    one = torch.einsum("ia,jb->abij", forward, forward).reshape(SIZE, SIZE)[:, list(SEQUENCY)] / 256
    return spread(one, channels).to(device)


def _powers(rows: Tensor) -> Tensor:
    """2^e float32 (block, channel), with 2^(e - 1) <= largest pixel of the block < 2^e; 1 for blocks of zeros."""
    channels = rows.shape[4]
    # The highest bit of the largest byte is that of all bytes together. Neighbours are `channels` bytes away.
    column = (rows[:, :, 0] | rows[:, :, 1] | rows[:, :, 2] | rows[:, :, 3]).view(-1).view(torch.uint8)
    pairs = column[:-channels] | column[channels:]
    fours = torch.zeros_like(column)
    torch.bitwise_or(pairs[: -2 * channels], pairs[2 * channels :], out=fours[: -3 * channels])
    bits = fours.view(-1, SIDE, channels)[:, 0].contiguous()
    bits |= bits >> 1
    bits |= bits >> 2
    bits |= bits >> 4
    return bits.float().add_(1)


def _offset(precision: int) -> float:
    """The share of negative digits below the kept ones, in steps that keep sums exact in float32.

    Coefficients of bytes are multiples of 2^-8, so of 2^(precision - 18) steps or coarser ones.
    """
    grid = 2.0 ** max(0, PLANES - 14 - precision)
    return int((2 if precision % 2 == 0 else 1) * grid / 3) / grid
