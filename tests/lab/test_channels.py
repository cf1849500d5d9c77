"""Which output channels of a layer can go."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab import models
from remnant.lab.compress.channels import Readers, removable_channels
from tests.lab.toys import ResidualNet, mlp


def test_hidden_layer_of_a_perceptron():
    assert removable_channels(mlp()) == {"1": Readers((), ("4",))}


def test_convolutions_through_norms_pooling_and_flattening():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Flatten(),
        nn.Linear(96, 8),
        nn.GELU(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 4),
    )
    assert removable_channels(model) == {
        "0": Readers(("1",), ("4",)),
        "4": Readers((), ("6",)),
        "6": Readers(("8",), ("9",)),
    }


def test_widths_around_a_sum_stay():
    """The depthwise convolution cannot be thinned as easily, so that what it reads stays too."""
    assert set(removable_channels(ResidualNet())) == {"depthwise"}
    resnet = models.build("resnet8", (3, 8, 8), 10, np.random.default_rng(0))
    found = removable_channels(resnet)
    assert found == {f"{i}.conv1": Readers((f"{i}.norm1",), (f"{i}.conv2",)) for i in (3, 4, 5)}


class Branches(nn.Module):
    """Readers that differ in one place, chosen by name."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.first, self.second, self.third = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2)
        self.line, self.head = nn.Linear(8, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        a = functional.relu(x)
        if self.way == "two readers":
            return self.second(a).mean((2, 3)) + self.second(a * 1).mean((2, 3))
        if self.way == "mean":
            return self.head(a.mean(dim=[-2, -1]))
        if self.way == "pooled":
            return self.head(torch.flatten(functional.adaptive_avg_pool2d(a, 1), 1))
        if self.way == "grouped":
            return self.third(a).mean((2, 3))
        if self.way == "on pixels":
            return self.line(a).mean((1, 2))
        if self.way == "over channels":
            return self.line(a.mean(1)).mean(1)
        if self.way == "shared norm":
            return self.second(self.norm(a)).mean((2, 3)) + self.norm(x).mean((2, 3))
        if self.way == "softmax":
            return self.second(a.softmax(1)).mean((2, 3))
        return self.second(a) if a.sum() > 0 else a


@pytest.mark.parametrize(
    ("way", "reader"),
    [
        ("two readers", None),
        ("mean", "head"),
        ("pooled", "head"),
        ("grouped", None),
        ("on pixels", None),
        ("over channels", None),
        ("shared norm", None),
        ("softmax", None),
        ("cannot be traced", None),
    ],
)
def test_only_known_readers_let_channels_go(way, reader):
    found = removable_channels(Branches(way))
    assert found.get("first") == (None if reader is None else Readers((), (reader,)))


def test_layers_that_are_called_twice_stay():
    layer = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(4, 8), layer, nn.ReLU(), layer, nn.Linear(8, 2))
    assert removable_channels(model) == {}


def test_linear_layers_on_tokens_are_not_flattened():
    """After (example, token, feature) is flattened, features of one kind do not lie together."""
    model = nn.Sequential(nn.Linear(4, 8), nn.Flatten(), nn.Linear(24, 2))
    assert removable_channels(model) == {}
