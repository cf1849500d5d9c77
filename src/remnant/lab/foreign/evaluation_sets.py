"""Labelled examples to run a model on: pictures, features or texts, read from a folder and never downloaded."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from remnant.lab import data as lab_data
from remnant.lab.dataset import Dataset, ImageSource, Split, take
from remnant.lab.foreign.preprocessing import Preprocessing
from remnant.lab.image_folders import ENDINGS
from remnant.registry import UnknownNameError

FORMS: dict[str, str] = {
    "NAME": "a data set of `remnant list datasets`, its test split",
    "arrays:FILE.npz": "your own arrays: test_images, test_labels and the training ones, as for `remnant run`",
    "imagefolder:DIR": "pictures in DIR/CLASS/*.png, or in DIR/test/CLASS/ beside DIR/train/CLASS/",
    "texts:FILE": "a .csv, .tsv or .jsonl file with the columns text, label and, if there is one, id",
    "hf:DIR": "a data set that Hugging Face `datasets` saved with save_to_disk, pictures or texts",
}
"""How data are written, to what they are. Behind "#", texts: and hf: take options: hf:DIR#split=test,label=fine."""


class Pictures(Protocol):
    """Pictures that may differ in size, decoded when they are asked for."""

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> list[np.ndarray]:
        """The pictures at `indices`, each uint8 (height, width, channel)."""
        ...


@dataclass(frozen=True, eq=False)
class EvaluationData:
    """Examples with their ids, in a fixed order."""

    name: str
    inputs: Tensor | ImageSource | Pictures | Sequence[str]
    """uint8 pictures (example, channel, height, width), float arrays, pictures on disk, or texts."""
    ids: np.ndarray
    """Unique names of the examples, text or int64."""
    labels: np.ndarray | None = None
    """int64, index of the true class."""
    classes: tuple[str, ...] | None = None
    """None if the data do not name them."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Attribute columns by name."""
    normal: Preprocessing | None = None
    """What the preset "dataset" means here."""
    fingerprint: str = ""
    """Hexadecimal digits that change when an input, a label, an id or a class changes."""

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.inputs):
            raise ValueError(
                f"Expected one id for each of the {len(self.inputs)} inputs of {self.name!r}, but got {len(self.ids)}."
            )
        if len(self.ids) == 0:
            raise ValueError(f"Expected at least one example in {self.name!r}, but it is empty.")
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) != len(self.ids):
            twice = unique[counts > 1][:5].tolist()
            raise ValueError(f"Expected unique ids in {self.name!r}, but these come more than once: {twice}.")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def are_texts(self) -> bool:
        return isinstance(self.inputs, list | tuple)

    def batch(self, indices: np.ndarray) -> Tensor | list[Any]:
        """The inputs at `indices`: a tensor, a list of pictures (height, width, channel), or a list of texts."""
        if isinstance(self.inputs, list | tuple):
            return [self.inputs[i] for i in indices.tolist()]
        if isinstance(self.inputs, Tensor):
            return take(self.inputs, indices)
        return self.inputs.batch(indices)  # pyright: ignore[reportAttributeAccessIssue]

    def part(self, indices: np.ndarray) -> "EvaluationData":
        """The examples at `indices`, with a fingerprint of their own."""
        digest = hashlib.sha256(self.fingerprint.encode() + np.ascontiguousarray(indices, np.int64).tobytes())
        return dataclasses.replace(
            self,
            inputs=_Chosen(self, indices) if not self.are_texts else self.batch(indices),  # pyright: ignore
            ids=self.ids[indices],
            labels=None if self.labels is None else self.labels[indices],
            columns={name: values[indices] for name, values in self.columns.items()},
            fingerprint=digest.hexdigest()[:16],
        )


@dataclass(frozen=True, eq=False)
class _Chosen:
    """Some of the inputs of other data."""

    whole: EvaluationData
    indices: np.ndarray

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: np.ndarray) -> Any:
        return self.whole.batch(self.indices[indices])


def evaluation_data(reference: "str | Dataset | EvaluationData", root: str | Path | None = None) -> EvaluationData:
    """The data that `reference` names; `FORMS` lists how to write them.

    Files are looked for in `root`, else here, else in the folder that the environment variable REMNANT_DATA names.

    Raises
    ------
    ValueError, OSError
        Saying what was expected and what came.
    """
    if isinstance(reference, EvaluationData):
        return reference
    if isinstance(reference, Dataset):
        return of_dataset(reference)
    kind, _, rest = reference.partition(":")
    if rest and kind in _READERS:
        return _READERS[kind](reference, _folder(root, rest), rest)
    try:
        return of_dataset(lab_data.load(reference, root))
    except UnknownNameError as error:
        forms = "\n".join(f"  {form:18}{meaning}" for form, meaning in FORMS.items())
        raise ValueError(f"{error} Data are one of\n{forms}") from None


