"""Findings to files that people and programs read: one HTML page, Markdown, JSON, CSV and Parquet.

A report is written from findings alone, without torch, data or models. `read` gives the findings of
a report back.
"""

import json
import os
import secrets
import shutil
from pathlib import Path

from remnant.finding import Audit
from remnant.report.galleries import Thumbnails

__all__ = ["Thumbnails", "read", "write"]


def write(
    audit: Audit,
    directory: str | os.PathLike[str],
    *,
    thumbnails: Thumbnails | None = None,
    title: str | None = None,
) -> dict[str, Path]:
    """Write report.html, report.md, report.json and tables/ANALYSIS.TABLE.csv and .parquet into `directory`.

    Everything is made from what report.json holds, so writing the audit that `read` gives writes the
    same bytes. A new directory appears at once, with the whole report. In one that is there already, nothing is touched
    before every file has been written beside its earlier one; then each is replaced at once, report.json last, and
    tables that this report does not have are removed. Between the two, `manifest.json` of the earlier report, if there
    is one, does not fit: `remnant verify` tells.

    Parameters
    ----------
    thumbnails
        Gives the images of examples for the galleries; without it galleries show captions only.

    Returns
    -------
    Paths by name: "report.html", "report.md", "report.json", "tables/ANALYSIS.TABLE.csv", ...
    """
    from remnant.report import html, markdown

    directory = Path(directory)
    text = json.dumps(audit.to_dict(), allow_nan=False, ensure_ascii=False) + "\n"
    audit = Audit.from_dict(json.loads(text))
    contents = _tables(audit)
    contents["report.html"] = html.render(audit, thumbnails, heading=title).encode()
    contents["report.md"] = markdown.render(audit, heading=title).encode()
    contents["report.json"] = text.encode()
    earlier = _earlier_tables(directory / "report.json")
    if directory.exists():
        _replace(directory, contents)
    else:
        _create(directory, contents)
    for name in earlier - set(contents):
        (directory / name).unlink(missing_ok=True)
    return {name: directory / name for name in contents}


def read(path: str | os.PathLike[str]) -> Audit:
    """The audit in a report.json, or in the report.json of a directory.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not a report, or one of another schema version.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"Expected {str(path)!r} to be a report.json, but it is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"Expected {str(path)!r} to be a report.json, but it holds {type(data).__name__}.")
    try:
        return Audit.from_dict(data)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"Expected {str(path)!r} to be a report.json, but it is damaged or none: {what}.") from error


def _tables(audit: Audit) -> dict[str, bytes]:
    from remnant.report.tables import csv_bytes, file_stem, parquet_bytes

    contents = {}
    for finding in audit.findings:
        for name, frame in finding.tables.items():
            stem = f"tables/{file_stem(finding.analysis, name)}"
            contents[f"{stem}.csv"] = csv_bytes(frame)
            contents[f"{stem}.parquet"] = parquet_bytes(frame)
    return contents


def _earlier_tables(path: Path) -> set[str]:
    """Names of the table files of the report that is there already; none if it cannot be read."""
    from remnant.report.tables import file_stem

    try:
        findings = json.loads(path.read_text(encoding="utf-8"))["findings"]
        stems = [file_stem(finding["analysis"], name) for finding in findings for name in finding["tables"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {f"tables/{stem}{ending}" for stem in stems for ending in (".csv", ".parquet")}


def _create(directory: Path, contents: dict[str, bytes]) -> None:
    """Write a directory that is not there, or is with all its files."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}")
    try:
        for name, content in contents.items():
            (staged / name).parent.mkdir(parents=True, exist_ok=True)
            (staged / name).write_bytes(content)
        os.rename(staged, directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replace(directory: Path, contents: dict[str, bytes]) -> None:
    """Write files so that a reader of each sees the old content or the new one, never a part."""
    staged = directory / f".new.{secrets.token_hex(8)}"
    try:
        for place, content in enumerate(contents.values()):
            staged.mkdir(exist_ok=True)
            (staged / str(place)).write_bytes(content)
        for place, name in enumerate(contents):
            (directory / name).parent.mkdir(exist_ok=True)
            os.replace(staged / str(place), directory / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
