"""Codecs for pictures: JPEG, JPEG 2000, WebP, JPEG XL and PNG, by the libraries inside imagecodecs."""

import struct
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from remnant.codecs.codec import Codec, Shape, StreamError, library
from remnant.codecs.jpeg_markers import segments
from remnant.fields import check, check_choice


@dataclass(frozen=True)
class PictureCodec(Codec):
    """One stream per image, grey or in colour. Abstract."""

    module: ClassVar[str]
    """Name of the functions in imagecodecs, before "_encode" and "_decode"."""
    channels: ClassVar[tuple[int, ...]] = (1, 3)
    largest: ClassVar[int] = 65_535
    """Longest side in pixels that the format can tell."""

    def check(self, shape: Shape) -> None:
        super().check(shape)
        height, width, channels = shape
        if channels not in self.channels:
            grey = " Store grey images with jpeg, jpeg2000, jpegxl or png." if channels == 1 else ""
            raise ValueError(
                f"Expected images with {' or '.join(map(str, self.channels))} channels for {self.kind!r}, "
                f"but got {channels}.{grey}"
            )
        check(max(height, width) <= self.largest, "images", f"with sides <= {self.largest} for {self.kind!r}", shape)

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the encoder."""

    def encode_block(self, images: np.ndarray) -> list[bytes]:
        encode = getattr(library("imagecodecs"), f"{self.module}_encode")
        options = self.options()
        return [encode(image, **options) for image in _without_grey_axis(images)]

    def decode_block(self, streams: Sequence[bytes], number: int, shape: Shape) -> np.ndarray:
        decode = getattr(library("imagecodecs"), f"{self.module}_decode")
        images = np.empty((number, *shape), np.uint8)
        for position, (stream, image) in enumerate(zip(streams, _without_grey_axis(images), strict=True)):
            try:
                self.check_stream(stream, shape)
                decode(stream, out=image)
            except (ValueError, RuntimeError, struct.error) as error:
                raise StreamError(f"it cannot be decoded as {self.kind} of shape {shape}: {error}", position) from error
        return images

    def check_stream(self, stream: bytes, shape: Shape) -> None:
        """ValueError if the stream says that it holds another shape, where the library would allocate it first."""


@dataclass(frozen=True)
class Jpeg(PictureCodec):
    """Baseline JPEG (ITU T.81), by libjpeg-turbo; the same bytes as Pillow's."""

    kind: ClassVar[str] = "jpeg"
    module: ClassVar[str] = "jpeg8"
    largest: ClassVar[int] = 65_500

    quality: int = 75
    """1 to 100: scales the quantization tables of Annex K as the Independent JPEG Group does."""
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = "4:2:0"
    """Resolution of the colour difference channels. Without effect on grey images."""
    optimize: bool = False
    """Huffman tables of each image's own: fewer bytes in a file of its own, but no tables to share."""

    def __post_init__(self) -> None:
        check_quality(self.quality, 1)
        check_choice(self, "subsampling")

    def options(self) -> dict[str, Any]:
        sampling = self.subsampling.replace(":", "")
        return {"level": self.quality, "subsampling": sampling, "optimize": self.optimize}

    def header_length(self, stream: bytes) -> int:
        found = segments(stream)
        return next(part.stop for part in found if part.name == "SOS")

    def headers(self, stream: bytes) -> list[bytes]:
        return [stream[part.start : part.stop] for part in segments(stream)]


