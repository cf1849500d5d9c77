"""Tables and galleries of mismatches: by pair, by class, by group, and the examples themselves."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, attributes
from remnant.finding import Exhibit
from remnant.stats.agreement import log_softmax
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import mcnemar_exact, paired_t
from remnant.stats.rates import rate_by_group
from remnant.stats.trial_intervals import mean_interval

Flags = dict[str, NDArray[np.bool_]]
"""Kind of mismatch to flags of shape (pair, example); see `remnant.stats.agreement.mismatches`."""


def pair_table(comparison: Comparison, flags: Flags, kl: NDArray[np.float64]) -> pd.DataFrame:
    """One row for each pair of models of the same seed.

    Parameters
    ----------
    kl
        Shape (pair, statistic): mean, percentiles 50, 90 and 99, maximum, in nats.
    """
    label = comparison.reference["label"].values
    columns: dict[str, Any] = {"scheme": comparison.scheme, "seed": comparison.reference["seed"].values}
    columns |= {kind: found.sum(axis=1) for kind, found in flags.items()}
    columns["reference_accuracy"] = (comparison.first == label).mean(axis=1)
    columns["compressed_accuracy"] = (comparison.second == label).mean(axis=1)
    columns["net_accuracy_change"] = (columns["cie_c"] - columns["cie_u"]) / len(label)
    columns["mcnemar_p"] = mcnemar_exact(columns["cie_u"], columns["cie_c"])
    names = ("mean", "p50", "p90", "p99", "max")
    columns |= {f"kl_{name}_nats": kl[:, place] for place, name in enumerate(names)}
    return pd.DataFrame(columns)


def group_table(parts: list[tuple[Comparison, Flags]], names: list[str] | None) -> pd.DataFrame:
    """One row for each scheme and class (with `names`), or each scheme and level of each attribute (None).

    The p of the net change is of the paired t test over pairs; with one pair, of McNemar's test. q is
    Benjamini-Hochberg's over the classes of a scheme or the levels of an attribute.
    """
    tables = []
    for comparison, flags in parts:
        if names is not None:
            index = comparison.reference["label"].values
            tables.append(_rows(comparison, flags, index, names, {"scheme": comparison.scheme}, "class"))
            continue
        for group in attributes(comparison.reference):
            first = {"scheme": comparison.scheme, "attribute": group.name}
            tables.append(_rows(comparison, flags, group.index, list(group.levels), first, "level"))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _rows(
    comparison: Comparison, flags: Flags, index: NDArray[np.intp], levels: list[str], first: dict[str, str], column: str
) -> pd.DataFrame:
    num = len(levels)
    rates = {kind: rate_by_group(found, index, num) for kind, found in flags.items()}
    net, cie = mean_interval(rates["cie_c"] - rates["cie_u"]), mean_interval(rates["cie"])
    p = _net_p(rates, flags, index, num)
    table = {
        **first,
        column: levels,
        "examples": np.bincount(index, minlength=num),
        "cie_rate": cie.estimate,
        "cie_rate_low": np.maximum(cie.low, 0),
        "cie_rate_high": np.minimum(cie.high, 1),
        **{f"{kind}_rate": rates[kind].mean(axis=0) for kind in ("cie_u", "cie_c", "cie_w")},
        "net_accuracy_change": net.estimate,
        "net_low": net.low,
        "net_high": net.high,
        "net_p": p,
        "net_q": benjamini_hochberg(p),
    }
    return pd.DataFrame(table).loc[table["examples"] > 0]


def _net_p(rates: dict[str, NDArray], flags: Flags, index: NDArray[np.intp], num: int) -> NDArray[np.float64]:
    if len(flags["cie"]) > 1:
        p = paired_t(rates["cie_c"], rates["cie_u"])[1]
        return np.where(np.isnan(rates["cie"]).any(axis=0) | ~(rates["cie_c"] + rates["cie_u"]).any(axis=0), np.nan, p)
    lost, gained = (np.bincount(index, weights=flags[kind][0], minlength=num) for kind in ("cie_u", "cie_c"))
    return mcnemar_exact(lost.astype(np.int64), gained.astype(np.int64))


def flip_gallery(
    comparison: Comparison, harmful: NDArray[np.bool_], names: list[str], most: int
) -> tuple[Exhibit, ...]:
    """Examples whose right answer is lost in most pairs; among equals the surest of the reference first.

    Parameters
    ----------
    harmful
        Shape (pair, example): the reference is right and the compressed model wrong.
    """
    flips = harmful.sum(axis=0)
    flipped = np.flatnonzero(flips)
    if not len(flipped) or most < 1:
        return ()
    least = np.sort(flips[flipped])[::-1][:most][-1]
    shown = np.flatnonzero(flips >= least)
    label = comparison.reference["label"].values
    sure = _confidence(comparison, harmful[:, shown], shown)
    order = np.lexsort((shown, -sure, -flips[shown]))[:most]
    scheme, num_pairs = comparison.scheme, len(harmful)
    exhibits = []
    for place in order:
        i = shown[place]
        answers = np.bincount(comparison.second[harmful[:, i], i])
        right = int((comparison.first[:, i] == label[i]).sum())
        lines = (
            f"true: {names[label[i]]}",
            f"{comparison.reference['scheme'].values[0]}: right in {right} of {num_pairs}, sure by {sure[place]:.2f}",
            f"{scheme}: {names[int(answers.argmax())]}; right answer lost in {flips[i]} of {num_pairs}",
        )
        example = str(comparison.reference["example"].values[i])
        exhibits.append(Exhibit("test", example, lines, float(flips[i] / num_pairs)))
    return tuple(exhibits)


def _confidence(comparison: Comparison, harmful: NDArray[np.bool_], shown: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean probability of the true class in the reference models of the pairs that flip, shape (shown,)."""
    label = comparison.reference["label"].values[shown]
    total = np.zeros(len(shown))
    for k, flips in enumerate(harmful):
        probability = np.exp(log_softmax(comparison.reference["logits"][k, shown].values))
        total += flips * probability[np.arange(len(shown)), label]
    return total / harmful.sum(axis=0)
