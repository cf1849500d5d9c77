"""In which layers answers were lost: each layer compressed alone, and restored alone."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.comparison import class_names, is_derived
from remnant.analyses.layer_claims import scheme_claims
from remnant.analyses.layer_measures import Part, parts
from remnant.analyses.layer_tables import example_table, layer_table, scheme_row
from remnant.analyses.panels import SERIES, legend_above, panels, short
from remnant.finding import Analysis, Finding
from remnant.population import probed

QUESTION = "In which layers were the answers lost?"
_MOST_SCHEMES = 4
_MOST_LAYERS = 14
"""Rows of a picture that stay legible on a phone."""


def run(population: xr.Dataset, *, reference: str | None = None, top: int = 3, rows: int = 500) -> Finding:
    """Answers lost by each layer when it alone is compressed, and brought back when it alone is restored.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; it must be "dense", with whose layers the probe exchanges others.
    top
        Number of layers of each scheme that claims are on; the table holds all.
    rows
        Most examples to list for each scheme.

    Raises
    ------
    NotApplicable
        If the reference is not the dense model, or no compressed one was probed.
    SchemaError
        If the models' layers were not probed, or a scheme has no seed of the reference.
    """
    measured = probed(population, "layers")
    found = parts(measured, population, reference)
    names = class_names(measured)
    examples = [example_table(part, measured["example"].values, names).head(max(rows, 0)) for part in found]
    tables = {
        "layers": pd.concat([layer_table(part) for part in found], ignore_index=True),
        "schemes": pd.DataFrame([scheme_row(part) for part in found]),
    }
    if any(len(table) for table in examples):
        tables["examples"] = pd.concat([table for table in examples if len(table)], ignore_index=True)
    return Finding(
        analysis="layers",
        question=QUESTION,
        parameters={"reference": reference or "dense", "top": top, "rows": rows},
        claims=tuple(claim for part in found for claim in scheme_claims(part, max(top, 0))),
        tables=tables,
        caveats=_caveats(found),
        cites=ANALYSIS.cites,
    )


def _caveats(found: list[Part]) -> tuple[str, ...]:
    caveats = [
        "There is no baseline of other seeds: layers of models that were trained from other weights do not fit "
        "together. The null is a compression that changes nothing, for which all counts are exactly 0.",
        "What a layer loses alone and what restoring it brings back are answers to two questions. Where they disagree, "
        "harm comes from layers together; the ratio of their sum to the whole says how far it adds up.",
        "Layers are named after looking at all of them: the worst of many looks worse than it is. Intervals do not "
        "account for that; look for layers that lead in every seed.",
    ]
    if trained := [part.scheme for part in found if is_derived(part.scheme) is False]:
        caveats.append(
            f"{', '.join(trained)}: trained on its own, so its layers have adapted to each other. An exchanged layer "
            "meets neighbours that it was not trained with, and answers are lost by that alone, in both directions."
        )
    if any(part.num_pairs == 1 for part in found):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they do not say what another "
            "training or another compression would give."
        )
    for part in found:
        lost = [name for name, known in zip(part.names, part.is_known, strict=True) if not known]
        if lost:
            shown = f"{lost[:5]}{' and others' if len(lost) > 5 else ''}"
            caveats.append(
                f"{part.scheme}: {len(lost)} of {len(part.names)} layers cannot be exchanged, because they have no "
                f"counterpart or other shapes: {shown}. Nothing is said on them."
            )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Answers lost for each layer: when it alone is compressed, and when it alone is restored; most harmed schemes."""
    table, schemes = finding.tables["layers"], finding.tables["schemes"]
    known = table.loc[table["exchanged"]]
    shown = schemes.sort_values("cie_u_rate", ascending=False, kind="stable")["scheme"]
    shown = [scheme for scheme in shown if scheme in set(known["scheme"])][:_MOST_SCHEMES] or [table["scheme"].iloc[0]]
    blocks = [_block(known.loc[known["scheme"] == scheme]) for scheme in shown]
    found = panels(*(1.1 + 0.36 * max(len(block), 1) for block in blocks))
    for axes, scheme, block in zip(found, shown, blocks, strict=True):
        lost = float(schemes.loc[schemes["scheme"] == scheme, "cie_u_rate"].iloc[0])
        _bars(axes, block, lost)
        axes.set_title(short(scheme).replace("\n", " "), fontsize=9, loc="left")
        axes.set_xlabel("right answers lost (% of the examples)")
    legend_above(found[0], columns=1)
    return found[0]


def _block(table: pd.DataFrame) -> pd.DataFrame:
    """The layers with most harm, in the order of the network."""
    return table.head(_MOST_LAYERS).sort_values("place", ignore_index=True)


def _bars(axes: Any, block: pd.DataFrame, lost: float) -> None:
    rows = np.arange(len(block))
    low, high = block["cie_u_rate_alone_low"], block["cie_u_rate_alone_high"]
    changes = [block[f"cie_u_rate_change_restored{end}"] for end in ("", "_low", "_high")]
    drawn = [
        ("only this layer compressed", block["cie_u_rate_alone"], low, high, -0.19, SERIES[1]),
        ("only this layer restored", lost + changes[0], lost + changes[1], lost + changes[2], 0.19, SERIES[0]),
    ]
    first = axes.figure.axes[0] is axes
    for label, value, below, above, offset, colour in drawn:
        value = value.to_numpy(float)
        ends = np.array([value - below.to_numpy(float), above.to_numpy(float) - value])
        axes.barh(rows + offset, 100 * value, height=0.36, color=colour, label=label if first else None)
        reach = 100 * np.clip(np.nan_to_num(ends), 0, None)
        axes.errorbar(100 * value, rows + offset, xerr=reach, fmt="none", ecolor="#555555", elinewidth=0.9)
    axes.axvline(100 * lost, color="#777777", linestyle="--", label="all layers compressed" if first else None)
    axes.set_yticks(rows, [_fitted(name) for name in block["layer"]])
    axes.set_ylim(len(block) - 0.5, -0.5)
    axes.set_ylabel("layer")
    axes.set_xlim(0, max(axes.get_xlim()[1], 0.5))


def _fitted(name: str, most: int = 24) -> str:
    name = name or "model"
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


ANALYSIS = Analysis(
    name="layers",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("layers",),
    cites=("dam2023understanding", "gluska2020exploring"),
    pace=1,
)
