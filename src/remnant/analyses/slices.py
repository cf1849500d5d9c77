"""Which classes and groups lose accuracy under compression."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.panels import SERIES, panels
from remnant.analyses.slice_columns import Kind, Slicing, Slicings, slicings
from remnant.analyses.slice_measures import Slices, count, examine
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.population import reference_of

QUESTION = "Which classes and groups pay for compression?"
_PLURALS: dict[Kind, str] = {"class": "classes", "group": "groups", "intersection": "intersections"}
_MOST_DRAWN = 8

Part = tuple[str, dict[Kind, Slices]]
"""A compressed side and its slices by kind."""


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    least_examples: int = 20,
    num_bins: int = 5,
    intersections: Sequence[Sequence[str]] = (),
) -> Finding:
    """Change of accuracy within each class, each level of each attribute, and bins of measurements and text length.

    With one pair of models, tests and intervals are over examples; with several, over pairs and examples.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    least_examples
        Slices with fewer examples are shown but not tested, and cannot be the worst.
    num_bins
        Quantile bins of numeric columns with many values and of the length of texts.
    intersections
        Pairs of columns ("class" is one) to cross, such as [("site", "sex")].

    Raises
    ------
    ValueError
        If a parameter is out of its range, or names no column.
    NotApplicable
        If there is no reference or no compressed side.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    if least_examples < 1:
        raise ValueError(f"Expected `least_examples` >= 1, but got {least_examples!r}.")
    sides = compressed_sides(population, reference)
    cut = slicings(population, num_bins, intersections)
    parts: list[Part] = []
    for side in sides:
        counts = dict(zip(map(id, cut.found), count(side, cut.found), strict=True))
        kinds: dict[Kind, list[Slicing]] = {kind: of for kind in _PLURALS if (of := cut.of(kind))}
        found: dict[Kind, Slices] = {
            kind: examine(of, [counts[id(s)] for s in of], least_examples) for kind, of in kinds.items()
        }
        parts.append((side.scheme, found))
    tables = {"schemes": pd.DataFrame([_scheme_row(*part) for part in parts])}
    tables |= {plural: _slice_table(parts, kind) for kind, plural in _PLURALS.items() if kind in parts[0][1]}
    return Finding(
        analysis="slices",
        question=QUESTION,
        parameters={
            "reference": reference_of(population) if reference is None else reference,
            "least_examples": least_examples,
            "num_bins": num_bins,
            "intersections": [list(pair) for pair in intersections],
        },
        claims=tuple(
            claim for scheme, kinds in parts for kind in kinds for claim in _claims(scheme, kind, kinds[kind])
        ),
        tables=tables,
        caveats=_caveats(parts, cut, least_examples),
        cites=ANALYSIS.cites,
    )


def _claims(scheme: str, kind: Kind, slices: Slices) -> list[Claim]:
    worst = slices.worst
    if worst is None:
        return []
    num = int(slices.tested.sum())
    pairs = slices.counts.num_pairs
    plural = _PLURALS[kind]
    what = "recall" if kind == "class" else "accuracy"
    over, test = ("examples", "exact McNemar tests") if pairs == 1 else ("pairs and examples", "t tests")
    means = "" if pairs == 1 else f", mean over {pairs} pairs"
    how = "Tango's score interval" if pairs == 1 or not slices.counts.lost[:, worst].any() else "t interval"
    return [
        Claim(
            f"worst_{kind}_net_change",
            scheme,
            float(slices.net[worst]),
            *slices.least,
            int(slices.counts.size[worst]),
            "example",
            f"{what} of the compressed model minus that of the reference in the slice that loses most{means}; "
            f"{how} over {over}, simultaneous over all {num} tested {plural} (Bonferroni): that of the largest "
            "loss, wherever it is",
            "tango1998equivalence" if pairs == 1 else "cameron2011robust",
            "points",
            slices.name(worst),
        ),
        Claim(
            f"harmed_{plural}_q",
            scheme,
            float(slices.harmed.sum()),
            None,
            None,
            num,
            kind,
            f"tested {plural} whose {what} falls with q <= 0.05: {test}, Benjamini-Hochberg over {plural}; a count, "
            "without an interval",
            "benjamini1995controlling",
            "count",
            _few([slices.name(int(place)) for place in np.flatnonzero(slices.harmed)]),
        ),
    ]


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _scheme_row(scheme: str, kinds: dict[Kind, Slices]) -> dict[str, Any]:
    row: dict[str, Any] = {"scheme": scheme}
    for kind, slices in kinds.items():
        worst = slices.worst
        row[f"worst_{kind}"] = None if worst is None else slices.name(worst)
        row[f"worst_{kind}_net_change_points"] = np.nan if worst is None else 100 * slices.net[worst]
        row[f"worst_{kind}_low"] = np.nan if worst is None else 100 * slices.least[0]
        row[f"worst_{kind}_high"] = np.nan if worst is None else 100 * slices.least[1]
        row[f"harmed_{_PLURALS[kind]}"] = int(slices.harmed.sum())
        row[f"tested_{_PLURALS[kind]}"] = int(slices.tested.sum())
    return row


