"""Rewinding to early weights and to early learning rates."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab import models, train
from remnant.lab.compress import Context, pruning, rewinding
from remnant.lab.compress import tuning as tuning_module
from remnant.schemes.pruning import IterativePruning
from remnant.trial import Trial
from tests.lab.toys import NUM_CLASSES, SHAPE, built, context


class Snapshots:
    """A hook that keeps the state of a model before chosen steps, and the learning rates of all."""

    def __init__(self, model: nn.Module, steps: tuple[int, ...]) -> None:
        self.model, self.steps = model, steps
        self.states: dict[int, dict[str, torch.Tensor]] = {}

    def before_step(self, step: int, num_steps: int) -> None:
        if step in self.steps:
            self.states[step] = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}

    def settled(self, step: int, num_steps: int) -> bool:
        return True

    def finish(self) -> None:
        pass


def place_of(architecture: str, **settings: object) -> Context:
    place = context(seed=3)
    recipe = replace(place.recipe, architecture=architecture, **settings)  # pyright: ignore
    return replace(place, recipe=recipe, rng=Trial(recipe, seed=3).rng)


def dense(place: Context, steps: tuple[int, ...] = ()) -> tuple[nn.Module, Snapshots]:
    model = models.build(place.recipe.architecture, SHAPE, NUM_CLASSES, place.rng("init"))
    hook = Snapshots(model, steps)
    return train.train(model, place.recipe, place.dataset, place.indices, place.rng, hook=hook), hook


SETTINGS = {"learning_rate": 0.05, "schedule": "cosine", "warmup": 0.1, "augmentation": ("flip", "crop"), "epochs": 3}


@pytest.mark.parametrize("more", [{}, {"validation": 0.2, "checkpoint": "validation"}, {"steps": 11}])
def test_early_weights_are_those_of_the_dense_training_bit_for_bit(more):
    place = place_of("cnn-4", **SETTINGS, **more)
    model, hook = dense(place, (0, 1, 7, 10))
    for step, expected in hook.states.items():
        early = rewinding.early_weights(model, step, place)
        assert early.keys() == expected.keys()
        for name in early:
            assert torch.equal(early[name], expected[name]), (step, name)


def test_a_span_of_all_steps_is_the_whole_training():
    place = place_of("cnn-4", **SETTINGS)
    model, _ = dense(place)
    again = models.build("cnn-4", SHAPE, NUM_CLASSES, place.rng("init"))
    train.train(again, place.recipe, place.dataset, place.indices, place.rng, span=(0, 18))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("epochs", "more", "expected"),
    [
        (1, {}, (12, 18)),  # 200 examples, batches of 32: 6 steps each of 3 epochs
        (0.5, {}, (15, 18)),
        (3, {}, (0, 18)),
        (0, {}, (18, 18)),
        (1, {"steps": 8}, (2, 8)),
        (1, {"validation": 0.2}, (10, 15)),  # 160 examples: 5 steps
    ],
)
def test_the_last_epochs_are_counted_in_the_steps_of_the_recipe(epochs, more, expected):
    assert rewinding.last_steps(epochs, place_of("cnn-4", **SETTINGS, **more)) == expected


@pytest.mark.parametrize("rewind", ["learning-rate", "weights"])
def test_every_round_has_the_learning_rates_of_the_last_epochs(rewind, monkeypatch):
    place = place_of("cnn-4", **SETTINGS)
    model, _ = dense(place)
    steps: list[tuple[int, float]] = []
    original = train.learning_rate

    def recorded(recipe, step, num_steps):
        steps.append((step, original(recipe, step, num_steps)))
        return steps[-1][1]

    monkeypatch.setattr(train, "learning_rate", recorded)
    pruning.iterative(IterativePruning(0.5, rounds=2, rewind=rewind, epochs=1), model, place)
    expected = [(step, original(place.recipe, step, 18)) for step in range(12, 18)]
    again = [(step, original(place.recipe, step, 18)) for step in range(12)] if rewind == "weights" else []
    assert steps == again + expected * 2


def test_weights_that_stay_are_rewound_before_each_round(monkeypatch):
    """Frankle's procedure: masks from the trained weights, values from the early ones."""
    place = place_of("cnn-4", **SETTINGS)
    model, hook = dense(place, (12,))
    early = hook.states[12]
    starts: list[dict[str, torch.Tensor]] = []

    def no_training(model, *args, hook, **options):
        starts.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        starts[-1]["shown"] = model[3].weight.detach().clone()
        hook.finish()
        return model

    monkeypatch.setattr(pruning, "tuned", no_training)
    pruning.iterative(IterativePruning(0.5, "layer", rounds=2, rewind="weights", epochs=1), model, place)
    assert len(starts) == 2
    for start in starts:
        assert torch.equal(start["3.parametrizations.weight.original"], early["3.weight"])
        assert torch.equal(start["4.running_mean"], early["4.running_mean"])
    magnitudes = model[3].weight.detach().abs()  # pyright: ignore
    kept = starts[0]["shown"] != 0
    assert int(kept.sum()) == round(kept.numel() * 0.5**0.5)
    assert magnitudes[kept].min() > magnitudes[~kept].max()
    assert torch.equal(starts[0]["shown"][kept], early["3.weight"][kept])
    later = starts[1]["shown"] != 0
    assert not (later & ~kept).any()


