"""Random numbers of attacks: the same for every model, whatever else is attacked with an example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """The random numbers of some examples, in units of the budget."""

    starts: Tensor
    """(example, restart, channel, height, width) uniform in [-1, 1]: where gradient ascent begins."""
    stripes: Tensor
    """(example, channel, 1, width) of -1 and 1: the columns that `square` begins with."""
    squares: Tensor
    """(example, query, 2 + channel) uniform in [0, 1): top and left of a square, and its sign in each channel."""

    def __getitem__(self, index: Tensor) -> "Draws":
        return Draws(self.starts[index], self.stripes[index], self.squares[index])

    def to(self, device: torch.device) -> "Draws":
        """The same numbers on a device."""
        return Draws(self.starts.to(device), self.stripes.to(device), self.squares.to(device))


def draw(
    rng: Callable[[str], np.random.Generator],
    rows: Sequence[int] | np.ndarray,
    shape: Sequence[int],
    *,
    restarts: int = 1,
    queries: int = 0,
) -> Draws:
    """Random numbers for examples by their row: each row has streams of its own.

    A row's numbers do not depend on the other rows, nor on how many restarts or queries are asked for.

    Parameters
    ----------
    rng
        A named random stream, such as `Subject.rng`.
    shape
        (channels, height, width).
    """
    channels, _, width = shape
    starts = np.empty((len(rows), restarts, *shape), np.float32)
    stripes = np.empty((len(rows), channels, 1, width), np.float32)
    squares = np.empty((len(rows), queries, 2 + channels), np.float32)
    for place, row in enumerate(rows):
        rng(f"start/{row}").random(dtype=np.float32, out=starts[place])
        if queries:
            stream = rng(f"square/{row}")
            stream.random(dtype=np.float32, out=stripes[place])
            stream.random(dtype=np.float32, out=squares[place])
    signs = np.where(stripes < 0.5, -1, 1).astype(np.float32) if queries else np.zeros_like(stripes)
    return Draws(torch.from_numpy(2 * starts - 1), torch.from_numpy(signs), torch.from_numpy(squares))
