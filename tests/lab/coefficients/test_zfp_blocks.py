"""The oracle is zfpy, the Python package of ZFP itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.lab.coefficients import zfp_blocks
from remnant.lab.coefficients.zfp_blocks import Blocks, decode, encode, keep_accuracy, keep_planes
from tests.lab.coefficients.images import float_arrays, integer_arrays

zfpy = pytest.importorskip("zfpy")


def zfp(array: np.ndarray, **mode: float) -> np.ndarray:
    """What ZFP makes of each two-dimensional array of a stack."""
    planes = array.reshape(-1, *array.shape[-2:])
    decoded = [zfpy.decompress_numpy(zfpy.compress_numpy(plane, **mode)) for plane in planes]
    return np.stack(decoded).reshape(array.shape)


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.int32)


# Bit for bit


@pytest.mark.parametrize("name", float_arrays())
def test_floats_decode_as_zfp_decodes_them_at_every_precision(name):
    array = float_arrays()[name]
    blocks = encode(torch.from_numpy(array))
    for precision in range(1, 33):
        found = decode(keep_planes(blocks, precision)).numpy()
        np.testing.assert_array_equal(bits(found), bits(zfp(array, precision=precision)), f"precision {precision}")


@pytest.mark.parametrize("name", integer_arrays())
def test_integers_decode_as_zfp_decodes_them_at_every_precision(name):
    array = integer_arrays()[name]
    blocks = encode(torch.from_numpy(array))
    for precision in range(1, 33):
        found = decode(keep_planes(blocks, precision)).numpy()
        np.testing.assert_array_equal(found, zfp(array, precision=precision), f"precision {precision}")


@pytest.mark.parametrize("name", float_arrays())
def test_floats_decode_as_zfp_decodes_them_at_every_tolerance(name):
    array = float_arrays()[name]
    blocks = encode(torch.from_numpy(array))
    for tolerance in (1e-30, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1.0, 3.0, 4.0, 100.0, 1e10):
        found = decode(keep_accuracy(blocks, tolerance)).numpy()
        np.testing.assert_array_equal(bits(found), bits(zfp(array, tolerance=tolerance)), f"tolerance {tolerance}")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-(2**30) + 1, 2**30 - 1), min_size=16, max_size=16),
    st.integers(-60, 60),
    st.integers(1, 32),
)
def test_any_block_decodes_as_zfp_decodes_it(values, power, precision):
    array = (np.array(values, np.float32) * np.float32(2.0**power)).reshape(4, 4)
    found = decode(keep_planes(encode(torch.from_numpy(array)), precision)).numpy()
    np.testing.assert_array_equal(bits(found), bits(zfp(array, precision=precision)))


def test_zfp_itself_is_wrong_where_we_refuse():
    """Its scale overflows: nothing of the values is left, not even at full precision."""
    array = np.full((4, 4), 2.0**-99, np.float32) * np.array([1, -0.3, 0.5, 0.1], np.float32)
    assert not np.allclose(zfp(array, precision=32), array, rtol=0.5, atol=0)
    array *= 2
    assert np.allclose(zfp(array, precision=32), array, rtol=1e-5)
    with pytest.raises(ValueError, match=r"0 or at least 2\^-98"):
        encode(torch.from_numpy(array / 2))


def test_zfps_decoder_overflows_at_few_planes():
    """A nearly white block becomes negative; `Zfp.inverse` gives the value that was meant."""
    array = np.array([[255, 0, 0, 255], [0, 255, 255, 0], [0, 255, 255, 0], [255, 0, 0, 255]], np.float32)
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        noisy = np.ascontiguousarray(rng.permuted(array).reshape(4, 4), np.float32)
        found = decode(keep_planes(encode(torch.from_numpy(noisy)), 3)).numpy()
        np.testing.assert_array_equal(bits(found), bits(zfp(noisy, precision=3)))
        wrong += found.min() < -256
    assert wrong > 0


# Structure


def slow_digits(value: int) -> int:
    """Digits of base -2 by division."""
    digits = 0
    for position in range(32):
        value, remainder = -(value // 2), value % 2
        digits |= remainder << position
    return digits


@given(st.integers(-(2**30), 2**30))
def test_digits_are_those_of_base_minus_two(value):
    found = zfp_blocks.to_negabinary(torch.tensor([value], dtype=torch.int32))
    assert int(found) & 0xFFFFFFFF == slow_digits(value)
    assert int(zfp_blocks.from_negabinary(found)) == value


def test_the_transform_is_zfps_matrix_to_within_its_shifts():
    """The matrix of Diffenderfer et al. (2019), equation 4.2, along rows and columns."""
    matrix = np.array([[4, 4, 4, 4], [5, 1, -1, -5], [-4, 4, 4, -4], [-2, 6, -6, 2]]) / 16
    block = np.random.default_rng(0).integers(-(2**29), 2**29, (4, 4))
    exact = (matrix @ block @ matrix.T).reshape(-1)[list(zfp_blocks.SEQUENCY)]
    found = encode(torch.from_numpy(block.astype(np.int32))).integers[:, 0].numpy()
    assert np.abs(found - exact).max() < 3
    # Coefficients are in order of their total frequency.
    total = [sum(divmod(place, 4)) for place in zfp_blocks.SEQUENCY]
    assert total == sorted(total)


def test_coefficients_are_the_channels_of_a_quarter_of_the_picture():
    array = torch.from_numpy(float_arrays()["stack"])
    found = zfp_blocks.coefficients(encode(array))
    assert found.shape == (2, 3, 16, 2, 3)
    # The first one is the mean of the block.
    torch.testing.assert_close(found[:, :, 0], torch.nn.functional.avg_pool2d(array, 4))


def test_planes_may_differ_from_block_to_block():
    blocks = encode(torch.from_numpy(float_arrays()["noise"]))
    planes = torch.arange(64, dtype=torch.int32) % 34 - 1
    found = keep_planes(blocks, planes).negabinary
    for block, number in enumerate(planes.tolist()):
        one = Blocks(blocks.negabinary[:, [block]], None, (4, 4))
        assert torch.equal(found[:, [block]], keep_planes(one, number).negabinary)


# Errors


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(8, 8, dtype=torch.uint8), "float32 or int32 values for ZFP's blocks, but got torch.uint8"),
        (torch.zeros(8, 8, dtype=torch.float64), "but got torch.float64"),
        (torch.zeros(8, 6), r"divisible by 4, but got the shape \(8, 6\)"),
        (torch.zeros(0, 4), "divisible by 4"),
        (torch.zeros(4), "divisible by 4"),
        (torch.full((4, 4), torch.nan), "some are NaN or infinite"),
        (torch.full((4, 4), torch.inf), "some are NaN or infinite"),
        (torch.full((4, 4), 1e-40), r"at least 2\^-98"),
        (torch.full((4, 4), 2**30, dtype=torch.int32), r"between -2\^30 and 2\^30"),
        (torch.full((4, 4), -(2**31), dtype=torch.int32), r"between -2\^30 and 2\^30"),
    ],
)
def test_arrays_that_zfp_cannot_code_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        encode(values)


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_tolerances_that_are_no_positive_number_are_refused(tolerance):
    with pytest.raises(ValueError, match="`tolerance` to be a positive number"):
        keep_accuracy(encode(torch.ones(4, 4)), tolerance)


def test_integers_have_no_tolerance():
    with pytest.raises(ValueError, match="float32 array with `tolerance`, but got int32"):
        keep_accuracy(encode(torch.ones(4, 4, dtype=torch.int32)), 1.0)
