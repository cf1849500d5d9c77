"""Data sets in containers: `container:FILE`, and any data set into one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remnant.codecs import Codec
from remnant.codecs.codec import Progress
from remnant.codecs.container import Container, open_container
from remnant.codecs.container_writer import Examples, write
from remnant.lab.dataset import Dataset, Split, assemble, split, take

IN_MEMORY = 2**30
"""Bytes of decoded images of a split from which on they stay coded and are decoded when they are asked for."""

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class ContainerImages:
    """The images of a container, decoded when they are asked for."""

    container: Container

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(number of images, channels, height, width)."""
        number, height, width, channels = self.container.shape
        return number, channels, height, width

    @property
    def fingerprint(self) -> str:
        """Hash of the checksums of all images, and of how they are coded."""
        return self.container.fingerprint

    def __len__(self) -> int:
        return len(self.container)

    def batch(self, indices: np.ndarray) -> Tensor:
        """The images at `indices`, uint8 (len(indices), channels, height, width).

        Raises
        ------
        DamagedExampleError
            With the ids of the examples whose checksum differs.
        """
        return torch.from_numpy(self.container.batch(indices)).permute(0, 3, 1, 2)


def from_containers(name: str, root: Path, rest: str) -> Dataset:
    """`container:FILE`, with the splits train and test in it, or `container:TRAIN,TEST`.

    Of two files, the first gives the split train and the second the split test: models can be trained on raw
    images and tested on decoded ones. A file with one split only may give either.
    """
    files = rest.split(",")
    if len(files) > 2 or not all(files):
        raise ValueError(f"Expected container:FILE or container:TRAIN,TEST, but got {name!r}.")
    opened = [_open(root / file) for file in files]
    parts = [_part(part, container) for part, container in zip(SPLITS, (opened[0], opened[-1]), strict=True)]
    if opened[0].classes != opened[-1].classes:
        raise ValueError(
            f"Expected the same classes in both files of {name!r}, but got {list(opened[0].classes)} and "
            f"{list(opened[-1].classes)}."
        )
    classes = opened[0].classes or _numbered(parts)
    return assemble(name, parts[0], parts[1], classes)


def write_dataset(
    dataset: Dataset, path: str | Path, codec: Codec, *, workers: int | None = None, progress: Progress | None = None
) -> None:
    """Both splits of `dataset` in one container at `path`, with labels, ids and attributes.

    Images on disk are read block by block. `progress` is called with the numbers of images written and of all.

    Raises
    ------
    ValueError
        If the inputs are not uint8 images, or the codec cannot store them.
    """
    total = len(dataset.train) + len(dataset.test)

    def show(done: int, received: int) -> None:
        if progress is not None:
            progress(done, total)

    parts = (part for name in SPLITS for part in _examples(getattr(dataset, name), name))
    write(path, parts, codec, classes=dataset.classes, workers=workers, progress=show)


def _examples(part: Split, name: str) -> Iterator[Examples]:
    if len(part.images.shape) != 4:
        raise ValueError(f"Expected images, but the inputs are features of shape {tuple(part.images.shape[1:])}.")
    step = max(1, 2**26 // int(np.prod(part.images.shape[1:])))
    for start in range(0, len(part), step):
        rows = np.arange(start, min(start + step, len(part)))
        images = take(part.images, rows).permute(0, 2, 3, 1).numpy()
        groups = {column: values[rows] for column, values in part.groups.items()}
        yield Examples(images, part.labels[rows].numpy(), part.ids[rows], groups, name)


def _open(path: Path) -> Container:
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected a container, but {path.resolve()} does not exist. "
            "A relative name is looked up in the data folder: `--data`, else REMNANT_DATA, else the current folder."
        )
    return open_container(path)


def _part(name: str, container: Container) -> Split:
    splits = np.unique(container.splits).tolist()
    if name in splits:
        container = container.split(name)
    elif len(splits) > 1:
        raise ValueError(f"Expected the split {name!r} in {container.path}, but it has {splits}.")
    if container.labels is None:
        raise ValueError(f"Expected labels in {container.path}, but it has none. Write it again with `labels`.")
    images = ContainerImages(container)
    if np.prod(container.shape) <= IN_MEMORY:
        images = container.batch(np.arange(len(container)))
    return split(images, container.labels, container.ids, container.groups)


def _numbered(parts: list[Split]) -> list[str]:
    return [str(i) for i in range(1 + max(int(part.labels.max()) for part in parts))]
