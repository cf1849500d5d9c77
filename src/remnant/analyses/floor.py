"""How much the reference differs from itself when it is run again: the least that any comparison can show."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.comparison import Comparison, comparisons, mean_claim
from remnant.analyses.floor_measures import KL, Floor, Sums, measure
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.registry import unknown
from remnant.stats.equivalence import normal_quantile
from remnant.stats.rates import wilson

QUESTION = "How much does the reference differ from itself when it is run again?"
_KINDS = {
    "cie": "share of examples on which two runs of the reference predict different classes",
    "cie_u": "share of examples on which the first run of the reference is right and the second wrong",
    "cie_c": "share of examples on which the second run of the reference is right and the first wrong",
    "cie_w": "share of examples on which two runs of the reference are wrong in different ways",
}
_NAMES = {
    "cie": "another answer",
    "cie_u": "right to wrong",
    "cie_c": "wrong to right",
    "cie_w": "wrong to another wrong",
}


def run(population: xr.Dataset, *, reference: str | None = None, floor: str | None = None) -> Finding:
    """Flips and KL divergence between two runs of the reference, and the excess of each compressed side over them.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    floor
        Label of the side that is the reference run again; default `population.attrs["floor"]`.

    Raises
    ------
    ValueError
        If `floor` is not a side.
    NotApplicable
        If no side is said to be the reference run again.
    SchemaError
        If there are several reference models, and other numbers of models in another side.
    """
    label = population.attrs.get("floor") if floor is None else floor
    if label is None:
        raise NotApplicable(
            "No side is said to be the reference run again; run the reference twice on the same examples and give the "
            "second outputs as the `floor`."
        )
    every = {side.scheme: side for side in comparisons(population, reference, pairs=True)}
    if label not in every:
        raise unknown("floor", label, every)
    own = every.pop(label)
    found = measure(own, list(every.values()))
    excess = pd.DataFrame([row for scheme, sums in found.sums.items() for row in _excess_rows(found, scheme, sums)])
    tables = {"floor": _floor_table(found), "excess": excess}
    return Finding(
        analysis="floor",
        question=QUESTION,
        parameters={"reference": own.reference_label, "floor": label},
        claims=(
            *_floor_claims(found),
            *(c for scheme, sums in found.sums.items() for c in _excess_claims(found, scheme, sums)),
        ),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(found, _same_files(population, own)),
        cites=ANALYSIS.cites,
    )


def _floor_claims(found: Floor) -> list[Claim]:
    subject, n = found.side.reference_label, found.num_examples
    claims = []
    for kind, counts in found.counts.items():
        if len(counts) > 1:
            method = f"{_KINDS[kind]}, mean over further runs"
            claims.append(mean_claim(f"floor_{kind}_rate", subject, counts / n, "pair", method=method))
            continue
        low, high = (float(end) for end in wilson(counts[0], n))
        method = f"{_KINDS[kind]}; Wilson interval over examples"
        share = float(counts[0] / n)
        quantity = f"floor_{kind}_rate"
        claims.append(Claim(quantity, subject, share, low, high, n, "example", method, "wilson1927probable", "share"))
    if found.kl is not None:
        mean, reach = float(found.kl.mean()), _kl_reach(found)
        method = "KL(first run || second run) of the softmax probabilities in nats, mean over examples; "
        method += "no interval: one example" if reach is None else "normal interval over examples"
        low, high = (None, None) if reach is None else (max(mean - reach, 0.0), mean + reach)
        cite = "kullback1951information"
        claims.append(Claim("floor_kl_mean", subject, mean, low, high, n, "example", method, cite, "number"))
    return claims


def _kl_reach(found: Floor) -> float | None:
    n = found.num_examples
    if found.kl is None or n < 2:
        return None
    variance = max(found.kl_squares - n * float(found.kl.mean()) ** 2, 0.0) / (n * (n - 1))
    return normal_quantile(0.95) * variance**0.5


def _single(found: Floor, sums: Sums, name: str) -> bool:
    """Whether the values of the examples are 0 or 1: flips of one pair on either side."""
    return name != KL and len(found.side.pairs) == 1 and sums.squares == sums.only_compressed + sums.only_floor


def _excess_claims(found: Floor, scheme: str, sums: dict[str, Sums]) -> list[Claim]:
    claims = []
    for name, own in sums.items():
        ends = own.interval(flags=_single(found, own, name))
        low, high = (None, None) if ends is None else ends
        what = "mean KL divergence in nats" if name == KL else f"{name}_rate"
        how = "no interval: one example" if ends is None else "interval over the same examples"
        claims.append(
            Claim(
                f"excess_{name}_{'mean' if name == KL else 'rate'}",
                scheme,
                own.excess,
                low,
                high,
                own.num_examples,
                "example",
                f"{what} of the compressed side minus that of the reference run again; {how}",
                "" if name == KL else "tango1998equivalence",
                "number" if name == KL else "points",
            )
        )
    return claims


def _floor_table(found: Floor) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    n = found.num_examples
    for kind, counts in found.counts.items():
        low, high = wilson(counts.mean(), n)
        row = {
            "flip": _NAMES[kind],
            "measure": f"{kind}_rate",
            "flipped_examples": float(counts.mean()),
            "rate": float(counts.mean() / n),
        }
        rows.append({**row, "low": float(low), "high": float(high), "runs": len(counts) + 1, "examples": n})
    table = pd.DataFrame(rows)
    if found.kl is not None:
        table["kl_mean_nats"] = float(found.kl.mean())
    return table


def _excess_rows(found: Floor, scheme: str, sums: dict[str, Sums]) -> list[dict[str, Any]]:
    rows = []
    for name, own in sums.items():
        scale = 1 if name == KL else 100
        ends = own.interval(flags=_single(found, own, name)) or (np.nan, np.nan)
        rows.append(
            {
                "scheme": scheme,
                "measure": "KL (nats)" if name == KL else f"{_NAMES[name]} (points)",
                "compressed": scale * own.compressed / own.num_examples,
                "floor": scale * own.floor / own.num_examples,
                "excess": scale * own.excess,
                "excess_low": scale * ends[0],
                "excess_high": scale * ends[1],
                "examples": own.num_examples,
            }
        )
    return rows


def _same_files(population: xr.Dataset, own: Comparison) -> bool:
    """Whether a file of the reference was given as its other run."""
    hashes: dict[str, set[str]] = {own.reference_label: set(), own.scheme: set()}
    for item in population.attrs.get("inputs") or []:
        if item.get("side") in hashes and item.get("sha256"):
            hashes[item["side"]].add(item["sha256"])
    return bool(hashes[own.reference_label] & hashes[own.scheme])


def _caveats(found: Floor, same_files: bool) -> tuple[str, ...]:
    if same_files:
        return ("The reference and its other run are the same file, so that this says nothing: run the model again.",)
    caveats = []
    if found.deterministic:
        what = "answers and the same probabilities" if found.kl is not None else "answers"
        caveats.append(
            f"The reference is deterministic: its runs gave the same {what} on all examples, so that every flip of a "
            "compressed side is its own."
        )
    elif not found.counts["cie"].any():
        caveats.append("The runs of the reference gave the same answers on all examples, from slightly other outputs.")
    caveats.append(
        "This is the noise between these runs alone (threads, kernels, batches), on the machines they ran on. Another "
        "seed of training, or another calibration set, differs by more."
    )
    if len(found.side.pairs) == 1:
        caveats.append("Two runs are one draw of that noise: intervals are over examples, not over runs.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Share of examples that flip under each compressed side, beside those that flip when the reference runs again."""
    floor = finding.tables["floor"]
    share = 100 * float(floor.loc[floor["measure"] == "cie_rate", "rate"].iloc[0])
    names, values = [finding.parameters["floor"]], [share]
    if "excess" in finding.tables:
        table: Any = finding.tables["excess"]
        own = table[table["measure"] == "another answer (points)"]
        names += own["scheme"].tolist()
        values += own["compressed"].tolist()
    axes = scheme_rows(names, xlabel="share of test examples that change (%)")
    axes.barh(range(len(names)), values, height=0.62, color=[SERIES[5], *[SERIES[1]] * (len(names) - 1)])
    axes.axvline(share, color="#777777", linestyle="--", label="the reference run again")
    axes.set_xlim(left=0)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="floor",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=("wilson1927probable", "tango1998equivalence"),
)
