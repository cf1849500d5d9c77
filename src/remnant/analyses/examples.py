"""How single test examples are shown: their texts, their answers in words, and when a gallery makes sense."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

_IN_TABLE = 200
_IN_GALLERY = 300


def can_be_shown(population: xr.Dataset) -> bool:
    """Whether there is more to see of an example than its id: a text or a picture.

    Populations of a store have pictures, or their data set has; files made elsewhere say so in
    `attrs["pictures"]`.
    """
    return "text" in population or "reference" not in population.attrs or bool(population.attrs.get("pictures"))


def answer(population: xr.Dataset, names: Sequence[str], row: int, chosen: int) -> str:
    """A class in words: its name, and the text of the option where every example has its own."""
    name = names[chosen]
    option = _one_line(population["option"].values[row, chosen], _IN_TABLE) if "option" in population else ""
    return f"{name}: {option}" if option and option != name else name


def texts(population: xr.Dataset, rows: NDArray[np.integer]) -> list[str]:
    """Shortened texts of these examples, for a table."""
    return [_one_line(text, _IN_TABLE) for text in population["text"].values[rows]]


def text_lines(population: xr.Dataset, row: int) -> tuple[str, ...]:
    """The line of an exhibit with the text of the example, or nothing."""
    return (f"text: {_one_line(population['text'].values[row], _IN_GALLERY)}",) if "text" in population else ()


def _one_line(text: object, most: int) -> str:
    words = " ".join(str(text)[: 4 * most].split())
    return words if len(words) <= most else f"{words[: most - 1].rstrip()}…"
