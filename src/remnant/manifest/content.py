"""What a manifest says: hashes of files and inputs, versions, parameters, the command."""

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from remnant.finding import Audit
from remnant.manifest.folder import is_inside, listing, tree_sha256
from remnant.version import SOURCES, __version__

SCHEMA_VERSION = 1
NAME = "manifest.json"
SIGNATURE = "manifest.json.sig"
SIGNATURE_BYTES = 64


def canonical(manifest: dict[str, Any]) -> bytes:
    """The bytes that are written and signed: JSON in ASCII, keys sorted, no spaces, no NaN."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def describe(directory: Path, audit: Audit, command: Sequence[str] | None) -> dict[str, Any]:
    """The manifest of an audit whose report is written in `directory`."""
    files = listing(directory, leave_out=frozenset({NAME, SIGNATURE}))
    if strange := [name for name in files if not is_inside(name)]:
        raise ValueError(
            f"Expected file names without control characters, backslash and colon, but {str(directory)!r} has "
            f"{strange[0]!r}. Write the report into a folder of its own."
        )
    about = dict(audit.about)
    inputs = about.pop("inputs", None) or []
    versions = dict(about.pop("versions", None) or {})
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "created": _now(),
        "files": files,
        "inputs": inputs,
        "remnant": own_code(),
        "versions": _versions() | versions,
        "machine": about.pop("machine", None),
        "findings": [{"analysis": f.analysis, "parameters": f.parameters} for f in audit.findings],
        "not_run": audit.not_run,
        "about": about,
        "command": None if command is None else [str(part) for part in command],
    }
    # What is written must be what a reader gets: tuples become lists, integer keys text.
    return json.loads(canonical(manifest))


def own_code() -> dict[str, str]:
    """Version of this remnant and one SHA-256 over its source files."""
    return {
        "version": __version__,
        "source_sha256": tree_sha256(SOURCES),
    }


def _now() -> str:
    """The time in UTC, to the second; that of SOURCE_DATE_EPOCH where it is set, for builds that repeat."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(fixed), UTC) if fixed.isdecimal() else datetime.now(UTC)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def _versions() -> dict[str, str]:
    """Installed versions of what remnant depends on, tools of its development left out."""
    found = {}
    try:
        wanted = requires("remnant") or []
    except PackageNotFoundError:  # run from a source tree
        wanted = []
    for requirement in wanted:
        if re.search(r"extra\s*==\s*['\"]dev['\"]", requirement):
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
