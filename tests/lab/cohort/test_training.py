from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab import data
from remnant.lab.cohort import training
from remnant.lab.cohort.training import Member, tile_size, train_together
from remnant.lab.models import build
from remnant.lab.train import DivergedError, train
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp-24-12", epochs=3, batch_size=50)
SIZES = (300, 300, 260, 300, 40)


@cache
def digits() -> data.Dataset:
    return data.load("digits")


def member(recipe: Recipe, seed: int, size: int = 300) -> Member:
    trial = Trial(recipe, seed=seed)
    indices = np.sort(np.random.default_rng(seed).permutation(1437)[:size])
    return Member(build(recipe.architecture, digits().input_shape, 10, trial.rng("init")), indices, trial.rng)


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def together(recipe: Recipe, sizes=SIZES) -> list[torch.Tensor]:
    members = [member(recipe, seed, size) for seed, size in enumerate(sizes)]
    assert train_together(members, recipe, digits()) == [None] * len(members)
    assert not any(one.model.training for one in members)
    return [state(one.model) for one in members]


def alone(recipe: Recipe, sizes=SIZES) -> list[torch.Tensor]:
    """The readable loop, one model after another."""
    members = [member(recipe, seed, size) for seed, size in enumerate(sizes)]
    return [state(train(one.model, recipe, digits(), one.indices, one.rng)) for one in members]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"label_smoothing": 0.1, "schedule": "linear", "warmup": 0.2},
        {"nesterov": False, "weight_decay": 0.0, "architecture": "mlp"},
        {"momentum": 0.0, "architecture": "mlp-13"},
        {"optimizer": "adamw", "learning_rate": 0.005, "architecture": "mlp-17-9-8"},
        {"augmentation": ("crop",)},
        {"steps": 5},
        {"validation": 0.25, "checkpoint": "validation"},
        {"checkpoint": "test-selected", "learning_rate": 0.4},
    ],
)
def test_a_model_gets_the_bits_that_it_gets_alone(changes):
    recipe = replace(RECIPE, **changes)
    for one, other in zip(together(recipe), alone(recipe), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("tile", [1, 2, 7, 16])
def test_the_bits_do_not_depend_on_how_many_are_trained_at_once(tile, monkeypatch):
    monkeypatch.setattr(training, "tile_size", lambda model, batch_size: tile)
    found = together(RECIPE, [300] * 16)
    members = [member(RECIPE, seed) for seed in range(16)]
    for one, expected in zip(reversed(members), reversed(found), strict=True):
        train_together([one], RECIPE, digits())
        assert torch.equal(state(one.model), expected)


def test_one_that_diverges_does_not_harm_the_others():
    members = [member(RECIPE, seed) for seed in range(3)]
    with torch.no_grad():
        next(members[1].model.parameters()).fill_(torch.inf)
    outcomes = train_together(members, RECIPE, digits())
    assert [type(one) for one in outcomes] == [type(None), DivergedError, type(None)]
    assert "at step 6 of 18" in str(outcomes[1])
    expected = alone(RECIPE, [300] * 3)
    assert torch.equal(state(members[0].model), expected[0])
    assert torch.equal(state(members[2].model), expected[2])


def test_a_member_with_nothing_to_train_on_fails_alone():
    members = [member(RECIPE, 0, 0), member(RECIPE, 1)]
    outcomes = train_together(members, RECIPE, digits())
    assert "the training subset is empty" in str(outcomes[0])
    assert outcomes[1] is None
    assert torch.equal(state(members[1].model), alone(RECIPE, [300] * 2)[1])


def test_small_models_share_calls_and_large_ones_the_cache():
    small, large = (build(name, (64,), 10, np.random.default_rng(0)) for name in ("mlp-8", "mlp-2048"))
    assert tile_size(small, 32) == training.MOST
    assert tile_size(large, 128) == training.FEWEST
