"""The picture of decoded images: accuracy against bits per value."""

from typing import Any

from remnant.analyses.panels import SERIES, legend_above, panels

MOST_PANELS = 6
"""Architectures that are drawn."""


def draw(table: Any, reference: str) -> Any:
    """One panel for each architecture, a line for each codec; dotted where batch-norm statistics were estimated again.

    Lines are means over the models of an architecture; the bars of a single model are its intervals.
    """
    architectures = list(dict.fromkeys(table["architecture"]))[:MOST_PANELS]
    codecs = list(dict.fromkeys(table.loc[table["scheme"] != reference, "codec"]))
    axes = panels(*[2.6] * len(architectures))
    for panel, architecture in zip(axes, architectures, strict=True):
        rows = table[table["architecture"] == architecture]
        raw = 100 * rows.loc[rows["scheme"] == reference, "accuracy"].mean()
        panel.axhline(raw, color="#7f7f7f", lw=0.9, ls="--", label=f"{reference}" if panel is axes[0] else None)
        for place, codec in enumerate(codecs):
            _line(panel, rows[rows["codec"] == codec], SERIES[place % len(SERIES)], codec if panel is axes[0] else None)
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_ylabel("accuracy (%)")
        panel.set_title(_called(architecture), loc="left", fontsize=9)
    axes[-1].set_xlabel("bits per value (headers shared); raw images have 8")
    if "reestimated_accuracy" in table:
        axes[0].plot([], [], color="#7f7f7f", ls=":", marker="o", ms=4, mfc="none", label="statistics estimated again")
    legend_above(axes[0], columns=3)
    return axes[0]


def _line(panel: Any, rows: Any, colour: str, label: str | None) -> None:
    means = rows.groupby("scheme", sort=False).mean(numeric_only=True).sort_values("bits_per_value")
    bits, height = means["bits_per_value"], 100 * means["accuracy"]
    reach = None
    if rows["model"].nunique() == 1:
        reach = [height - 100 * means["accuracy_low"], 100 * means["accuracy_high"] - height]
    panel.errorbar(bits, height, yerr=reach, fmt="o-", ms=4, lw=1.2, elinewidth=0.8, color=colour, label=label)
    if "reestimated_accuracy" in means and means["reestimated_accuracy"].notna().any():
        panel.plot(bits, 100 * means["reestimated_accuracy"], "o:", ms=4, mfc="none", lw=1.2, color=colour)


def _called(architecture: str) -> str:
    """The function's name alone, of an architecture that is a user's function."""
    return architecture.rpartition(":")[2]
