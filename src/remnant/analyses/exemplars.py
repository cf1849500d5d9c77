"""Pruning identified exemplars (PIEs): examples whose most frequent answer changes with compression."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import special

from remnant.analyses.comparison import Null, class_names, comparisons
from remnant.analyses.examples import can_be_shown
from remnant.analyses.exemplar_measures import Part, ReferenceNoise, measure, reference_noise, right_in_top
from remnant.analyses.exemplar_tables import (
    accuracy_table,
    confusion_table,
    example_table,
    gallery,
    noise_table,
    share_table,
    tie_table,
)
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.stats.modal import TIE_RULES, TieRule

QUESTION = "On which examples does the most frequent answer of a population of models change, beyond chance?"
_SOURCE = "hooker2019what, section 2.3"
_BY_PART = {"confusion": confusion_table, "shares": share_table, "examples": example_table}
_TIES = {
    "most-probable": "ties to the label with the highest mean softmax probability",
    "lowest": "ties to the lowest class index",
    "highest": "ties to the highest class index, as in the code published with the paper",
}


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    tie: TieRule | None = None,
    null: Null = "auto",
    num_permutations: int = 1000,
    most: int = 24,
    seed: int = 0,
) -> Finding:
    """PIEs of each compressed scheme, their number beyond chance, and how hard they are.

    `reference`, `null`, `num_permutations` and `seed` are those of `remnant.analyses.comparison`.

    Parameters
    ----------
    tie
        Which label is modal among several with the most votes; default "most-probable", or "lowest" where there are
        no logits.
    most
        Most examples to show for each scheme.

    Raises
    ------
    NotApplicable
        If there is no reference, no compressed scheme, one has fewer than 2 models, or no answers are known.
    SchemaError
        If models are paired by their seeds and the seeds differ.
    """
    if tie not in (None, *TIE_RULES):
        raise ValueError(f"Expected `tie` to be one of {list(TIE_RULES)}, but got {tie!r}.")
    if tie == "most-probable" and "logits" not in population:
        raise NotApplicable(
            "The population has no `logits`, which tie='most-probable' needs; choose tie='lowest' or tie='highest'."
        )
    tie = tie or ("most-probable" if "logits" in population else "lowest")
    found = comparisons(population, reference, least=2)
    reference = found[0].reference_label
    parts = [measure(comparison, tie, null, num_permutations, seed) for comparison in found]
    noise = reference_noise(found[0], tie, seed)
    names = class_names(population)
    label, top = found[0].label, min(5, len(names) - 1) if found[0].has_logits else 1
    right = {} if label is None else {k: right_in_top(found[0], label, k) for k in sorted({1, top})}
    accuracy = pd.concat([accuracy_table(part, right) for part in parts], ignore_index=True)
    tables = {
        "schemes": pd.DataFrame([_scheme_row(part) for part in parts]),
        "accuracy": accuracy,
        "tie_rules": tie_table(parts),
        "reference_noise": noise_table(noise, reference, found[0].num_first),
        **{name: _joined([make(part, names) for part in parts]) for name, make in _BY_PART.items()},
    }
    sampling = {"num_permutations": num_permutations, "most": most, "seed": seed}
    return Finding(
        analysis="exemplars",
        question=QUESTION,
        parameters={"reference": reference, "tie": tie, "null": null, **sampling},
        claims=(
            *_noise_claims(noise, reference, found[0].num_first),
            *(claim for part in parts for claim in (*_claims(part, tie), *_accuracy_claims(part, accuracy))),
        ),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, bool(right)),
        galleries={
            f"PIEs: {part.comparison.scheme}": shown
            for part in (parts if can_be_shown(population) else ())
            if (shown := gallery(part, names, most))
        },
        cites=ANALYSIS.cites,
    )


def _interval(part: Part) -> tuple[float, str]:
    """Half width of the 95 % interval of the number of PIEs, and how it is made."""
    smaller = min(part.comparison.num_first, part.comparison.num_second)
    half = float(special.stdtrit(smaller - 1, 0.975)) * part.error
    return half, "t interval from disjoint halves of both populations"


def _claims(part: Part, tie: TieRule) -> list[Claim]:
    scheme, null = part.comparison.scheme, part.null_mean
    num_trials = part.comparison.num_first + part.comparison.num_second
    half, how = _interval(part)
    by_chance = f"{part.exchange.method}, {part.exchange.reason}"

    def claim(quantity: str, value: float, ends: tuple[float, float] | None, method: str, scale: str = "count"):
        low, high = ends or (None, None)
        return Claim(quantity, scheme, float(value), low, high, num_trials, "trial", method, _SOURCE, scale)

    around = (max(part.count - half, 0.0), part.count + half) if half > 0 else None
    excess = (part.count - null - half, part.count - null + half) if half > 0 else None
    how = how if half > 0 else "no interval: no PIE in any half of the populations"
    middle = np.quantile(part.null_counts, [0.025, 0.975])
    tests = "exact test of the votes for the modal label of both populations together, "
    tests += "Fisher's" if part.exchange.kind == "free" else "McNemar's over pairs"
    significant = int((np.nan_to_num(part.q, nan=1.0) <= 0.05).sum())
    confirmed = int((part.is_pie & (np.nan_to_num(part.q, nan=1.0) <= 0.05)).sum())
    return [
        claim("pie_count", part.count, around, f"examples whose modal labels differ, {_TIES[tie]}; {how}"),
        claim(
            "pie_count_null",
            null,
            (float(middle[0]), float(middle[1])),
            f"mean number of PIEs with {by_chance}; the middle 95 % of the rearrangements",
        ),
        claim("pie_excess", part.count - null, excess, f"pie_count minus pie_count_null; {how}"),
        claim("pie_count_p", part.count_p, None, f"permutation test of pie_count: {by_chance}; one-sided", "p"),
        claim("pie_confirmed", confirmed, None, f"PIEs with q <= 0.05 (Benjamini-Hochberg); {tests}"),
        claim(
            "shifted_examples", significant, None, f"examples with q <= 0.05 (Benjamini-Hochberg), PIE or not; {tests}"
        ),
    ]


def _accuracy_claims(part: Part, accuracy: pd.DataFrame) -> list[Claim]:
    scheme, claims = part.comparison.scheme, []
    words = {
        "all": "all test examples",
        "pie": "PIEs",
        "non_pie": "examples that are not PIEs",
        "pie_null": "PIEs of rearranged models, weighted by how often they are PIEs",
    }
    for row in accuracy.to_dict("records"):
        if row["scheme"] != scheme:
            continue
        known = np.isfinite(row["low"]) and row["high"] > row["low"]
        k, reference = row["k"], part.comparison.reference_label
        method = f"mean top-{k} accuracy of the {reference} models on {words[row['subset']]}; "
        claims.append(
            Claim(
                f"accuracy_{row['subset']}" if k == 1 else f"top{k}_accuracy_{row['subset']}",
                scheme,
                row["accuracy"],
                row["low"] if known else None,
                row["high"] if known else None,
                row["trials"],
                "trial",
                method + ("t interval over trials" if known else "no interval: no spread between trials"),
                "hooker2019what, table 6",
                "share",
            )
        )
    return claims


def _noise_claims(noise: ReferenceNoise, reference: str, num_trials: int) -> list[Claim]:
    halves = f"mean PIE count between disjoint halves of the {reference} models, which have half as many models and "
    halves += "so more PIEs than the whole population; no interval: halves share models"
    claims = [
        Claim(
            "pie_count_halves", reference, noise.counts[-1], None, None, 2 * noise.sizes[-1], "trial", halves, _SOURCE
        )
    ]
    if noise.extrapolated is not None:
        law = f"PIE count expected between two populations of {reference} models of the full size, extrapolated from "
        law += "disjoint parts by a power law; no interval: an extrapolation"
        claims.append(
            Claim("pie_count_seeds", reference, noise.extrapolated, None, None, num_trials, "trial", law, _SOURCE)
        )
    return claims


def _scheme_row(part: Part) -> dict[str, Any]:
    half, _ = _interval(part)
    low, high = np.quantile(part.null_counts, [0.025, 0.975])
    tested = ~np.isnan(part.q)
    return {
        "scheme": part.comparison.scheme,
        "reference_models": part.comparison.num_first,
        "compressed_models": part.comparison.num_second,
        "examples": len(part.is_pie),
        "pie_count": part.count,
        "pie_low": max(part.count - half, 0.0) if half > 0 else np.nan,
        "pie_high": part.count + half if half > 0 else np.nan,
        "null": part.exchange.kind,
        "null_mean": part.null_mean,
        "null_low": float(low),
        "null_high": float(high),
        "excess": part.count - part.null_mean,
        "p": part.count_p,
        "pie_share": float(part.is_pie.mean()),
        "testable_examples": int(tested.sum()),
        "shifted_examples": int((part.q[tested] <= 0.05).sum()),
        "confirmed_pies": int((part.is_pie[tested] & (part.q[tested] <= 0.05)).sum()),
    }


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _caveats(parts: list[Part], has_labels: bool) -> tuple[str, ...]:
    caveats = [
        "The fewer models, the more modal labels differ by chance alone: compare a PIE count with its count by chance, "
        "never with that of a population of another size.",
        "PIEs are picked for being undecided between models, so low accuracy on them is expected also of PIEs that "
        "chance makes; accuracy on those stands beside it.",
    ]
    if any(part.exchange.kind == "paired" for part in parts):
        caveats.append(
            "Where models are exchanged within pairs, the null says that compression changes each model "
            "without a common direction: it asks what is forgotten systematically, not whether anything changes."
        )
    caveats.append(
        "A change that all models share also makes many PIEs when models are rearranged, so the excess counts it in "
        "part only; the number of confirmed PIEs, from tests of single examples, counts it in full."
    )
    if none := [part.comparison.scheme for part in parts if not part.count]:
        caveats.append(f"No PIE: {', '.join(none)}. Accuracy on PIEs is undefined there and left out.")
    if not parts[0].comparison.has_logits:
        caveats.append(
            "The population has no `logits`: ties go to the lowest or highest class, and accuracy is top-1 only."
        )
    if not has_labels:
        caveats.append("The population has no `label`: PIEs need none, but accuracy on them does and is left out.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Number of PIEs of each scheme, with its interval, over the range that chance alone gives."""
    table = finding.tables["schemes"]
    axes = scheme_rows(table["scheme"], xlabel="test examples whose modal label changes")
    rows = np.arange(len(table))
    width = table["null_high"] - table["null_low"]
    axes.barh(rows, width, left=table["null_low"], height=0.62, color="#bbbbbb", label="by chance (middle 95 %)")
    axes.plot(table["null_mean"], rows, linestyle="none", marker="|", markersize=16, color="#777777")
    count = table["pie_count"].to_numpy(float)
    reach = np.nan_to_num([count - table["pie_low"], table["pie_high"] - count])
    axes.errorbar(count, rows, xerr=reach, fmt="o", color=SERIES[1], capsize=3, label="PIEs (95 % interval)")
    axes.set_xlim(left=0)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="exemplars",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=(
        "hooker2019what",
        "phipson2010permutation",
        "benjamini1995controlling",
        "fisher1935design",
        "mcnemar1947note",
    ),
    pace=1,
)