@dataclass(frozen=True)
class Jpeg2000(PictureCodec):
    """JPEG 2000 (ITU T.800) codestream by OpenJPEG, without the boxes of a .jp2 file."""

    kind: ClassVar[str] = "jpeg2000"
    module: ClassVar[str] = "jpeg2k"

    psnr: float = 35.0
    """Peak signal-to-noise ratio to aim at, in dB."""
    lossless: bool = False
    """The reversible transform, whatever `psnr` is."""

    def __post_init__(self) -> None:
        check(0 < self.psnr <= 100, "psnr", "in (0, 100] dB", self.psnr)

    def options(self) -> dict[str, Any]:
        level = 0 if self.lossless else self.psnr
        return {"level": level, "codecformat": "j2k", "reversible": self.lossless, "numthreads": 1}

    def headers(self, stream: bytes) -> list[bytes]:
        start_of_data = stream.index(b"\xff\x93") + 2
        return [stream[:start_of_data], stream[-2:]]

    def header_length(self, stream: bytes) -> int:
        return len(self.headers(stream)[0])

    def check_stream(self, stream: bytes, shape: Shape) -> None:
        right, bottom, left, top = struct.unpack(">4I", stream[8:24])
        if (bottom - top, right - left) != shape[:2]:
            raise ValueError(f"it holds {right - left}x{bottom - top} pixels")


@dataclass(frozen=True)
class WebP(PictureCodec):
    """WebP by libwebp: VP8 in 4:2:0, or its lossless format. Colour only."""

    kind: ClassVar[str] = "webp"
    module: ClassVar[str] = "webp"
    channels: ClassVar[tuple[int, ...]] = (3,)
    largest: ClassVar[int] = 16_383

    quality: int = 75
    """0 to 100."""
    lossless: bool = False
    """The lossless format, whatever `quality` is."""

    def __post_init__(self) -> None:
        check_quality(self.quality, 0)

    def options(self) -> dict[str, Any]:
        return {"level": self.quality, "lossless": self.lossless, "numthreads": 1}

    def headers(self, stream: bytes) -> list[bytes]:
        # "RIFF", size, "WEBP" and the chunk's name, its size.
        return [stream[:4], stream[4:8], stream[8:16], stream[16:20]]


@dataclass(frozen=True)
class JpegXL(PictureCodec):
    """JPEG XL (ISO 18181) codestream by libjxl. Its headers are bit-packed and are not told apart from the pixels."""

    kind: ClassVar[str] = "jpegxl"
    module: ClassVar[str] = "jpegxl"

    distance: float = 1.0
    """Butteraugli distance to aim at, in (0, 25]; 1 is meant to look the same."""
    effort: int = 7
    """1 (fast) to 9 (small)."""
    lossless: bool = False
    """Modular coding of the pixels as they are, whatever `distance` is."""

    def __post_init__(self) -> None:
        check(0 < self.distance <= 25, "distance", "in (0, 25]; use lossless=True for no loss", self.distance)
        check(type(self.effort) is int and 1 <= self.effort <= 9, "effort", "a whole number in 1..9", self.effort)

    def options(self) -> dict[str, Any]:
        strength: dict[str, Any] = {"lossless": True} if self.lossless else {"distance": self.distance}
        return {"effort": self.effort, "usecontainer": False, "numthreads": 1, **strength}


@dataclass(frozen=True)
class Png(PictureCodec):
    """PNG by libpng. Lossless."""

    kind: ClassVar[str] = "png"
    module: ClassVar[str] = "png"

    level: int = 6
    """Of zlib: 1 (fast) to 9 (small)."""

    def __post_init__(self) -> None:
        check(type(self.level) is int and 1 <= self.level <= 9, "level", "a whole number in 1..9", self.level)

    def options(self) -> dict[str, Any]:
        return {"level": self.level}

    def headers(self, stream: bytes) -> list[bytes]:
        """Signature and IHDR, then length, name and checksum of every other chunk."""
        parts, start = [stream[:33]], 33
        while start + 12 <= len(stream):
            stop = start + 12 + int.from_bytes(stream[start : start + 4], "big")
            parts.append(stream[start : start + 8] + stream[stop - 4 : stop])
            start = stop
        return parts

    def header_length(self, stream: bytes) -> int:
        return 33


def check_quality(quality: object, lowest: int) -> None:
    """ValueError unless `quality` is a whole number: libraries clip or ignore others without a word."""
    good = type(quality) is int and lowest <= quality <= 100
    check(good, "quality", f"a whole number in {lowest}..100", quality)


def _without_grey_axis(images: np.ndarray) -> np.ndarray:
    return images[..., 0] if images.shape[3] == 1 else images
