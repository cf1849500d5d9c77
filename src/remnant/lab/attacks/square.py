"""Random search without gradients: the Square Attack."""

import torch
from torch import Tensor

from remnant.lab.attacks.draws import Draws
from remnant.lab.attacks.points import Points, within, worse
from remnant.lab.attacks.target import Target

_SHARE = 0.8
"""Share of the pixels that the first squares cover."""
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries those after which the share is halved."""


def square(target: Target, clean: Points, budget: float, draws: Draws) -> Points:
    """The worst images of a random search that asks for the model's answers only.

    It begins with columns of -budget and +budget; then a square at a random place moves to -budget or +budget in each
    channel, and stays if the margin of the wrong classes grows. One query for each of `draws.squares`; images that
    are wrong are left alone.

    References
    ----------
    andriushchenko2020square, algorithms 1 and 2
    """
    queries = draws.squares.shape[1]
    found = target.points(within(clean.pixels + budget * draws.stripes, clean.pixels, budget), clean.labels)
    here = (~found.broken).nonzero()[:, 0]
    current, images, numbers = found[here], clean.pixels[here], draws.squares[here]
    for query in range(1, queries):
        if len(here) == 0:
            break
        moved = current.pixels + 2 * budget * _window(numbers[:, query], images, side_of(query, queries, images))
        current = worse(current, target.points(within(moved, images, budget), current.labels))
        if current.broken.any():
            found = found.put(here[current.broken], current[current.broken])
            left = ~current.broken
            here, current, images, numbers = here[left], current[left], images[left], numbers[left]
    return found.put(here, current)


def side_of(query: int, queries: int, images: Tensor) -> int:
    """Side of the squares of a query, in pixels: at least 1, less than the image."""
    height, width = images.shape[-2:]
    halvings = sum(query * 10_000 // queries > after for after in _HALVINGS)
    side = round((_SHARE / 2**halvings * height * width) ** 0.5)
    return max(1, min(side, height - 1, width - 1))


def _window(numbers: Tensor, images: Tensor, side: int) -> Tensor:
    """-1 or 1 in each channel inside of a square at a random place, 0 outside, (example, channel, height, width)."""
    height, width = images.shape[-2:]
    inside = []
    for number, size in ((numbers[:, 0], height), (numbers[:, 1], width)):
        first = (number * (size - side + 1)).floor()[:, None]
        place = torch.arange(size, device=images.device)
        inside.append(((place >= first) & (place < first + side)).to(images.dtype))
    mask = inside[0][:, None, :, None] * inside[1][:, None, None, :]
    return torch.where(numbers[:, 2:] < 0.5, -1.0, 1.0)[:, :, None, None] * mask
