"""Which groups of examples, and intersections of groups, pay for compression, and in which kind of error."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.comparison import Null, class_names
from remnant.analyses.group_columns import MOST_CROSSED, Groups, find_groups, positive_class
from remnant.analyses.group_frames import to_metric_frame
from remnant.analyses.group_measures import Part, Settings, measure
from remnant.analyses.group_representation import Represented, changed_kinds, represented
from remnant.analyses.group_tables import (
    amplification_claims,
    amplification_table,
    gap_table,
    rate_claims,
    rate_table,
    representation_claims,
    representation_table,
    scheme_row,
)
from remnant.analyses.panels import SERIES, panels
from remnant.finding import Analysis, Finding, NotApplicable
from remnant.population import reference_of

__all__ = ["ANALYSIS", "plot", "run", "to_metric_frame"]

QUESTION = "Which groups and intersections of groups pay for compression, and are over-represented in what changes?"
_MOST_DRAWN = 6


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    positive: str | None = None,
    intersections: Sequence[Sequence[str]] | None = None,
    least_examples: int = 20,
    num_bins: int = 5,
    null: Null = "auto",
    num_permutations: int = 1000,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Finding:
    """Error, false positive and false negative rate of every group, gaps, bias amplification and representation.

    `reference`, `null`, `num_permutations` and `seed` are those of `remnant.analyses.comparison`.

    Parameters
    ----------
    positive
        Name of the class that false positives and negatives are about; default the second one of two classes. Of
        more classes without it, the error is the only rate.
    intersections
        Pairs of columns to cross; default all pairs of up to 10 columns, and none of more.
    least_examples
        Groups in which fewer examples count are shown, but not tested, and cannot be the worst.
    num_bins
        Quantile bins of numeric columns with many values.
    num_bootstrap
        Bootstrap samples of examples and pairs of models.

    Raises
    ------
    ValueError
        If a parameter is out of its range, or names no class or column.
    NotApplicable
        If there are no attribute columns, no reference or no compressed side.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    for name, value, least in (("least_examples", least_examples, 2), ("num_bootstrap", num_bootstrap, 100)):
        if value < least:
            raise ValueError(f"Expected `{name}` >= {least}, but got {value!r}.")
    names = class_names(population)
    asked = Settings(positive_class(names, positive), least_examples, null, num_permutations, num_bootstrap, seed)
    groups = find_groups(population, num_bins, intersections)
    label = population["label"].values
    parts: list[tuple[Part, list[Represented]]] = []
    for side in compressed_sides(population, reference):
        kinds = [represented(side.scheme, c, groups, least_examples) for c in changed_kinds(side, label, asked)]
        parts.append((measure(side, label, groups, asked), kinds))
    tables = {
        "schemes": pd.DataFrame([scheme_row(*part) for part in parts]),
        "rates": _joined(rate_table(part) for part, _ in parts),
        "gaps": _joined(gap_table(part) for part, _ in parts),
        "representation": _joined(representation_table(*part) for part in parts),
        "bias_amplification": _joined(amplification_table(part) for part, _ in parts),
    }
    crossed = None if intersections is None else [list(pair) for pair in intersections]
    return Finding(
        analysis="groups",
        question=QUESTION,
        parameters={
            "reference": reference_of(population) if reference is None else reference,
            "positive": None if asked.positive is None else names[asked.positive],
            "intersections": crossed,
            "least_examples": least_examples,
            "num_bins": num_bins,
            "null": null,
            "num_permutations": num_permutations,
            "num_bootstrap": num_bootstrap,
            "seed": seed,
        },
        claims=tuple(
            claim
            for part, kinds in parts
            for claim in (*rate_claims(part), *amplification_claims(part), *representation_claims(part, kinds))
        ),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, groups, names, asked, intersections is None),
        cites=ANALYSIS.cites,
    )


def _joined(tables: Any) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _caveats(
    parts: list[tuple[Part, list[Represented]]], groups: Groups, names: Sequence[str], asked: Settings, default: bool
) -> tuple[str, ...]:
    caveats = [
        "The worst of many groups looks bad by chance: its interval holds for all tested groups together, and what "
        "rearranged models give stands beside it. Intervals in the tables hold for one group each.",
        "Groups that are hard for every model are over-represented among the changes between any two models: compare "
        "an odds ratio with the one that chance gives.",
        "A gap is the largest minus the smallest of several noisy rates, so it is above 0 without any true gap; its "
        "change is fair, because both sides have the same noise.",
    ]
    if asked.positive is not None:
        caveats.append(f"False positives and negatives are about the class {names[asked.positive]!r}.")
    else:
        caveats.append(
            "There are more than 2 classes and none was named as `positive`, so that the error is the only rate."
        )
    small = {s.column for s, start in _starts(groups) if not parts[0][0].rates["error"].tested[start].all()}
    if small:
        caveats.append(
            f"Some groups have too few examples to be tested (see `too_small`), in: {', '.join(sorted(small))}."
        )
    if groups.left_out:
        what = "; ".join(f"{name} ({reason})" for name, reason in groups.left_out.items())
        caveats.append(f"Columns that were not used: {what}.")
    if not groups.crossed and default and len(groups.slicings) > MOST_CROSSED:
        caveats.append("With so many columns, no pairs of them were crossed; name some as `intersections`.")
    if any(part.num_pairs == 1 for part, _ in parts):
        caveats.append(
            "With one pair of models, tests and intervals are over examples: about these two models, not about "
            "another training or compression."
        )
    if any(part.exchange is None for part, _ in parts):
        caveats.append("There is one reference model, so nothing says what another run of it would change.")
    if any(1 < part.num_pairs < 5 for part, _ in parts):
        caveats.append("With fewer than 5 pairs of models, bootstrap intervals over pairs are too narrow.")
    return tuple(caveats)


