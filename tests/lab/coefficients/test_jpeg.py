"""The oracles are Pillow, which writes files, and jpeglib, which reads their coefficients."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from remnant.lab.coefficients import JpegDct, read_jpeg_coefficients
from remnant.lab.coefficients.dct import dct_matrix
from remnant.lab.coefficients.jpeg import _integer_matrix, jpeg_coefficients, quantization_table
from tests.lab.coefficients.images import pictures


def saved(image: Tensor, quality: int, subsampled: bool = False) -> bytes:
    stream = io.BytesIO()
    pixels = image.permute(1, 2, 0).squeeze(2).numpy()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    return stream.getvalue()


def files(folder, images: Tensor, quality: int, subsampled: bool = False) -> list[str]:
    paths = []
    for i, image in enumerate(images):
        paths.append(str(folder / f"{i}.jpg"))
        (folder / f"{i}.jpg").write_bytes(saved(image, quality, subsampled))
    return paths


@pytest.mark.parametrize("subsampled", [False, True])
@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 90, 95, 100])
def test_coefficients_are_those_in_the_file(tmp_path, quality, subsampled):
    pytest.importorskip("jpeglib")
    images = pictures()
    stored = read_jpeg_coefficients(files(tmp_path, images, quality, subsampled))
    found = jpeg_coefficients(images, quality, subsampled=subsampled)
    assert len(found) == len(stored) == 3
    for ours, theirs in zip(found, stored, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("quality", [20, 80, 100])
def test_grey_coefficients_are_those_in_the_file(tmp_path, quality):
    pytest.importorskip("jpeglib")
    images = pictures()[:, :1]
    (stored,) = read_jpeg_coefficients(files(tmp_path, images, quality))
    assert torch.equal(jpeg_coefficients(images, quality)[0], stored)


@pytest.mark.parametrize("quality", [30, 75, 95, 100])
def test_the_inverse_is_pillows_decoding_to_within_rounding(quality):
    """Pillow rounds Y, Cb and Cr, then red, green and blue; Cb weighs 1.772 in blue. It also clips them: not here."""
    images = pictures()[:6] // 2 + 64
    for channels in (1, 3):
        decoded = [np.asarray(Image.open(io.BytesIO(saved(image[:channels], quality)))) for image in images]
        expected = torch.from_numpy(np.stack(decoded).reshape(len(images), 32, 32, channels)).permute(0, 3, 1, 2)
        found = JpegDct(quality).inverse(JpegDct(quality)(images[:, :channels]))
        assert (found.clamp(0, 255) - expected).abs().max() < (2.5 if channels == 3 else 1.1)


def test_quantization_tables_are_those_that_pillow_writes():
    order = [int(step) for step in quantization_table(75)[:6]]
    for quality in (1, 25, 49, 50, 51, 75, 100):
        tables = Image.open(io.BytesIO(saved(pictures()[0], quality))).quantization  # pyright: ignore
        natural = [torch.tensor(tables[i]).double() for i in (0, 1)]
        assert sorted(natural[0].tolist()) == sorted(quantization_table(quality).tolist())
        assert sorted(natural[1].tolist()) == sorted(quantization_table(quality, chrominance=True).tolist())
    # ITU-T T.81, table K.1: 16, 11, 12, 14, 12, 10 along the first antidiagonals, halved at quality 75.
    assert order == [8, 6, 6, 7, 6, 5]


def test_the_integer_transform_is_the_cosine_transform_with_13_bits():
    exact = dct_matrix(8) * 2**13 * np.sqrt(8)
    assert (_integer_matrix() - exact).abs().max() < 2


def test_subsampled_chroma_stands_in_two_by_two_places_or_apart():
    images = pictures()
    transform = JpegDct(60, subsampled=True)
    luma, chroma = transform.branches(images)
    assert (luma.shape[1:], chroma.shape[1:]) == ((64, 4, 4), (128, 2, 2))
    together = transform(images)
    assert torch.equal(together[:, :64], luma)
    for row in (0, 1):
        for column in (0, 1):
            assert torch.equal(together[:, 64:, row::2, column::2], chroma)
    assert len(transform.branches(images[:, :1])) == 1
    # Without subsampling, both have the same resolution.
    assert [tuple(part.shape[1:]) for part in JpegDct(60).branches(images)] == [(64, 4, 4), (128, 4, 4)]


def test_the_inverse_of_subsampled_chroma_is_flat_over_two_pixels():
    flat = torch.tensor([200, 50, 90], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32).contiguous()
    transform = JpegDct(100, subsampled=True)
    assert (transform.inverse(transform(flat)) - flat).abs().max() < 2.5


def test_files_that_cannot_be_read_together_are_refused(tmp_path, monkeypatch):
    pytest.importorskip("jpeglib")
    with pytest.raises(ValueError, match="at least 1 JPEG file"):
        read_jpeg_coefficients([])
    small, large = pictures(16)[:1], pictures(32)[:1]
    for name, image in (("a.jpg", small), ("b.jpg", large)):
        (tmp_path / name).write_bytes(saved(image[0], 75))
    with pytest.raises(ValueError, match=r"one size and subsampling, but '.*b.jpg' differs from '.*a.jpg'"):
        read_jpeg_coefficients([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "absent.jpg"):
        with pytest.raises(ValueError, match=rf"Cannot read '.*{name}' as a JPEG file"):
            read_jpeg_coefficients([tmp_path / name])
    monkeypatch.setitem(sys.modules, "jpeglib", None)
    with pytest.raises(ImportError, match="pip install jpeglib"):
        read_jpeg_coefficients([tmp_path / "a.jpg"])
