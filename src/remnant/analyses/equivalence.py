"""Whether a compressed model is as accurate as its reference, within a stated margin."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.answer_pairs import compressed_sides, points
from remnant.analyses.comparison import stream
from remnant.analyses.equivalence_measures import Bootstrap, Change, Span, bootstrap, measure, verdict
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Finding
from remnant.population import reference_of
from remnant.stats import equivalence
from remnant.stats.paired import mcnemar_exact
from remnant.stats.trial_intervals import mean_interval

QUESTION = "Is the compressed model as accurate as the reference, within a stated margin?"
_USUAL_MARGINS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05)


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    margin: float = 0.01,
    power: float = 0.8,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Finding:
    """Change of accuracy of each compressed side, and whether it is shown to lie within the margin.

    With one pair of models, tests and intervals are over examples; with several, over pairs and examples.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    margin
        Largest difference of accuracies, as a share, that counts as none. To be chosen before looking.
    power
        Of the test, for the number of examples that it would need.
    num_resamples
        Bootstrap samples of the examples.
    seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        If `margin` or `power` is not in (0, 1).
    NotApplicable
        If there is no reference or no compressed side.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    equivalence.checked_margin(margin)
    sides = compressed_sides(population, reference)
    changes = [measure(side) for side in sides]
    resampled = [bootstrap(c, num_resamples, stream(seed, "equivalence", c.scheme)) for c in changes]
    tables = {
        "schemes": pd.DataFrame([_scheme_row(change, margin, power) for change in changes]),
        "pairs": pd.concat([_pair_table(change, margin) for change in changes], ignore_index=True),
        "intervals": pd.DataFrame(
            [row for c, b in zip(changes, resampled, strict=True) for row in _interval_rows(c, b, margin)]
        ),
        "power": pd.DataFrame([row for change in changes for row in _power_rows(change, margin, power)]),
    }
    label = reference_of(population) if reference is None else reference
    return Finding(
        analysis="equivalence",
        question=QUESTION,
        parameters={
            "reference": label,
            "margin": margin,
            "power": power,
            "num_resamples": num_resamples,
            "seed": seed,
        },
        claims=tuple(
            claim
            for c, b in zip(changes, resampled, strict=True)
            for claim in _claims(c, b, margin=margin, power=power)
        ),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(changes, margin),
        cites=ANALYSIS.cites,
    )


def _claims(change: Change, resampled: Bootstrap, *, margin: float, power: float) -> list[Claim]:
    one = change.two_way is None
    n, unit = (change.num_examples, "example") if change.num_pairs == 1 else (change.num_pairs, "pair")
    how = "Tango's score test over examples" if one else "t test over pairs and examples"
    cite = "tango1998equivalence" if one else "cameron2011robust"
    noninferiority, either = change.smallest_margins()
    best = f"{how} at 5 %; no interval: a bound"
    low, high = resampled.bca
    mean = "" if change.num_pairs == 1 else ", mean over pairs"

    def claim(quantity: str, value: float, method: str, scale: str) -> Claim:
        return Claim(quantity, change.scheme, value, None, None, n, unit, method, cite, scale)

    claims = [
        claim("equivalence_margin", margin, "stated, not estimated; no interval", "points"),
        claim("tost_p", change.tost_p(margin), f"two one-sided tests at the stated margin: {how}", "p"),
        claim("noninferiority_p", change.noninferiority_p(margin), f"one-sided test at the stated margin: {how}", "p"),
        claim(
            "smallest_equivalence_margin", either, f"smallest margin at which equivalence is shown: {best}", "points"
        ),
        claim(
            "smallest_noninferiority_margin",
            noninferiority,
            f"smallest fall of accuracy that is ruled out: {best}",
            "points",
        ),
        Claim(
            "net_accuracy_change_bootstrap",
            change.scheme,
            change.estimate,
            low,
            high,
            change.num_examples,
            "example",
            f"accuracy of the compressed model minus that of the reference{mean}; bootstrap (BCa) over examples",
            "efron1987better",
            "points",
        ),
    ]
    needed = _examples_needed(change, margin, power)
    if needed is not None:
        method = f"examples with which equivalence is shown with probability {power:g}, were accuracies the same and "
        method += "as many answers to differ; no interval: a plan"
        claims.append(claim("equivalence_examples_needed", needed, method, "count"))
    return claims


def _examples_needed(change: Change, margin: float, power: float) -> float | None:
    """Where examples are what the test is over."""
    if change.num_pairs > 1:
        return None
    return equivalence.examples_needed(change.discordance, margin, power=power)


def _scheme_row(change: Change, margin: float, power: float) -> dict[str, Any]:
    low, high = change.interval(0.95)
    noninferiority, either = change.smallest_margins()
    single = change.num_pairs == 1
    row: dict[str, Any] = {"scheme": change.scheme, "verdict": verdict(change, margin)}
    row |= {"net_change_points": 100 * change.estimate, "net_low": 100 * low, "net_high": 100 * high}
    row |= {"interval_over": "examples" if single else "pairs and examples", "margin_points": 100 * margin}
    row |= {"tost_p": change.tost_p(margin), "noninferiority_p": change.noninferiority_p(margin)}
    row |= {"smallest_equivalence_margin_points": 100 * either}
    row |= {"smallest_noninferiority_margin_points": 100 * noninferiority}
    row |= {"lost_examples": float(change.lost.mean()), "gained_examples": float(change.gained.mean())}
    row["mcnemar_p"] = float(mcnemar_exact(change.lost[0], change.gained[0])) if single else np.nan
    row |= {"pairs": change.num_pairs, "examples": change.num_examples}
    needed = _examples_needed(change, margin, power)
    row["examples_needed"] = np.nan if needed is None else needed
    return row


