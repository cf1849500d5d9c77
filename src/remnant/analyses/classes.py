"""Which classes and groups pay: changes of their accuracy beyond the change of the accuracy on all examples."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.class_measures import LEVEL, Part, Slices, measure
from remnant.analyses.comparison import Null, attributes, class_names, comparisons, exchange, stream
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Finding

QUESTION = "Which classes and groups lose or gain accuracy beyond the change on all examples?"
_SOURCE = "hooker2019what, section 2.2"
_MARKS = {"not significant": ("o", "#999999"), "p ≤ 0.05 only": ("D", SERIES[0]), "q ≤ 0.05": ("s", SERIES[1])}


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    null: Null = "auto",
    num_permutations: int = 1000,
    seed: int = 0,
) -> Finding:
    """Change of the accuracy of each class and group under each compressed scheme.

    Welch's t test on mean-shifted class accuracies and the relative recall difference are those of
    Hooker et al. (2019); beside them what corrects for many tests and for chance. The parameters are those of
    `remnant.analyses.comparison`.

    Raises
    ------
    NotApplicable
        If there is no reference, no compressed scheme, one has fewer than 2 models, or no answers are known.
    SchemaError
        If models are paired by their seeds and the seeds differ.
    """
    found = comparisons(population, reference, least=2)
    reference = found[0].reference_label
    by_class, by_group = [], []
    classes = Slices("class", tuple(class_names(population)), population["label"].values)
    groups = [Slices(group.name, group.levels, group.index) for group in attributes(population)]
    for comparison in found:
        how = exchange(comparison, null, stream(seed, "exchange", comparison.scheme))
        for slices in (classes, *groups):
            part = measure(
                comparison,
                how,
                slices,
                num_permutations=num_permutations,
                rng=stream(seed, slices.attribute, comparison.scheme),
                num_compared=None if slices is classes else sum(len(group.names) for group in groups),
            )
            (by_class if slices is classes else by_group).append(part)
    tables = {
        "classes": pd.concat([_slice_table(part) for part in by_class], ignore_index=True),
        "schemes": pd.DataFrame([_scheme_row(part) for part in by_class]),
    }
    if by_group:
        tables["groups"] = pd.concat([_slice_table(part) for part in by_group], ignore_index=True)
        tables["attributes"] = pd.DataFrame([_scheme_row(part) for part in by_group])
    return Finding(
        analysis="classes",
        question=QUESTION,
        parameters={"reference": reference, "null": null, "num_permutations": num_permutations, "seed": seed},
        claims=tuple(claim for part in by_class for claim in (*_claims(part), *_group_claims(part, by_group))),
        tables=tables,
        caveats=_caveats([*by_class, *by_group]),
        cites=ANALYSIS.cites,
    )


def _slice_table(part: Part) -> pd.DataFrame:
    scheme, slices = part.comparison.scheme, part.slices
    is_class = slices.attribute == "class"
    first = {"scheme": scheme} if is_class else {"scheme": scheme, "attribute": slices.attribute}
    table = {
        **first,
        "class" if is_class else "level": slices.names,
        "examples": slices.sizes,
        "reference_accuracy": part.reference,
        "compressed_accuracy": part.compressed,
        "absolute_difference": part.absolute,
        "relative_recall_difference": part.relative,
        "normalized_recall_difference": part.normalized,
        "mean_shifted_difference": part.shifted,
        "welch_t": part.t,
        "welch_p": part.p,
        "welch_q": part.q,
        "hedges_g": part.g,
        "hedges_g_low": part.g_low,
        "hedges_g_high": part.g_high,
        "permutation_p": part.permutation_p,
        "paired_p": part.paired_p,
        "paired_q": part.paired_q,
    }
    return pd.DataFrame(table).loc[slices.sizes > 0]


def _scheme_row(part: Part) -> dict[str, Any]:
    low, high = np.quantile(part.null_counts, [0.025, 0.975])
    is_class = part.slices.attribute == "class"
    many = "classes" if is_class else "levels"
    row = {"scheme": part.comparison.scheme}
    if not is_class:
        row["attribute"] = part.slices.attribute
    worst = None if part.worst is None else part.slices.names[part.worst]
    interval = part.worst_interval or (np.nan, np.nan)
    return {
        **row,
        many: int((~np.isnan(part.p)).sum()),
        f"significant_{many}": part.significant,
        "expected_by_chance": float(part.null_counts.mean()),
        "chance_low": float(low),
        "chance_high": float(high),
        "p_of_count": part.count_p,
        f"significant_{many}_q": int((part.q <= LEVEL).sum()),
        f"significant_{many}_paired_q": int((part.paired_q <= LEVEL).sum()),
        "null": part.exchange.kind,
        f"worst_{'class' if is_class else 'level'}": worst,
        "worst_change": np.nan if part.worst is None else float(part.relative[part.worst]),
        "worst_low": interval[0],
        "worst_high": interval[1],
    }


def _claims(part: Part) -> list[Claim]:
    scheme = part.comparison.scheme
    num = int((~np.isnan(part.p)).sum())
    welch = "classes with p <= 0.05 in Welch's t test of the mean-shifted class accuracies"
    how = f"{part.exchange.method}, {part.exchange.reason}"
    low, high = np.quantile(part.null_counts, [0.025, 0.975])

    def claim(quantity: str, value: float, method: str, ends: tuple[float, float] | None = None, scale: str = "count"):
        return Claim(quantity, scheme, float(value), *(ends or (None, None)), num, "class", method, _SOURCE, scale)

    claims = [
        claim("significant_classes", part.significant, f"{welch}, without correction; a count of tests"),
        claim(
            "significant_classes_chance",
            part.null_counts.mean(),
            f"mean number of {welch} with {how}; the middle 95 % of the rearrangements",
            (float(low), float(high)),
        ),
        claim(
            "significant_classes_p",
            part.count_p,
            f"share of rearrangements with at least as many {welch}: {how}",
            scale="p",
        ),
        claim(
            "significant_classes_q",
            (part.q <= LEVEL).sum(),
            f"{welch.replace('p <= 0.05', 'q <= 0.05 (Benjamini-Hochberg)')}; a count of tests",
        ),
    ]
    if part.exchange.kind == "paired":
        method = "classes with q <= 0.05 (Benjamini-Hochberg) in the paired t test of the mean-shifted class accuracies"
        claims.append(claim("significant_classes_paired_q", (part.paired_q <= LEVEL).sum(), f"{method}; a count"))
    return [*claims, *_worst_claim("worst_class_change", part)]


def _group_claims(part: Part, by_group: list[Part]) -> list[Claim]:
    """The worst level of all attributes of a scheme, with an interval that holds for all attributes together."""
    own = [p for p in by_group if p.comparison is part.comparison and p.worst is not None]
    if not own:
        return []
    worst = min(own, key=lambda p: float(p.relative[p.worst]))
    return _worst_claim("worst_group_change", worst)


def _worst_claim(quantity: str, part: Part) -> list[Claim]:
    if part.worst is None:
        return []
    comparison, name = part.comparison, part.slices.names[part.worst]
    is_class = part.slices.attribute == "class"
    same = "pairs" if comparison.files else "pairs of the same seed"
    method = f"{'class' if is_class else f'level of {part.slices.attribute}'} {name!r}: accuracy of compressed over "
    method += f"reference model minus 1, mean over {same if comparison.same_seeds else 'all pairs of models'}; "
    method += "t interval for the worst of all (Bonferroni)" if part.worst_interval else "no interval: no spread"
    return [
        Claim(
            quantity,
            comparison.scheme,
            float(part.relative[part.worst]),
            *(part.worst_interval or (None, None)),
            comparison.num_second,
            "pair" if comparison.same_seeds else "trial",
            method,
            "hooker2019what, equation 3",
            "share",
            name if is_class else f"{part.slices.attribute} = {name}",
        )
    ]


def _caveats(parts: list[Part]) -> tuple[str, ...]:
    caveats = [
        "Without correction, some classes are significant by chance alone: read their number beside the number that "
        "chance gives, and beside the number after correction.",
        "The worst class is picked for being the worst, and its change is overstated for that reason; its interval "
        "allows for the choice.",
    ]
    if any(part.exchange.kind == "paired" for part in parts):
        caveats.append(
            "Welch's test takes the two populations as independent. Where models are pairs of the same seed it is too "
            "cautious; the paired t test stands beside it."
        )
    if any(np.isnan(part.relative[part.slices.sizes > 0]).any() for part in parts):
        caveats.append(
            "Where a reference model is never right on a class, the relative recall difference is undefined and left "
            "out; the absolute difference is given."
        )
    if any((part.slices.sizes == 0).any() for part in parts):
        caveats.append("Classes without test examples cannot be judged and are left out.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Normalized recall difference of every class, by scheme: significant ones are marked, the worst named."""
    table = finding.tables["classes"]
    labels = list(dict.fromkeys(table["scheme"]))
    axes = scheme_rows(labels, xlabel="change of class accuracy relative to all examples (%)", height=0.62)
    for row, label in enumerate(labels):
        part = table.loc[table["scheme"] == label]
        change = 100 * part["normalized_recall_difference"].to_numpy(float)
        # Classes apart from each other, in a fixed order.
        height = row + 0.22 * np.sin(2.4 * np.arange(len(part)))
        p, q = part["welch_p"].to_numpy(float), part["welch_q"].to_numpy(float)
        chosen = {"not significant": p > LEVEL, "p ≤ 0.05 only": (p <= LEVEL) & (q > LEVEL), "q ≤ 0.05": q <= LEVEL}
        for name, here in chosen.items():
            marker, colour = _MARKS[name]
            shown = {"label": name} if row == 0 else {}
            axes.scatter(change[here], height[here], marker=marker, s=26, color=colour, alpha=0.85, **shown)
        worst = part["relative_recall_difference"].to_numpy(float)
        if np.isfinite(worst).any():
            place = int(np.nanargmin(worst))
            at = (change[place], row - 0.26)
            axes.annotate(str(part["class"].iloc[place]), at, (-3, 4), textcoords="offset points", fontsize=8)
    axes.axvline(0, color="#777777", linewidth=0.8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    legend_above(axes, columns=3)
    return axes


ANALYSIS = Analysis(
    name="classes",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=("hooker2019what", "welch1947generalization", "benjamini1995controlling", "hedges1981distribution"),
    pace=0.3,
)
