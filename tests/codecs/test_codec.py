"""What holds for every codec."""

import contextlib

import numpy as np
import pytest

from remnant.codecs import (
    CODECS,
    Codec,
    Jpeg,
    Jpeg2000,
    JpegXL,
    Png,
    Raw,
    StreamError,
    WebP,
    ZfpAccuracy,
    ZfpPrecision,
    ZfpRate,
    ZfpReversible,
    Zstd,
    codec,
    from_dict,
    parse,
    to_dict,
)
from remnant.codecs.codec import CHUNK_BYTES
from remnant.registry import UnknownNameError
from tests.codecs.crops import crops

LOSSLESS = [
    Raw(), Png(), Png(level=1), Zstd(), Zstd(level=19, images=7), Jpeg2000(lossless=True), WebP(lossless=True),
    JpegXL(lossless=True, effort=3), ZfpReversible(), ZfpReversible(dtype="int32", layout="batch"),
]  # fmt: skip
LOSSY = [
    Jpeg(), Jpeg(quality=1, subsampling="4:4:4"), Jpeg(quality=100, optimize=True), Jpeg2000(psnr=30.5),
    WebP(quality=0), JpegXL(distance=2.5, effort=3), ZfpAccuracy(3.7),
    *(ZfpRate(4.25, layout=layout) for layout in ("planes", "channels", "volume", "batch")),
    *(ZfpPrecision(9, layout=layout, dtype="int32") for layout in ("planes", "channels", "volume", "batch")),
]  # fmt: skip
ALL = LOSSLESS + LOSSY


def label(value: Codec) -> str:
    return value.label


def test_every_kind_is_tested():
    assert {value.kind for value in ALL} == {*CODECS}
    assert all(cls.kind == kind for kind, cls in CODECS.items())


@pytest.mark.parametrize("value", ALL, ids=label)
def test_labels_and_plain_data_lead_back_to_the_codec(value):
    assert parse(value.label) == value
    assert from_dict(to_dict(value)) == value
    assert hash(parse(value.label)) == hash(value)


@pytest.mark.parametrize("value", LOSSLESS, ids=label)
def test_lossless_codecs_return_every_pixel(value):
    images = np.concatenate([crops(9), np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)])
    images = np.concatenate([images, np.zeros_like(images[:1]), np.full_like(images[:1], 255)])
    np.testing.assert_array_equal(value.encode(images).decode(), images)


@pytest.mark.parametrize("value", LOSSY, ids=label)
def test_lossy_codecs_return_something_like_the_images(value):
    images = crops(9)
    decoded = value.encode(images).decode()
    assert decoded.dtype == np.uint8
    assert decoded.shape == images.shape
    assert 0 < np.abs(decoded.astype(int) - images).mean() < 30


