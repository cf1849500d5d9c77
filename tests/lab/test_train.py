from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab import data
from remnant.lab.models import build
from remnant.lab.train import DivergedError, accuracy, learning_rate, make_optimizer, normalize, train
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp", epochs=10, learning_rate=0.1)


@cache
def digits() -> data.Dataset:
    return data.load("digits")


def pixels() -> torch.Tensor:
    images = digits().train.images
    assert isinstance(images, torch.Tensor)
    return images


def model(recipe: Recipe = RECIPE, seed: int = 0) -> nn.Module:
    return build(recipe.architecture, digits().input_shape, 10, Trial(recipe, seed=seed).rng("init"))


def trained(recipe: Recipe = RECIPE, indices=None, **options) -> nn.Module:
    indices = np.arange(1000) if indices is None else indices
    return train(model(recipe), recipe, digits(), indices, Trial(recipe).rng, **options)


def state(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_learns_and_is_deterministic():
    first, second = trained(), trained()
    assert torch.equal(state(first), state(second))
    assert accuracy(first, digits(), "test") > 0.85
    assert not first.training


def with_dropout(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(int(np.prod(input_shape)), num_classes))


def test_dropout_is_part_of_the_trial_and_leaves_the_global_state_alone():
    recipe = replace(RECIPE, architecture="tests.lab.test_train:with_dropout", epochs=2)
    before = torch.get_rng_state()
    first = trained(recipe)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(state(first), state(trained(recipe)))


def test_the_subset_alone_decides_what_is_learned():
    zeros = np.flatnonzero(digits().train.labels.numpy() == 0)
    assert accuracy(trained(indices=zeros), digits(), "train", zeros) == 1.0
    ones = np.flatnonzero(digits().train.labels.numpy() == 1)
    assert accuracy(trained(indices=zeros), digits(), "train", ones) == 0.0


@pytest.mark.parametrize("architecture", ["mlp", "cnn"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_combination_trains(architecture, precision, optimizer):
    rate = 0.1 if optimizer == "sgd" else 0.005
    recipe = replace(
        RECIPE, architecture=architecture, precision=precision, optimizer=optimizer, learning_rate=rate,
        augmentation=("crop", "cutout"), label_smoothing=0.1, warmup=0.1,
    )  # fmt: skip
    assert accuracy(trained(recipe), digits(), "test") > 0.5


def test_learning_rate_schedules():
    """Values worked by hand from the definitions."""

    def rates(**fields):
        return [learning_rate(replace(RECIPE, learning_rate=1.0, **fields), step, 100) for step in (0, 50, 75, 99)]

    assert rates(schedule="constant") == [1, 1, 1, 1]
    assert rates(schedule="cosine") == pytest.approx([1, 0.5, 0.1464466, 0.000246719], rel=1e-4)
    assert rates(schedule="linear") == pytest.approx([1, 0.5, 0.25, 0.01])
    assert rates(schedule="step") == pytest.approx([1, 0.1, 0.01, 0.01])
    assert rates(schedule="step", milestones=(0.6,), decay=0.5) == pytest.approx([1, 1, 0.5, 0.5])


def test_warm_up_rises_linearly_and_meets_the_schedule():
    recipe = replace(RECIPE, learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(recipe, step, 100) for step in range(100)]
    assert np.diff(rates[:10]) == pytest.approx(1 / 11)
    assert rates[10] == 1.0
    assert (np.diff(rates[10:]) < 0).all()


def test_weight_decay_spares_norms_and_biases():
    recipe = replace(RECIPE, architecture="cnn")
    network = model(recipe)
    groups = make_optimizer(network, recipe).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert id(module.weight) not in decayed
        if isinstance(module, nn.Linear):
            assert id(module.weight) in decayed
            assert id(module.bias) not in decayed
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))


def test_one_step_of_sgd_is_the_textbook_update():
    """w - lr (g + wd w) with Nesterov's first step (1 + momentum) on the gradient, worked outside the loop."""
    recipe = replace(RECIPE, steps=1, batch_size=4, schedule="constant", weight_decay=0.01, learning_rate=0.1)
    indices = np.arange(4)
    expected = model(recipe)
    loss = nn.functional.cross_entropy(expected(normalize(digits(), pixels()[:4])), digits().train.labels[:4])
    loss.backward()
    with torch.no_grad():
        for p in expected.parameters():
            assert p.grad is not None
            g = p.grad + (0.01 * p if p.ndim >= 2 else 0)
            p -= 0.1 * (g + 0.9 * g)
    found = trained(recipe, indices)
    assert torch.allclose(state(found), state(expected), atol=1e-6)


def test_steps_replace_epochs():
    seen = []
    trained(replace(RECIPE, steps=17), report=lambda step, total, loss: seen.append((step, total)))
    assert seen == [(7, 17), (14, 17), (17, 17)]


def test_a_validation_split_is_held_out_and_chooses_the_epoch():
    recipe = replace(RECIPE, validation=0.2, checkpoint="validation")
    chosen = trained(recipe)
    assert accuracy(chosen, digits(), "test") > 0.85
    last = trained(replace(recipe, checkpoint="last"))
    held_out = np.sort(Trial(recipe).rng("validation").permutation(np.arange(1000))[:200])
    assert accuracy(chosen, digits(), "train", held_out) >= accuracy(last, digits(), "train", held_out)


def test_test_selection_is_at_least_as_good_on_the_test_set_as_it_is_unfair():
    recipe = replace(RECIPE, epochs=4, learning_rate=0.4)
    selected, last = trained(replace(recipe, checkpoint="test-selected")), trained(recipe)
    assert accuracy(selected, digits(), "test") >= accuracy(last, digits(), "test")


class Recorder:
    """A hook that notes when it is called."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.finished = False

    def before_step(self, step: int, num_steps: int) -> None:
        self.steps.append((step, num_steps))

    def settled(self, step: int, num_steps: int) -> bool:
        return step == num_steps

    def finish(self) -> None:
        self.finished = True


def test_a_hook_is_called_before_every_step_and_at_the_end():
    hook = Recorder()
    trained(replace(RECIPE, steps=5), hook=hook)
    assert hook.steps == [(k, 5) for k in range(5)]
    assert hook.finished


def test_no_checkpoint_is_chosen_before_the_hook_has_settled():
    recipe = replace(RECIPE, checkpoint="test-selected", epochs=3, learning_rate=0.4)
    unsettled = trained(recipe, hook=Recorder())
    assert torch.equal(state(unsettled), state(trained(replace(recipe, checkpoint="last"), hook=Recorder())))


def test_divergence_is_a_clear_error():
    with pytest.raises(DivergedError, match=r"training loss is (nan|inf).* Lower `learning_rate` \(1e\+30\)"):
        trained(replace(RECIPE, learning_rate=1e30))


def test_an_empty_subset_is_a_clear_error():
    with pytest.raises(ValueError, match="the training subset is empty"):
        trained(indices=np.arange(0))
    with pytest.raises(ValueError, match="Expected `validation` to split 2 training examples"):
        trained(replace(RECIPE, validation=0.1), np.arange(2))


def test_normalized_images_have_zero_mean_and_unit_deviation():
    images = normalize(digits(), pixels())
    assert images.dtype == torch.float32
    assert abs(images.mean().item()) < 1e-4
    assert images.std().item() == pytest.approx(1, abs=1e-3)
