"""Files of a store on a remote file system: one commit for each trial, few requests, no locks."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import fsspec
from fsspec import AbstractFileSystem

STALE = timedelta(days=1)
"""Files without a manifest were left by an interrupted upload after so long; an upload takes minutes."""

_OURS = re.compile(r"-[0-9a-f]{12}\.safetensors$")
"""How the names of uploaded files end: with that of their writer."""


def open_root(root: str) -> tuple[Any, str]:
    """The file system of a folder or URL, and the path on it.

    Raises
    ------
    ValueError
        If the package for its protocol is not installed.
    """
    try:
        # Listings are never reused: others write to the same store.
        files, path = fsspec.url_to_fs(root, use_listings_cache=False)
    except ImportError as error:
        raise ValueError(
            f"Cannot open the store {root!r}: {error}. The package for s3:// comes with: pip install 'remnant[s3]'"
        ) from error
    return files, path.rstrip("/")


def upload(files: AbstractFileSystem, contents: Mapping[str, bytes], manifest: str, text: bytes) -> None:
    """Files and then the manifest, unless there is one. Of several writers one wins, and the others remove their files.

    Where the server cannot create a file only if there is none, the last manifest counts, and the files of the others
    remain.
    """
    if _contents(files, manifest) is not None:
        return
    try:
        files.pipe(dict(contents))
    except BaseException:
        remove(files, contents)
        raise
    # From here on our files may count: they are removed only if another manifest is seen to stand.
    try:
        files.pipe_file(manifest, text, mode="create")
    except Exception:  # there is one (maybe ours, and the answer was lost), or the server cannot do this
        standing = _contents(files, manifest)
        if standing is None:
            files.pipe_file(manifest, text)
        elif standing != text:
            remove(files, contents)


def _contents(files: Any, path: str) -> bytes | None:
    """Contents of a file, None if there is none. One request, where `exists` takes two for a file that is not there."""
    try:
        return fetch(files, path)
    except FileNotFoundError:
        return None


def listed(files: AbstractFileSystem, folder: str) -> list[str]:
    """Paths of all files below a folder, in one request for a thousand; none if there is no such folder.

    Raises
    ------
    OSError
        If the server does not answer, or refuses.
    """
    try:
        return list(files.find(folder))
    except FileNotFoundError:
        return []
    except Exception as error:  # each kind of file system has its own
        raise OSError(
            f"Cannot list {folder!r} ({error}). Check the address of the store, your credentials and the network."
        ) from error


def sweep(files: AbstractFileSystem, manifests: Mapping[str, str]) -> int:
    """Remove what interrupted uploads left; the number of folders.

    That is: folders with no manifest, all of whose files have names of ours and are older than `STALE`. A writer that
    was held up for longer than that, between its files and its manifest, leaves a trial that is reported as damaged.

    Parameters
    ----------
    manifests
        Path of a shelf to the name of its manifests.
    """
    removed = 0
    for shelf, manifest in manifests.items():
        folders: dict[str, list[str]] = defaultdict(list)
        for path in listed(files, shelf):
            folders[path.rpartition("/")[0]].append(path)
        for folder, paths in folders.items():
            if f"{folder}/{manifest}" in paths or not all(map(_OURS.search, paths)):
                continue
            with suppress(NotImplementedError, OSError):  # no times here, or another one sweeps too
                if datetime.now(UTC) - max(files.modified(path) for path in paths) > STALE:
                    remove(files, paths)
                    removed += 1
    return removed


def remove(files: AbstractFileSystem, paths: Iterable[str]) -> None:
    """Remove files as far as it goes: what remains is swept later."""
    for path in paths:
        with suppress(Exception):
            files.rm_file(path)


def fetch(files: Any, path: str) -> bytes:
    """Contents of a file in one request: without `start`, some file systems ask for its size first."""
    return files.cat_file(path, start=0)


@lru_cache(maxsize=4)
def fetch_and_keep(files: Any, path: str) -> bytes:
    """Contents of a file that many parts of an audit read, such as the pictures of a data set.

    Names of files on a remote store are never used again, so that what is kept stays true.
    """
    return fetch(files, path)


def fetched(files: Any, paths: list[str]) -> dict[str, bytes]:
    """Contents of many small files, fetched side by side; those that cannot be read are left out."""
    if not paths:
        return {}
    # `cat` would take the paths for patterns.
    found = files.cat_ranges(paths, [0] * len(paths), [None] * len(paths), on_error="return")
    return {path: data for path, data in zip(paths, found, strict=True) if isinstance(data, bytes)}
