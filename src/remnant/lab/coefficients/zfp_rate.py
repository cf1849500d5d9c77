"""What a budget of bits per block leaves of ZFP's coefficients: its embedded coder, counted but not written.

The coder sends bit planes from the highest one. In a plane, the coefficients that an earlier plane
has reached are sent as they are; for the rest it asks "is another 1 to come?" and, if so, sends
bits up to and including that 1 (which is implied at the last coefficient). It stops, wherever that
is, when the budget is spent.
"""

import torch
from torch import Tensor

from remnant.lab.coefficients.zfp_blocks import PLANES, SIDE, Blocks

SIZE = SIDE * SIDE
HEADER = 9
"""Bits of a block of floats before its planes: 1 that it is not all zeros, 8 of its exponent."""
_CHUNK = 3 << 12
"""Blocks at once: their coefficients stay in the processor's cache."""


def bits_per_block(rate: float, dtype: torch.dtype) -> int:
    """Bits of a 4x4 block at `rate` bits per value, rounded as ZFP does.

    Raises
    ------
    ValueError
        If the budget does not hold a block's header: ZFP's Python package then writes nearly lossless data.
    """
    least = HEADER if dtype == torch.float32 else 1
    if not least <= SIZE * rate <= SIZE * (PLANES * 2):
        raise ValueError(
            f"Expected `rate` in [{least / SIZE}, {PLANES * 2}] bits per value for 4x4 blocks of {dtype}, "
            f"but got {rate!r}. ZFP cannot hold the header of a block in less."
        )
    return int(SIZE * rate + 0.5)


def keep_rate(blocks: Blocks, rate: float) -> Blocks:
    """The blocks as they are decoded from a stream of ZFP's fixed-rate mode with `rate` bits per value.

    Raises
    ------
    ValueError
        See `bits_per_block`.
    """
    is_float = blocks.exponent is not None
    budget = bits_per_block(rate, torch.float32 if is_float else torch.int32) - (HEADER if is_float else 0)
    return Blocks(within(blocks.negabinary, budget), blocks.exponent, blocks.shape)


def within(digits: Tensor, budget: int) -> Tensor:
    """The digits of base -2 (16, block), int32 in sequency order, that `budget` bits per block can tell."""
    kept = torch.empty_like(digits)
    for part, out in zip(digits.split(_CHUNK, 1), kept.split(_CHUNK, 1), strict=True):
        out.copy_(_within(part, budget))
    return kept


def _within(digits: Tensor, budget: int) -> Tensor:
    plane, left, known = _whole_planes(_lengths(digits), budget)
    whole = torch.where(plane < PLANES, torch.full_like(plane, -1) << plane.clamp(max=PLANES - 1), 0)
    below = (plane - 1).clamp(min=0)
    bits = (digits >> below) & 1
    told = _tell(bits, left, known).to(torch.int32) << below
    return (digits & whole) | torch.where(plane > 0, told, 0)


def _lengths(digits: Tensor) -> Tensor:
    """Number of the highest digit that is 1, from 1; 0 for zero. int16, same shape."""
    # Without the digits below a leading 1, rounding to float cannot carry into the next power of two.
    leading = (digits & ~(digits >> 1)).float()
    length = ((leading.view(torch.int32) >> 23) - 126).to(torch.int16).clamp_(min=0)
    return length.masked_fill_(digits < 0, PLANES)


def _whole_planes(length: Tensor, budget: int) -> tuple[Tensor, Tensor, Tensor]:
    """(lowest plane that is told whole, bits left after it, coefficients reached in it), for each block.

    The plane is int32 and 32 where none is; the others are int8. With r the greatest length from a coefficient on,
    telling the planes down to k takes 32 - k answers "no more 1 to come", and for each coefficient but
    the last one max(r - k, 0) bits, and an answer "yes" if its own leading 1, at or above k, has length r.
    At the last coefficient the bit or the answer is saved. The sum falls with k, which is found by bisection.
    """
    reach = length.clone()
    for i in range(SIZE - 2, -1, -1):
        torch.maximum(reach[i], reach[i + 1], out=reach[i])
    first, leading = reach[:-1], torch.where(length == reach, length, 0)[:-1]

    def cost(plane: Tensor) -> Tensor:
        sent = (first - plane).clamp_(min=0).add_((leading - plane).clamp_(0, 1))
        return sent.sum(0, dtype=torch.int16) + (PLANES - plane)

    plane = torch.zeros_like(length[0])
    for step in (16, 8, 4, 2, 1):
        # Raised by `step` where the planes down to plane + step - 1 are too many.
        plane += step * (cost(plane + (step - 1)) > budget)
    plane += (cost(plane) > budget).to(torch.int16)
    left = (budget - cost(plane)).clamp_(max=2 * SIZE)  # more than a plane can take
    known = (reach - plane).clamp_(0, 1).sum(0, dtype=torch.int16)
    return plane.to(torch.int32), left.to(torch.int8), known.to(torch.int8)


def _tell(bits: Tensor, left: Tensor, known: Tensor) -> Tensor:
    """The bits (16, block) of one plane that `left` bits tell, if `known` coefficients are sent as they are."""
    places = torch.arange(SIZE, dtype=torch.int8, device=bits.device)[:, None]
    set_, reached = bits > 0, known > places
    to_come = set_.clone()  # whether a 1 comes at or after a coefficient
    for i in range(SIZE - 2, -1, -1):
        to_come[i] |= to_come[i + 1]
    told = torch.empty_like(set_)
    rest = left - known
    alive = rest > 0
    asked = torch.zeros_like(alive)
    for i in range(SIZE):
        here = alive > reached[i]  # alive and not reached: of truth values, a > b is "a and not b"
        # A question, unless the answer to the last one still holds.
        ask = here > asked
        rest -= ask.view(torch.int8)
        here &= ((rest >= 0) & to_come[i]) >= ask
        # The decoder has been told that a 1 comes. Where the bits end, it takes the next one for it.
        end = rest <= 0
        sent = here > end
        rest -= sent.view(torch.int8)
        one = torch.bitwise_or(here & end, sent & set_[i], out=told[i])
        asked = here > one
        alive = (alive & reached[i]) | sent
    return torch.where(reached, set_ & (left > places), told)
