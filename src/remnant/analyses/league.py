"""Many compressed sides against one reference: which harms least, and at what size and speed."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.comparison import class_names, stream
from remnant.analyses.equivalence_measures import Change
from remnant.analyses.league_measures import Contest, Cost, Harm, contest, kl_means, latencies, on_front, sizes
from remnant.analyses.league_plot import MOST_NAMED, named, pareto
from remnant.analyses.panels import panels, scheme_rows
from remnant.analyses.slice_columns import Slicing
from remnant.analyses.slice_measures import Slices, count, examine
from remnant.finding import Analysis, Claim, Finding
from remnant.stats.paired_bootstrap import percentile_interval
from remnant.stats.ranking import best_probability, rank_intervals, ranks, smaller_probability
from remnant.stats.rates import wilson
from remnant.stats.trial_intervals import mean_interval

QUESTION = "Which of the compressed models harms least, and what does it cost?"
_WORDS: dict[Harm, str] = {
    "harmful": "share of examples on which only the reference is right",
    "net": "fall of accuracy",
}


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    by: Harm = "harmful",
    num_resamples: int = 2000,
    least_examples: int = 20,
    least_sides: int = 2,
    seed: int = 0,
) -> Finding:
    """Compressed sides in order of the harm they do, with bootstrap probabilities of that order, sizes and latencies.

    Ratios are reference over side: 2 = half the size, twice as fast.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    by
        What is called harm: "harmful", the share of right answers lost; "net", the fall of accuracy.
    num_resamples
        Bootstrap samples of the examples, and of the models where a side has several.
    least_examples
        Classes with fewer examples cannot be the worst class.
    least_sides
        Compressed sides that are needed; with one there is a table but no order.
    seed
        Of the bootstrap.

    Raises
    ------
    ValueError
        If `by` is unknown.
    NotApplicable
        If there is no reference, or fewer compressed sides than `least_sides`.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    sides = compressed_sides(population, reference, least=least_sides)
    found = contest(sides, by, num_resamples, stream(seed, "league"))
    size, latency = sizes(sides), latencies(sides)
    table = _scheme_table(found, size, latency, _worst_classes(found, population, least_examples))
    tables = {"schemes": table, "pairwise": _pairwise_table(found), "reference": _reference_table(found, size, latency)}
    return Finding(
        analysis="league",
        question=QUESTION,
        parameters={
            "reference": sides[0].reference_label,
            "by": by,
            "num_resamples": num_resamples,
            "least_examples": least_examples,
            "least_sides": least_sides,
            "seed": seed,
        },
        claims=_claims(found, by, size, latency),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(found, by, size, latency),
        cites=ANALYSIS.cites,
    )


def _worst_classes(found: Contest, population: xr.Dataset, least_examples: int) -> list[Slices]:
    classes = Slicing("class", "class", tuple(class_names(population)), population["label"].values)
    return [examine([classes], count(side, [classes]), least_examples) for side in found.sides]


def _scheme_table(found: Contest, size: Cost, latency: Cost, classes: list[Slices]) -> pd.DataFrame:
    rows = []
    for side, change, slices in zip(found.sides, found.changes, classes, strict=True):
        harmful = float(change.lost.mean() / change.num_examples)
        low, high = _harmful_interval(change)
        net_low, net_high = change.interval(0.95)
        worst = slices.worst
        row = {"scheme": side.scheme, "harmful_flip_rate": harmful, "harmful_low": low, "harmful_high": high}
        row |= {"net_change_points": 100 * change.estimate, "net_low": 100 * net_low, "net_high": 100 * net_high}
        row["worst_class"] = None if worst is None else slices.name(worst)
        row["worst_class_net_change_points"] = np.nan if worst is None else 100 * float(slices.net[worst])
        rows.append({**row, "kl_mean_nats": kl_means(side)})
    table = pd.DataFrame(rows)
    if len(rows) > 1:
        for place, (name, values) in enumerate(_standing(found).items()):
            table.insert(1 + place, name, values)
    costs = (("size", "bytes", size, 1.0), ("latency", "microseconds", latency, 1e6))
    for name, unit, cost, scale in costs:
        table[f"{name}_{unit}"] = scale * cost.sides
        table[f"{name}_ratio"] = cost.ratio
    for name, _, cost, _ in costs:
        if cost.known:
            table[f"on_{name}_front"] = on_front(cost, found.harm[None])[0]
            table[f"on_{name}_front_probability"] = on_front(cost, found.resampled).mean(axis=0)
    table["pairs"] = [len(side.pairs) for side in found.sides]
    return table.dropna(axis="columns", how="all").sort_values(
        "rank" if len(rows) > 1 else "scheme", kind="stable", ignore_index=True
    )


