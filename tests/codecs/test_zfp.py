"""ZFP against zfpy called directly, and against its own definitions."""

import numpy as np
import pytest
import zfpy
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.codecs import StreamError, ZfpAccuracy, ZfpPrecision, ZfpRate
from remnant.codecs.zfp import Zfp
from tests.codecs.crops import crops

MODES = [
    (ZfpRate, {"rate": 5.5}),
    (ZfpPrecision, {"precision": 7}),
    (ZfpAccuracy, {"tolerance": 6.0}),
]
LAYOUTS = ["planes", "channels", "volume", "batch"]


def arrays_of(images: np.ndarray, layout: str) -> list[np.ndarray]:
    """What a layout means, written down once more."""
    number, channels = len(images), images.shape[3]
    if layout == "planes":
        return [np.concatenate([image[..., c] for c in range(channels)]) for image in images]
    if layout == "channels":
        return [image[..., c].copy() for image in images for c in range(channels)]
    if layout == "volume":
        return list(images)
    return [images[i : i + 4] for i in range(0, number, 4)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("cls", "options"), MODES)
def test_streams_are_those_of_zfpy(cls, options, layout):
    images = crops(6, 20, 27)
    streams = cls(**options, layout=layout).encode(images).streams
    expected = [zfpy.compress_numpy(np.ascontiguousarray(a), **options) for a in arrays_of(images.astype("f4"), layout)]
    if layout == "channels":
        assert [stream[: sum(map(len, expected[3 * i : 3 * i + 3]))] for i, stream in enumerate(streams)] == [
            b"".join(expected[3 * i : 3 * i + 3]) for i in range(6)
        ]
    else:
        assert list(streams) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("cls", "options"), MODES)
def test_pixels_are_what_zfpy_decodes_rounded_and_clipped(cls, options, layout):
    images = crops(6, 20, 27)
    decoded = cls(**options, layout=layout).encode(images).decode()
    for mine, array in zip(arrays_of(decoded, layout), arrays_of(images.astype("f4"), layout), strict=True):
        values = zfpy.decompress_numpy(zfpy.compress_numpy(np.ascontiguousarray(array), **options))
        np.testing.assert_array_equal(mine, np.clip(np.rint(values), 0, 255))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_numbers_are_promoted_as_zfp_promotes_bytes(layout):
    images = crops(6, 20, 27)
    codec = ZfpPrecision(8, layout=layout, dtype="int32")
    decoded = codec.encode(images).decode()
    for mine, array in zip(arrays_of(decoded, layout), arrays_of(images.astype(np.int64), layout), strict=True):
        promoted = np.ascontiguousarray(((array - 128) * 2**23).astype(np.int32))
        values = zfpy.decompress_numpy(zfpy.compress_numpy(promoted, precision=8)).astype(np.float64)
        np.testing.assert_array_equal(mine, np.clip(np.floor(values / 2**23 + 0.5) + 128, 0, 255))


def test_whole_numbers_take_fewer_bytes_than_floats_at_the_same_precision_and_are_nearer():
    images = crops(20)
    results = []
    for dtype in ("float32", "int32"):
        encoded = ZfpPrecision(8, dtype=dtype).encode(images)
        error = np.square(encoded.decode().astype(float) - images).mean()
        results.append((sum(map(len, encoded.streams)), error))
    assert results[1] < results[0]
    assert results[1][1] < results[0][1]


@pytest.mark.parametrize("rate", [0.5625, 1, 4, 32])
def test_a_rate_fixes_the_bytes(rate):
    streams = ZfpRate(rate).encode(crops(5)).streams
    # 96 x 32 values; the header has 96 bits, and a stream is a whole number of 64-bit words.
    assert {len(stream) for stream in streams} == {8 * -(-int(96 + rate * 96 * 32) // 64)}


@pytest.mark.parametrize(
    ("layout", "rate"), [("planes", 0.5), ("planes", 0.25), ("volume", 8 / 64), ("batch", 8 / 256), ("planes", 0)]
)
def test_rates_that_overwrite_memory_in_zfpy_are_refused(layout, rate):
    with pytest.raises(ValueError, match=r"Expected `rate` in \[.*, 32\] with layout="):
        ZfpRate(rate, layout=layout)


def test_rates_that_zfp_would_change_are_refused_with_the_one_it_would_take():
    taken = zfpy.header(zfpy.compress_numpy(np.zeros((4, 4), np.float32), rate=4.05))["config"]["rate"]
    with pytest.raises(ValueError, match=rf"multiple of 1/16 .* got 4.05. ZFP would take {taken!r} without a word"):
        ZfpRate(4.05)
    assert ZfpRate(4 + 1 / 256, layout="batch").encode(crops(4)).decode().shape == (4, 32, 32, 3)
    for rate in (33.0, float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match="Expected `rate` in"):
            ZfpRate(rate)


@pytest.mark.parametrize("precision", [0, 33, 64, -1, 8.0, True])
def test_precisions_that_zfpy_would_take_for_no_limit_are_refused(precision):
    with pytest.raises(ValueError, match="`precision` a whole number in 1..32"):
        ZfpPrecision(precision)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), 256, float("inf")])
def test_tolerances_out_of_range_are_refused(tolerance):
    with pytest.raises(ValueError, match="`tolerance` in"):
        ZfpAccuracy(tolerance)


