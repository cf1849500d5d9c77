"""How far examples lie from the decision boundary, before and after compression."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.boundary_claims import distance_claim, estimates, null_claims, null_estimates, scheme_claims
from remnant.analyses.boundary_measures import FACTORS, Part, Sides, between_seeds, part, parts, sides
from remnant.analyses.boundary_tables import (
    beyond_limit,
    distance_rows,
    example_table,
    factor_rows,
    nearing_gallery,
    scatter_table,
    scheme_row,
)
from remnant.analyses.comparison import class_names
from remnant.analyses.examples import can_be_shown
from remnant.analyses.panels import SERIES, WIDTH, short
from remnant.finding import Analysis, Finding, NotApplicable
from remnant.stats.preservation import is_preserved

QUESTION = "Do examples lie as far from the decision boundary as before, at random and in the worst case?"
_MOST_PANELS = 6


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    factor: float = 1.1,
    rows: int = 1000,
    gallery: int = 12,
) -> Finding:
    """Distances to the decision boundary of each compressed scheme against the reference, pair by pair.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    factor
        A distance that changes by at most this factor, up or down, counts as preserved.
    rows
        Most examples to list for each scheme.
    gallery
        Most examples to show for each scheme.

    Raises
    ------
    NotApplicable
        If the reference or every compressed scheme was not probed.
    SchemaError
        If no model was probed, or the seeds of a scheme are not those of the reference.
    """
    is_preserved(0.0, factor)
    found = sides(population, reference)
    factors = tuple(sorted({*FACTORS, float(factor)}))
    made = parts(found, factors)
    if not made:
        raise NotApplicable(
            "No measure of the boundary could be taken on a model of the reference and a compressed one."
        )
    first = found.comparisons[0]
    reference = first.reference_label
    changes = {name: between_seeds(found, name, factors) for name in dict.fromkeys(one.measure for one in made)}
    null = {name: null_estimates(of, factor, first.num_first) for name, of in changes.items()}
    if "nearest" in null and "along_reference" in null:
        # In the reference itself, the two are one.
        null["along_reference"] = {name: one for name, one in null["nearest"].items() if name == "cie_nearer"}
    estimated = [estimates(one, factor) for one in made]
    names = class_names(population)
    listed = [example_table(found, own, names) for own in _by_scheme(made)]
    shown = _by_scheme(made) if can_be_shown(population) else []
    galleries = {
        f"Nearer to the boundary: {own[0].scheme}": nearing_gallery(found, own, names, gallery) for own in shown
    }
    return Finding(
        analysis="boundary",
        question=QUESTION,
        parameters={"reference": reference, "factor": factor, "rows": rows, "gallery": gallery},
        claims=(
            *(distance_claim(*row) for row in distance_rows(found)),
            *(
                claim
                for name, one in null.items()
                if name != "along_reference"
                for claim in null_claims(name, reference, one, factor)
            ),
            *(claim for one, own in zip(made, estimated, strict=True) for claim in scheme_claims(one, own, factor)),
        ),
        tables={
            "schemes": pd.DataFrame(
                [scheme_row(one, own, null[one.measure]) for one, own in zip(made, estimated, strict=True)]
            ),
            "factors": pd.DataFrame([row for one in made for row in factor_rows(one, changes[one.measure])]),
            "scatter": pd.concat([scatter_table(found, one, rows) for one in first_of_each(found)], ignore_index=True),
            "examples": pd.concat([table.head(rows) for table in listed], ignore_index=True),
        },
        caveats=_caveats(found, made),
        galleries={title: exhibits for title, exhibits in galleries.items() if exhibits},
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """Distances of each probed example, mean over the pairs of a scheme: name of a column to (ids, values).

    `boundary_distance` and `worst_case_boundary_distance` are those of the reference; `..._change` is the mean of
    ln(compressed / reference), < 0 where the boundary came nearer, over the pairs that give the same answer: only
    examples with such a pair have it.
    """
    found = sides(population)
    comparison = next((c for c in found.comparisons if c.scheme == scheme), None)
    if comparison is None:
        raise NotApplicable(f"No model of {scheme!r} was probed for `boundary`: `remnant probe STORE boundary`.")
    ids = found.probe["example"].values
    columns: dict[str, tuple[NDArray, NDArray[np.float64]]] = {}
    for measure, name in (("random", "boundary_distance"), ("nearest", "worst_case_boundary_distance")):
        if measure not in found.measures:
            continue
        own = part(found, comparison, measure, ())
        if not own.changes:
            continue
        columns[name] = ids, own.reference.mean(axis=0)
        known = np.isfinite(own.ratio).any(axis=0)
        columns[f"{name}_change"] = ids[known], np.nanmean(np.log(own.ratio[:, known]), axis=0)
    return columns


def first_of_each(found: Sides) -> list[tuple[str, tuple[xr.Dataset, int], tuple[xr.Dataset, int]]]:
    """What the scatter shows: two seeds of the reference, where there are two, and the first pair of each scheme."""
    first = found.comparisons[0]
    shown = [(c.scheme, (c.reference, c.pairs[0][0]), (c.compressed, c.pairs[0][1])) for c in found.comparisons]
    if first.num_first < 2:
        return shown
    return [(f"another seed of {first.reference_label}", (first.reference, 0), (first.reference, 1)), *shown]


def _by_scheme(made: list[Part]) -> list[list[Part]]:
    return [[one for one in made if one.scheme == scheme] for scheme in dict.fromkeys(one.scheme for one in made)]


def _caveats(found: Sides, made: list[Part]) -> tuple[str, ...]:
    first, settings = found.comparisons[0], found.probe.attrs.get("probe", {})
    caveats = [
        "A distance is that to another answer of the same model, right or wrong, along one straight line; regions of "
        "another answer that are thinner than a step of the search are missed.",
    ]
    if "nearest" in found.measures:
        caveats.append(
            "The smallest distance found is an upper bound of the true one: a stronger search may find a nearer answer."
        )
        unmeasured = [
            c.scheme for c in found.comparisons if not found.distances(c.compressed, "nearest").measured.any()
        ]
        if unmeasured:
            caveats.append(
                f"The gradients of {', '.join(unmeasured)} do not tell how the answers change (rounding masks them): "
                "no worst direction of their own was sought; the distance along the worst direction of the dense model "
                "stands in for it, and is an upper bound."
            )
    if "along_reference" in found.measures:
        caveats.append(
            "The worst direction of a model is the worst for that model: along it, another model tends to be farther "
            "from its boundary even if it is no more robust. Models of other seeds were not measured along it."
        )
    share = beyond_limit(found)
    if share > 0:
        caveats.append(
            "Where no other answer was found within the limit of the search "
            f"({settings.get('limit', 2.0):g} standard deviations of the data for each value), the limit itself counts "
            "as the distance; examples for which neither model has one are left out of the comparison."
        )
    if settings.get("clip"):
        caveats.append("Pixels were kept within their range: lines are bent at its edge.")
    if any(c.num_second == 1 for c in found.comparisons):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they do not say what another training "
            "would give."
        )
    if first.num_first < 2:
        caveats.append(
            f"There is one model of {first.reference_label}: nothing can be said on what another seed would change."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Distance of each example along random directions before and after, for the first pair of each scheme."""
    from matplotlib import pyplot

    table, factor = finding.tables["scatter"], float(finding.parameters["factor"])
    labels = list(dict.fromkeys(table["scheme"]))[:_MOST_PANELS]
    lines = (len(labels) + 1) // 2
    options = {"squeeze": False, "sharex": True, "sharey": True, "layout": "constrained"}
    figure, grid = pyplot.subplots(lines, 2, figsize=(WIDTH, 0.5 + 2.5 * lines), **options)
    figure.patch.set_alpha(0)
    both = table[["reference", "compressed"]].to_numpy(float)
    ends = np.array([both.min() / 1.15, both.max() * 1.15])
    for axes, label in zip(grid.ravel(), labels, strict=False):
        part = table.loc[table["scheme"] == label]
        same = part["same_answer"].to_numpy(bool)
        axes.fill_between(ends, ends / factor, ends * factor, color="#999999", alpha=0.25, linewidth=0)
        for here, colour, name in ((same, SERIES[0], "same answer"), (~same, SERIES[1], "another answer")):
            x, y = (part[side].to_numpy(float)[here] for side in ("reference", "compressed"))
            axes.scatter(x, y, s=9, color=colour, alpha=0.7, linewidth=0, label=name)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        axes.set_title(short(label), fontsize=9)
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.ravel()[len(labels) :]:
        axes.set_visible(False)
    figure.supxlabel("distance in the reference model", fontsize=10)
    figure.supylabel("distance in the other model", fontsize=10)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return grid[0, 0]


ANALYSIS = Analysis(
    name="boundary",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("boundary",),
    cites=(
        "joseph2020correctness",
        "moosavi2016deepfool",
        "abdollahpoorrostam2023revisiting",
        "spearman1904proof",
        "bonett2000sample",
        "delong1988comparing",
    ),
    pace=1,
)
