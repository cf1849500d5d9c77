"""ZFP's arithmetic on 4x4 blocks: exponents, lifted integer transform, sequency order, negabinary digits.

All blocks at once, as integers of shape (16, block). Results equal those of ZFP 1.0 bit for bit:
decoding what this module encodes gives what ZFP gives after it has compressed and decompressed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SIDE = 4
"""Height and width of a block."""
PLANES = 32
"""Bit planes of a coefficient; plane 31 is the highest."""
SMALLEST = 2.0**-98
"""ZFP 1.0 multiplies a block by 2^(30 - exponent), which overflows float32 where the largest value is below this."""
LARGEST_INTEGER = 2**30

SEQUENCY = (0, 1, 4, 5, 2, 8, 6, 9, 3, 12, 10, 7, 13, 11, 14, 15)
"""Position 4 * row + column of each coefficient, the lowest frequencies first."""

_NEGABINARY = -0x55555556
"""0xaaaaaaaa as int32: the digits of base -2 that count negatively."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Coefficients of all 4x4 blocks of an array, as ZFP codes them."""

    negabinary: Tensor
    """int32 (16, block): digits of base -2 in sequency order; bit 31 is the highest plane."""
    exponent: Tensor | None
    """int32 (block,): e with 2^(e - 1) <= largest absolute value < 2^e; None for integer arrays."""
    shape: tuple[int, ...]
    """Shape (..., height, width) of the array."""

    @property
    def integers(self) -> Tensor:
        """int32 (16, block): the coefficients as integers, in units of 2^(exponent - 30) for float arrays."""
        return from_negabinary(self.negabinary)


def to_negabinary(integers: Tensor) -> Tensor:
    """The digits of base -2 of int32 numbers, as the bits of int32 numbers."""
    return (integers + _NEGABINARY) ^ _NEGABINARY


def from_negabinary(digits: Tensor) -> Tensor:
    """Inverse of `to_negabinary`."""
    return (digits ^ _NEGABINARY) - _NEGABINARY


def encode(values: Tensor) -> Blocks:
    """The coefficients of all 4x4 blocks of float32 or int32 arrays (..., height, width), with every bit plane.

    Raises
    ------
    ValueError
        For another type, sides that are not divisible by 4, NaN, infinity, or magnitudes that ZFP cannot code:
        integers of 2^30 and more, and blocks of floats between 0 and 2^-98.
    """
    _check(values)
    blocks = _split(values)
    if values.dtype == torch.int32:
        return Blocks(_digits(blocks), None, tuple(values.shape))
    largest = blocks.abs().amax(0)
    exponent = torch.frexp(largest).exponent
    integers = (blocks * torch.exp2(30.0 - exponent)).to(torch.int32)  # towards 0, as a cast in C
    return Blocks(_digits(integers), torch.where(largest > 0, exponent, 0), tuple(values.shape))


def keep_planes(blocks: Blocks, planes: int | Tensor) -> Blocks:
    """The blocks with their highest `planes` bit planes alone, one number for all or one per block (int32)."""
    dropped = (PLANES - torch.as_tensor(planes, device=blocks.negabinary.device)).clamp(0, PLANES)
    mask = torch.where(dropped < PLANES, torch.full_like(dropped, -1, dtype=torch.int32) << (dropped % PLANES), 0)
    return Blocks(blocks.negabinary & mask.to(torch.int32), blocks.exponent, blocks.shape)


def keep_accuracy(blocks: Blocks, tolerance: float) -> Blocks:
    """The blocks with the bit planes that ZFP's fixed-accuracy mode keeps for an absolute error of `tolerance`.

    Blocks with the exponent e keep e - floor(log2(tolerance)) + 6 planes.

    Raises
    ------
    ValueError
        If the tolerance is not a positive number, or the array holds integers.
    """
    if blocks.exponent is None:
        raise ValueError("Expected a float32 array with `tolerance`, but got int32. Take a precision or a rate.")
    if not 0 < tolerance < float("inf"):
        raise ValueError(f"Expected `tolerance` to be a positive number, but got {tolerance!r}.")
    lowest = int(torch.frexp(torch.tensor(tolerance, dtype=torch.float64)).exponent) - 1
    return keep_planes(blocks, blocks.exponent - lowest + 6)


def decode(blocks: Blocks) -> Tensor:
    """The array (..., height, width) that ZFP's decoder gives, float32 or int32."""
    order = torch.tensor(SEQUENCY, device=blocks.negabinary.device).argsort()
    integers = blocks.integers[order].view(SIDE, SIDE, -1)
    integers = _inverse_lift(integers.transpose(0, 1)).transpose(0, 1)  # columns first: the slower axis
    integers = _inverse_lift(integers).reshape(SIDE * SIDE, -1)
    if blocks.exponent is None:
        return _join(integers, blocks.shape)
    return _join(integers.float() * _unit(blocks.exponent), blocks.shape)


