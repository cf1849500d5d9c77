"""Empty pictures in the one form that reports use."""

import re
from collections.abc import Iterable
from typing import Any

SERIES = ("#2f6690", "#c2571f", "#4f8a5b", "#8b5fa3", "#a97d12", "#5d6b78", "#b0466d", "#1f8a8c")
"""Colours of series: distinct in luminance and hue for common forms of colour blindness, and on light and dark."""

WIDTH = 5.6
"""Width in inches: text of 9 points stays legible on a phone."""


def panels(*heights: float) -> list[Any]:
    """Matplotlib Axes below each other, of the given heights in inches, on a transparent background."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(WIDTH, sum(heights)),
        layout="constrained",
        squeeze=False,
        height_ratios=heights,
    )
    figure.patch.set_alpha(0)
    for axis in axes[:, 0]:
        axis.patch.set_alpha(0)
        axis.spines[["top", "right"]].set_visible(False)
    return list(axes[:, 0])


def short(label: str) -> str:
    """A scheme's label over several lines, to fit beside an axis, without keys that only programs read."""
    label = re.sub(r", selection=\w+", "", label)
    label = label if len(label) <= 60 else f"{label[:57]}..."
    return label.replace(" + ", " +\n").replace("(", "\n(", 1) if len(label) > 14 else label


def scheme_rows(labels: Iterable[str], *, xlabel: str, height: float = 0.48) -> Any:
    """One Axes with a row for each scheme, the first one on top; `height` is that of a row in inches."""
    names = [short(label) for label in labels]
    (axes,) = panels(0.9 + height * len(names))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(xlabel)
    return axes


def legend_above(axes: Any, *, columns: int) -> None:
    """The legend over the picture, clear of what it shows."""
    axes.figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=9)
