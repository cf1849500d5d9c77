"""Models and points to attack in tests."""

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.attacks import Draws, Points, Target, draw
from remnant.probes.adversarial import Adversarial

SHAPE = (3, 6, 6)


def plain(model: nn.Module) -> Target:
    """A model that takes pixels as they are."""
    return Target(model.eval(), torch.zeros(3), torch.ones(3))


def linear(seed: int, num_classes: int) -> nn.Module:
    rng = np.random.default_rng(seed)
    layer = nn.Linear(108, num_classes)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.normal(0, 1, layer.weight.shape)))
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def bent(seed: int, num_classes: int = 4, *, gain: float = 1.0) -> nn.Module:
    """A small network; the higher its gain, the further from linear."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(288, num_classes)
    with torch.no_grad():
        first.weight.mul_(gain)
    return nn.Sequential(first, nn.Tanh(), nn.Flatten(), last)


def right(target: Target, number: int, seed: int = 0) -> Points:
    """Random images whose labels are the model's answers, so that all are right."""
    pixels = torch.from_numpy(np.random.default_rng(seed).random((number, *SHAPE), np.float32))
    answers = target.points(pixels, torch.zeros(number, dtype=torch.int64)).logits.argmax(1)
    return target.points(pixels, answers)


def draws(number: int, **options: int) -> Draws:
    return draw(Adversarial().rng, range(number), SHAPE, **options)


def largest_change(found: Points, clean: Points) -> Tensor:
    return (found.pixels - clean.pixels).abs().amax()
