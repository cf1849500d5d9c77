"""What a codec is: images in, streams of bytes out, and back."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import numpy as np

from remnant.engine import num_cores
from remnant.fields import non_default

Shape = tuple[int, int, int]
"""(height, width, channels) of one image."""
Progress = Callable[[int, int], None]
"""Called with the number of images done and of all, from the thread that waits."""
T = TypeVar("T")

LARGEST_STREAM = 2**30
"""Values that decoding one stream may ask memory for."""
CHUNK_BYTES = 2**18
"""Pixels that a thread takes at a time: about 85 images of 32x32x3."""


class StreamError(ValueError):
    """A stream that cannot be decoded; `position` is its place among those that were handed over."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Codec(ABC):
    """A way to store images, and its parameters. Abstract: use one of its subclasses.

    A stream holds `group` images that are coded together, and can be decoded without the others. Only the
    last stream may hold fewer.
    """

    kind: ClassVar[str]

    @property
    def label(self) -> str:
        """The codec as printed in tables, such as "jpeg(quality=50)"; `remnant.codecs.parse` reads it."""
        inner = ", ".join(f"{name}={value}" for name, value in non_default(self).items())
        return f"{self.kind}({inner})" if inner else self.kind

    @property
    def group(self) -> int:
        """Number of images that share a stream."""
        return 1

    def check(self, shape: Shape) -> None:
        """ValueError, with what to do, if images of this shape cannot be stored."""
        if math.prod(shape) * self.group > LARGEST_STREAM:
            raise ValueError(
                f"Expected at most {LARGEST_STREAM} values in a stream, but {self.group} images of shape {shape} have "
                "more. Cut or shrink the images."
            )

    @abstractmethod
    def encode_block(self, images: np.ndarray) -> list[bytes]:
        """The streams of checked images, uint8 (n, height, width, channels), in this thread."""

    @abstractmethod
    def decode_block(self, streams: Sequence[bytes], number: int, shape: Shape) -> np.ndarray:
        """The `number` images in `streams`, uint8 (number, *shape), in this thread.

        Raises
        ------
        StreamError
            For a stream of another codec, other parameters or another shape, or one that is damaged beyond
            what its library can decode. Damage that leaves a decodable stream goes unnoticed here: the
            checksums of a container find it.
        """

    def header_length(self, stream: bytes) -> int:
        """Number of leading bytes that are not coded pixels."""
        return sum(map(len, self.headers(stream)))

    def headers(self, stream: bytes) -> list[bytes]:
        """The parts of a stream that are not coded pixels: headers and tables. Empty where none can be told apart."""
        return []

    def encode(self, images: np.ndarray, *, workers: int | None = None, progress: Progress | None = None) -> "Encoded":
        """All images as streams. The result does not depend on the number of `workers` (threads; default one per core).

        Raises
        ------
        ValueError
            If `images` are not uint8 (n, height, width, channels), or have a shape that the codec cannot store.
        """
        images = check_images(images)
        shape = image_shape(images)
        self.check(shape)
        size = chunk_size(self, shape)

        def part(start: int) -> list[bytes]:
            return self.encode_block(np.ascontiguousarray(images[start : start + size]))

        streams: list[bytes] = []
        for done, encoded in in_threads(part, range(0, len(images), size), workers):
            streams += encoded
            if progress is not None:
                progress(min(done * size, len(images)), len(images))
        return Encoded(self, (len(images), *shape), tuple(streams))


@dataclass(frozen=True, eq=False)
class Encoded:
    """Images as streams of a codec."""

    codec: Codec
    shape: tuple[int, int, int, int]
    """(number, height, width, channels) of the images."""
    streams: tuple[bytes, ...]
    """One for each `codec.group` images."""

    def __len__(self) -> int:
        return self.shape[0]

    def decode(self, *, workers: int | None = None, progress: Progress | None = None) -> np.ndarray:
        """All images, uint8 (n, height, width, channels).

        Raises
        ------
        StreamError
            With the position of the first stream that cannot be decoded.
        """
        images = np.empty(self.shape, np.uint8)
        group, size = self.codec.group, chunk_size(self.codec, self.shape[1:])

        def part(start: int) -> None:
            stop = min(start + size, len(images))
            first = start // group
            streams = self.streams[first : first + -(-(stop - start) // group)]
            try:
                images[start:stop] = self.codec.decode_block(streams, stop - start, self.shape[1:])
            except StreamError as error:
                raise StreamError(f"Stream {first + error.position}: {error}", first + error.position) from error

        for done, _ in in_threads(part, range(0, len(images), size), workers):
            if progress is not None:
                progress(min(done * size, len(images)), len(images))
        return images


def in_threads(work: Callable[[Any], T], items: Sequence[Any], workers: int | None) -> Iterator[tuple[int, T]]:
    """(number done, work(item)) in the order of the items, computed by `workers` threads, default one per core."""
    if workers is not None and workers < 1:
        raise ValueError(f"Expected `workers` >= 1, but got {workers}.")
    count = min(workers or num_cores(), len(items))
    if count <= 1:
        for done, item in enumerate(items, 1):
            yield done, work(item)
        return
    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            for done, future in enumerate(futures, 1):
                yield done, future.result()
        finally:
            for future in futures:
                future.cancel()


def chunk_size(codec: Codec, shape: Sequence[int]) -> int:
    """Number of images that a thread takes at a time, whole groups."""
    groups = CHUNK_BYTES // (int(np.prod(shape)) * codec.group)
    return codec.group * max(1, groups)


def image_shape(images: np.ndarray) -> Shape:
    """(height, width, channels) of an array of images."""
    _, height, width, channels = images.shape
    return height, width, channels


def check_images(images: Any) -> np.ndarray:
    """`images` as an array, if they are uint8 (n, height, width, channels).

    Raises
    ------
    ValueError
        With what came: a float range, NaN, a missing channel axis, channels first, no image.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"Expected `images` to be uint8 with values in 0..255, but got {_described(images)}.")
    if images.ndim == 3:
        raise ValueError(
            f"Expected `images` of shape (n, height, width, channels), but got {images.shape}. "
            "Grey images need a last axis of length 1: images[..., np.newaxis]."
        )
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"Expected `images` of shape (n, height, width, channels), but got {images.shape}.")
    if images.shape[3] > 4 and images.shape[1] <= 4:
        raise ValueError(
            f"Expected the channels of `images` last, but the shape is {images.shape}. "
            "Turn them with np.moveaxis(images, 1, 3)."
        )
    return images


def _described(images: np.ndarray) -> str:
    if images.dtype.kind != "f" or images.size == 0:
        return f"{images.dtype}. Convert them with images.astype(np.uint8) if all values are in 0..255"
    if bad := int((~np.isfinite(images)).sum()):
        return f"{images.dtype} with {bad} values that are NaN or infinite. Repair these first"
    low, high = float(images.min()), float(images.max())
    scale = "np.rint(255 * images)" if low >= 0 and high <= 1 else "np.clip(np.rint(images), 0, 255)"
    return f"{images.dtype} with values in [{low:g}, {high:g}]. Convert them, for example {scale}.astype(np.uint8)"


def library(name: str) -> ModuleType:
    """An imported codec library.

    Raises
    ------
    ValueError
        With the command that installs it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"Expected the package {name!r} to be installed, but it cannot be imported: {error}. "
            "Install it with: pip install 'remnant[data]'"
        ) from error