def coefficients(blocks: Blocks) -> Tensor:
    """Real coefficients float32 (..., 16, height / 4, width / 4) in sequency order, the block's exponent folded in.

    The integer times 2^(exponent - 30); the integer itself for integer arrays. Float32 holds 24 of up
    to 31 bits: the coefficients of 8-bit images exactly.
    """
    *leading, height, width = blocks.shape
    values = blocks.integers.float()
    if blocks.exponent is not None:
        values = values * _unit(blocks.exponent)
    grid = values.view(SIDE * SIDE, *leading, height // SIDE, width // SIDE)
    return grid.movedim(0, -3)


def _check(values: Tensor) -> None:
    if values.dtype not in (torch.float32, torch.int32):
        raise ValueError(f"Expected float32 or int32 values for ZFP's blocks, but got {values.dtype}.")
    if values.ndim < 2 or any(side == 0 or side % SIDE for side in values.shape[-2:]):
        raise ValueError(
            f"Expected height and width divisible by {SIDE}, but got the shape {tuple(values.shape)}. "
            "Crop or pad the images first."
        )
    if values.dtype == torch.int32:
        if values.numel() and max(-int(values.min()), int(values.max())) >= LARGEST_INTEGER:
            raise ValueError("Expected integers between -2^30 and 2^30, which is all that ZFP can code. Scale them.")
        return
    if not torch.isfinite(values).all():
        raise ValueError("Expected finite values, but some are NaN or infinite.")
    largest = _split(values).abs().amax(0)
    if ((largest > 0) & (largest < SMALLEST)).any():
        raise ValueError(
            "Expected the largest value of each block to be 0 or at least 2^-98, because ZFP's scale overflows "
            "below that. Scale the values up, or set them to 0."
        )


def _split(values: Tensor) -> Tensor:
    """(16, block), the pixels of a block row by row; blocks in reading order, array after array."""
    height, width = values.shape[-2:]
    tiles = values.reshape(-1, height // SIDE, SIDE, width // SIDE, SIDE)
    return tiles.permute(2, 4, 0, 1, 3).reshape(SIDE * SIDE, -1)


def _join(blocks: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inverse of `_split`."""
    height, width = shape[-2:]
    tiles = blocks.view(SIDE, SIDE, -1, height // SIDE, width // SIDE)
    return tiles.permute(2, 3, 0, 4, 1).reshape(shape)


def _unit(exponent: Tensor) -> Tensor:
    """2^(exponent - 30), which rounds to 0 where float32 ends, as in ZFP."""
    return torch.exp2(exponent.double() - 30.0).float()


def _digits(integers: Tensor) -> Tensor:
    """Transformed integers (16, block) in sequency order, as negabinary numbers."""
    lifted = _lift(integers.view(SIDE, SIDE, -1))  # along rows first: the faster axis
    lifted = _lift(lifted.transpose(0, 1)).transpose(0, 1).reshape(SIDE * SIDE, -1)
    ordered = lifted[torch.tensor(SEQUENCY, device=integers.device)]
    return to_negabinary(ordered)


def _lift(values: Tensor) -> Tensor:
    """The transform along the second axis of four.

    The lifting steps approximate 1/16 [[4, 4, 4, 4], [5, 1, -1, -5], [-4, 4, 4, -4], [-2, 6, -6, 2]].

    References
    ----------
    lindstrom2014fixed, section 3.3; diffenderfer2019error, equation 4.2
    """
    x, y, z, w = values.unbind(1)
    x = (x + w) >> 1
    w = w - x
    z = (z + y) >> 1
    y = y - z
    x = (x + z) >> 1
    z = z - x
    w = (w + y) >> 1
    y = y - w
    w = w + (y >> 1)
    y = y - (w >> 1)
    return torch.stack([x, y, z, w], 1)


def _inverse_lift(values: Tensor) -> Tensor:
    """The steps of `_lift` backwards; what their shifts cut off is lost."""
    x, y, z, w = values.unbind(1)
    y = y + (w >> 1)
    w = w - (y >> 1)
    y = y + w
    w = (w << 1) - y
    z = z + x
    x = (x << 1) - z
    y = y + z
    z = (z << 1) - y
    w = w + x
    x = (x << 1) - w
    return torch.stack([x, y, z, w], 1)
