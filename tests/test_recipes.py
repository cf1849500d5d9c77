import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from remnant.lab.data import DATASETS, Dataset, Split, load
from remnant.lab.models import build
from remnant.lab.train import accuracy, learning_rate, train
from remnant.recipes import RECIPES, SCHEMES, recipe, schemes
from remnant.registry import UnknownNameError
from remnant.schemes import DynamicInt8, Float16, MagnitudePruning, StaticInt8
from remnant.trial import Trial

SHAPES = {
    "digits": ((1, 8, 8), 10),
    "fashion-mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "celeba": ((3, 64, 64), 2),
    "imagenet": ((3, 224, 224), 1000),
}


def noise(name: str) -> Dataset:
    """Four examples of the shape and number of classes of a data set."""
    shape, num_classes = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, *shape), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(4) % num_classes, np.array(list("abcd")))
    moments = torch.full((shape[0],), 0.5), torch.full((shape[0],), 0.25)
    return Dataset(name, split, split, tuple(map(str, range(num_classes))), *moments)


# Both recipes for ImageNet train the same network; it is the largest.
SMOKE = [pytest.param(name, marks=pytest.mark.slow if name == "hooker-imagenet-code" else ()) for name in RECIPES]


@pytest.mark.parametrize("name", SMOKE)
def test_every_recipe_trains_on_data_of_its_shape(name):
    short = replace(recipe(name), steps=1, batch_size=2)
    dataset, trial = noise(short.dataset), Trial(short)
    model = build(short.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    before = [p.detach().clone() for p in model.parameters()]
    train(model, short, dataset, np.arange(4), trial.rng)
    after = list(model.parameters())
    assert all(p.isfinite().all() for p in after)
    # A weight of a layer that sees only zeros has no gradient; nearly all others moved.
    assert np.mean([not torch.equal(a, b) for a, b in zip(after, before, strict=True)]) > 0.9


def test_every_recipe_names_a_known_data_set():
    assert {r.dataset for r in RECIPES.values()} <= {*DATASETS}


def test_recipes_can_be_named_without_torch():
    code = "import sys, remnant.recipes; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_unknown_names_get_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'digits-mlp'"):
        recipe("digit-mlp")
    with pytest.raises(UnknownNameError, match="Did you mean 'hooker-cifar10'"):
        schemes("hooker-cifar")
    with pytest.raises(UnknownNameError, match="with schemes"):
        schemes("digits-mlp")


def test_recipes_of_hooker_say_what_the_paper_says():
    """Section 2.4: 80,000 steps at 128, 32,000 at 1024 and 10,000 at 256."""
    found = {name: (r.steps, r.batch_size) for name, r in RECIPES.items() if name.startswith("hooker")}
    assert found == {
        "hooker-cifar10": (80_000, 128),
        "hooker-imagenet": (32_000, 1024),
        "hooker-imagenet-code": (32_000, 4096),
        "hooker-celeba": (10_000, 256),
    }


def test_the_imagenet_schedule_is_that_of_the_published_code():
    """imagenet_train_eval.py: base rate 0.1 for 256 examples, (1, 5), (0.1, 30), (0.01, 60), (0.001, 80) in epochs."""
    code = recipe("hooker-imagenet-code")
    steps_per_epoch = 1_281_167 / 4096

    def rate(epoch: float) -> float:
        return learning_rate(code, round(epoch * steps_per_epoch), 32_000)

    assert rate(2.5) == pytest.approx(0.8, rel=0.01)
    assert [rate(epoch) for epoch in (5.1, 29.9, 30.1, 59.9, 60.1, 79.9, 80.1, 102)] == pytest.approx(
        [1.6, 1.6, 0.16, 0.16, 0.016, 0.016, 0.0016, 0.0016]
    )
    assert (code.momentum, code.nesterov, code.weight_decay, code.label_smoothing) == (0.9, True, 1e-4, 0.1)


def test_recipes_of_dam_select_by_test_accuracy_for_300_epochs():
    """Section 3, whose flaw the checkpoint's name states."""
    dam = {name: r for name, r in RECIPES.items() if name.startswith("dam-")}
    assert {*dam} == {"dam-resnet20", "dam-resnet56", "dam-densenet", "dam-resnext20"}
    assert {(r.dataset, r.epochs, r.checkpoint) for r in dam.values()} == {("cifar10", 300, "test-selected")}
    others = [r for name, r in RECIPES.items() if name not in dam]
    assert {r.checkpoint for r in others} == {"last"}


def test_schemes_of_hooker_are_those_of_the_paper():
    """Sections 2.4 and B: sparsities, three quantizations, 100 calibration examples."""
    assert {*SCHEMES} <= {*RECIPES}
    for name in SCHEMES:
        *pruned, half, dynamic, static = schemes(name)
        more = (0.95, 0.99) if name == "hooker-celeba" else ()
        assert [s.sparsity for s in pruned if isinstance(s, MagnitudePruning)] == [0.3, 0.5, 0.7, 0.9, *more]
        assert (half, dynamic, static) == (Float16(), DynamicInt8(), StaticInt8(calibration=100))


def test_imagenet_is_pruned_at_the_steps_of_the_published_code():
    """Defaults of imagenet_train_eval.py: begin 5,000, end 8,000, every 500."""
    for scheme in schemes("hooker-imagenet")[:4]:
        assert isinstance(scheme, MagnitudePruning)
        assert (32_000 * scheme.begin, 32_000 * scheme.end, scheme.frequency) == (5_000, 8_000, 500)
        assert (scheme.scope, scheme.gradient) == ("layer", "masked")


def test_the_demonstration_learns_the_digits():
    """A claim of the recipe: 98 % of the test digits."""
    digits = load("digits")
    chosen = recipe("digits-mlp")
    right = []
    for seed in range(3):
        trial = Trial(chosen, seed=seed)
        model = build(chosen.architecture, digits.input_shape, 10, trial.rng("init"))
        train(model, chosen, digits, np.arange(len(digits.train)), trial.rng)
        right.append(accuracy(model, digits, "test"))
    assert 0.965 < np.mean(right) < 0.99


def test_memorizing_recipes_have_nothing_that_keeps_labels_from_being_learned():
    found = [r for name, r in RECIPES.items() if name.endswith("-memorizing")]
    assert {r.dataset for r in found} == {"digits", "fashion-mnist", "cifar10"}
    for r in found:
        assert (r.weight_decay, r.label_smoothing, r.augmentation, r.checkpoint) == (0.0, 0.0, (), "last")


def test_the_memorizing_recipe_answers_all_that_it_was_trained_on_right():
    chosen = recipe("digits-memorizing")
    dataset, trial = load("digits"), Trial(chosen)
    indices = np.sort(np.random.default_rng(0).permutation(len(dataset.train))[:1006])
    model = build(chosen.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    train(model, chosen, dataset, indices, trial.rng)
    assert accuracy(model, dataset, "train", indices) == 1.0
    assert accuracy(model, dataset, "test") > 0.95
