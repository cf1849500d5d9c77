"""Tables and galleries of the analysis of influence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.subset_trials import ANY, KINDS, MEMORIZED, SubsetTrials
from remnant.finding import Exhibit
from remnant.stats import influence as stats
from remnant.stats import influence_null as null
from remnant.stats import influence_tiles as tiled

EDGES = np.linspace(-10, 10, 81)
"""Edges of the bins of z."""

_STRONG = (4.0, 5.0, 6.0)


def high_pairs(data: SubsetTrials, threshold: float) -> tiled.Pairs:
    """Pairs of one class with a memorized training example and influence >= threshold."""
    parts = []
    for label in np.unique(data.labels):
        columns = np.flatnonzero(data.memorized & (data.train_labels == label))
        block = tiled.tiles(
            data.correct, data.included, examples=np.flatnonzero(data.labels == label), train_examples=columns
        )
        parts.append(tiled.pairs_above(block, threshold))
    return tiled.Pairs(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("examples", "train_examples", "influence"))
    )


def pairs_above(
    data: SubsetTrials, above: NDArray[np.int64], pairs: tiled.Pairs, thresholds: tuple[float, ...]
) -> pd.DataFrame:
    rows = []
    for kind in KINDS:
        cells = data.pair_counts(kind)
        expected = null.expected_above(cells, np.array(thresholds))
        for place, threshold in enumerate(thresholds):
            keep = pairs.influence >= np.float32(threshold - tiled.TOLERANCE)
            num = int(keep.sum()) if kind == MEMORIZED else int(above[0 if kind == ANY else 1, place])
            row: dict[str, Any] = {
                "pairs_of": kind,
                "threshold": threshold,
                "pairs": num,
                "pairs_by_chance": expected[place],
                "false_discovery_rate": min(1.0, expected[place] / num) if num else np.nan,
                "compared_pairs": int(cells[1:-1].sum()),
            }
            if kind == MEMORIZED:
                row["test_examples"] = len(np.unique(pairs.examples[keep]))
                row["train_examples"] = len(np.unique(pairs.train_examples[keep]))
            rows.append(row)
    return pd.DataFrame(rows)


def pair_table(data: SubsetTrials, pairs: tiled.Pairs, rows: int) -> pd.DataFrame:
    """The strongest pairs with standard errors and the share of pairs at least as strong that chance gives."""
    order = np.lexsort((pairs.train_examples, pairs.examples, -pairs.influence))
    strongest = pairs.influence[order].astype(np.float64)
    distinct, number = np.unique(strongest, return_inverse=True)
    expected = null.expected_above(data.pair_counts(MEMORIZED), distinct)[number]
    passed = np.searchsorted(-strongest, -strongest, side="right")
    # The rate of a pair is the lowest among thresholds that let it pass (a q-value).
    rate = np.minimum.accumulate((expected / np.maximum(passed, 1))[::-1])[::-1]
    order, rate = order[:rows], np.minimum(rate, 1)[:rows]
    row, column = pairs.examples[order], pairs.train_examples[order]
    estimate = stats.influence_of_pairs(data.correct, data.included, row, column)
    margin = stats.influence_of_pairs(data.margin, data.included, row, column)
    return pd.DataFrame(
        {
            **pair_columns(data, row, column),
            "influence": estimate.value,
            "standard_error": estimate.standard_error,
            "z": estimate.z,
            "margin_influence": margin.value,
            "margin_z": margin.z,
            "memorization": data.memorization.value[column],
            "test_accuracy": data.correct[:, row].mean(axis=0),
            "false_discovery_rate": rate,
        }
    )


def pair_columns(data: SubsetTrials, row: NDArray[np.integer], column: NDArray[np.integer]) -> dict[str, NDArray]:
    """What names pairs of one class: places, ids, class."""
    return {
        "row": row,
        "column": column,
        "test_example": data.trials["example"].values[row],
        "train_example": data.trials["train_example"].values[column],
        "class": data.names[data.labels[row]],
    }


def top_table(data: SubsetTrials, top: tiled.TopK, rows: int) -> pd.DataFrame:
    """The most influential training examples of the test examples with the strongest ones."""
    num = top.values.shape[1]
    strongest = np.argsort(-top.values[:, 0], kind="stable")[: max(1, rows // num)]
    strongest = strongest[top.values[strongest, 0] > 0]
    row = np.repeat(strongest, num)
    column, rank = top.train_examples[strongest].ravel(), np.tile(np.arange(1, num + 1), len(strongest))
    row, column, rank = row[column >= 0], column[column >= 0], rank[column >= 0]
    estimate = stats.influence_of_pairs(data.correct, data.included, row, column)
    return pd.DataFrame(
        {
            "test_example": data.trials["example"].values[row],
            "class": data.names[data.labels[row]],
            "rank": rank,
            "train_example": data.trials["train_example"].values[column],
            "train_class": data.names[data.train_labels[column]],
            "influence": estimate.value,
            "standard_error": estimate.standard_error,
            "z": estimate.z,
        }
    )


def train_table(data: SubsetTrials, rows: int) -> pd.DataFrame:
    """Training examples by their effect on the accuracy over all test examples: the column means of influence."""
    accuracy = data.correct.mean(axis=1)[:, None]
    estimate = stats.influence(accuracy, data.included)
    value, z = estimate.value[0], estimate.z[0]
    order = np.argsort(-np.abs(np.nan_to_num(z)), kind="stable")[:rows]
    return pd.DataFrame(
        {
            "train_example": data.trials["train_example"].values[order],
            "class": data.names[data.train_labels[order]],
            "mean_influence": value[order],
            "standard_error": estimate.standard_error[0][order],
            "z": z[order],
            "memorization": data.memorization.value[order],
        }
    )


def class_table(data: SubsetTrials) -> pd.DataFrame:
    """Mean influence of training examples of a class on test examples of this class and of others."""
    rows = []
    for label in np.unique(data.labels):
        same = data.train_labels == label
        accuracy = data.correct[:, data.labels == label].mean(axis=1)
        centred = accuracy - accuracy.mean()  # weights sum to 0 over trials; so does their rounding then
        means = centred @ stats.contrasts(data.included, np.stack([same, ~same], axis=1))
        rows.append(
            {
                "class": data.names[label],
                "test_examples": int((data.labels == label).sum()),
                "test_accuracy": accuracy.mean(),
                "mean_influence_same_class": means[0],
                "mean_influence_other_classes": means[1],
            }
        )
    return pd.DataFrame(rows)


def z_tables(data: SubsetTrials, found: dict[str, Any]) -> dict[str, pd.DataFrame]:
    by_chance = {
        "correctness": null.expected_z(data.pair_counts(ANY), EDGES),
        "margin": null.expected_z_real(int(found["margin_z"].sum()), EDGES, data.num_trials),
    }
    observed = {"correctness": found["z"], "margin": found["margin_z"]}
    histograms, strong = [], []
    for outcome, counts in observed.items():
        columns = {"outcome": outcome, "z_low": EDGES[:-1], "z_high": EDGES[1:]}
        histograms.append(pd.DataFrame({**columns, "pairs": counts, "pairs_by_chance": by_chance[outcome]}))
        for limit in _STRONG:
            for sign, beyond in ((1, EDGES[:-1] >= limit), (-1, EDGES[1:] <= -limit)):
                pairs, expected = int(counts[beyond].sum()), float(by_chance[outcome][beyond].sum())
                rate = min(1.0, expected / pairs) if pairs else np.nan
                row = {"outcome": outcome, "z": sign * limit, "pairs": pairs, "pairs_by_chance": expected}
                strong.append({**row, "false_discovery_rate": rate})
    return {"pairs_beyond_z": pd.DataFrame(strong), "z_histogram": pd.concat(histograms, ignore_index=True)}


def galleries(
    data: SubsetTrials, likely: pd.DataFrame | None, listed: pd.DataFrame, found: dict[str, Any], gallery: int
) -> dict[str, tuple[Exhibit, ...]]:
    """Extreme pairs, one for each test example: likely ones, then high-influence ones (any, if there are none)."""
    parts = [part for part in (likely, listed) if part is not None and len(part)]
    row, column = _extreme(found["top"], gallery)
    lines: list[str] = []
    if parts:
        best = pd.concat(parts).drop_duplicates("row").head(gallery)
        row, column = best["row"].to_numpy(int), best["column"].to_numpy(int)
        chances = np.array([] if likely is None else likely.drop_duplicates("row")["probability"])[: len(best)]
        lines = [f"probability of a high influence: {100 * p:.0f} %" for p in chances]
    positive = _exhibits(data, row, column, lines)
    return {
        "Most positive influence: training on the second helps on the first": positive,
        "Most negative influence: training on the second hurts on the first": _exhibits(
            data, *_extreme(found["bottom"], gallery)
        ),
    }


def _extreme(top: tiled.TopK, num: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    row = np.argsort(-top.values[:, 0], kind="stable")[:num]
    row = row[top.values[row, 0] > 0]
    return row, top.train_examples[row, 0]


def _exhibits(
    data: SubsetTrials, row: NDArray[np.integer], column: NDArray[np.integer], more: Sequence[str] = ()
) -> tuple[Exhibit, ...]:
    """Pairs; `more` has a line for each of the first ones."""
    estimate = stats.influence_of_pairs(data.correct, data.included, row, column)
    exhibits = []
    for place, (j, i) in enumerate(zip(row, column, strict=True)):
        value, error = estimate.value[place], estimate.standard_error[place]
        own, own_error = data.memorization.value[i], data.memorization.standard_error[i]
        beside = Exhibit(
            "train",
            str(data.trials["train_example"].values[i]),
            (f"true: {data.names[data.train_labels[i]]}", f"memorization: {own:.2f} ± {own_error:.2f}"),
        )
        lines = (
            f"true: {data.names[data.labels[j]]}",
            f"right: {100 * data.correct[:, j].mean():.0f} % of models",
            f"influence: {value:+.2f} ± {error:.2f} (z {estimate.z[place]:.1f})",
            *more[place : place + 1],
        )
        exhibits.append(Exhibit("test", str(data.trials["example"].values[j]), lines, float(value), beside))
    return tuple(exhibits)
