"""The picture of the analysis of why examples are forgotten."""

from typing import Any

import numpy as np
import pandas as pd

from remnant.analyses.panels import SERIES, panels
from remnant.finding import Finding, NotApplicable

_MOST_DRAWN = 14


def plot(finding: Finding) -> Any:
    """Odds ratios of the factors with their intervals, for each scheme and for two models of the reference."""
    table: Any = finding.tables.get("factors", pd.DataFrame())
    if not len(table):
        raise NotApplicable("No outcome has enough examples for a model.")
    table = table[table["outcome"] == table["outcome"].iloc[0]]
    shown = [part for name in ("all examples", "probed examples") if len(part := _drawn(table, name))]
    schemes = list(dict.fromkeys(table["scheme"]))
    axes = panels(*(0.8 + (0.22 + 0.15 * len(schemes)) * part["factor"].nunique() for part in shown))
    for axis, part in zip(axes, shown, strict=True):
        _draw(axis, part, schemes)
    axes[-1].set_xlabel("odds ratio: more often forgotten to the right")
    handles, labels = axes[0].get_legend_handles_labels()
    legend = axes[0].figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return axes[0]


def _drawn(table: Any, on: str) -> Any:
    """Factors of one kind of model; of the probed examples only what the other model has not."""
    part = table[table["on"] == on]
    if on == "probed examples":
        part = part[~part["factor"].isin(table.loc[table["on"] == "all examples", "factor"])]
    kept = list(dict.fromkeys(part.sort_values("p", kind="stable")["factor"]))[:_MOST_DRAWN]
    return part[part["factor"].isin(kept)]


def _draw(axis: Any, part: Any, schemes: list[str]) -> None:
    names = list(dict.fromkeys(part["factor"]))
    for number, scheme in enumerate(schemes):
        own = part[part["scheme"] == scheme]
        y = np.array([names.index(name) + 0.6 * ((number + 0.5) / len(schemes) - 0.5) for name in own["factor"]])
        x, low, high = (own[name].to_numpy(float) for name in ("odds_ratio", "odds_ratio_low", "odds_ratio_high"))
        low, high = np.maximum(low, x / 1e3), np.minimum(high, x * 1e3)
        reach = [x - low, high - x]
        axis.errorbar(x, y, xerr=reach, fmt="o", ms=4, lw=1.2, color=SERIES[number % len(SERIES)], label=scheme)
        seeds = own["between_seeds_odds_ratio"].to_numpy(float)
        if np.isfinite(seeds).any():
            shown = {"label": "between two reference models"} if number == 0 else {}
            axis.plot(seeds, y, linestyle="none", marker="|", ms=9, color="#777777", **shown)
    axis.set_xscale("log")
    axis.axvline(1, color="#7f7f7f", linewidth=0.8)
    axis.set_yticks(range(len(names)), [_fitted(name) for name in names], parse_math=False)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_title(str(part["on"].iloc[0]), fontsize=9)
    _plain_ticks(axis)


def _plain_ticks(axis: Any) -> None:
    """Ticks such as 0.5, 1, 2 in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_xlim()
    decades = np.log10(high / low)
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _fitted(name: str, most: int = 24) -> str:
    name = name.replace("_", " ")
    lines = name.replace(" = ", "\n= ", 1).split("\n") if len(name) > most else [name]
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in lines)
