import numpy as np
import pytest
import torch
from scipy import fft

from remnant.lab.coefficients import COEFFICIENTS, Coefficients, Dct, JpegDct, Zfp, named, zfp_blocks
from remnant.lab.coefficients.dct import zigzag
from remnant.lab.coefficients.zfp_rate import keep_rate
from tests.lab.coefficients.images import pictures

ALL: list[Coefficients] = [
    Zfp(precision=1),
    Zfp(precision=6),
    Zfp(precision=32),
    Zfp(rate=0.5625),
    Zfp(rate=2.5),
    Zfp(rate=16),
    Dct(4),
    Dct(8),
    JpegDct(1),
    JpegDct(75),
    JpegDct(75, subsampled=True),
]
names = pytest.mark.parametrize("transform", ALL, ids=lambda transform: transform.name)


# ZFP of bytes: exact arithmetic in floats


@pytest.mark.parametrize("precision", range(1, 33))
def test_bytes_have_the_coefficients_of_zfps_integer_transform(precision):
    images = pictures()
    expected = zfp_blocks.coefficients(zfp_blocks.keep_planes(zfp_blocks.encode(images.float()), precision))
    assert torch.equal(Zfp(precision=precision)(images), expected.flatten(1, 2))


@pytest.mark.parametrize("rate", [0.5625, 0.7, 1, 1.7, 2.5, 4, 8, 12, 20, 64])
def test_bytes_have_the_coefficients_of_zfps_fixed_rate(rate):
    images = pictures()
    expected = zfp_blocks.coefficients(keep_rate(zfp_blocks.encode(images.float()), rate))
    assert torch.equal(Zfp(rate=rate)(images), expected.flatten(1, 2))


@pytest.mark.parametrize("precision", [5, 6, 8, 11, 17, 32])
def test_the_inverse_is_what_zfpy_decodes(precision):
    zfpy = pytest.importorskip("zfpy")
    images = pictures()
    found = Zfp(precision=precision).inverse(Zfp(precision=precision)(images)).numpy()
    planes = np.ascontiguousarray(images.numpy().reshape(-1, 32), np.float32)
    decoded = zfpy.decompress_numpy(zfpy.compress_numpy(planes, precision=precision))
    np.testing.assert_array_equal(found, decoded.reshape(images.shape))


def test_the_inverse_at_few_planes_is_what_zfp_decodes_but_for_its_overflow():
    images = pictures()
    for precision in (1, 2, 3, 4):
        blocks = zfp_blocks.keep_planes(zfp_blocks.encode(images.float()), precision)
        difference = Zfp(precision=precision).inverse(Zfp(precision=precision)(images)) - zfp_blocks.decode(blocks)
        # 32 bits wrap to a multiple of 4 * 2^e, which later steps may halve twice.
        assert (difference % 1 == 0).all()
        assert (difference != 0).float().mean() < 0.1


def test_full_precision_keeps_every_byte():
    images = pictures()
    for transform in (Zfp(precision=24), Zfp(precision=32), Zfp(rate=32)):
        assert torch.equal(transform.inverse(transform(images)), images.float())


# The cosine transform


@pytest.mark.parametrize("block", [4, 8])
def test_dct_is_scipys_orthonormal_one(block):
    images = pictures()
    found = Dct(block)(images).unflatten(1, (3, block * block))
    number = 32 // block
    tiles = images.double().reshape(-1, 3, number, block, number, block).permute(0, 1, 2, 4, 3, 5).numpy()
    transformed = np.asarray(fft.dctn(tiles, axes=(4, 5), norm="ortho"))
    expected = transformed.reshape(*tiles.shape[:4], -1)[..., zigzag(block)]
    np.testing.assert_allclose(found.permute(0, 1, 3, 4, 2).numpy(), expected, atol=2e-3)