def _folder(root: str | Path | None, rest: str) -> Path:
    """Where a file or folder is looked for: `root`, else here if it is here, else the folder REMNANT_DATA."""
    if root is not None:
        return Path(root)
    return Path(".") if Path(rest.partition("#")[0]).exists() else Path(os.environ.get("REMNANT_DATA") or ".")


def of_dataset(dataset: Dataset) -> EvaluationData:
    """The test split of a data set of remnant."""
    return _of_split(dataset.name, dataset.test, dataset.classes, dataset.fingerprint, moments(dataset))


def of_arrays(
    inputs: np.ndarray | Sequence[str],
    labels: np.ndarray | None = None,
    *,
    ids: np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    columns: dict[str, np.ndarray] | None = None,
    name: str = "arrays",
) -> EvaluationData:
    """Data from arrays: uint8 pictures (example, height, width, channel), float (example, ...), or a list of texts."""
    if isinstance(inputs, np.ndarray):
        pictures = inputs.dtype == np.uint8 and inputs.ndim == 4
        if inputs.dtype.kind not in "f" and not pictures:
            raise ValueError(
                f"Expected uint8 pictures (example, height, width, channel) or float arrays, but got {inputs.dtype} "
                f"of shape {inputs.shape}."
            )
        held: Any = torch.from_numpy(np.ascontiguousarray(inputs))
        held = held.permute(0, 3, 1, 2) if pictures else held
    else:
        held = [str(text) for text in inputs]
    found = EvaluationData(
        name,
        held,
        np.arange(len(held)) if ids is None else np.asarray(ids),
        None if labels is None else np.asarray(labels, np.int64),
        None if classes is None else tuple(classes),
        dict(columns or {}),
    )
    return dataclasses.replace(found, fingerprint=fingerprint(found))


def moments(dataset: Dataset) -> Preprocessing:
    """What remnant's own models see: the data less the mean, over the standard deviation of the training set."""
    return Preprocessing(mean=tuple(dataset.mean.tolist()), std=tuple(dataset.std.tolist()))


def fingerprint(data: EvaluationData) -> str:
    """16 hexadecimal digits that change when an input, a label, an id, a class or their order changes."""
    digest = hashlib.sha256(repr(data.classes).encode())
    if isinstance(data.inputs, list | tuple):
        for text in data.inputs:
            digest.update(f"{len(text)}\0{text}".encode("utf-8", "surrogatepass"))
    elif isinstance(data.inputs, Tensor):
        digest.update(f"{tuple(data.inputs.shape)}{data.inputs.dtype}".encode())
        held = data.inputs.permute(0, 2, 3, 1) if data.inputs.ndim == 4 else data.inputs
        digest.update(held.contiguous().numpy().data)
    else:
        digest.update(data.inputs.fingerprint.encode())  # pyright: ignore[reportAttributeAccessIssue]
    if data.labels is not None:
        digest.update(np.ascontiguousarray(data.labels).data)
    digest.update("\0".join(map(str, data.ids.tolist())).encode())
    return digest.hexdigest()[:16]


def _of_split(
    name: str, split: Split, classes: tuple[str, ...], digest: str, normal: Preprocessing | None
) -> EvaluationData:
    labels = split.labels.numpy()
    return EvaluationData(name, split.images, split.ids, labels, classes, dict(split.groups), normal, digest)


def _image_folder(reference: str, root: Path, rest: str) -> EvaluationData:
    """Folders of classes, with train and test above them or without."""
    from remnant.lab.foreign.picture_files import plain_folder

    folder = root / rest.partition("#")[0]
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder of pictures, but {folder.resolve()} does not exist.")
    if (folder / "train").is_dir() and any((folder / part).is_dir() for part in ("test", "val")):
        return of_dataset(lab_data.load(reference, root))
    if not any(path.is_dir() for path in folder.iterdir()):
        raise ValueError(
            f"Expected pictures in {folder}/CLASS/, ending in one of {list(ENDINGS)}, but it has no folders."
        )
    return plain_folder(reference, folder)


def _texts(reference: str, root: Path, rest: str) -> EvaluationData:
    from remnant.lab.foreign.text_files import text_file

    return text_file(reference, root, rest)


def _hugging_face(reference: str, root: Path, rest: str) -> EvaluationData:
    from remnant.lab.foreign.hugging_face_data import saved_dataset

    return saved_dataset(reference, root, rest)


_READERS: dict[str, Callable[[str, Path, str], EvaluationData]] = {
    "imagefolder": _image_folder,
    "texts": _texts,
    "hf": _hugging_face,
}
