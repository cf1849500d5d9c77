"""Against imagecorruptions-imaug 1.1.5, a maintained port of the published code with ImageNet's constants.

Its elastic transform is another one and its frost is photographs: neither is compared here.
"""

import warnings

import numpy as np
import pytest
from PIL import Image

from remnant.lab.corruptions import _FIXED, CONSTANTS, corrupt
from remnant.lab.corruptions.streams import Draws, fingerprints
from tests.lab.corruptions.pictures import photographs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    oracle = pytest.importorskip(
        "imagecorruptions.corruptions", reason="imagecorruptions-imaug is not installed", exc_type=ImportError
    )

pytestmark = pytest.mark.filterwarnings("ignore")
SIDE = 64


def theirs(name, image, severity):
    return np.uint8(getattr(oracle, name)(Image.fromarray(image), severity)).astype(int)


def ours(name, images, severity):
    ids = [f"picture {i}" for i in range(len(images))]
    return corrupt(images, ids, name, severity, constants="224").astype(int)


def draws(name, severity, number=1):
    return Draws(fingerprints([f"picture {i}" for i in range(number)]), f"{name}/{severity}")


class Fed:
    """Stands in for NumPy's random functions and hands out given numbers in order."""

    def __init__(self, *values):
        self.values = [np.asarray(v, float).ravel() for v in values]

    def uniform(self, low=0.0, high=1.0, size=None):
        return self._next(size, lambda unit: low + (high - low) * unit)

    def normal(self, size=None, loc=0.0, scale=1.0):
        return self._next(size, lambda z: loc + scale * z)

    def _next(self, size, change):
        count = 1 if size is None else int(np.prod(size))
        taken, self.values[0] = self.values[0][:count], self.values[0][count:]
        if not len(self.values[0]):
            self.values.pop(0)
        found = change(taken)
        return float(found[0]) if size is None else found.reshape(size)


@pytest.fixture
def fed(monkeypatch):
    def feed(*values):
        source = Fed(*values)
        monkeypatch.setattr(np.random, "uniform", source.uniform)
        monkeypatch.setattr(np.random, "normal", source.normal)

    return feed


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize(
    "name",
    [name for name in CONSTANTS if name in _FIXED],
)
def test_what_draws_nothing_gives_the_same_pixels(name, severity):
    images = photographs(3, SIDE)
    found = ours(name, images, severity)
    expected = np.stack([theirs(name, image, severity) for image in images])
    # Where the result is a whole grey level, rounding errors make theirs one less as often as not.
    assert np.isin(found - expected, (0, 1)).mean() > 0.9999
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < {"brightness": 0.15, "saturate": 0.15, "defocus_blur": 0.05}.get(name, 0.005)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_motion_blur_at_the_same_angle_gives_the_same_pixels(severity, fed):
    (image,) = images = photographs(1, SIDE)
    fed(draws("motion_blur", severity).uniform("angle", 1))
    found, expected = ours("motion_blur", images, severity)[0], theirs("motion_blur", image, severity)
    # The port cuts to whole grey levels where ImageMagick rounds.
    assert np.isin(found - expected, (0, 1)).all()
    assert (found - expected).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_fog_of_the_same_numbers_gives_the_same_pixels(severity, fed):
    (image,) = images = photographs(1, SIDE)
    fed(draws("fog", severity).uniform("cloud", SIDE**2 - 1))
    found, expected = ours("fog", images, severity)[0], theirs("fog", image, severity)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_snow_of_the_same_numbers_gives_the_same_pixels(severity, fed):
    (image,) = images = photographs(1, SIDE)
    random = draws("snow", severity)
    fed(random.normal("flakes", SIDE**2), random.uniform("angle", 1))
    found, expected = ours("snow", images, severity)[0], theirs("snow", image, severity)
    # The port cuts the enlarged noise at the first pixels where the original cuts the middle (one pixel apart where
    # the enlargement has spare pixels), and does not make bytes of flakes before it blurs them.
    near = [np.abs(np.roll(found, by, (0, 1)) - expected) for by in ((0, 0), (1, 1), (-1, -1))]
    assert min(np.median(error) for error in near) <= 2


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_spatter_of_the_same_numbers_gives_nearly_the_same_pixels(severity, fed):
    images = photographs(4, SIDE)
    normal = draws("spatter", severity, 4).normal("drops", SIDE**2)
    found = ours("spatter", images, severity)
    errors = []
    for image, numbers, mine in zip(images, normal, found, strict=True):
        fed(numbers)
        errors.append(np.abs(mine - theirs("spatter", image, severity)))
    # OpenCV approximates the distance to an edge by steps; ours is exact.
    changed = np.abs(found - images).mean()
    assert np.mean(errors) < 0.1 * changed


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"])
def test_noise_has_the_same_distribution_at_every_grey_level(name, severity):
    levels = np.repeat(np.arange(0, 256, 15, dtype=np.uint8), 64 * 64).reshape(-1, 64, 64, 1)
    pictures = np.repeat(levels, 3, axis=3)
    found = ours(name, pictures, severity).reshape(len(levels), -1)
    expected = np.stack([theirs(name, image, severity) for image in pictures]).reshape(len(levels), -1)
    np.testing.assert_allclose(found.mean(axis=1), expected.mean(axis=1), atol=4 * 128 / np.sqrt(12288))
    bins = np.arange(0, 257, 16)
    for mine, other in zip(found, expected, strict=True):
        one, two = (np.histogram(v, bins)[0] / len(v) for v in (mine, other))
        np.testing.assert_allclose(one, two, atol=5 * np.sqrt(0.25 * 2 / 12288))


@pytest.mark.slow
@pytest.mark.parametrize("severity", [1, 3, 5])
def test_glass_blur_has_the_same_strength(severity):
    (image,) = photographs(1, SIDE)
    found = ours("glass_blur", np.repeat(image[None], 20, 0), severity)
    expected = np.stack([np.int64(oracle.glass_blur(Image.fromarray(image), severity, seed=i)) for i in range(20)])
    one, two = (np.abs(many - image).mean() for many in (found, expected))
    assert one == pytest.approx(two, rel=0.03)
    assert np.abs(found.mean(0) - expected.mean(0)).mean() < 0.5 * found.std(0).mean()
    np.testing.assert_allclose(found.std(0).mean(), expected.std(0).mean(), rtol=0.1)
