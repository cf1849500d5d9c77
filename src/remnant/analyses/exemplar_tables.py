"""Tables and galleries of pruning identified exemplars."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.comparison import attributes
from remnant.analyses.examples import answer, text_lines, texts
from remnant.analyses.exemplar_measures import Part, ReferenceNoise
from remnant.finding import Exhibit
from remnant.stats.trial_intervals import mean_interval


def tie_table(parts: list[Part]) -> pd.DataFrame:
    """Number of PIEs under each rule for ties, and without the examples that a tie decides."""
    return pd.DataFrame(
        [
            {
                "scheme": part.comparison.scheme,
                "tie": result.tie,
                "pie_count": result.pies,
                "decided_by_tie": result.decided,
                "pie_count_without_ties": result.pies - result.decided,
                "ties_reference": int(part.first.tied.sum()),
                "ties_compressed": int(part.second.tied.sum()),
            }
            for part in parts
            for result in part.ties
        ]
    )


def example_table(part: Part, names: list[str]) -> pd.DataFrame:
    """One row for each PIE and for each other example whose votes changed with q <= 0.05, surest first."""
    shown = surprising(part, part.is_pie | (np.nan_to_num(part.q, nan=1) <= 0.05))
    classes = np.array(names, dtype=object)
    reference = part.comparison.reference
    columns: dict[str, Any] = {"scheme": part.comparison.scheme, "example": reference["example"].values[shown]}
    if part.comparison.label is not None:
        columns["true"] = classes[part.comparison.label[shown]]
    columns |= {
        "is_pie": part.is_pie[shown],
        "reference_label": classes[part.first.label[shown]],
        "reference_votes": part.first.votes[shown],
        "compressed_label": classes[part.second.label[shown]],
        "compressed_votes": part.second.votes[shown],
        "tied": (part.first.tied | part.second.tied)[shown],
        "vote_distance": part.shift[shown],
        "pie_share_null": part.null_share[shown],
        "p": part.p[shown],
        "q": part.q[shown],
    }
    if "text" in reference:
        columns["text"] = texts(reference, shown)
    return pd.DataFrame(columns)


def confusion_table(part: Part, names: list[str]) -> pd.DataFrame:
    """Number of PIEs from each modal label of the reference to each of the compressed models, most first."""
    pairs, counts = np.unique(
        np.stack([part.first.label, part.second.label])[:, part.is_pie], axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    classes = np.array(names, dtype=object)
    return pd.DataFrame(
        {
            "scheme": part.comparison.scheme,
            "reference_label": classes[pairs[0, order]],
            "compressed_label": classes[pairs[1, order]],
            "examples": counts[order],
        }
    )


def share_table(part: Part, names: list[str]) -> pd.DataFrame:
    """PIEs and their expected number under the null, for each class and for each level of each attribute."""
    reference = part.comparison.reference
    slices: list[tuple[str, NDArray[np.integer], list[str]]] = [
        (group.name, group.index, list(group.levels)) for group in attributes(reference)
    ]
    if part.comparison.label is not None:
        slices.insert(0, ("class", part.comparison.label, names))
    tables = []
    for attribute, index, levels in slices:
        sizes = np.bincount(index, minlength=len(levels))
        count = np.bincount(index, weights=part.is_pie, minlength=len(levels))
        expected = np.bincount(index, weights=part.null_share, minlength=len(levels))
        table = {
            "scheme": part.comparison.scheme,
            "attribute": attribute,
            "level": levels,
            "examples": sizes,
            "pie_count": count.astype(np.int64),
            "pie_count_null": expected,
            "pie_share": count / np.maximum(sizes, 1),
        }
        tables.append(pd.DataFrame(table).loc[sizes > 0])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def accuracy_table(part: Part, right: dict[int, NDArray[np.bool_]]) -> pd.DataFrame:
    """Accuracy of the reference models on PIEs, on PIEs of chance, on the other examples and on all.

    Parameters
    ----------
    right
        k to whether the true class is among the k highest logits, shape (trial, example).
    """
    pie = part.is_pie.astype(float)
    subsets = {"pie": pie, "pie_null": part.null_share, "non_pie": 1 - pie, "all": np.ones_like(pie)}
    rows = []
    for k, found in right.items():
        for name, weight in subsets.items():
            if weight.sum() == 0:
                continue
            mean = mean_interval(found @ weight / weight.sum())
            rows.append(
                {
                    "scheme": part.comparison.scheme,
                    "subset": name,
                    "k": k,
                    "examples": float(weight.sum()),
                    "accuracy": float(mean.estimate),
                    "low": float(np.clip(mean.low, 0, 1)),
                    "high": float(np.clip(mean.high, 0, 1)),
                    "trials": len(found),
                }
            )
    return pd.DataFrame(rows)


def noise_table(noise: ReferenceNoise, reference: str, num_trials: int) -> pd.DataFrame:
    """PIEs between populations of reference models, by the number of models in either."""
    rows = [
        {"scheme": reference, "models": size, "pie_count": count, "estimate": "disjoint parts"}
        for size, count in zip(noise.sizes, noise.counts, strict=True)
    ]
    if noise.extrapolated is not None:
        last = {"scheme": reference, "models": num_trials, "pie_count": noise.extrapolated, "estimate": "power law"}
        rows.append(last)
    return pd.DataFrame(rows)


def gallery(part: Part, names: list[str], most: int) -> tuple[Exhibit, ...]:
    """The PIEs, most surprising first: with their true label and the modal labels and votes of both sides."""
    comparison, reference = part.comparison, part.comparison.reference
    exhibits = []
    for i in surprising(part, part.is_pie)[:most]:
        lines = [
            f"{side}: {answer(reference, names, i, int(modal.label[i]))} "
            f"({modal.votes[i]} of {total}{', tied' if modal.tied[i] else ''})"
            for side, modal, total in (
                (comparison.reference_label, part.first, comparison.num_first),
                (comparison.scheme, part.second, comparison.num_second),
            )
        ]
        if comparison.label is not None:
            lines.insert(0, f"true: {answer(reference, names, i, int(comparison.label[i]))}")
        lines = (*text_lines(reference, i), *lines)
        exhibits.append(Exhibit("test", str(reference["example"].values[i]), lines, float(part.shift[i])))
    return tuple(exhibits)


def surprising(part: Part, chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of the chosen examples, smallest p first, among equals the largest change of votes."""
    index = np.flatnonzero(chosen)
    return index[np.lexsort((index, -part.shift[index], part.p[index]))]
