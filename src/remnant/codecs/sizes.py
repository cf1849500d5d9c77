"""How many bytes images take, counted in named ways."""

from dataclasses import dataclass
from typing import Any

from remnant.codecs.codec import Encoded

ACCOUNTINGS: dict[str, str] = {
    "with headers": "every stream whole: what files of their own hold",
    "headers shared": "coded pixels of every stream, and each distinct header or table once for the data set",
    "entropy-coded": "coded pixels only, without any header or table: not enough to decode",
    "container": "the file on disk, with labels, ids, attributes and checksums",
}
"""Name to what is counted."""


@dataclass(frozen=True)
class Size:
    """Bytes of a data set under one accounting."""

    accounting: str
    """One of `ACCOUNTINGS`."""
    bytes: int
    shape: tuple[int, int, int, int]
    """(number, height, width, channels) of the images."""

    @property
    def per_image(self) -> float:
        """Mean bytes of an image."""
        return self.bytes / self.shape[0]

    @property
    def uint8_share(self) -> float:
        """Size relative to the pixels as one byte each; 1 is no compression."""
        number, height, width, channels = self.shape
        return self.bytes / (number * height * width * channels)

    @property
    def float32_share(self) -> float:
        """Size relative to the pixels as four bytes each: a quarter of `uint8_share`."""
        return self.uint8_share / 4

    def to_dict(self) -> dict[str, Any]:
        """The size as a row of a table."""
        return {
            "accounting": self.accounting,
            "bytes": self.bytes,
            "bytes_per_image": self.per_image,
            "share_of_uint8": self.uint8_share,
            "share_of_float32": self.float32_share,
        }


def sizes(encoded: Encoded) -> tuple[Size, Size, Size]:
    """The size of encoded images "with headers", with "headers shared", and "entropy-coded".

    Headers are what the codec tells apart from coded pixels: all marker segments of JPEG; the main
    header of JPEG 2000; chunk headers of PNG and WebP; ZFP's header (its coded part is padded to 64-bit
    words). Of raw, zstd and JPEG XL nothing is told apart, and the three sizes agree.
    """
    whole = sum(map(len, encoded.streams))
    distinct: set[bytes] = set()
    in_headers = 0
    for stream in encoded.streams:
        parts = encoded.codec.headers(stream)
        in_headers += sum(map(len, parts))
        distinct.update(parts)
    coded = whole - in_headers
    counts = (whole, coded + sum(map(len, distinct)), coded)
    names = ("with headers", "headers shared", "entropy-coded")
    first, second, third = (Size(name, count, encoded.shape) for name, count in zip(names, counts, strict=True))
    return first, second, third
