"""Data sets of pictures in folders: `imagefolder:DIR`, and ImageNet."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from remnant.lab.dataset import Dataset, Split, assemble, split
from remnant.lab.image_files import Framing, image_files

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

IN_MEMORY = 4 * 2**30
"""Bytes of decoded images from which on they stay on disk."""


def from_folders(name: str, root: Path, rest: str) -> Dataset:
    """`imagefolder:DIR` or `imagefolder:DIR#SIDE`: DIR/train/CLASS/*.png, and DIR/test or DIR/val likewise.

    With #SIDE, the largest middle square of each picture is brought to SIDE x SIDE pixels. Columns
    of a metadata.csv in a split's folder (`file_name` is the path below it) become attributes.
    """
    directory, _, side = rest.partition("#")
    folder = root / directory
    if side and not (side.isdigit() and int(side) > 0):
        raise ValueError(f"Expected a whole number of pixels after '#' in {name!r}, but got {side!r}.")
    tests = [part for part in ("test", "val") if (folder / part).is_dir()]
    if not (folder / "train").is_dir() or not tests:
        raise FileNotFoundError(
            f"Expected the folders train and test (or val) of {name!r} in {folder.resolve()}, but they are not there."
        )
    return from_class_folders(name, folder, tests[0], Framing(int(side)) if side else None)


def from_class_folders(
    name: str,
    folder: Path,
    test: str,
    framing: Framing | None,
    *,
    titles: dict[str, str] | None = None,
    moments: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Dataset:
    """A data set with one folder per class in folder/train and folder/`test`; `titles` renames classes."""
    classes = sorted(entry.name for entry in (folder / "train").iterdir() if entry.is_dir())
    extra = sorted(entry.name for entry in (folder / test).iterdir() if entry.is_dir() and entry.name not in classes)
    if extra:
        raise ValueError(f"Expected the classes of {folder / 'train'} in {folder / test}, but it also has {extra[:5]}.")
    parts = [_class_folders(folder / part, classes, framing) for part in ("train", test)]
    titled = [(titles or {}).get(c, c) for c in classes]
    return assemble(name, parts[0], parts[1], titled, moments=moments)


def _class_folders(folder: Path, classes: list[str], framing: Framing | None) -> Split:
    names, labels = listed(folder, classes)
    if not names:
        raise ValueError(f"Expected images in {folder}/CLASS/, but found none with one of the endings {ENDINGS}.")
    files = image_files(folder, names, framing)
    decoded = files.batch(np.arange(len(names))) if np.prod(files.shape) <= IN_MEMORY else None
    images = files if decoded is None else decoded.permute(0, 2, 3, 1).numpy()
    return split(images, labels, np.array(names), metadata(folder, names))


def listed(folder: Path, classes: list[str]) -> tuple[list[str], np.ndarray]:
    """Paths below `folder` of all images, sorted within classes, and their labels."""
    names: list[str] = []
    labels: list[int] = []
    for label, class_name in enumerate(classes):
        found = sorted(
            Path(where, file).relative_to(folder).as_posix()
            for where, _, files in os.walk(folder / class_name, followlinks=True)
            for file in files
            if file.lower().endswith(ENDINGS)
        )
        names += found
        labels += [label] * len(found)
    return names, np.array(labels, np.int64)


def metadata(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Attribute columns of folder/metadata.csv, as text."""
    path = folder / "metadata.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        columns = [c for c in rows.fieldnames or () if c != "file_name"]
        if "file_name" not in (rows.fieldnames or ()):
            raise ValueError(f"Expected a column `file_name` in {path}, but got {rows.fieldnames}.")
        by_name = {row["file_name"]: row for row in rows}
    if absent := [name for name in names if name not in by_name]:
        raise ValueError(
            f"Expected a row for every image in {path}, but {absent[:5]} ({len(absent)} in all) have none."
        )
    return {column: np.array([by_name[name][column] or "" for name in names]) for column in columns}
