from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remnant.lab.coefficients import CoefficientImages, Dct, Zfp, from_coefficients, with_coefficients
from remnant.lab.coefficients.inputs import moments
from remnant.lab.dataset import Dataset, assemble, positions, split, take
from remnant.lab.models import build
from remnant.lab.pictures import pictures as small_pictures
from remnant.lab.probe import logits
from remnant.lab.train import normalize, train
from remnant.registry import UnknownNameError
from remnant.trial import Recipe, Trial
from tests.lab.coefficients.images import pictures


def dataset(number: int = 52) -> Dataset:
    """Bright and dark pictures."""
    rng = np.random.default_rng(0)
    labels = np.arange(number) % 2
    parts = []
    for name in ("train", "test"):
        noise = rng.integers(0, 100, (number, 32, 32, 3)) + 100 * labels[:, None, None, None]
        parts.append(split(noise.astype(np.uint8), labels, positions(name, number), {"column": labels + 5}))
    return assemble("toy", parts[0], parts[1], ["dark", "bright"])


def test_inputs_are_the_coefficients_and_all_else_stays():
    base = dataset()
    found = with_coefficients(base, Dct(4))
    assert found.name == "coefficients:dct-4:toy"
    assert found.input_shape == (48, 8, 8)
    assert (found.num_classes, found.classes) == (2, base.classes)
    for ours, theirs in ((found.train, base.train), (found.test, base.test)):
        assert torch.equal(ours.labels, theirs.labels)
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert [*ours.groups] == ["column"]
        assert len(ours) == len(ours.images) == 52
        expected = Dct(4)(take(theirs.images, range(52)))
        assert torch.equal(take(ours.images, [3, 0, 51]), expected[[3, 0, 51]])
    assert small_pictures(found.train.images) is None


def test_networks_see_coefficients_with_mean_0_and_standard_deviation_1():
    base = dataset(520)  # more than one batch
    found = with_coefficients(base, Dct(8))
    seen = normalize(found, take(found.train.images, np.arange(520))).double()
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(192, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(192, dtype=torch.float64), atol=1e-3, rtol=0)


def test_rare_values_and_constants_are_kept_in_range():
    flat = torch.full((2000, 1, 8, 8), 100, dtype=torch.uint8)
    flat[7, 0, 0, 0] = 255
    images = CoefficientImages(flat, Dct(8))
    mean, scale = moments(images)
    seen = (images.batch(np.arange(2000)) - mean.view(1, -1, 1, 1)) / scale.view(1, -1, 1, 1)
    assert seen.abs().max() == pytest.approx(32, rel=1e-3)
    constant = CoefficientImages(flat[:3], Zfp(precision=8))
    assert moments(constant)[1].tolist() == [1.0] * 16


def test_fingerprints_change_with_images_and_transform():
    base = dataset(4)
    found = {with_coefficients(base, transform).fingerprint for transform in (Dct(4), Dct(8), Zfp(precision=6))}
    images = base.train.images
    assert isinstance(images, torch.Tensor)
    other = images.clone()
    other[0, 0, 0, 0] ^= 1
    changed = replace(base, train=replace(base.train, images=other))
    found |= {base.fingerprint, with_coefficients(changed, Dct(4)).fingerprint}
    assert len(found) == 5
    assert with_coefficients(dataset(4), Dct(4)).fingerprint in found


def test_names_say_transform_and_data_set():
    asked = []

    def load(name: str, root: Path) -> Dataset:
        asked.append((name, root))
        return dataset(4)

    name = "coefficients:zfp-precision-6:arrays:toy.npz#column"
    found = from_coefficients(name, Path("data"), name.partition(":")[2], load=load)
    assert asked == [("arrays:toy.npz#column", Path("data"))]
    assert found.name == name
    assert isinstance(found.train.images, CoefficientImages)
    assert found.train.images.transform == Zfp(precision=6)
    with pytest.raises(ValueError, match="Expected coefficients:TRANSFORM:DATASET, such as .*'coefficients:cifar10'"):
        from_coefficients("coefficients:cifar10", Path(), "cifar10", load=load)
    with pytest.raises(ValueError, match="Expected coefficients such as .* but got 'gif'"):
        from_coefficients("coefficients:gif:cifar10", Path(), "gif:cifar10", load=load)


