"""What a file of predictions may ask for before it is refused, so that no file can exhaust the memory."""

import os
from dataclasses import dataclass, field
from typing import Any

MEBIBYTE = 2**20


def _quarter() -> int:
    """A quarter of the memory of this machine, at most 8 GiB."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on this system
        return 8 * 2**30
    return max(256 * MEBIBYTE, min(pages // 4, 8 * 2**30))


@dataclass(frozen=True)
class Limits:
    """The largest file of predictions that is read. Raise a limit by name: `Limits(classes=300_000)`."""

    memory: int = field(default_factory=_quarter)
    """Bytes of the arrays of one file once read; text formats may hold as many bytes after decompression. At first
    8 GiB, or a quarter of the machine's memory if that is less: two files are compared, and in one array."""
    expansion: int = 50
    """Bytes of text for each byte of a .gz file, once the text is larger than 64 MiB."""
    rows: int = 200_000_000
    """Examples in a file."""
    classes: int = 100_000
    """Classes, or answer options of an example."""
    columns: int = 1_000
    """Columns, keys or arrays of a file besides one per class."""
    header: int = 64 * MEBIBYTE
    """Bytes of the header or footer of a binary file."""
    line: int = 16 * MEBIBYTE
    """Bytes of one line of a text file."""
    name: int = 1_000
    """Characters of an id, a class name, a column name or the value of an attribute."""
    text: int = 2_000
    """Characters of a text or an answer option that are kept; longer ones are shortened, not refused."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"Expected the limit `{name}` to be a whole number above 0, but got {value!r}.")


def hold(what: str, amount: int, limits: Limits, name: str) -> None:
    """Nothing, if `amount` of something is within the limit called `name`.

    Raises
    ------
    ValueError
        Saying what is too large and how to allow it.
    """
    most = getattr(limits, name)
    if amount > most:
        raise ValueError(
            f"{what} {amount:,}, but at most {most:,} are read. If the file is right, allow it with "
            f"`limits=Limits({name}={amount})`."
        )


def shown(value: Any, most: int = 60) -> str:
    """A value for a message: quoted, control characters escaped, shortened."""
    value = value.item() if hasattr(value, "item") and getattr(value, "size", 2) == 1 else value
    text = ascii(value[: most + 1]) if isinstance(value, str | bytes) else ascii(value)
    return text if len(text) <= most + 2 else text[:most] + "..."


def few(values: Any, most: int = 5) -> str:
    """The first few values for a message, and how many there are."""
    listed = ", ".join(shown(value) for value in values[:most])
    return f"{listed}{', ...' if len(values) > most else ''} ({len(values):,} in all)"


def printable(text: Any) -> str:
    """A file's name or a library's message for a message of ours, with control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
