"""Data sets that Hugging Face `datasets` saved with save_to_disk."""

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from remnant.lab.foreign.columns import attribute, classes_of, column, options
from remnant.lab.foreign.evaluation_sets import EvaluationData, fingerprint
from remnant.lab.foreign.extras import needed
from remnant.lab.foreign.picture_files import decoded
from remnant.lab.foreign.text_files import IDS, LABEL, TEXT, ids_of, of_table

IMAGE = ("image", "img", "pixels", "picture")
LABELS = (*LABEL, "fine_label", "coarse_label")


@dataclass(frozen=True, eq=False)
class SavedPictures:
    """The pictures in a column of an Arrow data set."""

    table: Any
    column: str

    @property
    def fingerprint(self) -> str:
        """Hash of the encoded pictures."""
        from datasets import Image

        digest = hashlib.sha256()
        for row in self.table.cast_column(self.column, Image(decode=False)):
            digest.update(row[self.column]["bytes"] or str(row[self.column]["path"]).encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.table)

    def batch(self, indices: np.ndarray) -> list[np.ndarray]:
        """The pictures at `indices`, each uint8 (height, width, channel)."""
        return [decoded(picture) for picture in self.table.select(indices)[self.column]]


def saved_dataset(reference: str, root: Path, rest: str) -> EvaluationData:
    """`hf:DIR` or `hf:DIR#split=NAME,image=COLUMN,text=COLUMN,label=COLUMN,id=COLUMN`.

    Of several splits, `test` or `validation` is taken unless one is named. The column of pictures or of
    texts is found by its type and name. Nothing but Arrow files is read, and no code of a data set is run.
    """
    directory, _, after = rest.partition("#")
    given = options(reference, after, ("split", "image", "text", "label", "id"))
    folder = root / directory
    table = _split(reference, folder, given)
    pictures = [name for name, kind in table.features.items() if type(kind).__name__ == "Image"]
    if "text" in given or not (pictures or "image" in given):
        return _texts(reference, table, given, str(folder))
    image = column(given, "image", (*pictures, *IMAGE), table.column_names, str(folder))
    if image not in pictures:
        raise ValueError(
            f"Expected pictures in the column {image!r} of {folder}, but it holds {table.features[image]}."
        )
    return _pictures(reference, table, given, image)


def _split(reference: str, folder: Path, given: dict[str, str]) -> Any:
    datasets = needed("datasets", reference)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"Expected a folder that `datasets` saved with save_to_disk, but {folder.resolve()} does not exist."
        )
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # Arrow, JSON and datasets each have errors of their own
        raise ValueError(f"Cannot read {folder} as a data set that save_to_disk wrote: {error}.") from error
    if not isinstance(found, datasets.DatasetDict):
        return found
    for name in (given["split"],) if "split" in given else ("test", "validation", "valid", "val"):
        if name in found:
            return found[name]
    raise ValueError(f"Expected a split out of {list(found)} of {folder}. Name one with #split=NAME.")


def _pictures(reference: str, table: Any, given: dict[str, str], image: str) -> EvaluationData:
    there, where = table.column_names, reference
    label = column(given, "label", LABELS, there, where) if "label" in given or set(LABELS) & set(there) else None
    name = column(given, "id", IDS, there, where) if "id" in given or set(IDS) & set(there) else None
    labels, classes = (None, None) if label is None else classes_of(list(table[label]), where, _names(table, label))
    others = {c: attribute(_values(table, c)) for c in there if c not in (image, label, name)}
    data = EvaluationData(
        reference,
        SavedPictures(table, image),
        ids_of(list(table[name]) if name else None, len(table)),
        labels,
        classes,
        {key: values for key, values in others.items() if values is not None},
    )
    return dataclasses.replace(data, fingerprint=fingerprint(data))


def _texts(reference: str, table: Any, given: dict[str, str], where: str) -> EvaluationData:
    column(given, "text", TEXT, table.column_names, where)
    rows = {name: list(table[name]) for name in table.column_names}
    data = of_table(reference, rows, given, where)
    label = given.get("label") or next((name for name in LABEL if name in rows), None)
    if label is None or (names := _names(table, label)) is None:
        return data
    labels, classes = classes_of(rows[label], where, names)
    named = dataclasses.replace(data, labels=labels, classes=classes)
    return dataclasses.replace(named, fingerprint=fingerprint(named))


def _values(table: Any, name: str) -> list[Any]:
    names = _names(table, name)
    if names is not None:
        return [names[value] for value in table[name]]
    return list(table[name]) if "Value" in type(table.features[name]).__name__ else [()]


def _names(table: Any, name: str) -> list[str] | None:
    return list(getattr(table.features[name], "names", None) or []) or None
