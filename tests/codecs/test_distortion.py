import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.codecs.distortion import distortion
from tests.codecs.crops import crops


def pattern() -> tuple[np.ndarray, np.ndarray]:
    i, j = np.indices((16, 12))
    image = (37 * i * i + 11 * j * j + i * j) % 256
    return image.astype(np.uint8)[None, ..., None], (image // 17 * 17).astype(np.uint8)[None, ..., None]


def test_values_of_scikit_image():
    # scikit-image 0.26.0: structural_similarity(a, b), with win_size=5, and peak_signal_noise_ratio(a, b).
    a, b = pattern()
    found = distortion(a, b)
    np.testing.assert_allclose(found.ssim, 0.9954682248024809, rtol=1e-12)
    np.testing.assert_allclose(found.psnr, 28.43237509000486, rtol=1e-12)
    np.testing.assert_allclose(distortion(a, b, window=5).ssim, 0.9954562757500911, rtol=1e-12)


def slow_ssim(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Wang et al. (2004), equation 13, one window after another."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(a.shape[2]):
        for top in range(a.shape[0] - window + 1):
            for left in range(a.shape[1] - window + 1):
                x = a[top : top + window, left : left + window, channel].astype(float).ravel()
                y = b[top : top + window, left : left + window, channel].astype(float).ravel()
                (xx, xy), (_, yy) = np.cov(x, y)
                first = (2 * x.mean() * y.mean() + c1) / (x.mean() ** 2 + y.mean() ** 2 + c1)
                values.append(first * (2 * xy + c2) / (xx + yy + c2))
    return float(np.mean(values))


@pytest.mark.parametrize("window", [3, 7, 9])
def test_values_of_a_slow_version(window):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (3, 9, 14, 3)).astype(np.uint8)
    b = np.clip(a + rng.integers(-40, 41, a.shape), 0, 255).astype(np.uint8)
    found = distortion(a, b, window=window)
    np.testing.assert_allclose(found.ssim, [slow_ssim(x, y, window) for x, y in zip(a, b, strict=True)], rtol=1e-10)
    errors = np.square(a.astype(float) - b).mean((1, 2, 3))
    np.testing.assert_allclose(found.mean_squared_error, errors, rtol=1e-12)


def test_unchanged_images_are_perfect():
    images = crops(3)
    found = distortion(images, images)
    np.testing.assert_array_equal(found.ssim, 1)
    np.testing.assert_array_equal(found.psnr, np.inf)
    assert found.data_set_psnr == np.inf


def test_the_largest_error_is_0_decibels():
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    found = distortion(black, white)
    np.testing.assert_allclose(found.psnr, 0, atol=1e-12)
    assert 0 < found.mean_ssim < 1e-3
    both = distortion(np.concatenate([black, black]), np.concatenate([black, white]))
    np.testing.assert_allclose(both.data_set_psnr, 10 * np.log10(2))


def test_sums_of_large_bright_images_stay_exact():
    # Running sums of squares pass 2**32 here; the windows' sums must not.
    rng = np.random.default_rng(0)
    a, b = (rng.integers(250, 256, (1, 3, 70_000, 1)).astype(np.uint8) for _ in range(2))
    x, y = (
        np.lib.stride_tricks.sliding_window_view(v[0, :, :, 0].astype(float), (3, 3))[0].reshape(-1, 9) for v in (a, b)
    )
    covariance = ((x - x.mean(1, keepdims=True)) * (y - y.mean(1, keepdims=True))).sum(1) / 8
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    first = (2 * x.mean(1) * y.mean(1) + c1) / (x.mean(1) ** 2 + y.mean(1) ** 2 + c1)
    expected = first * (2 * covariance + c2) / (x.var(1, ddof=1) + y.var(1, ddof=1) + c2)
    np.testing.assert_allclose(distortion(a, b, window=3).ssim, expected.mean(), rtol=1e-12)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), low=st.integers(0, 255), spread=st.integers(0, 255))
def test_ssim_is_symmetric_bounded_and_does_not_depend_on_the_grouping(seed, low, spread):
    rng = np.random.default_rng(seed)
    a, b = (np.clip(low + rng.integers(0, spread + 1, (4, 8, 9, 3)), 0, 255).astype(np.uint8) for _ in range(2))
    found = distortion(a, b)
    np.testing.assert_array_equal(found.ssim, distortion(b, a).ssim)
    assert np.all(np.abs(found.ssim) <= 1)
    for i in range(4):
        assert distortion(a[i : i + 1], b[i : i + 1]).ssim == found.ssim[i]
    turned = distortion(a.swapaxes(1, 2), b.swapaxes(1, 2))
    np.testing.assert_allclose(turned.ssim, found.ssim, rtol=1e-12)


def test_what_cannot_be_compared_is_refused():
    images = crops(2)
    with pytest.raises(ValueError, match=r"`decoded` to have the shape \(2, 32, 32, 3\) of `images`, but got"):
        distortion(images, images[:1])
    for window in (4, 1, 33):
        with pytest.raises(ValueError, match=r"`window` to be odd and in 3..32, the shorter side"):
            distortion(images, images, window=window)
    with pytest.raises(ValueError, match="uint8"):
        distortion(images / 255, images / 255)
