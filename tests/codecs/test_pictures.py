"""Picture codecs against Pillow and imagecodecs called directly."""

import io

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from remnant.codecs import Jpeg, Jpeg2000, JpegXL, Png, StreamError, WebP
from tests.codecs.crops import crops


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize(("subsampling", "number"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
@pytest.mark.parametrize("quality", [1, 25, 75, 100])
def test_jpeg_bytes_and_pixels_are_those_of_pillow(quality, subsampling, number, optimize, channels):
    images = crops(3, 31, 45, channels)
    encoded = Jpeg(quality=quality, subsampling=subsampling, optimize=optimize).encode(images)
    decoded = encoded.decode()
    for image, stream, pixels in zip(images, encoded.streams, decoded, strict=True):
        file = io.BytesIO()
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        picture.save(file, "JPEG", quality=quality, subsampling=number, optimize=optimize)
        if channels == 3 or number == 0:
            # Of a grey image, Pillow writes sampling factors that have no effect.
            assert stream == file.getvalue()
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stream))), np.squeeze(pixels))


@pytest.mark.parametrize(
    ("codec", "encode", "decode"),
    [
        (
            Jpeg2000(psnr=32.0),
            lambda x: imagecodecs.jpeg2k_encode(x, level=32, codecformat="j2k"),
            imagecodecs.jpeg2k_decode,
        ),
        (WebP(quality=40), lambda x: imagecodecs.webp_encode(x, level=40, lossless=False), imagecodecs.webp_decode),
        (
            JpegXL(distance=3.0, effort=3),
            lambda x: imagecodecs.jpegxl_encode(x, distance=3, effort=3, usecontainer=False),
            imagecodecs.jpegxl_decode,
        ),
        (Png(level=3), lambda x: imagecodecs.png_encode(x, level=3), imagecodecs.png_decode),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_streams_and_pixels_are_those_of_the_library(codec, encode, decode):
    images = crops(3)
    encoded = codec.encode(images)
    assert list(encoded.streams) == [encode(image) for image in images]
    np.testing.assert_array_equal(encoded.decode(), [decode(stream) for stream in encoded.streams])


@pytest.mark.parametrize("codec", [Png(), WebP(), Jpeg2000()])
def test_pillow_reads_the_streams(codec):
    encoded = codec.encode(crops(2))
    decoded = encoded.decode()
    for stream, pixels in zip(encoded.streams, decoded, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stream))), pixels)


@pytest.mark.parametrize("codec", [Jpeg(), Jpeg2000(), JpegXL(effort=3), Png()])
def test_grey_images_keep_their_axis(codec):
    images = crops(3, channels=1)
    decoded = codec.encode(images).decode()
    assert decoded.shape == (3, 32, 32, 1)
    assert np.abs(decoded.astype(int) - images).mean() < 10


def test_higher_quality_means_more_bytes_and_less_error():
    images = crops(10)
    bytes_, errors = [], []
    for quality in (5, 25, 50, 75, 95):
        encoded = Jpeg(quality=quality).encode(images)
        bytes_.append(sum(map(len, encoded.streams)))
        errors.append(np.square(encoded.decode().astype(float) - images).mean())
    assert bytes_ == sorted(bytes_)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("quality", [0, 101, -1, 75.0, True])
def test_a_quality_out_of_range_is_refused(quality):
    # libjpeg takes 0 as 1 and 101 as 100; Pillow takes 0 as its default, 75.
    with pytest.raises(ValueError, match=r"`quality` a whole number in 1..100, but got"):
        Jpeg(quality=quality)


def test_other_choices_and_channels_are_refused():
    with pytest.raises(ValueError, match="`subsampling` to be one of"):
        Jpeg(subsampling="4:1:1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"with 3 channels for 'webp', but got 1. Store grey images with jpeg"):
        WebP().encode(crops(2, channels=1))
    with pytest.raises(ValueError, match="with 1 or 3 channels for 'jpeg', but got 2"):
        Jpeg().encode(crops(2, channels=2))
    with pytest.raises(ValueError, match="sides <= 16383 for 'webp'"):
        WebP().check((1, 16384, 3))


def test_jpeg2000_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    stream = Jpeg2000().encode(crops(1, 64, 64)).streams[0]
    monkeypatch.setattr(imagecodecs, "jpeg2k_decode", lambda *arguments, **options: pytest.fail("decoded"))
    with pytest.raises(StreamError, match="it holds 64x64 pixels"):
        Jpeg2000().decode_block([stream], 1, (32, 32, 3))


def test_jpeg2000_comes_near_the_asked_signal_to_noise_ratio():
    images = crops(6, 64, 64)
    for psnr in (30.0, 40.0):
        decoded = Jpeg2000(psnr=psnr).encode(images).decode()
        errors = np.square(decoded.astype(float) - images).mean((1, 2, 3))
        assert np.all(np.abs(10 * np.log10(255**2 / errors) - psnr) < 2)