def test_data_sets_without_whole_blocks_of_bytes_are_refused():
    grey = split(np.zeros((4, 10, 12, 1), np.uint8), np.arange(4) % 2, positions("x", 4))
    odd = assemble("odd", grey, replace(grey, ids=positions("y", 4)), ["a", "b"])
    with pytest.raises(ValueError, match="divisible by 4, but the images are 10x12"):
        with_coefficients(odd, Zfp(precision=6))
    floats = replace(odd, train=replace(grey, images=torch.zeros(4, 1, 8, 8)))
    with pytest.raises(ValueError, match="Expected uint8 images .* but got torch.float32"):
        with_coefficients(floats, Zfp(precision=6))


@pytest.mark.parametrize("architecture", ["coefficient-resnet8-8", "cnn-8"])
def test_a_network_learns_from_coefficients(architecture):
    found = with_coefficients(dataset(), Zfp(precision=6))
    recipe = Recipe(found.name, architecture, epochs=8, batch_size=13, learning_rate=0.02)
    trial = Trial(recipe, seed=0)
    model = build(architecture, found.input_shape, 2, trial.rng("init"))
    train(model, recipe, found, np.arange(52), trial.rng)
    assert (logits(model, found, found.test).argmax(1) == found.test.labels.numpy()).mean() > 0.95


# Networks


def halvings(architecture: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(height before, height after) all layers but the last ones."""
    model = build(architecture, shape, 10, np.random.default_rng(0))
    heights: list[int] = []

    def note(layer: object, inputs: object, output: torch.Tensor) -> None:
        if output.ndim == 4:
            heights.append(output.shape[2])

    for layer in model.children():
        layer.register_forward_hook(note)
    with torch.no_grad():
        assert model.eval()(torch.randn(2, *shape)).shape == (2, 10)
    return shape[1], heights[-2]


@pytest.mark.parametrize("plain", ["resnet8-4", "wide-resnet-10-1", "densenet-10-4", "densenet-bc-16-4", "resnext11"])
@pytest.mark.parametrize("shape", [(48, 8, 8), (16, 8, 8), (192, 4, 4), (64, 4, 4), (16, 2, 2)])
def test_blocks_replace_the_first_halvings(plain, shape):
    """These halve 32x32 pixels twice, to 8x8."""
    assert halvings(plain, (3, 32, 32)) == (32, 8)
    assert halvings(f"coefficient-{plain}", shape) == (shape[1], shape[1])


def test_of_five_halvings_some_are_left():
    assert halvings("coefficient-vgg11-bn", (48, 8, 8)) == (8, 1)
    assert halvings("coefficient-vgg11-bn", (192, 4, 4)) == (4, 1)
    assert halvings("coefficient-vgg11-bn", (48, 16, 16)) == (16, 2)
    with pytest.raises(ValueError, match=r"at least 8x8 blocks for a network that halves them 3 times.*\(16, 4, 4\)"):
        build("coefficient-vgg11-bn", (16, 4, 4), 10, np.random.default_rng(0))


def test_layers_and_widths_stay():
    rng = np.random.default_rng
    pixels, blocks = (
        [tuple(p.shape) for p in build(name, shape, 10, rng(0)).parameters()]
        for name, shape in (("resnet20", (3, 32, 32)), ("coefficient-resnet20", (48, 8, 8)))
    )
    assert pixels[0] == (16, 3, 3, 3)
    assert blocks[0] == (16, 48, 3, 3)
    assert pixels[1:] == blocks[1:]


def test_pixels_for_a_coefficient_network_are_refused():
    with pytest.raises(ValueError, match=r"have \[16, 48, 64, 192\] channels, but .*\(3, 32, 32\). Take a data set"):
        build("coefficient-resnet20", (3, 32, 32), 10, np.random.default_rng(0))
    with pytest.raises(UnknownNameError, match="Did you mean 'coefficient-resnet20'"):
        build("coefficients-resnet20", (48, 8, 8), 10, np.random.default_rng(0))


def test_pictures_are_hard_enough():
    """The tests' images hold every exponent and blocks of zeros."""
    images = pictures()
    largest = torch.nn.functional.max_pool2d(images.float(), 4)
    assert {*torch.frexp(largest).exponent.unique().tolist()} >= {0, 1, 5, 6, 7, 8}
