"""Products of 0/1 matrices as exact counts. All backends give the same bits: sums of zeros and ones below 2^24."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from remnant.registry import unknown


@dataclass(frozen=True)
class Backend:
    """How counts are computed."""

    members: Callable[[Tensor], Tensor]
    """Prepares uint8 (train_example, trial), once for each block of training examples."""
    right: Callable[[Tensor], Tensor]
    """Prepares uint8 (example, trial), once for each block of test examples."""
    multiply: Callable[[Tensor, Tensor, int], Tensor]
    """Counts float32 (train_example, example) of what was prepared; the last argument is the number of examples."""


def _packed(right: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(right.view(torch.int8), [len(right), right.shape[1]])


def _multiply_packed(members: Tensor, right: Tensor, num_examples: int) -> Tensor:
    scale, zero = torch.ones(num_examples), torch.zeros(num_examples, dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        members, 1.0, 0, right, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )


def _same(matrix: Tensor) -> Tensor:
    return matrix


BACKENDS: dict[str, Backend] = {
    # oneDNN's 8-bit linear layer without zero points and with scale 1: it packs one side once, for the matrix unit.
    "onednn": Backend(_same, _packed, _multiply_packed),
    "int8": Backend(
        lambda members: members.view(torch.int8),
        lambda right: right.view(torch.int8),
        lambda members, right, _: torch.ops.aten._int_mm(members, right.t()).float(),
    ),
    # Prepared test examples stay 8-bit, or they would take four times the memory.
    "float32": Backend(Tensor.float, _same, lambda members, right, _: members @ right.float().t()),
}
"""Ways to compute counts, the fastest first where a CPU has instructions for 8-bit products."""


def backend(name: str | None) -> Backend:
    """The backend of a name, or the default one.

    Raises
    ------
    ValueError
        If there is none of the name, or this machine or version of torch does not have it.
    """
    name = default_backend() if name is None else name
    if name not in BACKENDS:
        raise unknown("backend", name, list(BACKENDS))
    if not works(name):
        raise ValueError(
            f"Expected `backend` to work here, but {name!r} does not. Leave it out to choose one that does."
        )
    return BACKENDS[name]


@cache
def default_backend() -> str:
    """The fastest backend that works here: 8-bit ones pay where the CPU has AVX-512 (then with VNNI or AMX, mostly)."""
    quick = torch.backends.cpu.get_cpu_capability() in ("AVX512", "AVX512_VNNI", "AMX", "AVX10_2")
    return next(name for name in BACKENDS if name == "float32" or (quick and works(name)))


@cache
def works(name: str) -> bool:
    """Whether a backend counts right here; the 8-bit operators of torch are not part of its stable interface."""
    bits = torch.arange(70 * 37).view(70, 37).mul(2654435761).bitwise_right_shift(7).remainder(3).clamp(max=1)
    members, right = bits[:40].to(torch.uint8), bits[40:].to(torch.uint8)
    how = BACKENDS[name]
    try:
        found = how.multiply(how.members(members), how.right(right), len(right))
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return torch.equal(found, members.float() @ right.float().t())
