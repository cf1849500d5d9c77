"""On which examples a compressed model answers differently, and whom that helps or harms."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Null, class_names, comparisons, mean_claim
from remnant.analyses.mismatch_measures import (
    KL_STATISTICS,
    Noise,
    Part,
    measure,
    noise_between_seeds,
    off_diagonal,
    over_pairs,
)
from remnant.analyses.mismatch_tables import flip_gallery, group_table, pair_table
from remnant.analyses.panels import SERIES, panels, short
from remnant.finding import Analysis, Claim, Finding
from remnant.stats.rates import newcombe_paired, wilson
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import mean_interval

QUESTION = "On which examples does the compressed model answer differently, and is it right or wrong there?"
_KINDS = {
    "cie": "share of examples on which the two predict different classes",
    "cie_u": "share of examples on which the reference is right and the compressed model wrong",
    "cie_c": "share of examples on which the compressed model is right and the reference wrong",
    "cie_w": "share of examples on which both are wrong in different ways",
}
_SOURCE = "dam2023understanding, section 2"


def run(
    population: xr.Dataset,
    *,
    reference: str = "dense",
    null: Null = "auto",
    num_permutations: int = 1000,
    gallery: int = 24,
    seed: int = 0,
) -> Finding:
    """Mismatches of each compressed scheme with the reference, pair by pair (same seed) and over all pairs.

    Parameters
    ----------
    reference
        Label of the scheme to compare with.
    null
        What is exchangeable under the null; see `remnant.analyses.comparison.exchange`.
    num_permutations
        Random rearrangements for the test of the distance between the populations.
    gallery
        Most examples to show for each scheme.
    seed
        Of the random rearrangements.

    Raises
    ------
    NotApplicable
        If there is no reference or no compressed scheme.
    SchemaError
        If the seeds of a scheme are not those of the reference.
    """
    found = comparisons(population, reference, pairs=True)
    parts = [measure(c, null, num_permutations, seed) for c in found]
    noise = noise_between_seeds(found[0])
    names = class_names(population)
    tables = {
        "schemes": pd.DataFrame([_scheme_row(part, noise) for part in parts]),
        "pairs": pd.concat([pair_table(p.comparison, p.flags, p.kl) for p in parts], ignore_index=True),
        "classes": group_table([(p.comparison, p.flags) for p in parts], names),
        "groups": group_table([(p.comparison, p.flags) for p in parts], None),
    }
    return Finding(
        analysis="mismatches",
        question=QUESTION,
        parameters={
            "reference": reference,
            "null": null,
            "num_permutations": num_permutations,
            "gallery": gallery,
            "seed": seed,
        },
        claims=(*_noise_claims(noise, reference), *(claim for part in parts for claim in _claims(part, noise))),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, noise, reference),
        galleries={
            f"Right answers lost: {p.comparison.scheme}": shown
            for p in parts
            if (shown := flip_gallery(p.comparison, p.flags["cie_u"], names, gallery))
        },
        cites=ANALYSIS.cites,
    )


def _noise_claims(noise: Noise | None, reference: str) -> list[Claim]:
    if noise is None:
        return []
    claims = []
    for quantity, matrix, scale in (
        ("cie_rate_null", noise.cie, "share"),
        ("cie_u_rate_null", noise.cie_u, "share"),
        ("kl_mean_null", noise.kl, "number"),
    ):
        mean, low, high = over_pairs(matrix)
        method = f"mean over all pairs of {reference} models of different seeds; "
        method += "no interval: needs 3 models" if low is None else "jackknife interval over models"
        claims.append(Claim(quantity, reference, mean, low, high, len(matrix), "trial", method, _SOURCE, scale))
    return claims


def _claims(part: Part, noise: Noise | None) -> list[Claim]:
    scheme, flags = part.comparison.scheme, part.flags
    claims = [
        _share_claim(f"{kind}_rate", scheme, flags[kind], f"{meaning}, mean over pairs of the same seed")
        for kind, meaning in _KINDS.items()
    ]
    claims += [
        _share_claim("top1_agreement", scheme, ~flags["cie"], "share of examples with the same prediction"),
        _net_claim(part),
        _share_claim(
            "gross_accuracy_change",
            scheme,
            flags["cie_u"] | flags["cie_c"],
            "share of examples on which exactly one of the two is right",
        ),
    ]
    method = "KL(reference || compressed) of the softmax probabilities in nats, {} over examples, mean over pairs"
    for place, name in enumerate(KL_STATISTICS[:-1]):
        what = method.format("mean" if name == "mean" else f"percentile {name[1:]}")
        claims.append(mean_claim(f"kl_{name}", scheme, part.kl[:, place], "pair", method=what, scale="number"))
    largest = "KL(reference || compressed) in nats, largest over examples and pairs; no interval: a maximum"
    claims.append(
        Claim("kl_max", scheme, float(part.kl[:, -1].max()), None, None, part.num_pairs, "pair", largest, "", "number")
    )
    return [*claims, *_mcnemar_claims(part), *_population_claims(part, noise)]


def _share_claim(quantity: str, scheme: str, flags: NDArray[np.bool_], method: str) -> Claim:
    """A share of examples over pairs; over examples where there is one pair, or all have the same number."""
    counts = flags.sum(axis=1)
    num_examples = flags.shape[1]
    if np.ptp(counts) > 0:
        return mean_claim(quantity, scheme, counts / num_examples, "pair", method=method, citation=_SOURCE)
    low, high = wilson(counts[0], num_examples)
    return Claim(
        quantity,
        scheme,
        float(counts[0] / num_examples),
        float(low),
        float(high),
        num_examples,
        "example",
        f"{method}; Wilson interval over examples of one pair",
        _SOURCE,
        "share",
    )


def _net_claim(part: Part) -> Claim:
    method = "accuracy of the compressed model minus that of the reference, mean over pairs of the same seed"
    scheme, flags = part.comparison.scheme, part.flags
    if part.num_pairs > 1:
        return mean_claim("net_accuracy_change", scheme, part.net, "pair", method=method)
    label = part.comparison.reference["label"].values
    both = int(((part.comparison.first == label) & (part.comparison.second == label)).sum())
    gained, lost = int(flags["cie_c"].sum()), int(flags["cie_u"].sum())
    low, high = newcombe_paired(both, gained, lost, len(label) - both - gained - lost)
    return Claim(
        "net_accuracy_change",
        scheme,
        float(part.net[0]),
        float(low),
        float(high),
        len(label),
        "example",
        f"{method}; Newcombe's interval over examples of one pair",
        "newcombe1998improved, method 10",
        "share",
    )


def _mcnemar_claims(part: Part) -> list[Claim]:
    """The test of the pair, or in how many pairs it is significant; nothing where it is undefined."""
    p = pair_table(part.comparison, part.flags, part.kl)["mcnemar_p"].dropna().to_numpy()
    if not len(p):
        return []
    scheme = part.comparison.scheme
    if part.num_pairs == 1:
        num = int((part.flags["cie_u"] | part.flags["cie_c"]).sum())
        method = "exact McNemar test on the examples on which exactly one of the two is right"
        return [Claim("mcnemar_p", scheme, float(p[0]), None, None, num, "example", method, "mcnemar1947note", "p")]
    method = "pairs whose exact McNemar test has p <= 0.05; a count, without an interval"
    count = float((p <= 0.05).sum())
    return [Claim("mcnemar_significant_pairs", scheme, count, None, None, len(p), "pair", method, "mcnemar1947note")]


def _population_claims(part: Part, noise: Noise | None) -> list[Claim]:
    """The scheme against the noise of the seeds."""
    if noise is None or part.distance is None or part.distance_p is None:
        return []
    scheme, n = part.comparison.scheme, part.num_pairs
    own, every = part.flags["cie"].mean(axis=1), np.arange(part.num_pairs)

    def excess(kept: NDArray[np.intp]) -> float:
        return float(own[kept].mean()) - off_diagonal(noise.cie, kept)

    found = jackknife(excess, n) if n >= 3 else None
    low, high = (float(found.low), float(found.high)) if found else (None, None)
    method = "cie_rate minus cie_rate_null; "
    method += "jackknife interval over seeds" if found else "no interval: needs 3 pairs"
    distance = "mean over examples of the squared distance between the class frequencies of both populations (unbiased)"
    test = f"permutation test of the distance: {part.exchange.method}, {part.exchange.reason}"
    cite = "szekely2013energy"
    return [
        Claim("cie_excess", scheme, excess(every), low, high, n, "pair", method, _SOURCE, "share"),
        Claim(
            "prediction_distance",
            scheme,
            part.distance,
            None,
            None,
            n,
            "pair",
            f"{distance}; no interval, see its p",
            cite,
            "number",
        ),
        Claim("prediction_distance_p", scheme, part.distance_p, None, None, n, "pair", test, cite, "p"),
    ]


def _scheme_row(part: Part, noise: Noise | None) -> dict[str, Any]:
    row: dict[str, Any] = {"scheme": part.comparison.scheme, "pairs": part.num_pairs}
    for kind in _KINDS:
        mean = mean_interval(part.flags[kind].mean(axis=1))
        row |= {f"{kind}_rate": float(mean.estimate)}
        row |= {f"{kind}_rate_low": float(mean.low), f"{kind}_rate_high": float(mean.high)}
    net = mean_interval(part.net)
    row |= {"net_accuracy_change": float(net.estimate), "net_low": float(net.low), "net_high": float(net.high)}
    row |= {f"kl_{name}_nats": float(part.kl[:, i].mean()) for i, name in enumerate(KL_STATISTICS[:-1])}
    row["kl_max_nats"] = float(part.kl[:, -1].max())
    row["cie_rate_null"] = np.nan if noise is None else over_pairs(noise.cie)[0]
    row["prediction_distance"] = np.nan if part.distance is None else part.distance
    row["prediction_distance_p"] = np.nan if part.distance_p is None else part.distance_p
    return row


def _caveats(parts: list[Part], noise: Noise | None, reference: str) -> tuple[str, ...]:
    caveats = [
        "The test set is fixed: intervals over pairs say how results vary with the seed, not with other examples.",
        "McNemar's test asks whether two trained models differ in accuracy on examples like these; another seed of "
        "the same method can pass it too.",
    ]
    if noise is None:
        caveats.append(
            f"There is one {reference} model: nothing can be said on what another seed would change. Train more seeds."
        )
    else:
        caveats.append(
            f"Two {reference} models of different seeds disagree as well: a scheme that trains anew cannot be "
            "expected to mismatch less than they do."
        )
    same = [part.comparison.scheme for part in parts if not part.flags["cie"].any()]
    if same:
        caveats.append(f"No mismatch at all: {', '.join(same)}. Tests on mismatches are undefined there and left out.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Share of examples with each kind of mismatch, by scheme, against the noise of the seeds."""
    table = finding.tables["schemes"]
    (axes,) = panels(0.9 + 0.48 * len(table))
    rows = np.arange(len(table))
    left = np.zeros(len(table))
    kinds = (("cie_u", "right to wrong", 1), ("cie_w", "wrong to another wrong", 5), ("cie_c", "wrong to right", 2))
    for kind, name, colour in kinds:
        share = 100 * table[f"{kind}_rate"].to_numpy(float)
        axes.barh(rows, share, left=left, height=0.62, color=SERIES[colour], label=name)
        left = left + share
    null = table["cie_rate_null"].to_numpy(float)
    if np.isfinite(null).all():
        axes.axvline(100 * null[0], color="#777777", linestyle="--", label="two seeds of the reference")
    axes.set_yticks(rows, [short(label) for label in table["scheme"]])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of test examples that change (%)")
    axes.figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return axes


ANALYSIS = Analysis(
    name="mismatches",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("logits", "label"),
    cites=("dam2023understanding", "hooker2019what", "mcnemar1947note", "newcombe1998improved", "szekely2013energy"),
)