@pytest.mark.parametrize("block", [4, 8])
def test_dct_is_linear_keeps_energy_and_comes_back(block):
    a, b = pictures()[:6] // 2, pictures()[6:12] // 2
    transform = Dct(block)
    torch.testing.assert_close(transform(a + b), transform(a) + transform(b), atol=2e-3, rtol=0)
    energy = transform(a).double().square().sum((1, 2, 3))
    torch.testing.assert_close(energy, a.double().square().sum((1, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(transform.inverse(transform(a)), a.float(), atol=2e-3, rtol=0)


def test_zigzag_is_that_of_the_jpeg_standard():
    """ITU-T T.81, figure A.6: the places of the first and last coefficients."""
    order = zigzag(8)
    assert order[:15] == [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4]
    assert order[-6:] == [61, 54, 47, 55, 62, 63]
    assert sorted(order) == list(range(64))


# All transforms


@names
def test_shapes_are_channels_times_block_area_by_blocks(transform):
    images = pictures()
    side = transform.side
    found = transform(images)
    assert tuple(found.shape) == (len(images), 3 * side**2, 32 // side, 32 // side)
    assert tuple(found.shape[1:]) == transform.shape((3, 32, 32))
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.isfinite(found).all()


@names
def test_grey_and_wide_images_are_transformed_alike(transform):
    grey = pictures()[:, :1]
    found = transform(grey)
    assert tuple(found.shape[1:]) == transform.shape((1, 32, 32))
    wide = torch.cat([grey, grey.flip(0)], dim=3)
    assert torch.equal(transform(wide)[..., : found.shape[3]], found)
    assert tuple(transform.inverse(found).shape) == tuple(grey.shape)


@names
def test_each_image_is_transformed_by_itself(transform):
    images = pictures().repeat(12, 1, 1, 1)
    assert len(images) > 128  # more than are computed at once
    found = transform(images)
    assert torch.equal(found[:13], transform(images[:13]))
    assert torch.equal(found[-1], transform(images[12:13])[0])
    assert torch.equal(found, transform(images.contiguous(memory_format=torch.channels_last)))


@names
def test_no_images_give_no_coefficients(transform):
    assert tuple(transform(pictures()[:0]).shape) == (0, *transform.shape((3, 32, 32)))


@names
def test_names_lead_back(transform):
    assert named(transform.name) == transform


def test_every_kind_is_listed():
    for pattern in COEFFICIENTS:
        name = pattern.replace("PLANES", "6").replace("BITS", "2.5").replace("QUALITY", "75")
        assert named(name).name == name


@names
def test_sides_that_are_not_whole_blocks_are_refused(transform):
    with pytest.raises(ValueError, match=rf"divisible by {transform.smallest}, but the images are 32x30. Crop or pad"):
        transform(torch.zeros(2, 3, 32, 30, dtype=torch.uint8))


@names
def test_other_than_bytes_are_refused(transform):
    with pytest.raises(ValueError, match=r"Expected uint8 images .* but got torch.float32 of shape \(2, 3, 32, 32\)"):
        transform(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"Expected uint8 images .*\(32, 32\)"):
        transform(torch.zeros(32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Zfp(), "either `precision` or `rate`"),
        (lambda: Zfp(precision=6, rate=2.0), "either `precision` or `rate`"),
        (lambda: Zfp(precision=0), r"`precision` to be a whole number in 1..32, but got 0"),
        (lambda: Zfp(precision=33), r"`precision` to be a whole number in 1..32, but got 33"),
        (lambda: Zfp(precision=2.5), r"`precision` to be a whole number in 1..32, but got 2.5"),  # pyright: ignore
        (lambda: Zfp(rate=0.5), r"Expected `rate` in \[0.5625, 64\]"),
        (lambda: Dct(5), "`block` to be 4 or 8, but got 5"),
        (lambda: JpegDct(0), r"`quality` to be a whole number in 1..100, but got 0"),
        (lambda: JpegDct(101), r"`quality` to be a whole number in 1..100, but got 101"),
        (lambda: named("zfp"), r"Expected coefficients such as \['zfp-precision-PLANES'.*but got 'zfp'"),
        (lambda: named("zfp-precision-40"), "in 1..32, but got 40"),
        (lambda: named("dct-16"), "`block` to be 4 or 8, but got 16"),
        (
            lambda: Dct(4).inverse(torch.zeros(2, 20, 8, 8)),
            r"channels \* 16, rows, columns\), but got .*\(2, 20, 8, 8\)",
        ),
        (lambda: Zfp(precision=6).inverse(torch.zeros(16, 8, 8)), r"channels \* 16"),
        (lambda: JpegDct().inverse(torch.zeros(2, 128, 4, 4)), "64 or 192 channels of JPEG coefficients, but got 128"),
        (lambda: JpegDct()(torch.zeros(2, 4, 8, 8, dtype=torch.uint8)), "1 or 3 channels for JPEG, but got 4"),
    ],
)
def test_values_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
