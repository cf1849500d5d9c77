"""Data sets of a user's own arrays: `arrays:FILE.npz`."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from remnant.lab.dataset import Dataset, Split, assemble, positions, split


def from_arrays(name: str, root: Path, rest: str) -> Dataset:
    """`arrays:FILE.npz` or `arrays:FILE.npz#COLUMN`.

    - `train_images`, `test_images`: uint8 pictures (N, H, W, C), (N, C, H, W) or (N, H, W), or features
      (N, D) of any type. Where four axes are given, the shorter of the second and the last holds the
      channels. Float arrays are taken as they are; networks see them less their mean, over their
      standard deviation, per channel or per feature.
    - `train_labels`, `test_labels`: class indices from 0, or class names. With #COLUMN, `train_COLUMN`
      and `test_COLUMN` are the labels and `COLUMN_names` the classes.
    - `names` or `classes` (optional): class names. Else the indices, or the sorted names in the labels.
    - `train_ids`, `test_ids` (optional): unique names of the examples. Else "train-00000", ...
    - every other one-dimensional `train_X`, `test_X`: an attribute, decoded by `X_names` if that is there.
    """
    file, _, column = rest.partition("#")
    path = root / file
    arrays = _read(path)
    target = column or "labels"
    needed = ["train_images", "test_images", f"train_{target}", f"test_{target}"]
    if absent := [key for key in needed if key not in arrays]:
        columns = sorted(
            {key.removeprefix("train_") for key in arrays if f"test_{key.removeprefix('train_')}" in arrays}
        )
        offers = [c for c in columns if c not in ("images", "ids", "labels")]
        hint = f" To predict {' or '.join(offers)}, write arrays:{file}#{offers[0]}." if offers and not column else ""
        raise ValueError(f"Expected the arrays {absent} in {path}, but it has {sorted(arrays)}.{hint}")
    classes = _classes(arrays, column, target)
    parts = [_split(part, arrays, target, classes) for part in ("train", "test")]
    return assemble(name, parts[0], parts[1], classes)


def _split(part: str, arrays: Mapping[str, np.ndarray], target: str, classes: list[str]) -> Split:
    images = _images(f"{part}_images", arrays[f"{part}_images"])
    ids = arrays.get(f"{part}_ids")
    groups = {}
    for key, values in arrays.items():
        column = key.removeprefix(f"{part}_")
        if key.startswith(f"{part}_") and values.ndim == 1 and column not in ("images", "ids", "labels", target):
            groups[column] = _decoded(key, values, arrays.get(f"{column}_names"))
    return split(
        images,
        _labels(f"{part}_{target}", arrays[f"{part}_{target}"], classes),
        positions(part, len(images)) if ids is None else ids.astype(np.str_),
        groups,
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected an .npz file, but {path.resolve()} does not exist. "
            "A relative name is looked up in the data folder: `--data`, else REMNANT_DATA, else the current folder."
        )
    try:
        # Read, not mapped into memory: a file that is overwritten while trials run must not change their data.
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise ValueError("it holds a single array")
        with stored:
            return {key: stored[key] for key in stored.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"Cannot read {path} as an .npz file of numbers and text: {error}.") from error


def _images(key: str, images: np.ndarray) -> np.ndarray:
    """uint8 or float32, pictures with the channels last."""
    if images.ndim not in (2, 3, 4) or 0 in images.shape[1:]:
        raise ValueError(
            f"Expected `{key}` to have the shape (N, H, W, C), (N, C, H, W), (N, H, W) or (N, D), "
            f"but got {images.shape}."
        )
    if images.dtype.kind == "f" or (images.ndim == 2 and images.dtype.kind in "iu"):
        images = images.astype(np.float32, copy=False)
    elif images.dtype != np.uint8:
        raise ValueError(
            f"Expected `{key}` to be uint8 or float, but got {images.dtype}. Scale pixels to 0..255 first."
        )
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if images.ndim == 4:
        second, last = images.shape[1], images.shape[3]
        if second == last:
            raise ValueError(
                f"Expected to tell the channels of `{key}` by the shorter of the second and last axis, "
                f"but the shape is {images.shape}. Store it as (N, H, W) if it has one channel."
            )
        images = np.moveaxis(images, 1, 3) if second < last else images
    return np.ascontiguousarray(images)


def _classes(arrays: Mapping[str, np.ndarray], column: str, target: str) -> list[str]:
    given = [f"{column}_names"] if column else ["names", "classes"]
    for key in given:
        if key in arrays:
            if arrays[key].ndim != 1:
                raise ValueError(
                    f"Expected `{key}` to be a list of class names, but got the shape {arrays[key].shape}."
                )
            return arrays[key].astype(np.str_).tolist()
    train, test = arrays[f"train_{target}"], arrays[f"test_{target}"]
    if train.dtype.kind in "US":
        return np.unique(train.astype(np.str_)).tolist()
    if train.dtype.kind in "iu" and train.size and test.dtype.kind in "iu":
        return [str(i) for i in range(int(max(train.max(), test.max(initial=0))) + 1)]
    return []


def _labels(key: str, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """Class indices."""
    if labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    if labels.dtype.kind not in "US":
        raise ValueError(f"Expected `{key}` to hold class indices or class names, but got {labels.dtype}.")
    index = {name: i for i, name in enumerate(classes)}
    labels = labels.astype(np.str_)
    if strange := sorted({*labels.ravel().tolist()} - {*index}):
        raise ValueError(f"Expected `{key}` to hold names out of {classes}, but got {strange[:5]}.")
    return np.vectorize(index.__getitem__, otypes=[np.int64])(labels)


def _decoded(key: str, values: np.ndarray, names: np.ndarray | None) -> np.ndarray:
    """An attribute column, as names where they are given."""
    if names is None:
        return values
    if values.dtype.kind not in "iu" or (len(values) and not 0 <= values.min() <= values.max() < len(names)):
        raise ValueError(
            f"Expected `{key}` to hold indices in [0, {len(names)}), as it has names, but got other values."
        )
    return names.astype(np.str_)[values]