def _slice_table(parts: list[Part], kind: Kind) -> pd.DataFrame:
    """One row for each side and slice, those that lose most first, those too small to be tested last."""
    measure = "recall" if kind == "class" else "accuracy"
    frames = []
    for scheme, kinds in parts:
        slices = kinds[kind]
        counts = slices.counts
        before, lost, gained = (x.mean(axis=0) for x in (counts.right_before, counts.lost, counts.gained))
        name: dict[str, Any] = {"class": list(slices.level)}
        if kind != "class":
            name = {"attribute": list(slices.column), "level": list(slices.level)}
        columns = {
            "scheme": scheme,
            **name,
            "examples": counts.size,
            f"reference_{measure}": before / counts.size,
            f"compressed_{measure}": (before - lost + gained) / counts.size,
            "net_change_points": 100 * slices.net,
            "net_low": 100 * slices.each[0],
            "net_high": 100 * slices.each[1],
            "net_p": slices.p,
            "net_q": slices.q,
            "harmful_flip_rate": lost / counts.size,
            "beneficial_flip_rate": gained / counts.size,
            "harmed": slices.harmed,
            "too_small": ~slices.tested,
            "simultaneous_low_points": 100 * slices.simultaneous[0],
            "simultaneous_high_points": 100 * slices.simultaneous[1],
        }
        frames.append(pd.DataFrame(columns))
    table = pd.concat(frames, ignore_index=True)
    return table.sort_values(["too_small", "net_change_points"], kind="stable", ignore_index=True)


def _caveats(parts: list[Part], cut: Slicings, least_examples: int) -> tuple[str, ...]:
    caveats = [
        "The worst of many slices looks bad by chance: its interval is widened so that it holds for all slices of its "
        "kind together. The intervals in the tables hold for one slice each.",
        "A slice that is not shown to be harmed is not shown to be unharmed: look at how wide its interval is.",
    ]
    counts: dict[str, int] = {}
    for kind, slices in parts[0][1].items():
        small = int((~slices.tested).sum())
        if small:
            counts[_PLURALS[kind]] = small
    if counts:
        what = ", ".join(f"{num} {kind}" for kind, num in counts.items())
        caveats.append(f"Shown but not tested, because they have fewer than {least_examples} examples: {what}.")
    if cut.left_out:
        what = "; ".join(f"{name} ({reason})" for name, reason in cut.left_out.items())
        caveats.append(f"Columns that were not used: {what}.")
    if "group" not in parts[0][1]:
        caveats.append("There are no attribute columns, so that nothing is said on groups.")
    if len(parts) > 1:
        caveats.append("Corrections are over the slices of one compressed side, not over sides.")
    if any(slices.counts.num_pairs == 1 for _, kinds in parts for slices in kinds.values()):
        caveats.append(
            "With one model a side, the tests are about these two models on other examples of the same kind, not about "
            "the method with another seed or calibration set."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """The classes and groups that lose most, with the change of accuracy and its interval for each compressed side."""
    tables: list[Any] = [table for name, table in finding.tables.items() if name != "schemes"]
    shown = [part for table in tables if len(part := _drawn(table))]
    if not shown:
        raise NotApplicable("No class or group has so many examples that it is tested.")
    schemes = finding.tables["schemes"]["scheme"].tolist()
    axes = panels(*(0.7 + 0.34 * part["slice"].nunique() for part in shown))
    for axis, part in zip(axes, shown, strict=True):
        names = list(dict.fromkeys(part["slice"]))
        for number, scheme in enumerate(schemes):
            own = part[part["scheme"] == scheme]
            offset = 0.6 * ((number + 0.5) / len(schemes) - 0.5)
            y = [names.index(name) + offset for name in own["slice"]]
            x = own["net_change_points"]
            colour = SERIES[number % len(SERIES)]
            reach = [x - own["net_low"], own["net_high"] - x]
            axis.errorbar(x, y, xerr=reach, fmt="o", ms=4, lw=1, color=colour, label=scheme)
        axis.axvline(0, color="#7f7f7f", linewidth=0.8)
        axis.set_yticks(range(len(names)), [_fitted(name) for name in names], parse_math=False)
        axis.set_ylim(len(names) - 0.5, -0.5)
    axes[-1].set_xlabel("change of accuracy (points)")
    if len(schemes) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        legend = axes[0].figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
    return axes[0]


def _drawn(table: Any) -> Any:
    """The rows of the tested slices that lose most under any side."""
    tested = table[~table["too_small"]].copy()
    parts = [tested[name].astype(str) for name in ("class", "attribute", "level") if name in tested]
    tested["slice"] = parts[0] if len(parts) == 1 else parts[0] + " = " + parts[1]
    worst = list(dict.fromkeys(tested["slice"]))[:_MOST_DRAWN]
    return tested[tested["slice"].isin(worst)]


def _fitted(name: str, most: int = 28) -> str:
    lines = name.replace(" = ", "\n= ", 1).split("\n") if len(name) > most else [name]
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in lines)


ANALYSIS = Analysis(
    name="slices",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=("mcnemar1947note", "tango1998equivalence", "benjamini1995controlling"),
)