def test_choices_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="`dtype` = 'float32' with a tolerance"):
        ZfpAccuracy(4.0, dtype="int32")
    with pytest.raises(ValueError, match="`layout` to be one of"):
        ZfpPrecision(8, layout="rows")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="height divisible by 4 with layout='planes', but got 30"):
        ZfpPrecision(8).encode(crops(2, 30, 32))
    for layout in ("volume", "batch"):
        with pytest.raises(ValueError, match="colour images with layout=.*Use layout='planes'"):
            ZfpPrecision(8, layout=layout).encode(crops(2, channels=1))
    with pytest.raises(ValueError, match="sides <= 4096 for layout='batch'"):
        ZfpPrecision(8, layout="batch").check((8, 5000, 3))


@pytest.mark.parametrize("codec", [ZfpPrecision(20), ZfpPrecision(20, layout="channels")])
def test_grey_images_of_any_height_keep_their_axis(codec):
    images = crops(3, 30, 29, channels=1)
    np.testing.assert_array_equal(codec.encode(images).decode(), images)


@given(
    tolerance=st.floats(2**-8, 255),
    layout=st.sampled_from(LAYOUTS),
    seed=st.integers(0, 2**31),
    spread=st.integers(1, 256),
)
@settings(max_examples=60)
def test_no_pixel_is_farther_off_than_the_tolerance(tolerance, layout, seed, spread):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, spread, (5, 8, 7, 3)).astype(np.uint8)
    decoded = ZfpAccuracy(tolerance, layout=layout).encode(images).decode()
    # Half a grey level more is the rounding of what ZFP returns.
    assert np.abs(decoded.astype(int) - images).max() <= tolerance + 0.5


def test_precision_and_rate_go_from_little_to_all():
    images = crops(4)
    for codecs in (
        [ZfpPrecision(p) for p in (2, 4, 8, 12, 24)],
        [ZfpRate(r, layout="volume") for r in (0.5, 1, 4, 8, 24)],
    ):
        errors = [np.abs(codec.encode(images).decode().astype(int) - images).mean() for codec in codecs]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_streams_of_other_parameters_are_refused(layout):
    streams = ZfpPrecision(8, layout=layout).encode(crops(4)).streams
    other: list[Zfp] = [
        ZfpPrecision(9, layout=layout),
        ZfpRate(4.0, layout=layout),
        ZfpPrecision(8, layout=layout, dtype="int32"),
    ]
    for codec in other:
        with pytest.raises(StreamError, match="it is not a whole stream of zfp-"):
            codec.decode_block(streams, 4, (32, 32, 3))


def test_long_headers_are_compared_to_the_last_bit():
    # From 2048 bits in a block on, the mode takes 64 bits and the header ends in the middle of byte 18.
    codec = ZfpRate(9.0, layout="batch")
    stream = codec.encode(crops(4)).streams[0]
    assert codec.header_length(stream) == 18
    for byte, bit, refused in ((18, 0x08, True), (17, 0x01, True), (18, 0x10, False)):
        damaged = bytearray(stream)
        damaged[byte] ^= bit
        if refused:
            with pytest.raises(StreamError, match="not a whole stream"):
                codec.decode_block([bytes(damaged)], 4, (32, 32, 3))
        else:
            codec.decode_block([bytes(damaged)], 4, (32, 32, 3))


def test_a_stream_cut_to_its_header_decodes_without_reading_past_its_end():
    codec = ZfpPrecision(32)
    stream = codec.encode(crops(1)).streams[0]
    for length in (16, 24, 512):
        decoded = codec.decode_block([stream[:length]], 1, (32, 32, 3))
        np.testing.assert_array_equal(decoded, codec.decode_block([stream[:length]], 1, (32, 32, 3)))
        assert decoded[0, -1, -1, -1] == 0


def test_zeros_follow_a_stream_up_to_all_that_zfp_may_read(monkeypatch):
    read = []

    def spy(stream: bytes) -> np.ndarray:
        read.append(len(stream))
        return decompress(stream)

    decompress = zfpy.decompress_numpy
    monkeypatch.setattr(zfpy, "decompress_numpy", spy)
    for codec, blocks, size in (
        (ZfpPrecision(3), 24 * 8, 16),
        (ZfpPrecision(3, layout="volume"), 64, 64),
        (ZfpPrecision(3, layout="batch"), 64, 256),
    ):
        codec.decode_block([codec.encode(crops(codec.group)).streams[0][:64]], codec.group, (32, 32, 3))
        # zfp.c, zfp_stream_maximum_size: a flag, 8 bits of exponent, `size` - 1 group tests, all bits of all values.
        assert read.pop() >= 12 + blocks * (1 + 8 + size - 1 + size * 32) / 8


def test_neighbours_change_an_image_only_in_a_batch():
    images = crops(8)
    for codec, changes in (
        (ZfpPrecision(6), False),
        (ZfpPrecision(6, layout="volume"), False),
        (ZfpPrecision(6, layout="batch"), True),
    ):
        alone = codec.encode(images).decode()[0]
        among_others = codec.encode(np.concatenate([images[:1], images[4:7]])).decode()[0]
        assert bool((alone != among_others).any()) == changes
