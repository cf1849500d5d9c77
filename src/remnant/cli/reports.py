"""What commands that write a report share: the folder, the files and their manifest, and where they are."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from tyro.conf import arg

from remnant.cli.terminal import console, print_json

Out = Annotated[Path, arg(help="Folder for the report and its tables.")]
Margin = Annotated[str, arg(help="Difference of accuracy that does not matter, for the equivalence test.")]


def check_folder(out: Path) -> None:
    """Raise an error before the work, not after it, where no report can be written."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"Expected `--out` to be a folder, but {str(out)!r} is a file.")
    above = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        tempfile.TemporaryDirectory(dir=above).cleanup()
    except OSError as error:
        where = f"Expected `--out` to be a folder to write to, but {str(above)!r} cannot be written to"
        raise PermissionError(f"{where}: {error.strerror}.") from error


def write(audit: Any, out: Path, *, thumbnails: Any = None, key: Path | None = None) -> dict[str, Path]:
    """The files of a report and, last of all, the manifest that records the command."""
    from remnant import manifest, report

    written = report.write(audit, out, thumbnails=thumbnails)
    return written | manifest.write(out, audit, key=key, command=["remnant", *sys.argv[1:]])


def print_paths(written: dict[str, Path]) -> None:
    """The paths of the files by name, as JSON."""
    print_json({name: str(path) for name, path in written.items()})


def say_where(written: dict[str, Path]) -> None:
    """Where the report is, as the last line of a command."""
    console.print(f"The report is [bold]{escape(str(written['report.html'].resolve()))}[/bold]", soft_wrap=True)
