"""Images in files, decoded by a thread pool when they are asked for."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Framing:
    """The square that is cut from the middle of a picture, and the size it is brought to."""

    side: int
    """Height and width of the result, in pixels."""
    share: float = 1.0
    """Side of the square relative to the picture's shorter side."""


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Pictures in the files of a folder, all of one shape; `image_files` makes one."""

    folder: Path
    names: Sequence[str]
    """Paths below `folder`, with forward slashes."""
    shape: tuple[int, int, int, int]
    """(number of images, channels, height, width)."""
    framing: Framing | None
    """None leaves pictures as they are."""

    @property
    def fingerprint(self) -> str:
        """Hash of the file names and sizes, the shape and the framing."""
        digest = hashlib.sha256(repr((self.framing, self.shape)).encode())
        for name in self.names:
            digest.update(f"{name}\0{os.path.getsize(self.folder / name)}\0".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> Tensor:
        """The pictures at `indices`, uint8 (len(indices), channels, height, width).

        Raises
        ------
        ValueError
            If a file cannot be decoded or has another size than the first, with its path.
        """
        _, channels, height, width = self.shape
        pixels = np.empty((len(indices), height, width, channels), np.uint8)

        def decode(row: int) -> None:
            pixels[row] = self._decode(self.names[int(indices[row])])

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(decode, range(len(indices))))
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    def _decode(self, name: str) -> np.ndarray:
        _, channels, height, width = self.shape
        path = self.folder / name
        with _open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"Expected 8-bit images, but {path} has the mode {image.mode!r}. Convert it first.")
            try:
                image = image.convert("L" if channels == 1 else "RGB")
            except (OSError, SyntaxError) as error:
                raise ValueError(f"Cannot decode the image {path}: {error}. Repair or remove it.") from error
            if self.framing is not None:
                cut = self.framing.share * min(image.size)
                left, top = ((side - cut) / 2 for side in image.size)
                # Cuts and resizes at once, with the antialiased cubic filter.
                image = image.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + cut, top + cut))
            elif image.size != (width, height):
                raise ValueError(
                    f"Expected images of one size, but {path} is {image.size[0]}x{image.size[1]} and the first is "
                    f"{width}x{height}. Name a size to bring all to, such as imagefolder:DIR#64."
                )
            return np.asarray(image).reshape(height, width, channels)


def image_files(folder: Path, names: Sequence[str], framing: Framing | None = None) -> ImageFiles:
    """The pictures in `folder` called `names`: grey if the first one is, else in colour.

    Without a framing, all must have the size of the first.
    """
    with _open(folder / names[0]) as image:
        channels = 1 if image.mode in ("1", "L") else 3
        width, height = image.size if framing is None else (framing.side, framing.side)
    return ImageFiles(folder, names, (len(names), channels, height, width), framing)


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except OSError as error:
        raise ValueError(f"Cannot open the image {path}: {error}. Repair or remove it.") from error
