"""Attribution: do compressed models find their answers in the same parts of a picture as the reference?"""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.attribution_gallery import MOST, galleries
from remnant.analyses.attribution_measures import PROBE, Measured, mean_known, measure
from remnant.analyses.attribution_tables import claims, example_table, flipped_table, method_table
from remnant.analyses.comparison import class_names
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Finding
from remnant.stats.attribution import Part

QUESTION = "Do compressed models find their answers in the same parts of a picture as the reference?"
_TOP = 0.1


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    method: str | None = None,
    part: Part = "positive",
    share: float = _TOP,
    num_permutations: int = 999,
    most: int = MOST,
    seed: int = 0,
) -> Finding:
    """Agreement of attribution maps of each compressed scheme with the reference, and where answers change.

    `reference`, `num_permutations` and `seed` are those of `remnant.analyses.comparison`; examples are rearranged.

    Parameters
    ----------
    method
        The method that claims and galleries are of; default integrated gradients, or the next one of
        `remnant.probes.attribution.METHODS` where there are none for all schemes. The tables have all methods.
    part
        "positive": what speaks for the class. "absolute": all that moves it.
    share
        Share of the pixels that are the highest ones.
    most
        Most examples to show, of all schemes together.

    Raises
    ------
    NotApplicable
        If there is no reference, no compressed scheme or no pair of the same seed, or no map can be used.
    SchemaError
        If the population was not probed.
    """
    found = measure(population, reference=reference, method=method, part=part, share=share)
    flipped = flipped_table(found, num_permutations=num_permutations, seed=seed)
    return Finding(
        analysis="attribution",
        question=QUESTION,
        parameters={
            "reference": found.reference,
            "method": found.method,
            "part": part,
            "share": share,
            "num_permutations": num_permutations,
            "most": most,
            "seed": seed,
            "probe": dict(found.data.attrs.get("probe", {})),
        },
        claims=claims(found, flipped),
        tables={"methods": method_table(found), "changed_answers": flipped, "examples": example_table(found)},
        caveats=_caveats(found),
        galleries=galleries(found, population, class_names(found.data), part=part, most=most),
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray[Any], NDArray[np.float64]]]:
    """Similarity of the maps on each probed example: ids and values, mean over pairs; NaN where undefined.

    "attribution_similarity" is of the maps for the class that the reference predicts, on both sides: it is not low
    merely because the answer changed. "attribution_similarity_own_class" is that of the claims.

    Raises
    ------
    NotApplicable, SchemaError
        As `run`.
    """
    found = measure(population, method=None, reference=None, part="positive", share=_TOP)
    a = found.of(scheme)
    if a is None:
        return {}
    ids = found.data["example"].values
    return {
        "attribution_similarity": (ids, mean_known(a.same_class, axis=0)),
        "attribution_similarity_own_class": (ids, mean_known(a.similarity, axis=0)),
    }


def _caveats(found: Measured) -> tuple[str, ...]:
    caveats = [
        "A map explains the class that its model predicts. Where the answers differ, two maps explain different "
        "classes and are less alike for that reason alone: what is said of examples whose answer changes stands beside "
        "the same with the class of the reference explained on both sides.",
        "Maps are not the truth on what a model uses: methods disagree with each other. Read a scheme beside the "
        "baseline of the same method, not methods beside each other.",
    ]
    if not found.seeds:
        caveats.append(
            f"There is one probed {found.reference} model: nothing can be said on how alike the maps of two seeds are. "
            "Train and probe more seeds."
        )
    twins = sorted({a.scheme for a in found.schemes if "straight-through" in a.routes[1]})
    if twins:
        caveats.append(
            f"The gradients of {', '.join(twins)} are those of a twin with the same answers in which rounding counts "
            "the identity: the rounded models themselves have none."
        )
    for label in found.labels:
        lacking = [a.method for a in found.schemes if a.scheme == label and not a.usable]
        if lacking:
            caveats.append(
                f"No maps by {', '.join(lacking)} can be compared for {label}: it has no usable gradients there. "
                "Occlusion needs none."
            )
    if any(len(a.pairs) == 1 for a in found.schemes):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples, not over other trainings or "
            "compressions."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Weighted Jaccard of the maps by scheme and method, with that of two models of the reference as a bar mark."""
    table = finding.tables["methods"]
    labels = list(dict.fromkeys(table["scheme"]))
    methods = list(dict.fromkeys(table["method"]))
    axes = scheme_rows(labels, xlabel="weighted Jaccard of attribution maps", height=0.28 + 0.16 * len(methods))
    for place, method in enumerate(methods):
        part = table.loc[table["method"] == method].set_index("scheme").reindex(labels)
        height = np.arange(len(labels)) + (place - (len(methods) - 1) / 2) * 0.7 / max(len(methods), 1)
        value = part["similarity"].to_numpy(float)
        spread = [value - part["similarity_low"].to_numpy(float), part["similarity_high"].to_numpy(float) - value]
        spread = np.nan_to_num(np.maximum(spread, 0))
        colour = SERIES[place % len(SERIES)]
        axes.errorbar(value, height, xerr=spread, fmt="o", markersize=5, color=colour, label=method.replace("-", " "))
        null = part["similarity_null"].to_numpy(float)
        shown = {"label": "two seeds of the reference"} if place == 0 and np.isfinite(null).any() else {}
        axes.scatter(null, height, marker="|", s=90, color="#777777", **shown)
    axes.set_xlim(0, 1.02)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="attribution",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(PROBE,),
    cites=(
        "joseph2020correctness",
        "sundararajan2017axiomatic",
        "simonyan2014deep",
        "selvaraju2017grad",
        "smilkov2017smoothgrad",
        "zeiler2014visualizing",
        "bengio2013estimating",
        "spearman1904proof",
        "adebayo2018sanity",
    ),
    pace=36,
)