def _pair_table(change: Change, margin: float) -> pd.DataFrame:
    n, lost, gained = change.num_examples, change.lost, change.gained
    low, high = equivalence.tango_interval(lost, gained, n)
    noninferiority, either = equivalence.smallest_margins(*equivalence.tango_interval(lost, gained, n, level=0.9))
    columns: dict[str, Any] = {
        "scheme": change.scheme,
        "trial": list(change.trials),
        "examples": n,
        "lost_examples": lost,
        "gained_examples": gained,
        "net_change_points": 100 * (gained - lost) / n,
        "net_low": 100 * low,
        "net_high": 100 * high,
        "mcnemar_p": mcnemar_exact(lost, gained),
        "tost_p": equivalence.tost_p(lost, gained, n, margin),
        "smallest_equivalence_margin_points": 100 * either,
        "smallest_noninferiority_margin_points": 100 * noninferiority,
    }
    return pd.DataFrame(columns)


def _interval_rows(change: Change, resampled: Bootstrap, margin: float) -> list[dict[str, Any]]:
    """The interval by each method: where they differ, few examples carry the answer."""
    found: list[tuple[str, Span, float]] = []
    n, lost, gained = change.num_examples, change.lost[0], change.gained[0]
    if change.num_pairs == 1:
        found.append(("score, over examples (Tango)", change.interval(0.95), change.tost_p(margin)))
        found.append(("from Wilson intervals, over examples (Newcombe)", change.newcombe(), np.nan))
        if n > 1:
            low, high = equivalence.wald_interval(lost, gained, n)
            p = float(equivalence.wald_tost_p(lost, gained, n, margin))
            found.append(("normal, over examples (Wald)", (float(low), float(high)), p))
    else:
        found.append(("t, over pairs and examples", change.interval(0.95), change.tost_p(margin)))
        over_pairs = mean_interval((change.gained - change.lost) / n)
        found.append(("t, over pairs", (float(over_pairs.low), float(over_pairs.high)), np.nan))
    found.append(("bootstrap over examples, percentile", resampled.percentile, np.nan))
    found.append(("bootstrap over examples, BCa", resampled.bca, np.nan))
    first = {"scheme": change.scheme}
    return [
        {
            **first,
            "interval": name,
            "net_change_points": 100 * change.estimate,
            "net_low": 100 * low,
            "net_high": 100 * high,
            "tost_p": p,
        }
        for name, (low, high), p in found
    ]


def _power_rows(change: Change, margin: float, power: float) -> list[dict[str, Any]]:
    if change.num_pairs > 1:
        return []
    rows = []
    for tried in sorted({*_USUAL_MARGINS, margin}):
        alike = equivalence.examples_needed(change.discordance, tried, power=power)
        as_seen = equivalence.examples_needed(change.discordance, tried, change=change.estimate, power=power)
        row: dict[str, Any] = {"scheme": change.scheme, "margin_points": 100 * tried, "examples": change.num_examples}
        row |= {"examples_needed_without_change": alike, "examples_needed_with_the_observed_change": as_seen}
        rows.append(row)
    return rows


def _caveats(changes: Sequence[Change], margin: float) -> tuple[str, ...]:
    caveats = [
        f"The margin of {points(margin)} must be chosen before looking at the results; the smallest margin at which "
        "equivalence would have been shown is a description, not a test.",
        "No significant difference (McNemar) is not equivalence: with few examples nothing is significant.",
        "Equal accuracy does not mean equal answers: examples lost and gained cancel out. See the flips.",
    ]
    if any(change.num_pairs == 1 for change in changes):
        caveats.append(
            "With one model a side, the tests are about these two models on other examples of the same kind, not about "
            "the method with another seed or calibration set."
        )
    if any(change.num_pairs > 1 for change in changes):
        caveats.append("With several models a side, the tests allow for other seeds and for other examples.")
    if len(changes) > 1:
        caveats.append("Each verdict holds at 5 % for itself; they are not corrected for the number of methods.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Change of accuracy of each compressed side, with 95 % interval, against the margin."""
    table: Any = finding.tables["schemes"]
    margin = float(table["margin_points"].iloc[0])
    axes = scheme_rows(table["scheme"], xlabel="change of accuracy (points), 95 % interval", height=0.42)
    axes.axvspan(-margin, margin, color="#7f7f7f", alpha=0.16, linewidth=0, label="within the margin")
    axes.axvline(0, color="#7f7f7f", linewidth=0.8)
    names = {"equi": 2, "not ": 5, "wors": 1, "bett": 0}
    for row, item in enumerate(table.to_dict(orient="records")):
        value = item["net_change_points"]
        reach = [[value - item["net_low"]], [item["net_high"] - value]]
        colour = SERIES[names[item["verdict"][:4]]]
        axes.errorbar(value, row, xerr=reach, fmt="o", color=colour, capsize=3)
    legend_above(axes, columns=1)
    return axes


ANALYSIS = Analysis(
    name="equivalence",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=(
        "tango1998equivalence",
        "schuirmann1987comparison",
        "mcnemar1947note",
        "newcombe1998improved",
        "efron1987better",
        "lu1995sample",
    ),
)
