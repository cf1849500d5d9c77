"""What is in a folder: SHA-256 and size of every file, without following links."""

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

MOST_FILES = 100_000
"""Most files of a report folder."""


def listing(folder: Path, *, leave_out: frozenset[str] = frozenset()) -> dict[str, dict[str, Any]]:
    """Path of every file relative to the folder, with "/", to what it is.

    A file has `sha256` and `bytes`. A symbolic link has `link`, where it points to, and is not followed. Anything
    else (a pipe, a device) has `special` and is not opened.

    Raises
    ------
    ValueError
        If there are more than `MOST_FILES`.
    OSError
        If something cannot be read.
    """
    found: dict[str, dict[str, Any]] = {}
    for base, folders, files in os.walk(folder, followlinks=False, onerror=_raise):
        linked = [name for name in folders if (Path(base) / name).is_symlink()]
        for name in sorted([*files, *linked]):
            path = Path(base) / name
            relative = path.relative_to(folder).as_posix()
            if relative in leave_out:
                continue
            found[relative] = describe(path)
            if len(found) > MOST_FILES:
                raise ValueError(
                    f"Expected at most {MOST_FILES:,} files in {str(folder)!r}, but there are more. "
                    "Give the folder of one report."
                )
    return dict(sorted(found.items()))


def describe(path: Path) -> dict[str, Any]:
    """SHA-256 and size of a file; links and what is no file are named, not read."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return {"link": os.readlink(path)}
    if not stat.S_ISREG(mode):
        return {"special": stat.filemode(mode)[0]}
    # What was a file a moment ago may be a link now.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"sha256": digest, "bytes": file.tell()}


def tree_sha256(folder: Path) -> str:
    """One SHA-256 over the names and contents of the files of a package, compiled ones left out."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file() and "__pycache__" not in path.parts:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            whole.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode())
    return whole.hexdigest()


def is_inside(name: object) -> bool:
    """Whether a name of a manifest is a relative path that stays in its folder, on any system."""
    if not isinstance(name, str) or not name or any(ord(c) < 32 or c in "\\:" for c in name):
        return False
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name and name != "."


def _raise(error: OSError) -> None:
    raise error