@pytest.mark.parametrize("structure", ["weight", "filter", "block"])
@pytest.mark.parametrize("rewind", ["none", "learning-rate", "weights"])
def test_groups_that_went_stay_away_in_all_rounds(structure, rewind, monkeypatch):
    place = place_of("cnn-4", **SETTINGS)
    model, _ = dense(place)
    zeros: list[torch.Tensor] = []
    original = tuning_module.tuned

    def recorded(model, *args, **options):
        tuned = original(model, *args, **options)
        zeros.append(torch.cat([p.flatten() == 0 for p in tuned.parameters() if p.dim() > 1]))
        return tuned

    monkeypatch.setattr(pruning, "tuned", recorded)
    scheme = IterativePruning(0.6, structure=structure, rounds=3, rewind=rewind, epochs=0.5)
    pruning.iterative(scheme, model, place)
    assert len(zeros) == 3
    for before, after in pairwise(zeros):
        assert not (before & ~after).any()
        assert int(after.sum()) > int(before.sum())


@pytest.mark.parametrize("rewind", ["learning-rate", "weights"])
def test_rewinding_is_reproducible_and_leaves_the_model_alone(rewind):
    place = place_of("mlp-8", **{**SETTINGS, "augmentation": ()})
    model, _ = dense(place)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scheme = IterativePruning(0.7, rounds=2, rewind=rewind, epochs=2)
    one, other = (pruning.iterative(scheme, model, place).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not torch.equal(one["1.weight"], before["1.weight"])


def test_more_epochs_than_the_recipe_has_are_refused():
    place = place_of("mlp-8", **{**SETTINGS, "augmentation": ()})
    with pytest.raises(ValueError, match=r"Expected `epochs` <= 3 with rewinding.*but got 4"):
        pruning.iterative(IterativePruning(0.5, rewind="learning-rate", epochs=4), dense(place)[0], place)


def test_a_model_of_another_architecture_cannot_be_rewound():
    place = place_of("mlp-8", **{**SETTINGS, "augmentation": ()})
    scheme = IterativePruning(0.5, rewind="weights", epochs=1)
    with pytest.raises(ValueError, match=r"'mlp-8' for rewind='weights', but its `1.weight` has the shape \(24, 192\)"):
        pruning.iterative(scheme, built("mlp"), place)
    with pytest.raises(ValueError, match=r"Expected `architecture` to be one of"):
        pruning.iterative(scheme, built("mlp"), context())


def test_the_learning_rate_of_fine_tuning_is_refused_with_rewinding():
    with pytest.raises(
        ValueError, match=r"Expected `learning_rate` as it is: rewinding takes the recipe's, but got 0.1"
    ):
        IterativePruning(0.5, rewind="weights", learning_rate=0.1)
    assert np.isclose(IterativePruning(0.5, learning_rate=0.1).learning_rate, 0.1)
