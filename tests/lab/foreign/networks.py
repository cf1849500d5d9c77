"""Small networks for tests of models made elsewhere, named as users name theirs."""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.ingest.predictions import Predictions
from remnant.lab.data import Dataset, load
from remnant.lab.foreign import EvaluationData
from remnant.lab.train import normalize


class Small(nn.Module):
    """Two layers on digits."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.out = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(x.flatten(1))))


def small() -> nn.Module:
    return Small()


def not_a_model() -> str:
    return "no"


def with_argument(x: int) -> nn.Module:
    return Small(x)


NUMBER = 3


def scores(found: Predictions) -> np.ndarray:
    assert found.scores is not None
    return found.scores


def ids(found: Predictions | EvaluationData) -> list:
    assert found.ids is not None
    return found.ids.tolist()


def tensor(values: Any) -> Tensor:
    assert isinstance(values, Tensor)
    return values


@cache
def digits() -> Dataset:
    return load("digits")


@cache
def trained() -> Small:
    """About 95 % right on the test digits. Shared: do not change it."""
    dataset = digits()
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        model = Small()
        x, y = normalize(dataset, tensor(dataset.train.images)), dataset.train.labels
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(150):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


@torch.no_grad()
def direct() -> Tensor:
    """The trained model's logits on the test digits, without remnant's runner."""
    dataset = digits()
    return trained()(normalize(dataset, tensor(dataset.test.images)))
