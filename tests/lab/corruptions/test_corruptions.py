from typing import Any

import numpy as np
import pytest
from PIL import Image

from remnant.lab.corruptions import CONSTANTS, blur, corrupt, digital, noise, weather
from remnant.lab.corruptions.constants import SIZES, nearest_size
from remnant.lab.corruptions.streams import Draws, fingerprints
from remnant.probes.corruptions import COMMON, QUIRKS, VALIDATION
from tests.lab.corruptions.pictures import photographs

IDS = [f"test-{i:05d}" for i in range(12)]


def test_there_are_constants_for_all_corruptions_sizes_and_severities():
    assert tuple(CONSTANTS) == (*COMMON, *VALIDATION)
    for levels in CONSTANTS.values():
        assert tuple(levels) == SIZES
        assert {len(level) for level in levels.values()} == {5}


@pytest.mark.parametrize("name", CONSTANTS)
def test_an_image_gets_the_same_pixels_whatever_comes_with_it(name):
    images = photographs(12, 32)
    whole = corrupt(images, IDS, name, 4)
    mixed = np.array([9, 2, 5])
    np.testing.assert_array_equal(corrupt(images[mixed], [IDS[i] for i in mixed], name, 4), whole[mixed])
    assert whole.dtype == np.uint8
    assert (whole != images).any(axis=(1, 2, 3)).all()


