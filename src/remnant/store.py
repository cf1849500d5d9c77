"""One immutable directory per trial. A trial exists if and only if its manifest does.

    ROOT/trials/KEY/trial.json               manifest, written last
    ROOT/trials/KEY/predictions.safetensors  logits, training predictions and margins, subset mask
    ROOT/trials/KEY/weights.safetensors      the model's state
    ROOT/datasets/FINGERPRINT/dataset.json   and labels, ids, groups and small pictures, once per data set
    ROOT/selections/KEY/selection.json       and ids of the training examples that were chosen to be kept
    ROOT/scores/KEY/score.json               and scores of training examples from a short training
    ROOT/probes/TRIAL-PROBE/probe.json       and what a probe measured on a trial
    ROOT/.partial/                           what interrupted writers left; `sweep` removes it

There are no locks. On a local disk a trial is written aside and renamed into place, so of several
writers one wins and the others discard their copies. Elsewhere (any fsspec URL) each writer uses
file names of its own and the manifest, written last, says which files count; it is created only if
there is none, where the server can do so, and the last one counts where it cannot.
"""

import errno
import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError

from remnant import local_files, remote_files
from remnant.probes import Probe
from remnant.stored_array import StoredArray, fault, located
from remnant.trial import Trial, to_dict, trial_from_dict

FORMAT = 1
"""Version of the directory layout and manifest."""

_FEW = 8
"""So many trials are looked for one by one; for more, the store is listed."""

_SHELVES = ("trials", "datasets", "selections", "scores", "probes")
Arrays = Mapping[str, np.ndarray]
T = TypeVar("T")


class StoreError(RuntimeError):
    """A store that cannot be written or read."""


class DamagedError(StoreError):
    """A stored file is missing, truncated or changed. Says which one and what to do."""


class NewerFormatError(StoreError):
    """A manifest written by a newer version of remnant."""


class MissingError(StoreError, KeyError):
    """A trial or data set that the store does not hold."""

    __str__ = StoreError.__str__


