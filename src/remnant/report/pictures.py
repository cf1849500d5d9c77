"""Matplotlib pictures as small inline SVG that follows the page: its colours, its font, light and dark."""

import io
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pandas as pd

from remnant.finding import Finding, NotApplicable
from remnant.registry import UnknownNameError
from remnant.report.characters import visible
from remnant.report.labels import scheme_name

PALETTE = ("#2f6690", "#c2571f", "#4f8a5b", "#8b5fa3", "#a97d12", "#5d6b78", "#b0466d", "#1f8a8c")
"""Line colours in the light scheme; style.css holds them, and their dark counterparts, as --c0, --c1, ..."""

_TABLEAU = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#bcbd22", "#7f7f7f", "#e377c2", "#17becf")
_CRIMSON = "#d62728"
_VARIABLES = {
    **{colour: f"var(--c{i})" for i, colour in enumerate(PALETTE)},
    **{colour: f"var(--c{i})" for i, colour in enumerate(_TABLEAU)},
    _CRIMSON: "var(--c1)",
}
_MOST_POINTS = 800
"""More points than this in one artist are drawn as pixels."""
_MOST_BYTES = 200_000
"""A picture larger than this is drawn as pixels, except for its text."""
_MOST_CHARACTERS = 120
"""A longer text in a picture is cut."""
_NAMESPACES = ("{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}")


def picture(finding: Finding, *, prefix: str, labels: Collection[str] = ()) -> tuple[str | None, str]:
    """The finding's picture as an `<svg>` element and "", or None and why there is none.

    Parameters
    ----------
    prefix
        Begins every id in the picture; ids of two pictures on a page must differ.
    labels
        Labels of schemes, which the picture shows as names.
    """
    import matplotlib

    with matplotlib.rc_context(_style()), warnings.catch_warnings():
        # The page's reader draws the text, with fonts of their own.
        warnings.filterwarnings("ignore", message="Glyph|constrained_layout not applied", category=UserWarning)
        try:
            axes = _drawable(finding).plot()
        except NotApplicable as error:
            return None, str(error)
        except UnknownNameError:
            return None, f"The analysis {finding.analysis!r} is not installed where this report was written."
        figure = _figure(axes)
        try:
            _name_schemes(figure, labels)
            return inline_svg(figure, prefix=prefix, title=finding.question), ""
        finally:
            _close(figure)


def inline_svg(figure: Any, *, prefix: str, title: str) -> str:
    """A matplotlib figure as one `<svg>` element for a page; the same figure gives the same text."""
    description = _description(figure)
    _plain_logarithms(figure)
    _rasterize(figure, _MOST_POINTS)
    source = _save(figure)
    if len(source) > _MOST_BYTES:
        _rasterize(figure, 0)
        source = _save(figure)
    return _rewrite(source, prefix, title, description)


