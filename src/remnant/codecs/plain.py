"""Baselines: the pixels as they are, and Zstandard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from remnant.codecs.codec import Codec, Shape, StreamError, library
from remnant.fields import check


@dataclass(frozen=True)
class Raw(Codec):
    """The pixels as they are, one byte each, rows of pixels of channels."""

    kind: ClassVar[str] = "raw"

    def encode_block(self, images: np.ndarray) -> list[bytes]:
        return [image.tobytes() for image in images]

    def decode_block(self, streams: Sequence[bytes], number: int, shape: Shape) -> np.ndarray:
        return _images(streams, [1] * number, shape)


@dataclass(frozen=True)
class Zstd(Codec):
    """Zstandard (RFC 8878) over the bytes of the pixels. Lossless."""

    kind: ClassVar[str] = "zstd"

    level: int = 3
    """1 (fast) to 22 (small)."""
    images: int = 1
    """Images in a stream. More compress better; all of a stream are decoded to see one."""

    def __post_init__(self) -> None:
        check(type(self.level) is int and 1 <= self.level <= 22, "level", "a whole number in 1..22", self.level)
        check(type(self.images) is int and 1 <= self.images <= 1024, "images", "a whole number in 1..1024", self.images)

    @property
    def group(self) -> int:
        return self.images

    def encode_block(self, images: np.ndarray) -> list[bytes]:
        encode = library("imagecodecs").zstd_encode
        return [encode(images[i : i + self.images], level=self.level) for i in range(0, len(images), self.images)]

    def decode_block(self, streams: Sequence[bytes], number: int, shape: Shape) -> np.ndarray:
        decode = library("imagecodecs").zstd_decode
        sizes = [min(self.images, number - i) for i in range(0, number, self.images)]
        pixels = []
        for position, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
            try:
                pixels.append(decode(stream, out=size * int(np.prod(shape))))
            except (ValueError, RuntimeError) as error:
                raise StreamError(f"it cannot be decoded as zstd of {size} x {shape}: {error}", position) from error
        return _images(pixels, sizes, shape)


def _images(pixels: Sequence[bytes], sizes: Sequence[int], shape: Shape) -> np.ndarray:
    """The pixels of all streams, of which each must hold its number of images."""
    for position, (part, size) in enumerate(zip(pixels, sizes, strict=True)):
        if len(part) != size * int(np.prod(shape)):
            raise StreamError(f"it holds {len(part)} bytes instead of {size} x {shape}", position)
    return np.frombuffer(b"".join(pixels), np.uint8).reshape(-1, *shape)