def _starts(groups: Groups) -> list[tuple[Any, slice]]:
    ends = np.cumsum(groups.sizes)
    return [(s, slice(end - len(s.levels), end)) for s, end in zip(groups.slicings, ends.tolist(), strict=True)]


def plot(finding: Finding) -> Any:
    """The groups whose rates rise most, before and after, and the odds ratios of groups among what changes."""
    rates: Any = finding.tables["rates"]
    measures = list(dict.fromkeys(rates["measure"]))
    measures = sorted(measures, key=["error", "false positive rate", "false negative rate"].index)
    tested = rates[~rates["too_small"]]
    represented: Any = _representation_drawn(finding)
    if not len(tested):
        raise NotApplicable("No group has so many examples that it is tested.")
    shown = [_named(tested[tested["measure"] == measure]) for measure in measures]
    shown = [part for part in shown if len(part)]
    schemes = finding.tables["schemes"]["scheme"].tolist()
    sizes = [part["group"].nunique() for part in (*shown, *([represented] if len(represented) else []))]
    axes = panels(*(0.9 + (0.2 + 0.16 * len(schemes)) * size for size in sizes))
    for axis, part in zip(axes, shown, strict=False):
        _draw_rates(axis, part, schemes)
    if len(represented):
        _draw_representation(axes[-1], represented, schemes)
    handles, labels = axes[0].get_legend_handles_labels()
    legend = axes[0].figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return axes[0]


def _draw_rates(axis: Any, part: Any, schemes: list[str]) -> None:
    names = list(dict.fromkeys(part["group"]))
    for number, scheme in enumerate(schemes):
        own = part[part["scheme"] == scheme]
        y = [names.index(name) + 0.64 * ((number + 0.5) / len(schemes) - 0.5) for name in own["group"]]
        x, low, high = (own[name].to_numpy(float) for name in ("change_points", "change_low", "change_high"))
        reach = np.maximum([x - low, high - x], 0)
        axis.errorbar(x, y, xerr=reach, fmt="o", ms=4, lw=1, color=SERIES[number % len(SERIES)], label=scheme)
        noise = own["difference_between_seeds_points"].to_numpy(float)
        if np.isfinite(noise).any():
            shown = {"label": "two models of the reference"} if number == 0 else {}
            axis.plot(noise, y, linestyle="none", marker="|", ms=9, color="#777777", **shown)
    axis.axvline(0, color="#7f7f7f", linewidth=0.8)
    axis.set_yticks(range(len(names)), [_fitted(name) for name in names], parse_math=False, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(f"rise of the {part['measure'].iloc[0]} (points)")


def _draw_representation(axis: Any, part: Any, schemes: list[str]) -> None:
    names = list(dict.fromkeys(part["group"]))
    for number, scheme in enumerate(schemes):
        own = part[part["scheme"] == scheme]
        y = np.array([names.index(name) + 0.64 * ((number + 0.5) / len(schemes) - 0.5) for name in own["group"]])
        x, low, high = (own[name].to_numpy(float) for name in ("odds_ratio", "odds_ratio_low", "odds_ratio_high"))
        known = np.isfinite(x) & (x > 0) & np.isfinite(high) & (low > 0)
        reach = np.maximum([(x - low)[known], (high - x)[known]], 0)
        axis.errorbar(x[known], y[known], xerr=reach, fmt="s", ms=4, lw=1, color=SERIES[number % len(SERIES)])
        axis.plot(own["odds_ratio_null"], y, linestyle="none", marker="|", ms=9, color="#777777")
    axis.set_xscale("log")
    axis.axvline(1, color="#7f7f7f", linewidth=0.8)
    axis.set_yticks(range(len(names)), [_fitted(name) for name in names], parse_math=False, fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel(f"odds ratio among {part['among'].iloc[0]}")


def _representation_drawn(finding: Finding) -> Any:
    table: Any = finding.tables.get("representation", pd.DataFrame())
    if not len(table):
        return table
    kept = table[~table["too_small"] & (table["odds_ratio"] > 0) & np.isfinite(table["odds_ratio_high"].astype(float))]
    kinds = [k for k in dict.fromkeys(kept["among"]) if k != "examples whose answer changes"]
    return _named(kept[kept["among"] == kinds[0]].sort_values("p", kind="stable")) if kinds else kept.iloc[:0]


def _named(table: Any) -> Any:
    """The rows of the first groups, with their names."""
    table = table.assign(group=table["attribute"].astype(str) + " = " + table["level"].astype(str))
    return table[table["group"].isin(list(dict.fromkeys(table["group"]))[:_MOST_DRAWN])]


def _fitted(name: str, most: int = 26) -> str:
    lines = name.replace(" = ", "\n= ", 1).split("\n") if len(name) > most else [name]
    return "\n".join(line if len(line) <= most else f"{line[: most - 1]}…" for line in lines)


ANALYSIS = Analysis(
    name="groups",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=(
        "hooker2019what",
        "wang2021directional",
        "fisher1935design",
        "agresti2001small",
        "benjamini1995controlling",
        "owen2007pigeonhole",
    ),
    pace=10,
)
