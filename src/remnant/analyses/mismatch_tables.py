"""Tables of mismatches: by pair, by class and by group."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.comparison import Group
from remnant.analyses.mismatch_measures import KL_STATISTICS, Part
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import mcnemar_exact, paired_t
from remnant.stats.rates import counts_by_group, group_sizes, newcombe_paired, wilson
from remnant.stats.trial_intervals import mean_interval


def pair_table(part: Part) -> pd.DataFrame:
    """One row for each pair of models."""
    comparison, label = part.comparison, part.comparison.label
    number = "file" if comparison.files else "seed"
    columns: dict[str, Any] = {"scheme": comparison.scheme, number: comparison.compressed["seed"].values}
    columns |= {kind: found.sum(axis=1) for kind, found in part.flags.items()}
    if label is not None:
        accuracy = np.count_nonzero(comparison.first == label, axis=1) / len(label)
        columns["reference_accuracy"] = np.broadcast_to(accuracy, part.num_pairs)
        columns["compressed_accuracy"] = np.count_nonzero(comparison.second == label, axis=1) / len(label)
        columns["net_accuracy_change"] = (columns["cie_c"] - columns["cie_u"]) / len(label)
        columns["mcnemar_p"] = mcnemar_exact(columns["cie_u"], columns["cie_c"])
    if part.kl is not None:
        columns |= {f"kl_{name}_nats": part.kl.values[:, place] for place, name in enumerate(KL_STATISTICS)}
    return pd.DataFrame(columns)


def class_table(part: Part, names: Sequence[str]) -> pd.DataFrame:
    """One row for each class that has examples; empty without labels. Columns as `group_table`."""
    label = part.comparison.label
    if label is None:
        return pd.DataFrame()
    return _rows(part, label, {"scheme": part.comparison.scheme, "class": list(names)})


def group_table(part: Part, groups: Sequence[Group]) -> pd.DataFrame:
    """One row for each level of each attribute.

    Intervals are over pairs, with p of the paired t test. With one pair, intervals are over its examples (Wilson's
    of shares, Newcombe's of the net change), and p is of McNemar's test. q is Benjamini-Hochberg's over the levels
    of an attribute (or the classes of a scheme).
    """
    first = {"scheme": part.comparison.scheme}
    tables = [_rows(part, g.index, {**first, "attribute": g.name, "level": list(g.levels)}) for g in groups]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _rows(part: Part, index: NDArray[np.integer], first: dict[str, Any]) -> pd.DataFrame:
    num = len(next(found for found in first.values() if isinstance(found, list)))
    sizes = group_sizes(index, num)
    counts = {kind: counts_by_group(found, index, num) for kind, found in part.flags.items()}
    with np.errstate(invalid="ignore"):
        rates = {kind: found / sizes for kind, found in counts.items()}
    low, high = _share_interval(counts["cie"], sizes)
    table: dict[str, Any] = {**first, "examples": sizes, "cie_rate": rates["cie"].mean(axis=0)}
    table |= {"cie_rate_low": low, "cie_rate_high": high}
    if part.comparison.label is not None:
        table |= {f"{kind}_rate": rates[kind].mean(axis=0) for kind in ("cie_u", "cie_c", "cie_w")}
        right = counts_by_group(part.comparison.first == part.comparison.label, index, num)
        table |= _net_columns(counts, right, sizes)
    return pd.DataFrame(table).loc[sizes > 0]


def _net_columns(
    counts: dict[str, NDArray[np.int64]], right: NDArray[np.int64], sizes: NDArray[np.int64]
) -> dict[str, NDArray]:
    """Accuracies and their change; `right` are the right answers of the reference, shape (trial, group)."""
    gained, lost = counts["cie_c"], counts["cie_u"]
    with np.errstate(invalid="ignore"):
        net, before = mean_interval((gained - lost) / sizes), (right / sizes).mean(axis=0)
    low, high = net.low, net.high
    if len(lost) == 1:
        low, high = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
        some = sizes > 0
        both, b, c, n = (found[some] for found in (right[0] - lost[0], gained[0], lost[0], sizes))
        low[some], high[some] = newcombe_paired(both, b, c, n - both - b - c)
    p = _net_p(gained, lost, sizes)
    return {
        "reference_accuracy": before,
        "compressed_accuracy": before + net.estimate,
        "net_accuracy_change": net.estimate,
        "net_low": low,
        "net_high": high,
        "net_p": p,
        "net_q": benjamini_hochberg(p),
    }


def _share_interval(counts: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Over pairs, or over the examples of one pair; NaN for groups without examples."""
    some = sizes > 0
    low, high = np.full(len(sizes), np.nan), np.full(len(sizes), np.nan)
    if len(counts) == 1:
        low[some], high[some] = wilson(counts[0, some], sizes[some])
        return low, high
    mean = mean_interval(counts[:, some] / sizes[some])
    low[some], high[some] = np.maximum(mean.low, 0), np.minimum(mean.high, 1)
    return low, high


def _net_p(gained: NDArray[np.int64], lost: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """p of no net change of each group; NaN where no pair of models differs in being right."""
    if len(lost) == 1:
        return mcnemar_exact(lost[0], gained[0])
    tested = (gained + lost).any(axis=0)
    p = np.full(len(sizes), np.nan)
    p[tested] = paired_t(gained[:, tested] / sizes[tested], lost[:, tested] / sizes[tested])[1]
    return p