def _style() -> Any:
    import matplotlib
    from cycler import cycler

    muted = "#999999"
    return {
        **{name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")},
        "axes.axisbelow": True,
        "axes.edgecolor": muted,
        "axes.facecolor": "none",
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 10,
        "figure.constrained_layout.use": True,
        "figure.facecolor": "none",
        "figure.figsize": (7.2, 3.6),
        "font.size": 10,
        "grid.color": "#dddddd",
        "legend.frameon": False,
        "svg.fonttype": "none",
        "text.parse_math": False,  # names that users gave may hold dollar signs
        "svg.hashsalt": "remnant",
        "xtick.color": muted,
        "xtick.labelcolor": "black",
        "ytick.color": muted,
        "ytick.labelcolor": "black",
    }


def _drawable(finding: Finding) -> Finding:
    """The finding without characters that XML cannot hold."""
    tables = {name: _visible_texts(table) for name, table in finding.tables.items()}
    parameters = {key: visible(value) if isinstance(value, str) else value for key, value in finding.parameters.items()}
    return replace(finding, tables=tables, parameters=parameters)


def _visible_texts(table: pd.DataFrame) -> pd.DataFrame:
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    shown = {name: [visible(v) if isinstance(v, str) else v for v in table[name].tolist()] for name in texts}
    return table.assign(**shown) if shown else table


def _figure(axes: Any) -> Any:
    while hasattr(axes, "__len__") and len(axes):
        axes = axes[0]
    return axes.get_figure(root=True)


def _plain_logarithms(figure: Any) -> None:
    """Ticks of logarithmic axes as numbers: matplotlib writes them as formulas, which are not drawn as such here."""
    from matplotlib.ticker import Formatter, LogFormatter

    class Plain(Formatter):
        def __init__(self, given: Formatter) -> None:
            self.given = given

        def set_locs(self, locs: Any) -> None:
            self.given.set_locs(locs)

        def __call__(self, x: float, pos: int | None = None) -> str:
            return _number(x) if self.given(x, pos) else ""

    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(given := axis.get_major_formatter(), LogFormatter):
            axis.set_major_formatter(Plain(given))
        if isinstance(given := axis.get_minor_formatter(), LogFormatter):
            axis.set_minor_formatter(Plain(given))


def _number(value: float) -> str:
    """A number as a tick shows it, such as 0.01, 20, 10,000 or 1e6."""
    if 1 <= value < 1e6:
        return f"{value:,.6g}" if value == round(value) else f"{value:g}"
    text = f"{value:g}" if 1e-4 <= value < 1 else f"{value:.3g}"
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else text


def _name_schemes(figure: Any, labels: Collection[str]) -> None:
    """Exact labels of schemes, also over several lines, to names in tick labels and other texts."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    known = {visible(label) for label in labels}

    def named(text: str) -> str:
        label = text.replace(" +\n", " + ").replace("\n", "")
        name = scheme_name(label).replace(", ", ",\n") if label in known else text
        return name if len(name) <= _MOST_CHARACTERS else name[: _MOST_CHARACTERS - 1] + "…"

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            # Texts as tick labels, not numbers; asking numbers for theirs would make the ticks twice.
            if not isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
                continue
            texts = [label.get_text() for label in axis.get_ticklabels()]
            if [named(text) for text in texts] != texts:
                axis.set_ticks(axis.get_ticklocs(), [named(text) for text in texts])
        texts = [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        for text in texts + [text for legend in _legends(figure, axes) for text in legend.get_texts()]:
            text.set_text(named(text.get_text()))


def _legends(figure: Any, axes: Any) -> list[Any]:
    own = axes.get_legend()
    return [*figure.legends, own] if own else list(figure.legends)


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)


def _save(figure: Any) -> bytes:
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    # The dots of what is drawn as pixels. The canvas draws once where `savefig` draws twice.
    figure.dpi = 144
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _rasterize(figure: Any, most: int) -> None:
    """Draw as pixels what has more than `most` points."""
    for axes in figure.axes:
        for collection in axes.collections:
            array = collection.get_array()
            cells = 0 if array is None else array.size
            if max(len(collection.get_offsets()), len(collection.get_paths()), cells) > most:
                collection.set_rasterized(True)
        for line in axes.lines:
            drawn = len(line.get_xdata())
            if drawn > (most if line.get_marker() not in ("None", "", " ", None) else 4 * most):
                line.set_rasterized(True)
        if len(axes.patches) > most:
            for patch in axes.patches:
                patch.set_rasterized(True)


def _description(figure: Any) -> str:
    """What a picture shows in words, from its own titles, axis labels and legends."""
    parts = []
    for axes in figure.axes:
        names = [axes.get_title(loc=side) for side in ("left", "center", "right")]
        names += [f"{name} axis: {text}" for name, text in (("x", axes.get_xlabel()), ("y", axes.get_ylabel())) if text]
        for legend in _legends(figure, axes):
            names.append("series: " + ", ".join(text.get_text() for text in legend.get_texts()))
        if text := "; ".join(name for name in names if name):
            parts.append(text + ".")
    return " ".join(" ".join(dict.fromkeys(parts)).split()) or "Its numbers are in the table beside it."


def _rewrite(source: bytes, prefix: str, title: str, description: str) -> str:
    root = ElementTree.fromstring(source)
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("metadata", "style")):
                parent.remove(child)
    referenced = re.findall(r"(?:url\(#|href=\"#)([\w-]+)", source.decode())
    # Matplotlib's ids hash coordinates with all their digits, of which the layout's last ones vary between runs.
    ids = {old: f"{prefix}-{place}" for place, old in enumerate(dict.fromkeys(referenced))}
    for element in root.iter():
        _rewrite_element(element, ids)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib |= {
        "style": f"--width:{width:.0f}",
        "role": "img",
        "fill": "currentColor",
        "aria-labelledby": f"{prefix}-title {prefix}-description",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{prefix}-{'title' if tag == 'title' else 'description'}"})
        element.text = text
        root.insert(place, element)
    text = ElementTree.tostring(root, encoding="unicode")
    return re.sub(r">\s+<", "><", text)


def _rewrite_element(element: ElementTree.Element, ids: dict[str, str]) -> None:
    for namespace in _NAMESPACES:
        element.tag = element.tag.removeprefix(namespace)
    attributes = {}
    for name, value in element.attrib.items():
        for namespace in _NAMESPACES:
            name = name.removeprefix(namespace)
        if (name == "id" and value not in ids) or (name == "transform" and value.startswith("rotate(-0 ")):
            continue
        if name == "id":
            value = ids[value]
        elif name == "href" and value.startswith("#"):
            value = f"#{ids[value[1:]]}"
        elif name in ("d", "x", "y", "transform", "points"):
            value = _shorter(value)
        elif name in ("fill", "stroke"):
            value = _colour(value)
        elif name == "style":
            value = _css(value)
        attributes[name] = re.sub(r"url\(#([\w-]+)\)", lambda match: f"url(#{ids[match[1]]})", value)
    element.attrib.clear()
    element.attrib.update({name: value for name, value in attributes.items() if value or name == "d"})


def _css(style: str) -> str:
    """The declarations of a `style` attribute with the page's colours and font."""
    kept = []
    for declaration in style.split(";"):
        name, _, value = (part.strip() for part in declaration.partition(":"))
        if name in ("fill", "stroke", "stop-color"):
            kept.append(f"{name}:{_colour(value)}")
        elif name == "font":
            size = re.search(r"[\d.]+px", value)
            weight = re.search(r"\b(bold|[5-9]00)\b", value)
            kept += [f"font-size:{size[0]}"] if size else []
            kept += ["font-weight:600"] if weight else []
            kept += ["font-style:italic"] if "italic" in value else []
        elif name and name != "font-family":
            kept.append(f"{name}:{value}")
    return ";".join(kept)


def _colour(value: str) -> str:
    """A colour of the page for a colour of the picture.

    Palette colours become variables; greys a mix of ink and paper, so that black is ink and white
    is paper in both colour schemes; other colours move a little towards the ink.
    """
    value = value.lower()
    if re.fullmatch(r"#[0-9a-f]{3}", value):
        value = "#" + "".join(2 * digit for digit in value[1:])
    if not re.fullmatch(r"#[0-9a-f]{6}", value):
        return value
    if value in _VARIABLES:
        return _VARIABLES[value]
    red, green, blue = (int(value[i : i + 2], 16) for i in (1, 3, 5))
    if max(red, green, blue) - min(red, green, blue) > 16:
        return f"color-mix(in srgb,{value} 85%,currentColor)"
    ink = round(100 * (1 - (red + green + blue) / 765))
    if ink in (0, 100):
        return "currentColor" if ink else "var(--paper)"
    return f"color-mix(in srgb,currentColor {ink}%,var(--paper))"


def _shorter(numbers: str) -> str:
    """Path data and transforms with two decimals, a hundredth of a point, instead of six."""
    text = re.sub(
        r"-?\d+\.\d+(?:e-?\d+)?",
        lambda match: f"{round(float(match[0]), 2) + 0.0:.2f}".rstrip("0").rstrip("."),
        numbers,
    )
    return " ".join(text.split())
