"""What has changed since a manifest was written."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from remnant.manifest import content, signing
from remnant.manifest.folder import describe, is_inside, listing

Status = Literal[
    "same", "changed", "missing", "added", "signed", "unsigned", "bad signature", "not checked", "other version"
]
_BAD: tuple[Status, ...] = ("changed", "missing", "added", "bad signature")
_MOST_BYTES = 256 * 2**20
"""Largest manifest that is read."""


@dataclass(frozen=True)
class Item:
    """One thing that a manifest speaks of."""

    kind: Literal["signature", "report", "input", "code"]
    name: str
    status: Status
    detail: str = ""


@dataclass(frozen=True)
class Verification:
    """What a manifest says against what is there."""

    items: tuple[Item, ...]

    @property
    def exit_code(self) -> int:
        """0 if nothing has changed, 1 if something has."""
        return int(bool(self.wrong))

    @property
    def wrong(self) -> tuple[Item, ...]:
        """The items that are not as the manifest says."""
        return self.with_status(*_BAD)

    def with_status(self, *status: Status) -> tuple[Item, ...]:
        """The items that have one of these."""
        return tuple(item for item in self.items if item.status in status)

    def to_dict(self) -> dict[str, Any]:
        """The verification as plain data, for programs."""
        return {"exit_code": self.exit_code, "items": [vars(item) for item in self.items]}


def verify(
    directory: str | PathLike[str],
    *,
    public_key: str | PathLike[str] | None = None,
    inputs: str | PathLike[str] | None = None,
) -> Verification:
    """Whether a report, its inputs and its signature are what the manifest says.

    Without `public_key`, hashes are compared and nothing is known on who wrote the manifest: whoever can change the
    report can change the manifest too. With it, a missing signature counts as a bad one.

    Parameters
    ----------
    directory
        Folder of the report. Only what lies in it is read; symbolic links are not followed.
    public_key
        Ed25519 public key (PEM or OpenSSH) of whom you expect the report from. Never take it from the report's folder.
    inputs
        Folder with the files that were compared; they are found by name and content in it and its folders.

    Raises
    ------
    FileNotFoundError
        If there is no manifest or no such folder or key.
    ValueError
        If the manifest is damaged, too large, of another version, or names files outside of its folder.
    """
    directory = Path(directory).resolve()
    manifest = read(directory / content.NAME)
    signature = directory / content.SIGNATURE
    items = [_signature(manifest, signature, public_key)]
    items += _report_files(manifest["files"], directory)
    items += _inputs(manifest["inputs"], None if inputs is None else Path(inputs))
    return Verification((*items, _code(manifest["remnant"])))


def read(path: Path) -> dict[str, Any]:
    """The manifest in a file, with its form and names checked; raises as `verify` does."""
    if path.is_symlink() or not path.is_file():
        raise FileNotFoundError(
            f"Expected a manifest, but {str(path)!r} is no file. `remnant compare` and `remnant audit` write one."
        )
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"Expected {str(path)!r} to have at most {_MOST_BYTES:,} bytes, but it is larger.")
    try:
        data = json.loads(path.read_bytes(), object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}. Was it cut off?") from error
    try:
        _check(data)
        content.canonical(data)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    return data


def _check(data: Any) -> None:
    if not isinstance(data, dict) or data.get("schema_version") != content.SCHEMA_VERSION:
        version = data.get("schema_version") if isinstance(data, dict) else data
        raise ValueError(f"Expected a manifest of schema version {content.SCHEMA_VERSION}, but got {version!r:.100}.")
    files, inputs, code = data.get("files"), data.get("inputs"), data.get("remnant")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise ValueError("Expected a table `files`, but it is missing or no table.")
    if not isinstance(inputs, list) or not all(isinstance(entry, dict) for entry in inputs):
        raise ValueError("Expected a list `inputs`, but it is missing or no list.")
    if not isinstance(code, dict):
        raise ValueError("Expected a table `remnant`, but it is missing or no table.")
    if outside := [name for name in files if not is_inside(name)]:
        raise ValueError(
            f"Refused: {outside[0]!r} leads out of the report's folder. remnant writes no such name: do not trust it."
        )


def _signature(manifest: dict[str, Any], path: Path, public_key: str | PathLike[str] | None) -> Item:
    name = content.SIGNATURE
    signer = str(manifest.get("signed_by") or "")
    there = path.is_file() and not path.is_symlink()
    if public_key is None:
        if there:
            return Item("signature", name, "not checked", f"give the public key of {signer or 'the signer'}")
        if signer:
            return Item("signature", name, "missing", f"the manifest says that {signer} signed it")
        return Item("signature", name, "unsigned", "nobody vouches for the manifest")
    key = signing.public_key(public_key)
    if not there:
        return Item("signature", name, "bad signature", "a public key was given, but the manifest is not signed")
    with path.open("rb") as file:
        signature = file.read(content.SIGNATURE_BYTES + 1)
    if not signing.is_signed(signature, content.canonical(manifest), key):
        return Item("signature", name, "bad signature", "not made with this key over this manifest")
    return Item("signature", name, "signed", f"by {signing.fingerprint(key)}")


def _report_files(wanted: dict[str, Any], directory: Path) -> Iterable[Item]:
    there = listing(directory, leave_out=frozenset({content.NAME, content.SIGNATURE}))
    for name, entry in wanted.items():
        found = there.get(name)
        if found is None:
            yield Item("report", name, "missing")
        else:
            yield Item("report", name, "same" if found == entry else "changed", _difference(entry, found))
    for name in there:
        if name not in wanted:
            yield Item("report", name, "added", "not in the manifest")


def _difference(wanted: dict[str, Any], found: dict[str, Any]) -> str:
    if wanted == found:
        return ""
    if "link" in found:
        return f"a symbolic link to {found['link']!r}"
    if "special" in found:
        return "no regular file"
    sizes = [entry.get("bytes") for entry in (wanted, found)]
    return f"{sizes[1]} instead of {sizes[0]} bytes" if sizes[0] != sizes[1] else "same size, other content"


def _inputs(wanted: list[dict[str, Any]], folder: Path | None) -> Iterable[Item]:
    """Each input by its hash: under its own name, else under any other in the folder."""
    if folder is not None and not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder with the inputs, but {str(folder)!r} is none.")
    there = {} if folder is None else _files(folder.resolve())
    for entry in wanted:
        name = str(entry.get("name") or "")
        digest = entry.get("sha256")
        label = f"{entry['side']}: {name}" if entry.get("side") else name
        if folder is None or not digest:
            yield Item("input", label, "not checked", "no hash is known" if folder else "give the folder of the inputs")
            continue
        own = PurePosixPath(name.replace("\\", "/")).name
        sized = [path for path, size in there.items() if size == entry.get("bytes")]
        same_hash = [
            path for path in sorted(sized, key=lambda p: p.name != own) if describe(path).get("sha256") == digest
        ]
        if same_hash:
            detail = "" if same_hash[0].name == own else f"as {same_hash[0].name!r}"
            yield Item("input", label, "same", detail)
        elif any(path.name == own for path in there):
            yield Item("input", label, "changed", "a file of this name has other content")
        else:
            yield Item("input", label, "missing", "no file of this name or content")


def _files(folder: Path) -> dict[Path, int]:
    """Regular files in a folder and its folders, links not followed, with their sizes."""
    found = {path: path.lstat() for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()}
    return {path: facts.st_size for path, facts in found.items()}


def _code(written: dict[str, Any]) -> Item:
    """The remnant that made the report against the one that verifies; for information."""
    here = content.own_code()
    name = f"remnant {written.get('version')}"
    if written.get("source_sha256") == here["source_sha256"]:
        return Item("code", name, "same")
    if written.get("version") == here["version"]:
        return Item("code", name, "other version", "the same number, but other sources")
    return Item("code", name, "other version", f"this is remnant {here['version']}")


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
