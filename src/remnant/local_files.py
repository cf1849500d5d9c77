"""Files of a store on a disk: each entry appears at once by a rename, and goes the same way."""

import errno
import os
import platform
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path


def publish(root: str, target: str, contents: Mapping[str, bytes], manifest: str, text: bytes) -> None:
    """Files and their manifest as the folder `target`, unless it is there; of several writers one wins.

    Raises
    ------
    OSError
        If the disk is full or cannot be written; then nothing is left behind.
    """
    folder = Path(target)
    # In this order: a folder that another writer publishes meanwhile has its manifest when it is first seen.
    if folder.exists():
        if (folder / manifest).exists():
            return
        remove(root, target)  # what a copy or a deletion left: without a manifest it is nothing
    partial = _aside(root)
    try:
        partial.mkdir(parents=True)
        for file, data in {**contents, manifest: text}.items():
            with open(partial / file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        # Another writer was first: its copy is complete, so ours is not needed.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def remove(root: str, folder: str) -> None:
    """Remove a folder so that nobody sees a part of it, whenever this is interrupted; nothing, if there is none."""
    aside = _aside(root)
    aside.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(folder, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside)


def sweep(root: str) -> int:
    """Remove what processes of this machine left that no longer live; the number of removed folders."""
    host, removed = platform.node(), 0
    for path in Path(root, ".partial").glob("*@*"):
        process, _, where = path.name.split("-", 1)[1].partition("@")
        if where == host and not _alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _aside(root: str) -> Path:
    """A new folder that `sweep` removes once this process is dead."""
    return Path(root, ".partial", f"{uuid.uuid4().hex[:12]}-{os.getpid()}@{platform.node()}")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
