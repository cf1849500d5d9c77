"""Sizes, each against a count made in another way."""

import numpy as np
import pytest

from remnant.codecs import Jpeg, Jpeg2000, JpegXL, Png, Raw, WebP, ZfpPrecision, ZfpRate, Zstd
from remnant.codecs.sizes import ACCOUNTINGS, sizes
from tests.codecs.crops import crops


def counted(codec, images):
    return {size.accounting: size for size in sizes(codec.encode(images))}


def test_all_accountings_are_explained():
    assert [*counted(Raw(), crops(2))] == [name for name in ACCOUNTINGS if name != "container"]


def test_raw_pixels_are_all_of_uint8_and_a_quarter_of_float32():
    for size in counted(Raw(), crops(4)).values():
        assert size.bytes == 4 * 3072
        assert size.per_image == 3072
        assert size.uint8_share == 1
        assert size.float32_share == 0.25
        assert size.to_dict()["share_of_float32"] == 0.25


def test_jpeg_tables_count_for_every_file_or_once_or_not_at_all():
    images = crops(20)
    encoded = Jpeg(quality=50).encode(images)
    found = counted(Jpeg(quality=50), images)
    whole = sum(map(len, encoded.streams))
    # 623 bytes up to the data and the end marker of 2, derived from the standard in test_jpeg_markers.py; one of
    # the two DQT headers (table number 0 and 1), the two DC and the two AC tables differ from each other.
    assert found["with headers"].bytes == whole
    assert found["entropy-coded"].bytes == whole - 20 * 625
    assert found["headers shared"].bytes == whole - 19 * 625


def test_the_entropy_coded_part_of_flat_images_is_that_of_a_hand_count():
    # 32 x 32 grey in 4:4:4 is 16 blocks of 3 components. All differences but the first are 0: codes of T.81 tables
    # K.3 to K.6. Grey level 128: all DC are 0. Y: DC 0 = 2 bits, end of block = 4; Cb, Cr: 2 + 2. 16 * 14 = 224 bits.
    flat = np.full((3, 32, 32, 3), 128, np.uint8)
    found = counted(Jpeg(subsampling="4:4:4"), flat)
    assert found["entropy-coded"].bytes == 3 * 224 // 8


def test_optimized_tables_are_not_shared_unless_they_are_the_same():
    images = crops(20)
    own, common = counted(Jpeg(optimize=True), images), counted(Jpeg(), images)
    assert own["with headers"].bytes < common["with headers"].bytes
    assert own["headers shared"].bytes > common["headers shared"].bytes
    again = counted(Jpeg(optimize=True), np.repeat(images[:1], 20, axis=0))
    one = counted(Jpeg(optimize=True), images[:1])
    assert again["headers shared"].bytes - again["entropy-coded"].bytes == one["headers shared"].bytes - (
        one["entropy-coded"].bytes
    )


def test_zfp_has_a_header_of_12_bytes_and_a_rate_of_exact_bits():
    found = counted(ZfpRate(4.0), crops(10))
    # 96 x 32 values at 4 bits are 192 words of 64 bits; with the 96 bits of the header 193.5, so 194 are stored.
    assert found["with headers"].bytes == 10 * 194 * 8
    assert found["entropy-coded"].bytes == 10 * (194 * 8 - 12)
    assert found["headers shared"].bytes == 10 * (194 * 8 - 12) + 12


def test_headers_of_channels_are_shared_among_channels():
    found = counted(ZfpRate(4.0, layout="channels"), crops(10))
    assert found["with headers"].bytes == 10 * (3 * 528 + 13)
    assert found["headers shared"].bytes == 10 * (3 * 516 + 13) + 12


def test_png_data_are_the_chunks_between_header_and_end():
    encoded = Png().encode(crops(5))
    data = 0
    for stream in encoded.streams:
        at = stream.index(b"IDAT")
        data += int.from_bytes(stream[at - 4 : at], "big")
        assert stream.count(b"IDAT") == 1
    found = counted(Png(), crops(5))
    assert found["entropy-coded"].bytes == data
    assert found["headers shared"].bytes > data + 33


@pytest.mark.parametrize("codec", [Jpeg2000(), WebP(), ZfpPrecision(8, layout="batch"), Jpeg(optimize=True)])
def test_accountings_are_ordered(codec):
    found = [size.bytes for size in sizes(codec.encode(crops(8)))]
    assert found[0] > found[1] > found[2] > 0


@pytest.mark.parametrize("codec", [Zstd(), JpegXL(effort=3), Raw()])
def test_where_nothing_is_told_apart_the_accountings_agree(codec):
    found = {size.bytes for size in sizes(codec.encode(crops(3)))}
    assert len(found) == 1


def test_table_1_of_the_paper_cannot_count_whole_files():
    """2.1 to 3.9 % of 3,072 bytes are 65 to 120 bytes: less than the header of a JPEG file alone."""
    found = counted(Jpeg(quality=1), crops(10))
    assert found["with headers"].uint8_share > 0.2
    assert found["headers shared"].uint8_share < 0.05
