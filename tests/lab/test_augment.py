import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from remnant.lab.augment import CHANGES, augment, crop, cutout, flip, resized_crop
from remnant.registry import UnknownNameError
from remnant.trial import AUGMENTATIONS

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def pictures(number: int = 32, channels: int = 3, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    """Noise without zeros."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (number, channels, height, width), generator=generator, dtype=torch.uint8)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def offset(image: Tensor, window: Tensor) -> tuple[int, int]:
    """Where `window` lies in the zero-padded image; found by trying all places."""
    height, width = image.shape[1:]
    up, left = max(1, height // 8), max(1, width // 8)
    padded = torch.zeros(image.shape[0], height + 2 * up, width + 2 * left, dtype=image.dtype)
    padded[:, up : up + height, left : left + width] = image
    found = [
        (i, j)
        for i in range(2 * up + 1)
        for j in range(2 * left + 1)
        if torch.equal(padded[:, i : i + height, j : j + width], window)
    ]
    assert len(found) == 1
    return found[0]


def test_every_augmentation_of_a_recipe_exists():
    assert set(CHANGES) == set(AUGMENTATIONS)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 8), (3, 8, 24), (2, 24, 8), (1, 28, 28)])
def test_cropped_images_are_shifted_copies(shape, layout):
    images = pictures(12, *shape).contiguous(memory_format=layout)
    before = images.clone()
    changed = crop(images, rng())
    assert changed.shape == images.shape
    assert torch.equal(images, before)
    places = [offset(image, window) for image, window in zip(images, changed, strict=True)]
    assert len(set(places)) > 1


def test_all_shifts_are_equally_likely_and_independent():
    images = pictures(4000, 1, 8, 8)
    places = np.array([offset(*pair) for pair in zip(images, crop(images, rng()), strict=True)])
    counts = np.bincount(places[:, 0] * 3 + places[:, 1], minlength=9)
    assert scipy.stats.chisquare(counts).pvalue > 0.01
    following = np.bincount((places[:-1] @ [3, 1]) * 9 + places[1:] @ [3, 1], minlength=81)
    assert scipy.stats.chisquare(following).pvalue > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_flipped_images_are_mirrored_left_to_right_only(channels, layout):
    images = pictures(400, channels, 6, 5).contiguous(memory_format=layout)
    changed = flip(images, rng())
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    assert (mirrored ^ (changed == images).flatten(1).all(1)).all()
    assert scipy.stats.binomtest(int(mirrored.sum()), 400).pvalue > 0.01


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_cutout_blackens_one_square(dtype):
    images = pictures(300, 3, 12, 16).to(dtype)
    changed = cutout(images, rng())
    black = changed == 0
    assert torch.equal(changed[~black], images[~black])
    assert torch.equal(black.any(1), black.all(1))
    for hole in black[:, 0]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        height, width = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
        assert hole.sum() == height * width
        # 6 is half the smaller side; at the border the square is cut off.
        assert height == 6 or rows[0] == 0 or rows[-1] == 11
        assert width == 6 or columns[0] == 0 or columns[-1] == 15
        assert max(height, width) <= 6


def test_the_middle_of_the_cutout_is_any_pixel():
    changed = cutout(torch.ones(6000, 1, 8, 8), rng())
    # The pixel in row i is black for the centres i - 1 .. i + 2 that exist, of 8.
    expected = np.array([3, 4, 4, 4, 4, 4, 3, 2]) / 8
    rows = (changed == 0).any(3)[:, 0].float().mean(0).numpy()
    np.testing.assert_allclose(rows, expected, atol=4 * np.sqrt(0.25 / 6000))


def test_resized_crops_show_a_rectangle_of_the_image():
    x, y = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy")
    ramps = torch.stack([x, y]).expand(500, 2, 32, 32)
    changed = resized_crop(ramps, rng())
    inner = changed[:, :, 8:24, 8:24]
    across = inner[:, 0].diff(dim=2).flatten(1)
    down = inner[:, 1].diff(dim=1).flatten(1)
    # Enlarged ramps are ramps: their slopes are the rectangle's sides.
    torch.testing.assert_close(across, across[:, :1].expand_as(across), atol=1e-4, rtol=0)
    torch.testing.assert_close(down, down[:, :1].expand_as(down), atol=1e-4, rtol=0)
    assert (inner[:, 0].diff(dim=1).abs() < 1e-4).all()
    width, height = across[:, 0].numpy(), down[:, 0].numpy()
    assert ((width * height > 0.0799) & (width * height < 1.0001)).all()
    assert ((width / height > 0.7499) & (width / height < 1.3334)).all()
    assert changed.min() >= 0
    assert changed.max() <= 31


def test_resized_crops_follow_torchvision():
    """Areas and aspects have the distribution of torchvision's RandomResizedCrop.get_params."""
    x, y = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="xy")
    changed = resized_crop(torch.stack([x, y]).expand(400, 2, 96, 96), rng())
    width = (changed[:, 0, 48, 49] - changed[:, 0, 48, 48]).numpy()
    height = (changed[:, 1, 49, 48] - changed[:, 1, 48, 48]).numpy()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = np.array([
            RandomResizedCrop.get_params(torch.empty(3, 96, 96), [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2000)
        ])  # fmt: skip
    assert scipy.stats.ks_2samp(width * height, theirs[:, 2] * theirs[:, 3] / 96**2).pvalue > 0.01  # pyright: ignore[reportAttributeAccessIssue]
    assert scipy.stats.ks_2samp(width / height, theirs[:, 3] / theirs[:, 2]).pvalue > 0.01  # pyright: ignore[reportAttributeAccessIssue]
    # Where the rectangle lies: the middle of the image is at its middle on average.
    assert abs(float(changed[:, 0].mean()) - 47.5) < 3


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_changes_depend_on_the_stream_alone(name, layout):
    images = pictures()
    first = augment(images, (name,), rng(1))
    assert first.dtype == torch.uint8
    assert torch.equal(first, augment(images.contiguous(memory_format=layout), (name,), rng(1)))
    assert not torch.equal(first, augment(images, (name,), rng(2)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_is_changed_without_regard_to_the_others(name):
    images = pictures()
    others = pictures(seed=1)
    others[7] = images[7]
    assert torch.equal(augment(images, (name,), rng())[7], augment(others, (name,), rng())[7])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_float_images_are_changed_like_bytes(name):
    images = pictures()
    as_float = augment(images.float(), (name,), rng())
    assert as_float.dtype == torch.float32
    assert (as_float - augment(images, (name,), rng()).float()).abs().max() <= 0.5


def test_changes_are_applied_in_order():
    images = pictures()
    stream = rng()
    expected = cutout(flip(crop(images, stream), stream), stream)
    assert torch.equal(augment(images, ("crop", "flip", "cutout"), rng()), expected)
    assert augment(images, (), rng()) is images


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'flip'"):
        augment(pictures(), ("flips",), rng())


def test_features_cannot_be_augmented():
    with pytest.raises(ValueError, match=r"Expected pictures .* for the augmentation 'flip', but got .*\(4, 7\)"):
        augment(torch.ones(4, 7), ("flip",), rng())