def _harmful_interval(change: Change) -> tuple[float, float]:
    """Wilson's over examples with one pair, else Student's over pairs."""
    if change.num_pairs == 1:
        low, high = wilson(change.lost[0], change.num_examples)
        return float(low), float(high)
    found = mean_interval(change.lost / change.num_examples)
    return max(float(found.low), 0.0), min(float(found.high), 1.0)


def _standing(found: Contest) -> dict[str, NDArray]:
    """Place of each side in the order of harm, the places that it may hold, and how often it is first."""
    low, high = rank_intervals(found.harm, found.resampled)
    best = best_probability(found.resampled)
    return {"rank": ranks(found.harm), "rank_low": low, "rank_high": high, "best_probability": best}


def _pairwise_table(found: Contest) -> pd.DataFrame:
    """One row for each ordered pair of sides: how probable it is that the first harms less."""
    smaller = smaller_probability(found.resampled)
    rows = []
    for a, first in enumerate(found.sides):
        for b, second in enumerate(found.sides):
            if a == b:
                continue
            low, high = percentile_interval(found.resampled[:, a] - found.resampled[:, b])
            row = {"scheme": first.scheme, "other_scheme": second.scheme, "harms_less_probability": smaller[a, b]}
            row |= {"harm_difference_points": 100 * float(found.harm[a] - found.harm[b])}
            rows.append({**row, "difference_low": 100 * low, "difference_high": 100 * high})
    return pd.DataFrame(rows)


def _reference_table(found: Contest, size: Cost, latency: Cost) -> pd.DataFrame:
    row: dict[str, Any] = {"scheme": found.sides[0].reference_label}
    row |= {"size_bytes": size.reference} if np.isfinite(size.reference) else {}
    row |= {"latency_microseconds": 1e6 * latency.reference} if np.isfinite(latency.reference) else {}
    return pd.DataFrame([row])


def _claims(found: Contest, by: Harm, size: Cost, latency: Cost) -> tuple[Claim, ...]:
    claims = []
    for place, side in enumerate(found.sides):
        costs = [
            ("size_bytes", size.sides[place], "size in bytes", "count"),
            ("size_ratio", size.ratio[place], "bytes of the reference over bytes of the compressed model", "number"),
            (
                "latency_ratio",
                latency.ratio[place],
                "seconds for one example of the reference over those of the compressed model: above 1 is faster",
                "number",
            ),
        ]
        n = len(side.pairs)
        claims += [
            Claim(
                name,
                side.scheme,
                float(value),
                None,
                None,
                n,
                "trial",
                f"{what}, mean over models; no interval",
                "",
                scale,
            )
            for name, value, what, scale in costs
            if np.isfinite(value)
        ]
    if len(found.sides) < 2:
        return tuple(claims)
    return (*claims, *_order_claims(found, by))


