"""The numbers of the ledger of flips: claims on each scheme, and on the noise between models of the reference."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, mean_claim
from remnant.analyses.mismatch_measures import KL_STATISTICS, Divergence, Noise, Part, off_diagonal, over_pairs
from remnant.finding import Claim
from remnant.stats.paired import mcnemar_exact
from remnant.stats.rates import newcombe_paired, wilson
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import mean_interval

KINDS = {
    "cie": "share of examples on which the two predict different classes",
    "cie_u": "share of examples on which the reference is right and the compressed model wrong",
    "cie_c": "share of examples on which the compressed model is right and the reference wrong",
    "cie_w": "share of examples on which both are wrong in different ways",
}
_SOURCE = "dam2023understanding, section 2"
_KL = "KL(reference || compressed) of the softmax probabilities in nats"


def scheme_claims(part: Part, noise: Noise | None) -> list[Claim]:
    """All claims on one scheme."""
    flags = part.flags
    claims = [_share(f"{kind}_rate", part, found, KINDS[kind]) for kind, found in flags.items()]
    claims.append(_share("top1_agreement", part, ~flags["cie"], "share of examples with the same prediction"))
    if "cie_u" in flags:
        either = flags["cie_u"] | flags["cie_c"]
        method = "share of examples on which exactly one of the two is right"
        claims += [_net(part), _share("gross_accuracy_change", part, either, method)]
    if part.kl is not None:
        claims += _divergence_claims(part, part.kl)
    return [*claims, *_mcnemar_claims(part), *_population_claims(part, noise)]


def accuracy_claims(found: Sequence[Comparison]) -> list[Claim]:
    """Accuracy of the reference and of each scheme, for files of labelled examples; stores have it from training."""
    label = found[0].label
    if label is None or not found[0].files:
        return []
    sides = [(found[0].reference_label, found[0].first), *((c.scheme, c.second) for c in found)]
    claims = []
    for scheme, predictions in sides:
        right, num = np.count_nonzero(predictions == label, axis=1), len(label)
        method = "share of examples on which the prediction is the label"
        if len(right) > 1:
            claims.append(mean_claim("test_accuracy", scheme, right / num, "model", method=method))
            continue
        low, high = (float(end) for end in wilson(right[0], num))
        method += "; Wilson interval over examples"
        claims.append(
            Claim("test_accuracy", scheme, float(right[0] / num), low, high, num, "example", method, "", "share")
        )
    return claims


def noise_claims(noise: Noise | None, reference: str, *, files: bool) -> list[Claim]:
    """What different models of the reference differ in; no claim with one model."""
    if noise is None:
        return []
    claims = []
    for quantity, matrix, scale in (
        ("cie_rate_null", noise.cie, "share"),
        ("cie_u_rate_null", noise.cie_u, "share"),
        ("kl_mean_null", noise.kl, "number"),
    ):
        if matrix is None:
            continue
        mean, low, high = over_pairs(matrix)
        method = f"mean over all pairs of {reference} models{'' if files else ' of different seeds'}; "
        method += "no interval: needs 3 models" if low is None else "jackknife interval over models"
        claims.append(Claim(quantity, reference, mean, low, high, len(matrix), "trial", method, _SOURCE, scale))
    return claims


def scheme_row(part: Part, noise: Noise | None) -> dict[str, Any]:
    """The row of a scheme in the main table. Intervals are over pairs; over examples where there is one pair."""
    row: dict[str, Any] = {"scheme": part.comparison.scheme, "pairs": part.num_pairs, "examples": part.num_examples}
    for kind, found in part.flags.items():
        counts = found.sum(axis=1)
        low, high = wilson(counts[0], part.num_examples)
        if part.num_pairs > 1:
            mean = mean_interval(counts / part.num_examples)
            low, high = mean.low, mean.high
        row |= {f"{kind}_rate": float(counts.mean() / part.num_examples)}
        row |= {f"{kind}_rate_low": float(low), f"{kind}_rate_high": float(high)}
    if "cie_u" in part.flags:
        net = mean_interval(part.net)
        low, high = _newcombe(part) if part.num_pairs == 1 else (net.low, net.high)
        row |= {"net_accuracy_change": float(net.estimate), "net_low": float(low), "net_high": float(high)}
    if part.kl is not None:
        row |= {f"kl_{name}_nats": float(part.kl.values[:, i].mean()) for i, name in enumerate(KL_STATISTICS[:-1])}
        row["kl_max_nats"] = float(part.kl.values[:, -1].max())
    row["cie_rate_null"] = np.nan if noise is None else over_pairs(noise.cie)[0]
    row["prediction_distance"] = np.nan if part.distance is None else part.distance
    row["prediction_distance_p"] = np.nan if part.distance_p is None else part.distance_p
    return row


def _share(quantity: str, part: Part, flags: NDArray[np.bool_], method: str) -> Claim:
    """A share of examples over pairs; over examples where there is one pair, or all have the same number."""
    scheme, method = part.comparison.scheme, method + part.comparison.over_pairs
    counts, num = flags.sum(axis=1), part.num_examples
    if np.ptp(counts) > 0:
        return mean_claim(quantity, scheme, counts / num, "pair", method=method, citation=_SOURCE)
    low, high = wilson(counts[0], num)
    method += "; Wilson interval over examples of one pair"
    share = float(counts[0] / num)
    return Claim(quantity, scheme, share, float(low), float(high), num, "example", method, _SOURCE, "share")


def _net(part: Part) -> Claim:
    scheme = part.comparison.scheme
    method = "accuracy of the compressed model minus that of the reference" + part.comparison.over_pairs
    if part.num_pairs > 1:
        return mean_claim("net_accuracy_change", scheme, part.net, "pair", method=method, scale="points")
    low, high = _newcombe(part)
    return Claim(
        "net_accuracy_change",
        scheme,
        float(part.net[0]),
        low,
        high,
        part.num_examples,
        "example",
        f"{method}; Newcombe's interval over examples of one pair",
        "newcombe1998improved, method 10",
        "points",
    )


def _newcombe(part: Part) -> tuple[float, float]:
    """Interval of the net change of accuracy over the examples of the one pair."""
    gained, lost = (int(np.count_nonzero(part.flags[kind])) for kind in ("cie_c", "cie_u"))
    both = int(np.count_nonzero(part.comparison.first == part.comparison.label)) - lost
    low, high = newcombe_paired(both, gained, lost, part.num_examples - both - gained - lost)
    return float(low), float(high)


def _divergence_claims(part: Part, kl: Divergence) -> list[Claim]:
    scheme, one_pair = part.comparison.scheme, part.num_pairs == 1
    claims = []
    for place, name in enumerate(KL_STATISTICS[:-1]):
        what = f"{_KL}, {'mean' if name == 'mean' else f'percentile {name[1:]}'} over examples"
        if one_pair:
            claims.append(_of_one_pair(name, scheme, kl, place, (what, part.num_examples)))
            continue
        what += part.comparison.over_pairs
        claims.append(mean_claim(f"kl_{name}", scheme, kl.values[:, place], "pair", method=what, scale="number"))
    largest = f"{_KL}, largest over examples{'' if one_pair else ' and pairs'}; no interval: a maximum"
    n, unit = (part.num_examples, "example") if one_pair else (part.num_pairs, "pair")
    return [
        *claims,
        Claim("kl_max", scheme, float(kl.values[:, -1].max()), None, None, n, unit, largest, "", "number"),
    ]


def _of_one_pair(name: str, scheme: str, kl: Divergence, place: int, over: tuple[str, int]) -> Claim:
    """A statistic of KL with its interval over the examples of the one pair."""
    (method, num), citation = over, ""
    low, high = float(kl.low[0, place]), float(kl.high[0, place])
    if np.isnan(low) or np.isnan(high):
        low = high = None
        method += "; no interval: too few examples"
    elif name == "mean":
        method += "; t interval over examples"
    else:
        method, citation = f"{method}; interval by order statistics, over examples", "wilks1948order, section 4"
    value = float(kl.values[0, place])
    return Claim(f"kl_{name}", scheme, value, low, high, num, "example", method, citation, "number")


def _mcnemar_claims(part: Part) -> list[Claim]:
    """The test of the pair, or in how many pairs it is significant; nothing where it is undefined."""
    if "cie_u" not in part.flags:
        return []
    lost, gained = (part.flags[kind].sum(axis=1) for kind in ("cie_u", "cie_c"))
    p = mcnemar_exact(lost, gained)
    p = p[~np.isnan(p)]
    if not len(p):
        return []
    scheme = part.comparison.scheme
    if part.num_pairs == 1:
        num = int(lost[0] + gained[0])
        method = "exact McNemar test on the examples on which exactly one of the two is right"
        return [Claim("mcnemar_p", scheme, float(p[0]), None, None, num, "example", method, "mcnemar1947note", "p")]
    method = "pairs whose exact McNemar test has p <= 0.05; a count, without an interval"
    count = float((p <= 0.05).sum())
    return [Claim("mcnemar_significant_pairs", scheme, count, None, None, len(p), "pair", method, "mcnemar1947note")]


def _population_claims(part: Part, noise: Noise | None) -> list[Claim]:
    """The scheme against the noise between models of the reference."""
    if noise is None or part.exchange is None or part.distance is None or part.distance_p is None:
        return []
    scheme, n = part.comparison.scheme, part.num_pairs
    own, every = part.flags["cie"].mean(axis=1), np.arange(part.num_pairs)

    def excess(kept: NDArray[np.intp]) -> float:
        return float(own[kept].mean()) - off_diagonal(noise.cie, kept)

    found = jackknife(excess, n) if n >= 3 else None
    low, high = (float(found.low), float(found.high)) if found else (None, None)
    method = "cie_rate minus cie_rate_null; "
    method += "jackknife interval over pairs" if found else "no interval: needs 3 pairs"
    distance = "mean over examples of the squared distance between the class frequencies of both populations (unbiased)"
    distance += "; no interval, see its p"
    test = f"permutation test of the distance: {part.exchange.method}, {part.exchange.reason}"
    cite = "szekely2013energy"
    return [
        Claim("cie_excess", scheme, excess(every), low, high, n, "pair", method, _SOURCE, "points"),
        Claim("prediction_distance", scheme, part.distance, None, None, n, "pair", distance, cite, "number"),
        Claim("prediction_distance_p", scheme, part.distance_p, None, None, n, "pair", test, cite, "p"),
    ]