@pytest.mark.parametrize("value", ALL, ids=label)
def test_streams_and_images_do_not_depend_on_threads_and_the_input_stays(value, monkeypatch):
    images = crops(11)
    before = images.copy()
    one = value.encode(images, workers=1)
    monkeypatch.setattr(codec, "CHUNK_BYTES", 1)
    many = value.encode(images, workers=3)
    assert one.streams == many.streams
    assert len(one.streams) == -(-11 // value.group)
    np.testing.assert_array_equal(one.decode(workers=1), many.decode(workers=3))
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize("value", ALL, ids=label)
def test_strided_and_single_images_are_encoded_as_their_copies(value):
    images = crops(8)
    strided = images[::-2]
    assert value.encode(strided).streams == value.encode(strided.copy()).streams
    assert value.encode(images[:1]).decode().shape == (1, 32, 32, 3)


@pytest.mark.parametrize("value", ALL, ids=label)
def test_streams_of_another_shape_are_refused(value):
    streams = value.encode(crops(4)).streams
    for shape in ((64, 64, 3), (32, 16, 3), (16, 32, 3)):
        with pytest.raises(StreamError):
            value.decode_block(streams[:1], min(value.group, 4), shape)


@pytest.mark.parametrize("value", ALL, ids=label)
def test_other_bytes_are_refused_or_decoded_never_a_crash(value):
    streams = list(value.encode(crops(value.group)).streams)
    rng = np.random.default_rng(0)
    for wrong in (b"", b"\0" * 40, streams[0][:10], streams[0][1:]):
        if value != Raw():
            with pytest.raises(StreamError):
                value.decode_block([wrong], value.group, (32, 32, 3))
    for _ in range(20):
        bytes_ = bytearray(streams[0])
        bytes_[rng.integers(len(bytes_))] = rng.integers(256)
        damaged = bytes(bytes_[: rng.integers(len(bytes_) // 2, len(bytes_) + 1)])
        with contextlib.suppress(StreamError):
            assert value.decode_block([damaged], value.group, (32, 32, 3)).shape == (value.group, 32, 32, 3)


def test_the_position_of_a_damaged_stream_counts_from_the_first(monkeypatch):
    monkeypatch.setattr(codec, "CHUNK_BYTES", 3 * 3072)
    encoded = Png().encode(crops(10))
    streams = [*encoded.streams[:7], b"damaged", *encoded.streams[8:]]
    broken = codec.Encoded(encoded.codec, encoded.shape, tuple(streams))
    with pytest.raises(StreamError, match="Stream 7: it cannot be decoded as png of shape") as caught:
        broken.decode()
    assert caught.value.position == 7


def test_progress_counts_images_up_to_all():
    number = 2 * (CHUNK_BYTES // 3072) + 3
    images = np.zeros((number, 32, 32, 3), np.uint8)
    calls: list[tuple[int, int]] = []
    encoded = Raw().encode(images, progress=lambda done, of: calls.append((done, of)))
    encoded.decode(progress=lambda done, of: calls.append((done, of)))
    size = CHUNK_BYTES // 3072
    assert calls == 2 * [(size, number), (2 * size, number), (number, number)]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 3)), r"uint8 .* got float64 with values in \[0, 0\].*np.rint\(255 \* images\)"),
        (np.full((2, 8, 8, 3), 200, np.float32), r"values in \[200, 200\].*np.clip\(np.rint\(images\), 0, 255\)"),
        (np.array([np.nan, 1.0]).reshape(1, 1, 2, 1), "float64 with 1 values that are NaN or infinite"),
        (np.full((1, 8, 8, 1), 300), "got int64"),
        (np.zeros((2, 8, 8), np.uint8), r"but got \(2, 8, 8\).*images\[..., np.newaxis\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), r"got \(0, 8, 8, 3\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"channels of `images` last.*np.moveaxis\(images, 1, 3\)"),
        ("text", "uint8"),
    ],
)
def test_other_arrays_than_uint8_images_are_refused_with_what_to_do(images, message):
    with pytest.raises(ValueError, match=message):
        Raw().encode(images)


def test_names_and_parameters_that_are_not_known_are_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'jpeg'"):
        parse("jpg")
    with pytest.raises(ValueError, match="Did you mean 'quality'"):
        parse("jpeg(qualty=3)")
    with pytest.raises(ValueError, match=r"expected the keys \['rate'\]"):
        parse("zfp-rate")
    with pytest.raises(ValueError, match="`codec.rate` to be of type float, but got 'many'"):
        parse("zfp-rate(rate=many)")
    with pytest.raises(ValueError, match="`codec.quality` to be of type int, but got 75.5"):
        parse("jpeg(quality=75.5)")
    for text in ("jpeg(quality=3", "jpeg(3)", "jpeg(quality=3, quality=4)", "jpeg(kind=png)"):
        with pytest.raises(ValueError, match="Expected `codec` to look like"):
            parse(text)
    with pytest.raises(ValueError, match="to be a name or to have a `kind`, but got 3"):
        from_dict(3)


def test_labels_may_be_written_freely():
    assert parse(" zfp-rate( layout = 'volume' ,rate=4 ) ") == ZfpRate(4.0, layout="volume")
    assert parse("jpeg(optimize=true, subsampling='4:4:4')") == Jpeg(optimize=True, subsampling="4:4:4")
    assert parse("jpeg()") == Jpeg()


def test_streams_too_large_for_memory_are_refused():
    with pytest.raises(ValueError, match=r"at most 1073741824 values in a stream, but 1024 images of shape"):
        Zstd(images=1024).check((1024, 1024, 3))


def test_a_missing_library_is_told_with_the_command_that_installs_it(monkeypatch):
    def absent(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(codec, "import_module", absent)
    with pytest.raises(ValueError, match=r"'zfpy' to be installed.*pip install 'remnant\[data\]'"):
        ZfpRate(4.0).encode(crops(1))


def test_a_worker_count_below_one_is_refused():
    with pytest.raises(ValueError, match="`workers` >= 1, but got 0"):
        Raw().encode(crops(1), workers=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Zstd(level=0), r"`level` a whole number in 1..22, but got 0"),
        (lambda: Zstd(images=2000), "`images` a whole number in 1..1024"),
        (lambda: Png(level=0), "`level` a whole number in 1..9"),
        (lambda: JpegXL(distance=0), "`distance` in .*lossless=True"),
        (lambda: JpegXL(effort=11), "`effort` a whole number"),
        (lambda: Jpeg2000(psnr=0), "`psnr` in"),
        (lambda: Jpeg2000(psnr=float("nan")), "`psnr` in"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