def _order_claims(found: Contest, by: Harm) -> list[Claim]:
    standing = _standing(found)
    over = "examples" if max(len(side.pairs) for side in found.sides) == 1 else "examples and models"
    share = f"share of bootstrap samples of {over} in which it harms least ({_WORDS[by]}); no interval"
    place = (
        f"place in the order of harm ({_WORDS[by]}), 1 the least; interval: places that it may hold by simultaneous "
    )
    place += f"comparisons with all others, bootstrap over {over}"
    claims = []
    for k, change in enumerate(found.changes):
        n, scheme = change.num_examples, change.scheme
        best, rank = float(standing["best_probability"][k]), float(standing["rank"][k])
        low, high = float(standing["rank_low"][k]), float(standing["rank_high"][k])
        source = "mogstad2024inference"
        claims += [
            Claim("probability_best", scheme, best, None, None, n, "example", share, "efron1998problem", "share"),
            Claim("rank", scheme, rank, low, high, n, "example", place, source),
        ]
    return claims


def _caveats(found: Contest, by: Harm, size: Cost, latency: Cost) -> tuple[str, ...]:
    caveats = [f"Sides are in order of harm: {_WORDS[by]}. Another measure may order them differently."]
    if len(found.sides) > 1:
        caveats.append(
            "A probability near 0.5 says that the examples cannot tell the two apart. It is no p-value: of two methods "
            "that are equally good it can be anything."
        )
    if any(len(side.pairs) == 1 for side in found.sides):
        caveats.append(
            "With one model a side, the order is that of these models on other examples of the same kind. Another seed "
            "or calibration set can change the order of methods."
        )
    if not size.known:
        caveats.append("Sizes are not known, so that harm cannot be held against them.")
    if latency.known:
        caveats.append("Latencies are those of the machine they were measured on.")
    if size.known or latency.known:
        caveats.append(
            "On the front is what no other side and not the reference beats in one of cost and harm without losing in "
            "the other; its probability is the share of bootstrap samples in which that holds."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Harm against size and against latency, or the order of harm where neither is known."""
    table: Any = finding.tables["schemes"]
    costs = [name for name in ("size_bytes", "latency_microseconds") if name in table]
    net = finding.parameters["by"] == "net"
    harm = -table["net_change_points"] if net else 100 * table["harmful_flip_rate"]
    low = -table["net_high"] if net else 100 * table["harmful_low"]
    high = -table["net_low"] if net else 100 * table["harmful_high"]
    reach = np.maximum(np.stack([harm - low, high - harm]), 0)
    label = "fall of accuracy (points)" if net else "right answers lost (% of examples)"
    if not costs:
        axes = scheme_rows(table["scheme"], xlabel=label, height=0.4)
        axes.errorbar(harm, np.arange(len(table)), xerr=reach, fmt="o", color="#2f6690", capsize=3)
        return axes
    axes = panels(*[3.4] * len(costs))
    for axis, name in zip(axes, costs, strict=True):
        _drawn(axis, finding, name, harm.to_numpy(float), reach)
        axis.set_ylabel(label)
    return axes[0]


def _drawn(axis: Any, finding: Finding, name: str, harm: NDArray[np.float64], reach: NDArray[np.float64]) -> None:
    table: Any = finding.tables["schemes"]
    base: Any = finding.tables["reference"]
    is_size = name == "size_bytes"
    scale = 1e-6 if is_size else 1.0
    cost = np.append(table[name].to_numpy(float), float(base[name].iloc[0]) if name in base else np.nan) * scale
    front = np.append(table["on_size_front" if is_size else "on_latency_front"].to_numpy(bool), np.isfinite(cost[-1]))
    values = np.append(harm, 0.0)
    shown = np.flatnonzero(np.isfinite(cost[:-1]))
    pareto(axis, cost[[*shown, -1]], values[[*shown, -1]], front[[*shown, -1]], reach=reach[:, shown])
    axis.set_xlabel("size (MB)" if is_size else "latency (µs for one example)")
    labels = [*table["scheme"].tolist(), str(base["scheme"].iloc[0])]
    wanted = [i for i in np.flatnonzero(np.isfinite(cost)) if front[i] or len(table) <= MOST_NAMED]
    order = sorted(wanted, key=lambda i: not front[i])
    named(axis, cost[order], values[order], [labels[i] for i in order])


ANALYSIS = Analysis(
    name="league",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=("efron1998problem", "mogstad2024inference", "wilson1927probable"),
)