class Store:
    """A directory or fsspec URL that holds finished trials.

    Manifests from a URL are kept in memory: they do not change, and each is a request. Ask a new `Store` where another
    machine discarded trials and made them again.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._fs, self._path = remote_files.open_root(self.root)
        self._local = isinstance(self._fs, LocalFileSystem)
        self._manifests: dict[str, bytes] = {}

    @classmethod
    def of(cls, store: "str | Path | Store") -> "Store":
        """A store itself, or the one in a folder or at a URL."""
        return store if isinstance(store, Store) else cls(store)

    def exists(self) -> bool:
        """Whether a trial was ever published there."""
        return self._fs.isdir(f"{self._path}/trials")

    def __contains__(self, trial: Trial) -> bool:
        return self._has("trials", trial.key)

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials that are not finished yet, in their order, each once."""
        wanted = list(dict.fromkeys(trials))
        if len(wanted) <= _FEW:
            return [trial for trial in wanted if trial not in self]
        done = set(self._names("trials"))
        return [trial for trial in wanted if trial.key not in done]

    def trials(self, faults: dict[str, str] | None = None) -> list[Trial]:
        """All finished trials, those on the whole training set first, ordered by scheme and seed.

        Parameters
        ----------
        faults
            Where to note trials whose manifest is damaged (key to fault) instead of raising.

        Raises
        ------
        NewerFormatError, DamagedError
            If a manifest cannot be read.
        """
        found, keys = [], self._names("trials")
        self._fetch_manifests("trials", keys)
        for key in keys:
            try:
                found.append(trial_from_dict(self._manifest("trials", key)["trial"]))
            except DamagedError as error:
                if faults is None:
                    raise
                faults[key] = str(error)
        return sorted(found, key=lambda t: (t.subset is not None, t.scheme.label, t.seed))

    def manifest(self, trial: Trial) -> dict[str, Any]:
        """What was recorded beside the arrays: checksums, versions, durations, measurements."""
        return self._manifest("trials", trial.key)

    def publish(self, trial: Trial, files: Mapping[str, Arrays], record: Mapping[str, Any]) -> None:
        """Store a finished trial: every file of `files`, then the manifest with `record`.

        A second writer of the same trial changes nothing.

        Raises
        ------
        StoreError
            If the disk is full or cannot be written; then nothing of the trial is left behind.
        """
        self._publish("trials", trial.key, files, {"trial": to_dict(trial), **record})

    def read(self, trial: Trial, file: str = "predictions") -> dict[str, np.ndarray]:
        """The arrays of one file of a trial, after its checksum was checked.

        Raises
        ------
        MissingError, DamagedError
            If the trial or file is not stored, or not as it was written.
        """
        return self._read("trials", trial.key, file)

    def open(self, trial: Trial, file: str = "predictions") -> dict[str, StoredArray]:
        """The arrays of one file of a trial, to be read in parts; its checksum is checked now, and not again.

        Raises
        ------
        MissingError, DamagedError
            As of `read`.
        """
        return self._up_to_date("trials", trial.key, lambda: self._open(trial, file))

    def _open(self, trial: Trial, file: str) -> dict[str, StoredArray]:
        path, expected = self._entry("trials", trial.key, file)
        try:
            found = fault(self._fs, path, expected["bytes"], expected["sha256"])
        except FileNotFoundError:
            found = "is missing"
        if found:
            raise DamagedError(_damaged("trials", trial.key, path, found))
        try:
            return located(self._fs, path)
        except ValueError as error:
            raise DamagedError(_damaged("trials", trial.key, path, "is not a safetensors file")) from error

    def publish_dataset(self, fingerprint: str, files: Mapping[str, Arrays], record: Mapping[str, Any]) -> None:
        """Store what analyses and reports need of a data set: labels, ids, groups, small pictures."""
        self._publish("datasets", fingerprint, files, record)

    def has_dataset(self, fingerprint: str) -> bool:
        """Whether the data set was published."""
        return self._has("datasets", fingerprint)

    def dataset(self, fingerprint: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Record and arrays of a data set, without its pictures."""
        return self._manifest("datasets", fingerprint), self._read("datasets", fingerprint, "examples")

    def pictures(self, fingerprint: str, split: str) -> np.ndarray | None:
        """Small pictures of all examples of a split, uint8 (example, height, width, channel); None if none are kept."""
        if split not in self._manifest("datasets", fingerprint)["files"]:
            return None
        return self._read("datasets", fingerprint, split)["pictures"]

    def publish_item(self, shelf: str, name: str, files: Mapping[str, Arrays], record: Mapping[str, Any]) -> None:
        """Store something on a shelf of its own ("selections", "scores", "probes"), beside trials and data sets."""
        self._publish(_own_shelf(shelf), name, files, record)

    def has_item(self, shelf: str, name: str) -> bool:
        """Whether the item was published."""
        return self._has(_own_shelf(shelf), name)

    def item(self, shelf: str, name: str, file: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Record and arrays of one file of an item, after its checksum was checked."""
        return self._manifest(_own_shelf(shelf), name), self._read(shelf, name, file)

    def items(self, shelf: str) -> list[str]:
        """Names of all that is published on a shelf of its own, sorted."""
        return self._names(_own_shelf(shelf))

    def record(self, shelf: str, name: str) -> dict[str, Any]:
        """What was recorded beside the arrays of an item."""
        return self._manifest(_own_shelf(shelf), name)

    def sweep(self) -> int:
        """Remove what dead writers left behind; the number of removed directories.

        On a disk: what processes of this machine left that no longer live. On a remote file system: files that no
        manifest stands beside, if they are older than a day.
        """
        if not self._local:
            return remote_files.sweep(self._fs, {f"{self._path}/{shelf}": f"{shelf[:-1]}.json" for shelf in _SHELVES})
        return local_files.sweep(self._path)

    def discard(self, trial: Trial) -> None:
        """Remove a trial, for example a damaged one, so that the next run makes it again; nothing, if there is none."""
        folder = f"{self._path}/trials/{trial.key}"
        if self._local:
            local_files.remove(self._path, folder)
            return
        manifest = f"{folder}/trial.json"
        self._manifests.pop(manifest, None)
        others = [path for path in remote_files.listed(self._fs, folder) if path != manifest]
        if self._fs.exists(manifest):
            self._fs.rm_file(manifest)  # first, so that nobody reads half a trial
        for path in others:
            self._fs.rm_file(path)

    def _has(self, shelf: str, name: str) -> bool:
        path = f"{self._path}/{shelf}/{name}/{shelf[:-1]}.json"
        if self._local:
            return self._fs.exists(path)
        try:
            return bool(self._manifests.get(path) or self._fetch_manifest(path))
        except FileNotFoundError:
            return False

    def _names(self, shelf: str) -> list[str]:
        """Names of all on a shelf that have a manifest, sorted."""
        manifest = f"{shelf[:-1]}.json"
        if self._local:
            return sorted(path.parent.name for path in Path(self._path, shelf).glob(f"*/{manifest}"))
        # A glob would ask for each folder.
        found = remote_files.listed(self._fs, f"{self._path}/{shelf}")
        return sorted(path.rsplit("/", 2)[-2] for path in found if path.endswith(f"/{manifest}"))

    def _publish(self, shelf: str, name: str, files: Mapping[str, Arrays], record: Mapping[str, Any]) -> None:
        writer = uuid.uuid4().hex[:12]
        encoded = {
            file: safetensors.numpy.save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
            for file, arrays in files.items()
        }
        stored = {file: f"{file}.safetensors" if self._local else f"{file}-{writer}.safetensors" for file in files}
        manifest = {
            "format": FORMAT,
            **record,
            "files": {
                file: {"name": stored[file], "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for file, data in encoded.items()
            },
        }
        contents = {stored[file]: data for file, data in encoded.items()}
        text = json.dumps(manifest, indent=1, allow_nan=False).encode()
        target, name_of_manifest = f"{self._path}/{shelf}/{name}", f"{shelf[:-1]}.json"
        try:
            if self._local:
                local_files.publish(self._path, target, contents, name_of_manifest, text)
            else:
                uploads = {f"{target}/{file}": data for file, data in contents.items()}
                remote_files.upload(self._fs, uploads, f"{target}/{name_of_manifest}", text)
        except Exception as error:  # each kind of remote file system has its own
            if self._local and not isinstance(error, OSError):
                raise
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            what = "The disk is full" if full else f"Cannot write ({error})"
            todo = "Make room" if self._local else "Check the address, your credentials, the network and the space"
            left = "nothing of it is left behind" if self._local else "what is left of it counts for nothing"
            raise StoreError(
                f"{what}: {name} was not stored in {self.root!r}, and {left}. "
                f"Finished trials are safe. {todo} and run the same command again."
            ) from error

    def _manifest(self, shelf: str, name: str) -> dict[str, Any]:
        path = f"{self._path}/{shelf}/{name}/{shelf[:-1]}.json"
        try:
            manifest = json.loads(self._manifests.get(path) or self._fetch_manifest(path))
        except FileNotFoundError as error:
            text = f"{shelf[:-1]} {name} is not in the store {self.root!r}. Run the study to compute it."
            raise MissingError(text) from error
        except ValueError as error:
            raise DamagedError(_damaged(shelf, name, path, "is not readable as JSON")) from error
        if manifest.get("format", 0) > FORMAT:
            raise NewerFormatError(
                f"{shelf[:-1]} {name} was written in format {manifest['format']}, but this version of remnant reads "
                f"formats up to {FORMAT}. Upgrade remnant, or use another store."
            )
        return manifest

    def _fetch_manifest(self, path: str) -> bytes:
        if self._local:
            return self._fs.cat_file(path)
        return self._manifests.setdefault(path, remote_files.fetch(self._fs, path))

    def _fetch_manifests(self, shelf: str, names: Iterable[str]) -> None:
        """Fetch the manifests that are not here yet, side by side; what fails is asked for again when it is needed."""
        if self._local:
            return
        paths = [f"{self._path}/{shelf}/{name}/{shelf[:-1]}.json" for name in names]
        self._manifests |= remote_files.fetched(self._fs, [path for path in paths if path not in self._manifests])

    def _entry(self, shelf: str, name: str, file: str) -> tuple[str, dict[str, Any]]:
        """Path of a file, and what its manifest says of it."""
        files = self._manifest(shelf, name)["files"]
        if file not in files:
            raise MissingError(f"{shelf[:-1]} {name} was stored without {file!r}; it has {sorted(files)}.")
        return f"{self._path}/{shelf}/{name}/{files[file]['name']}", files[file]

    def _read(self, shelf: str, name: str, file: str) -> dict[str, np.ndarray]:
        return self._up_to_date(shelf, name, lambda: self._read_named(shelf, name, file))

    def _up_to_date(self, shelf: str, name: str, read: Callable[[], T]) -> T:
        """What is read, once more if the entry may have been made again since its manifest came here."""
        try:
            return read()
        except DamagedError:
            if self._manifests.pop(f"{self._path}/{shelf}/{name}/{shelf[:-1]}.json", None) is None:
                raise
            return read()

    def _read_named(self, shelf: str, name: str, file: str) -> dict[str, np.ndarray]:
        path, expected = self._entry(shelf, name, file)
        try:
            if self._local:
                data = self._fs.cat_file(path)
            else:
                fetch = remote_files.fetch_and_keep if shelf == "datasets" else remote_files.fetch
                data = fetch(self._fs, path)
        except FileNotFoundError as error:
            raise DamagedError(_damaged(shelf, name, path, "is missing")) from error
        if len(data) != expected["bytes"]:
            fault = f"has {len(data)} bytes where {expected['bytes']} were written"
            raise DamagedError(_damaged(shelf, name, path, fault))
        if hashlib.sha256(data).hexdigest() != expected["sha256"]:
            raise DamagedError(_damaged(shelf, name, path, "was changed after it was written (its checksum differs)"))
        try:
            return safetensors.numpy.load(data)
        except SafetensorError as error:
            raise DamagedError(_damaged(shelf, name, path, "is not a safetensors file")) from error


def measurement_name(trial: Trial, probe: Probe) -> str:
    """Name of what one part of a probe measured on a trial, on the shelf "probes"."""
    return f"{trial.key}-{probe.key}"


def _own_shelf(shelf: str) -> str:
    if shelf not in _SHELVES[2:]:
        raise ValueError(f"Expected `shelf` to be 'selections', 'scores' or 'probes', but got {shelf!r}.")
    return shelf


def _damaged(shelf: str, name: str, path: str, fault: str) -> str:
    folder = path.rsplit("/", 1)[0]
    return (
        f"{shelf[:-1]} {name} is damaged: {path} {fault}. "
        f"Delete the folder {folder} and run the study again to remake it."
    )
