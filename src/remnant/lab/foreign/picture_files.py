"""Pictures of any sizes in folders of classes: DIR/CLASS/*.png."""

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from remnant.lab.foreign.evaluation_sets import EvaluationData, fingerprint
from remnant.lab.image_folders import listed, metadata


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """Pictures in files, each with the size it has; grey ones have one channel."""

    folder: Path
    names: Sequence[str]
    """Paths below `folder`."""

    @property
    def fingerprint(self) -> str:
        """Hash of the file names and sizes."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0{os.path.getsize(self.folder / name)}\0".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: np.ndarray) -> list[np.ndarray]:
        """The pictures at `indices`, each uint8 (height, width, channel)."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda i: decoded(self.folder / str(self.names[int(i)])), indices))


def plain_folder(reference: str, folder: Path) -> EvaluationData:
    """Pictures in folder/CLASS/, classes in the order of their names."""
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    names, labels = listed(folder, classes)
    if not names:
        raise ValueError(f"Expected pictures in {folder}/CLASS/, but found none.")
    if len(classes) < 2:
        raise ValueError(f"Expected at least 2 folders of classes in {folder}, but got {classes}.")
    files = PictureFiles(folder, names)
    data = EvaluationData(reference, files, np.array(names), labels, tuple(classes), metadata(folder, names))
    return dataclasses.replace(data, fingerprint=fingerprint(data))


def decoded(source: Path | Image.Image) -> np.ndarray:
    """A picture as uint8 (height, width, channel), with 1 or 3 channels.

    Raises
    ------
    ValueError
        If it cannot be decoded, is not of 8 bits, or is so large that it looks like an attack.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = source if isinstance(source, Image.Image) else Image.open(source)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has the mode {image.mode!r}, not 8 bits")
            array = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        where = source if isinstance(source, Path) else "a picture of the data set"
        raise ValueError(f"Cannot decode {where}: {error}. Repair or remove it.") from error
    return array[..., np.newaxis] if array.ndim == 2 else array