def test_blocks_change_nothing(monkeypatch):
    images = photographs(12, 32)
    whole = {name: corrupt(images, IDS, name, 3) for name in CONSTANTS}
    monkeypatch.setattr("remnant.lab.corruptions._VALUES", 5 * 32 * 32 * 3)
    for name, expected in whole.items():
        np.testing.assert_array_equal(corrupt(images, IDS, name, 3), expected)


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("size", SIZES)
def test_each_severity_is_another_image_and_strong_ones_change_more(name, size):
    images = photographs(6, 48)
    many = [corrupt(images, IDS[:6], name, severity, constants=size) for severity in (1, 2, 3, 4, 5)]
    changes = [np.abs(m.astype(float) - images).mean() for m in many]
    assert len({m.tobytes() for m in many}) == 5
    if name not in ("saturate", "elastic_transform", "frost", "spatter", "glass_blur"):
        assert changes[4] > 1.1 * changes[0] > 0


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (9, 40, 3), (40, 17, 1)])
def test_grey_small_and_oblong_images_are_corrupted_too(name, shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    for severity in (1, 5):
        assert corrupt(images, IDS[:3], name, severity).shape == images.shape


@pytest.mark.parametrize(
    "name", sorted(n for n in CONSTANTS if n not in ("saturate", "spatter", "frost") and "noise" not in n)
)
def test_grey_images_are_corrupted_as_grey_colour_images(name):
    """Noise is left out: that of the channels is independent."""
    grey = photographs(3, 32, channels=1)
    one = corrupt(grey, IDS[:3], name, 3)
    three = corrupt(np.repeat(grey, 3, axis=3), IDS[:3], name, 3)
    assert np.abs(one.astype(int) - three).max() <= (12 if name == "jpeg_compression" else 1)


@pytest.mark.parametrize(
    "name", ["gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "contrast"]
)
@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_images_stay_flat_whatever_the_machine_rounds(name, level):
    images = np.full((2, 32, 32, 3), level, np.uint8)
    for severity in (1, 5):
        np.testing.assert_array_equal(corrupt(images, IDS[:2], name, severity), images)


def test_glass_blur_copies_as_published_or_swaps():
    draws = Draws(fingerprints(IDS), "glass")
    copied = blur.shuffled(32, 32, 1, 1, draws, copy=True)
    swapped = blur.shuffled(32, 32, 1, 1, draws, copy=False)
    assert (np.sort(swapped, axis=0) == np.arange(1024)[:, None]).all()
    assert (np.array([len(np.unique(column)) for column in copied.T]) < 800).all()
    images = photographs(2, 32)
    assert (corrupt(images, IDS[:2], "glass_blur", 3) != corrupt(images, IDS[:2], "glass_blur", 3, quirks=())).any()


@pytest.mark.parametrize("copy", [True, False])
def test_glass_blur_equals_a_slow_version(copy):
    draws = Draws(fingerprints(IDS[:3]), "glass")
    height, width, reach, rounds = 12, 9, 2, 2
    found = blur.shuffled(height, width, reach, rounds, draws, copy=copy)
    for example in range(3):
        x = np.arange(height * width).reshape(height, width)
        for turn in range(rounds):
            places = [(h, w) for h in range(height - reach, reach, -1) for w in range(width - reach, reach, -1)]
            numbers = draws.sixteenths(f"partner {turn}", 2 * len(places))[example].astype(int) * 2 * reach // 65536
            for place, (h, w) in enumerate(places):
                dy, dx = numbers[place] - reach, numbers[len(places) + place] - reach
                if copy:
                    x[h, w] = x[h + dy, w + dx]
                else:
                    x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx].copy(), x[h, w].copy()
        np.testing.assert_array_equal(found[:, example], x.ravel())


def test_elastic_transform_takes_244_pixels_for_224_as_published():
    images = photographs(1, 224)
    published, stated = (
        digital.elastic_transform(images, (0.05, 0.01, 0.02), Draws(fingerprints(["a"]), "x"), side=side)
        for side in (244, 224)
    )
    for quirks, expected in ((QUIRKS, published), (("truncation",), stated)):
        found = corrupt(images, ["a"], "elastic_transform", 3, quirks=quirks)
        assert found.shape == expected.shape
    one, two = (corrupt(images, ["a"], "elastic_transform", 3, quirks=q) for q in (QUIRKS, ("truncation",)))
    assert (one != two).any()
    small = photographs(1, 32)
    assert (corrupt(small, ["a"], "elastic_transform", 3) == corrupt(small, ["a"], "elastic_transform", 3, quirks=(
        "glass-copy", "truncation"))).all()  # fmt: skip


def test_truncation_darkens_by_half_a_level():
    images = photographs(20, 32)
    one, two = (
        corrupt(images, range(20), "gaussian_blur", 5, quirks=quirks).astype(float) for quirks in (("truncation",), ())
    )
    assert set(np.unique(two - one)) == {0, 1}
    assert (two - one).mean() == pytest.approx(0.5, abs=0.03)


def test_pixelate_equals_pillow_image_by_image():
    images = photographs(4, 32)[:, :, :27]
    found = digital.pixelate(images, 0.65)
    for image, mine in zip(images, found, strict=True):
        small = Image.fromarray(image).resize((int(27 * 0.65), int(32 * 0.65)), Image.Resampling.BOX)
        np.testing.assert_array_equal(mine, np.asarray(small.resize((27, 32), Image.Resampling.BOX)))


def test_an_affine_map_sends_the_points_where_they_move():
    rng = np.random.default_rng(0)
    moves = rng.uniform(-2, 2, (5, 3, 2))
    y, x = np.mgrid[:32, :32].astype(float)
    from_x, from_y = digital.affine(np.zeros((1, 3, 2)), x, y)
    np.testing.assert_allclose(from_x[0], x, atol=1e-12)
    np.testing.assert_allclose(from_y[0], y, atol=1e-12)
    points = 16 + 10 * np.array([[1, 1], [1, -1], [-1, -1]])
    slow_x, slow_y = digital.affine(moves, x, y)
    for example in range(5):
        after = np.c_[points + moves[example], np.ones(3)]
        matrix = np.linalg.solve(after, points)
        expected = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix
        np.testing.assert_allclose(np.stack([slow_x[example], slow_y[example]], -1), expected, atol=1e-9)


def test_elastic_transform_equals_scipy_without_the_affine_map():
    from scipy import ndimage

    images, draws = photographs(2, 32), Draws(fingerprints(IDS[:2]), "elastic")
    found = digital.elastic_transform(images, (0.08, 0.06, 0.0), draws, side=32)
    shifts = draws.uniform("shifts", 2 * 32 * 32, -1, 1).reshape(2, 2, 32, 32)
    y, x = np.mgrid[:32, :32].astype(float)
    for i in range(2):
        dx, dy = (ndimage.gaussian_filter(s, 0.06 * 32, mode="reflect", truncate=3) * 0.08 * 32 for s in shifts[i])
        for c in range(3):
            plane: Any = images[i, :, :, c].astype(float)
            expected = ndimage.map_coordinates(plane, [y + dy, x + dx], order=1, mode="reflect")
            np.testing.assert_allclose(found[i, :, :, c], expected, atol=1e-4)


def test_poisson_counts_have_mean_and_variance_of_the_pixel():
    table = noise.poisson_quantiles(12)
    means = np.arange(256) * 12 / 255
    np.testing.assert_allclose(table.mean(axis=1), means, atol=2e-3)
    np.testing.assert_allclose(table.var(axis=1), means, atol=2e-2)
    assert (np.diff(table.astype(int), axis=1) >= 0).all()


def test_brightness_and_saturation_keep_the_hue():
    import colorsys

    images = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    bright, pale = weather.brightness(images, 0.2) / 255, digital.saturate(images, (0.3, 0)) / 255
    for y in range(6):
        for x in range(6):
            hue, saturation, value = colorsys.rgb_to_hsv(*(images[0, y, x] / 255))
            expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
            np.testing.assert_allclose(bright[0, y, x], expected, atol=1e-9)
            np.testing.assert_allclose(pale[0, y, x], colorsys.hsv_to_rgb(hue, 0.3 * saturation, value), atol=1e-9)


def test_frost_has_the_moments_of_the_photographs():
    texture = weather.frost_texture(3, 256)
    np.testing.assert_allclose(texture.mean(axis=(0, 1)), (138, 153, 165), atol=3)
    np.testing.assert_allclose(texture.std(axis=(0, 1)), 28, rtol=0.15)


def test_sizes_are_the_nearest_as_a_ratio():
    sides = {8: "32", 28: "32", 32: "32", 45: "32", 46: "64", 64: "64", 119: "64", 120: "224", 500: "224"}
    assert {side: nearest_size(side, 2 * side) for side in sides} == sides


def test_what_is_no_image_is_refused():
    images = photographs(2, 32)
    with pytest.raises(ValueError, match="defined for pictures only"):
        corrupt(images.astype(np.float32), IDS[:2], "fog", 1)  # pyright: ignore
    with pytest.raises(ValueError, match="1 or 3"):
        corrupt(images[..., :2], IDS[:2], "fog", 1)
    with pytest.raises(ValueError, match="at least 8 pixels"):
        corrupt(images[:, :7], IDS[:2], "fog", 1)
    with pytest.raises(ValueError, match="one value for each of 2 images"):
        corrupt(images, IDS[:3], "fog", 1)
    with pytest.raises(ValueError, match="Did you mean 'fog'"):
        corrupt(images, IDS[:2], "foq", 1)
    with pytest.raises(ValueError, match="severity"):
        corrupt(images, IDS[:2], "fog", 6)
    with pytest.raises(ValueError, match="constants"):
        corrupt(images, IDS[:2], "fog", 1, constants="128")
