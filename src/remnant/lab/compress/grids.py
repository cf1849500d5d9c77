"""Grids of evenly spaced numbers: what few bits can hold, and rounding onto them.

References
----------
jacob2018quantization, section 2.1; bengio2013estimating
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny
"""Scales below the smallest normal number count as 0: their inverse would overflow."""


@dataclass(frozen=True)
class Grid:
    """The real numbers that an int8 tensor can hold: `scale` times the integers `low` to `high`.

    `low` and `high` are the ends -128 and 127 less the zero point, so that the integer 0 is the number 0.
    """

    scale: float
    low: int
    high: int

    @classmethod
    def over(cls, low: float, high: float) -> "Grid":
        """256 numbers from about `low` to `high`, 0 among them; only 0 if both are 0.

        The range is widened to hold 0, then shifted by at most half a step so that 0 is one of them.
        """
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = high / 255 - low / 255
        if scale < TINY:
            return cls(1.0, 0, 0)
        zero_point = min(127, max(-128, round(-128 - low / scale)))
        return cls(float(np.float32(scale)), -128 - zero_point, 127 - zero_point)

    def codes(self, values: Tensor) -> Tensor:
        """The integers of the nearest numbers of the grid, ends beyond them, as a new float tensor; NaN stays NaN."""
        return values.mul(1 / self.scale).round_().clamp_(self.low, self.high)


def quantize_weight(
    weight: Tensor, per_channel: bool = True, smallest: Tensor | None = None, *, bits: int = 8
) -> tuple[Tensor, Tensor]:
    """Integers in [-q, q] (as floats), q = 2^(bits - 1) - 1, and the scale of each output channel (dimension 0).

    weight = codes * scale within scale / 2. A channel that is all zero, or smaller than float32 can
    scale, has codes 0 and the largest scale of the layer (1 if all are).

    Parameters
    ----------
    per_channel
        False gives all channels the largest scale.
    smallest
        Lower bounds of the scales.
    """
    weight = weight.detach()
    scale = weight_scale(weight, per_channel, smallest, bits=bits)
    return weight_codes(weight, scale, bits), scale.clone()


def weight_scale(weight: Tensor, per_channel: bool = True, smallest: Tensor | None = None, *, bits: int = 8) -> Tensor:
    """The scale of each output channel: max|w| / (2^(bits - 1) - 1); see `quantize_weight`."""
    scale = weight.detach().flatten(1).abs().amax(1) / largest_code(bits)
    if smallest is not None:
        scale = torch.maximum(scale, smallest)
    return usable(scale, per_channel)


def usable(scale: Tensor, per_channel: bool = True) -> Tensor:
    """Scales of which those that are 0 take the largest (1 if all are 0), or all do if not `per_channel`."""
    largest = scale.max() if scale.max() >= TINY else torch.ones_like(scale[0])
    return torch.where(scale >= TINY, scale, largest) if per_channel else largest.expand_as(scale)


def weight_codes(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """The nearest integers to weight / scale of the output channel, cut off at the largest code."""
    largest = largest_code(bits)
    return (weight / over_channels(scale, weight)).round_().clamp_(-largest, largest)


def least_squares_scale(weight: Tensor, bits: int, *, steps: int = 80) -> Tensor:
    """The scale of each output channel with the least sum of squared rounding errors, among fractions of the usual one.

    The candidates are 1, 1 - 1 / `steps`, ..., 0.2 times max|w| / (2^(bits - 1) - 1): weights beyond the largest code
    are cut off, the others have finer steps. Of equal errors the largest scale is taken.
    """
    weight = weight.detach()
    start = weight_scale(weight, bits=bits)
    best, least = start, torch.full_like(start, torch.inf)
    for step in range(round(0.8 * steps) + 1):
        scale = start * (1 - step / steps)
        error = weight_codes(weight, scale, bits) * over_channels(scale, weight) - weight
        error = error.flatten(1).double().square().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error.to(least.dtype), least)
    return best


def largest_code(bits: int) -> int:
    """The largest integer of a symmetric signed number of `bits` bits: 127 for 8, 7 for 4, 1 for 2."""
    return 2 ** (bits - 1) - 1


def over_channels(values: Tensor, weight: Tensor) -> Tensor:
    """One value per output channel, shaped to broadcast over the weight."""
    return values.view(-1, *[1] * (weight.dim() - 1))


class _Through(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def round_through(values: Tensor) -> Tensor:
    """Nearest integers (halves to even), with the gradient of the identity: the straight-through estimator."""
    found = _Through.apply(values)
    assert isinstance(found, Tensor)
    return found
