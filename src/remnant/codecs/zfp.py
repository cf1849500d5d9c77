"""ZFP in its four modes, over images as arrays of two, three or four dimensions."""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from remnant.codecs.codec import Codec, Shape, StreamError, library
from remnant.fields import check, check_choice

Layout = Literal["planes", "channels", "volume", "batch"]
Number = Literal["float32", "int32"]

DIMENSIONS: dict[str, int] = {"planes": 2, "channels": 2, "volume": 3, "batch": 4}
LARGEST: dict[int, int] = {2: 2**24, 3: 2**16, 4: 2**12}
"""Longest side that the header of a stream can tell, by number of dimensions."""


@dataclass(frozen=True)
class Zfp(Codec):
    """ZFP by zfpy, one mode of it. Abstract.

    Pixels go in as float32 with their values 0 to 255, neither scaled nor centred; what comes out is
    rounded to the nearest whole number (halves to even) and clipped to 0..255. With dtype="int32" they go
    in as (x - 128) * 2**23, which is ZFP's own promotion of bytes, and come out rounded (halves up) and
    clipped: no exponent is stored with a block. ZFP codes blocks of 4**d values, d the number of
    dimensions, and fills up blocks that an image does not fill.

    References
    ----------
    lindstrom2014fixed; diffenderfer2019error
    """

    layout: Layout = field(default="planes", kw_only=True)
    """What an array is. "planes": an image, its channels one below the other (2-D). "channels": a channel,
    with a header of its own, and 5 to 17 bytes that tell where each begins (2-D). "volume": an image, height x
    width x channels (3-D). "batch": four images (4-D), so that an image's bytes and errors depend on its
    neighbours."""
    dtype: Number = field(default="float32", kw_only=True)
    """The numbers that ZFP is given."""

    def __post_init__(self) -> None:
        check_choice(self, "layout")
        check_choice(self, "dtype")

    @property
    def group(self) -> int:
        return 4 if self.layout == "batch" else 1

    @property
    def block(self) -> int:
        """Number of values that ZFP codes together."""
        return 4 ** DIMENSIONS[self.layout]

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Keyword arguments of zfpy.compress_numpy."""

    def check(self, shape: Shape) -> None:
        super().check(shape)
        height, width, channels = shape
        if self.layout == "planes" and height % 4 and channels > 1:
            raise ValueError(
                f"Expected a height divisible by 4 with layout='planes', but got {height}: blocks would hold pixels of "
                "two channels. Use layout='channels', or pad the images."
            )
        if self.layout in ("volume", "batch") and channels == 1:
            raise ValueError(
                f"Expected colour images with layout={self.layout!r}, but got 1 channel, which ZFP would repeat four "
                "times. Use layout='planes'."
            )
        sides = (channels * height if self.layout == "planes" else height, width, channels)
        largest = LARGEST[DIMENSIONS[self.layout]]
        check(max(sides) <= largest, "images", f"with sides <= {largest} for layout={self.layout!r}", shape)

    def encode_block(self, images: np.ndarray) -> list[bytes]:
        compress, options = library("zfpy").compress_numpy, self.options()
        values = _promoted(images, self.dtype)
        if self.layout in ("planes", "channels"):
            values = np.ascontiguousarray(values.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
        arrays = self._arrays(values)
        if self.layout == "planes":
            arrays = (array.reshape(-1, array.shape[2]) for array in arrays)
        streams = [compress(array, **options) for array in arrays]
        if self.layout != "channels":
            return streams
        channels = images.shape[3]
        return [_framed(streams[i : i + channels]) for i in range(0, len(streams), channels)]

    def decode_block(self, streams: Sequence[bytes], number: int, shape: Shape) -> np.ndarray:
        values = np.empty((number, *shape), self.dtype)
        arrays = list(self._arrays(values))
        form = self._form(arrays[0].shape)
        per_stream = shape[2] if self.layout == "channels" else 1
        for position, stream in enumerate(streams):
            mine = arrays[position * per_stream : (position + 1) * per_stream]
            parts = _unframed(stream, per_stream, position) if self.layout == "channels" else [stream]
            for part, array in zip(parts, mine, strict=True):
                form = form if form.views == array.shape else self._form(array.shape)
                if not form.fits(part):
                    raise StreamError(f"it is not a whole stream of {self.label} and shape {form.shape}", position)
                found = library("zfpy").decompress_numpy(part.ljust(form.longest, b"\0"))
                array[...] = found.reshape(array.shape)
        return _demoted(values)

    def headers(self, stream: bytes) -> list[bytes]:
        if self.layout != "channels":
            return [stream[: _header_bytes(stream)]]
        number = stream[-1]
        parts = _unframed(stream, number, 0)
        return [part[: _header_bytes(part)] for part in parts]

    def header_length(self, stream: bytes) -> int:
        return _header_bytes(stream)

    def _arrays(self, values: np.ndarray) -> Iterator[np.ndarray]:
        """Views of the pixels, one for each array that ZFP is given; (channel, height, width) with layout="planes"."""
        if self.layout == "batch":
            return (values[i : i + 4] for i in range(0, len(values), 4))
        if self.layout == "volume":
            return iter(values)
        planes = values.transpose(0, 3, 1, 2)
        return iter(planes) if self.layout == "planes" else (plane for image in planes for plane in image)

    def _form(self, views: tuple[int, ...]) -> "_Form":
        shape = (views[0] * views[1], views[2]) if self.layout == "planes" else views
        empty = library("zfpy").compress_numpy(np.zeros(shape, self.dtype), **self.options())
        blocks = math.prod(-(-side // 4) for side in shape)
        return _Form(views, shape, empty, 32 + blocks * (self.block * 34 + 64) // 8)


@dataclass(frozen=True)
class _Form:
    """What a stream must look like before ZFP sees it.

    ZFP trusts its input: it allocates what the header says, and reads on past the end of what is cut
    off. So the header must be the one that we would write, and zeros are appended to the stream.
    """

    views: tuple[int, ...]
    shape: tuple[int, ...]
    empty: bytes
    """The stream of zeros of that shape."""
    longest: int
    """Upper limit of the bytes that decoding reads."""

    def fits(self, stream: bytes) -> bool:
        length = _header_bytes(self.empty)
        if len(stream) % 8 or len(stream) <= length or stream[:length] != self.empty[:length]:
            return False
        # A long header ends in the middle of a byte.
        return length == 12 or stream[length] & 15 == self.empty[length] & 15


@dataclass(frozen=True)
class ZfpRate(Zfp):
    """ZFP with the same number of bits for every block."""

    kind: ClassVar[str] = "zfp-rate"

    rate: float
    """Bits per value, in multiples of 1 / 4**d and up to 32. A block of floats needs 9 bits for its exponent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 9 if self.dtype == "float32" else 1
        # Below 9 bits, zfpy counts in unsigned numbers, wraps and overwrites memory that is not its own.
        low = least / self.block
        check(low <= self.rate <= 32, "rate", f"in [{low:g}, 32] with layout={self.layout!r}, {self.dtype}", self.rate)
        if self.rate * self.block % 1:
            nearest = math.floor(self.rate * self.block + 0.5) / self.block
            raise ValueError(
                f"Expected `rate` to be a multiple of 1/{self.block} with layout={self.layout!r}, but got "
                f"{self.rate!r}. ZFP would take {nearest!r} without a word: ask for that."
            )

    def options(self) -> dict[str, Any]:
        return {"rate": float(self.rate)}


