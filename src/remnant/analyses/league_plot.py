"""The picture of a league: harm against cost, with the sides that none beats in both."""

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.panels import SERIES, short

MOST_NAMED = 12
"""With more sides, only those on the front and the reference are named."""
_REACHES = (7, 14, 24, 36, 50, 66, 84)
"""Distances of a name from its point that are tried, in points of type."""
_ANGLES = (45, 0, 180, 90, 270, 135, 225, 315, 20, 160, 200, 340)
_GREY = "#7f7f7f"


def pareto(axes: Any, cost: NDArray, harm: NDArray, front: NDArray[np.bool_], *, reach: NDArray) -> None:
    """Points with error bars, the reference at the end last, and the line through the front.

    Parameters
    ----------
    cost, harm, front
        Of each side and then of the reference.
    reach
        Shape (2, side): lengths of the error bars of the sides, below and above.
    """
    colours = [SERIES[1] if best else _GREY for best in front[:-1]]
    for x, y, low, high, colour in zip(cost[:-1], harm[:-1], *reach, colours, strict=True):
        axes.errorbar(x, y, yerr=[[low], [high]], fmt="o", ms=5, lw=0.9, color=colour, zorder=3)
    axes.plot(cost[-1], harm[-1], marker="D", ms=6, color=SERIES[0], linestyle="none", zorder=3)
    line = np.flatnonzero(front)
    order = line[np.lexsort((-harm[line], cost[line]))]
    axes.step(cost[order], harm[order], where="post", color=SERIES[1], lw=1, alpha=0.6, zorder=2)
    axes.margins(x=0.12, y=0.12)


def named(axes: Any, cost: NDArray, harm: NDArray, names: list[str]) -> None:
    """Names beside their points where they overlap neither each other nor a point; those without room are left out.

    Names of the front should come first. A line leads from a name that lies far off to its point.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    points = axes.transData.transform(np.column_stack([cost, harm]))
    scale = figure.dpi / 72
    inside = axes.get_window_extent()
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in points]
    for name, x, y in zip(names, cost, harm, strict=True):
        text = axes.annotate(
            _fitted(name),
            (x, y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8,
            parse_math=False,
            arrowprops={"arrowstyle": "-", "color": _GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 2},
            zorder=4,
        )
        if not _placed(text, taken, inside, figure.canvas.get_renderer()):
            text.remove()


def _placed(text: Any, taken: list[tuple[float, float, float, float]], inside: Any, renderer: Any) -> bool:
    """Move a name to the nearest free place; its box is added to those taken."""
    for far, angle in product(_REACHES, _ANGLES):
        across, up = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        text.set_position((far * across, far * up))
        text.set_ha("left" if across > 0.3 else "right" if across < -0.3 else "center")
        text.set_va("bottom" if up > 0.3 else "top" if up < -0.3 else "center")
        box = _text_box(text, renderer)
        free = all(box.x1 < a or box.x0 > c or box.y1 < b or box.y0 > d for a, b, c, d in taken)
        within = box.x0 >= inside.x0 and box.x1 <= inside.x1 and box.y0 >= inside.y0 and box.y1 <= inside.y1
        if free and within:
            taken.append((box.x0, box.y0, box.x1, box.y1))
            if text.arrow_patch is not None:
                text.arrow_patch.set_visible(far > 14)
            return True
    return False


def _text_box(annotation: Any, renderer: Any) -> Any:
    """The box of the words of an annotation, without its line."""
    from matplotlib.text import Text

    annotation.update_positions(renderer)
    return Text.get_window_extent(annotation, renderer)


def _fitted(name: str, most: int = 26) -> str:
    lines = short(name).split("\n")
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in lines)
