"""What commands share: how they print, show progress and name their common options."""

import json
import sys
import time
from typing import Annotated, Any

from rich.console import Console
from rich.markup import escape
from tyro.conf import arg

errors = Console(stderr=True)
console = Console()

Json = Annotated[bool, arg(name="json", help="Print the result as JSON, for programs.")]
Workers = Annotated[int | None, arg(help="Worker processes; default one per core.")]
Data = Annotated[str | None, arg(help="Folder of the data sets; default the environment variable REMNANT_DATA.")]
StoreRoot = Annotated[str, arg(help="Folder or fsspec URL that holds the finished trials.")]


class Bar:
    """A progress bar on the terminal's error stream, with rate, time left and a note."""

    def __init__(self, unit: str, *, quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=errors,
            disable=quiet,
            transient=True,
        )
        self._task = self._progress.add_task(unit, total=None, rate="", note="")
        self._start, self._first = time.monotonic(), None

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, finished: int, total: int, note: str = "") -> None:
        self._first = finished if self._first is None else self._first
        seconds = time.monotonic() - self._start
        rate = f"{finished / seconds:.1f}/s" if finished and seconds else ""
        from remnant.report.characters import visible

        shown = escape(visible(note)[:200])
        self._progress.update(self._task, completed=finished, total=total, rate=rate, note=shown)


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