@dataclass(frozen=True)
class ZfpPrecision(Zfp):
    """ZFP with the same number of bit planes for every block."""

    kind: ClassVar[str] = "zfp-precision"

    precision: int
    """Bit planes that are kept of the coefficients of a block, 1 to 32. The same number means another
    quality in another number of dimensions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        good = type(self.precision) is int and 1 <= self.precision <= 32
        check(good, "precision", "a whole number in 1..32", self.precision)

    def options(self) -> dict[str, Any]:
        return {"precision": self.precision}


@dataclass(frozen=True)
class ZfpAccuracy(Zfp):
    """ZFP with a limit on the error of every pixel."""

    kind: ClassVar[str] = "zfp-accuracy"

    tolerance: float
    """Largest error of a pixel before rounding, in grey levels of 255. ZFP rounds it down to a power of
    two, and errors are usually several times smaller."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.tolerance <= 255, "tolerance", "in (0, 255] grey levels", self.tolerance)
        if self.dtype != "float32":
            raise ValueError(f"Expected `dtype` = 'float32' with a tolerance, but got {self.dtype!r}: ZFP ignores it.")

    def options(self) -> dict[str, Any]:
        return {"tolerance": float(self.tolerance)}


@dataclass(frozen=True)
class ZfpReversible(Zfp):
    """ZFP without loss."""

    kind: ClassVar[str] = "zfp-reversible"

    def options(self) -> dict[str, Any]:
        return {}


def _promoted(images: np.ndarray, dtype: str) -> np.ndarray:
    return images.astype(np.float32) if dtype == "float32" else (images.astype(np.int32) - 128) << 23


def _demoted(values: np.ndarray) -> np.ndarray:
    # Half of 2**23 is added after the first shift: before it, the sum could pass 2**31.
    whole = np.rint(values) if values.dtype == np.float32 else (((values >> 22) + 1) >> 1) + 128
    return np.clip(whole, 0, 255).astype(np.uint8)


def _framed(parts: Sequence[bytes]) -> bytes:
    """The parts one after another, their lengths, their number."""
    lengths = np.array([len(part) for part in parts], "<u4").tobytes()
    return b"".join(parts) + lengths + bytes([len(parts)])


def _unframed(stream: bytes, number: int, position: int) -> list[bytes]:
    body = len(stream) - 1 - 4 * number
    if body >= 0 and stream[-1] == number:
        ends = np.frombuffer(stream[body:-1], "<u4").astype(np.int64).cumsum()
        if ends[-1] == body:
            return [stream[start:stop] for start, stop in zip([0, *ends[:-1]], ends, strict=True)]
    raise StreamError(f"it does not hold the ZFP streams of {number} channels", position)


def _header_bytes(stream: bytes) -> int:
    """Whole bytes of the header: magic number 32 bits, type and shape 52, mode 12, or 64 if these are all ones."""
    long = len(stream) > 12 and (int.from_bytes(stream[10:12], "little") >> 4) == 0xFFF
    return 18 if long else 12
