"""Lists of the training examples to keep: files, a place in a store, and what a trial trains on."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.schemes import SelectedData
from remnant.store import Store
from remnant.stored_array import pack_text, unpack_text

FORMAT = 1
"""Version of the file format."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The training examples to choose from."""

    dataset: str
    """Name of the data set."""
    fingerprint: str
    """Of the data set: changes when an image, a label or an id changes."""
    ids: NDArray[np.str_]
    """Unique names, in the order of the data set."""
    labels: NDArray[np.integer]
    """Class of each."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Selection:
    """Training examples to keep, by id, with where they come from."""

    dataset: str
    fingerprint: str
    """Of the data set that the ids belong to."""
    num_train_examples: int
    """Of the whole data set."""
    method: str
    """How they were chosen, such as "forgetting-hard"; "listed" for a list made elsewhere."""
    lists: tuple[tuple[str, ...], ...]
    """One list of ids, or several of one method: the trial of seed s trains on list number s mod their number."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method, hash of the scores and what they were computed from."""

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits that change with the ids, the data set or the name of the method."""
        content = [self.fingerprint, self.method, [sorted(ids) for ids in self.lists]]
        text = json.dumps(content, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def share(self) -> float:
        """Mean share of the training examples that a list keeps, to four digits."""
        kept = sum(map(len, self.lists)) / len(self.lists)
        share = kept / self.num_train_examples
        # Four significant digits, never rounded up from below 1 to it: a label says what is left out.
        digits = max(0, 3 - math.floor(math.log10(share)))
        return share if share == 1 else min(round(share, digits), 1 - 10.0**-digits)

    @property
    def scheme(self) -> SelectedData:
        """The scheme of trials that train on these examples."""
        return SelectedData(self.method, self.share, self.key)

    def mask(self, ids: NDArray, fingerprint: str, seed: int) -> NDArray[np.bool_]:
        """Which of the training examples `ids` the trial of this seed trains on.

        Raises
        ------
        ValueError
            If the data are not those of the selection, or an id is not theirs.
        """
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"Selection {self.key} was made for data with fingerprint {self.fingerprint} ({self.dataset!r}), but "
                f"these have {fingerprint}. Select again, or restore the data."
            )
        return _mask(np.asarray(self.lists[seed % len(self.lists)]), ids)

    def publish(self, store: Store) -> SelectedData:
        """Put the lists into a store, so that its trials can train on them; the scheme of such trials."""
        files = {"lists": {f"{number:05}": pack_text(ids) for number, ids in enumerate(self.lists)}}
        record = {name: value for name, value in self.to_dict().items() if name != "ids"}
        store.publish_item("selections", self.key, files, {"format_of_selection": FORMAT, **record})
        return self.scheme

    def to_dict(self) -> dict[str, Any]:
        """The selection as plain data: the content of its JSON file."""
        return {
            "kind": "remnant-selection",
            "selection_format": FORMAT,
            "key": self.key,
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "num_train_examples": self.num_train_examples,
            "method": self.method,
            "share": self.share,
            "provenance": dict(self.provenance),
            "ids": [list(ids) for ids in self.lists],
        }

    def write(self, path: str | Path) -> None:
        """Write ids.json with everything, or ids.txt with one id a line (for other tools; one list only).

        Raises
        ------
        ValueError
            If the ending is neither .json nor .txt, or there are several lists for a .txt file.
        """
        path = Path(path)
        if path.suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        elif path.suffix == ".txt":
            if len(self.lists) != 1:
                raise ValueError(f"Expected one list for {path}, but got {len(self.lists)}. Write a .json file.")
            path.write_text("".join(f"{name}\n" for name in self.lists[0]), encoding="utf-8")
        else:
            raise ValueError(f"Expected a file that ends in .json or .txt, but got {str(path)!r}.")


def made(
    examples: Examples, lists: Sequence[NDArray[np.intp]], method: str, provenance: Mapping[str, Any]
) -> Selection:
    """The selection of the examples at these places."""
    ids = tuple(tuple(np.sort(examples.ids[places]).tolist()) for places in lists)
    return Selection(examples.dataset, examples.fingerprint, len(examples), method, ids, provenance)


def read(path: str | Path, examples: Examples | None = None) -> Selection:
    """A selection from its JSON file, or from a text file with one id a line.

    Parameters
    ----------
    examples
        What the ids belong to: they are checked against it. Needed for a text file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a selection, was changed by hand, is empty, repeats an id, or has ids that are not in the data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a list of ids, but {path} does not exist. Make one: `remnant data select`.")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        selection = _from_json(text, path)
    elif examples is None:
        raise ValueError(f"Expected the data set of the ids in {path}: a text file does not say it.")
    else:
        ids = tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
        selection = Selection(
            examples.dataset, examples.fingerprint, len(examples), "listed", (ids,), {"file": path.name}
        )
    _check(selection, path, examples)
    return selection


def load(store: Store, key: str) -> Selection:
    """A selection that was published in a store.

    Raises
    ------
    ValueError
        If the store does not hold it.
    """
    if not store.has_item("selections", key):
        raise ValueError(
            f"Expected the store {store.root!r} to hold the selection {key}, but it does not. Put it there with "
            "`remnant data select ... --store`, or `remnant.lab.selection.read(FILE).publish(store)`."
        )
    record, lists = store.item("selections", key, "lists")
    ids = tuple(tuple(unpack_text(lists[name])) for name in sorted(lists))
    number = record["num_train_examples"]
    return Selection(record["dataset"], record["fingerprint"], number, record["method"], ids, record["provenance"])


def _from_json(text: str, path: Path) -> Selection:
    try:
        data = json.loads(text)
        if data["kind"] != "remnant-selection" or data["selection_format"] > FORMAT:
            raise KeyError
        lists = tuple(tuple(str(name) for name in ids) for ids in data["ids"])
        found = Selection(
            str(data["dataset"]),
            str(data["fingerprint"]),
            int(data["num_train_examples"]),
            str(data["method"]),
            lists,
            dict(data["provenance"]),
        )
        key = str(data["key"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"Expected {path} to be a selection that remnant wrote, but it is not.") from error
    if key != found.key:
        raise ValueError(
            f"The ids in {path} are not those that it was written with: its key is {key}, theirs {found.key}. Keep a "
            "changed list as a text file with one id a line."
        )
    return found


def _check(selection: Selection, path: Path, examples: Examples | None) -> None:
    for ids in selection.lists or ((),):
        if not ids:
            raise ValueError(f"Expected at least 1 id in {path}, but it holds none.")
        if len(set(ids)) != len(ids):
            twice = next(name for name, number in Counter(ids).items() if number > 1)
            raise ValueError(f"Expected distinct ids in {path}, but {twice!r} comes more than once.")
        if examples is not None:
            _mask(np.asarray(ids), examples.ids)
    if examples is not None and selection.fingerprint != examples.fingerprint:
        raise ValueError(
            f"Expected {path} to be made for data with fingerprint {examples.fingerprint} ({examples.dataset!r}), but "
            f"it is for {selection.fingerprint} ({selection.dataset!r})."
        )


def _mask(kept: NDArray, ids: NDArray) -> NDArray[np.bool_]:
    mask = np.isin(ids, kept)
    if int(mask.sum()) != len(kept):
        unknown = kept[~np.isin(kept, ids)].tolist()
        raise ValueError(
            f"Expected ids of training examples, but {len(unknown)} of {len(kept)} are none of them: {unknown[:5]}. "
            f"Ids here are like {ids[:2].tolist()}."
        )
    return mask
