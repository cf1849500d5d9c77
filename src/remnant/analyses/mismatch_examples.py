"""The examples whose answers change, most confident first: as a table and as a gallery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison
from remnant.analyses.examples import answer, text_lines, texts
from remnant.analyses.mismatch_measures import Part
from remnant.analyses.sides import log_partitions
from remnant.finding import Exhibit
from remnant.stats.agreement import class_probability


@dataclass(frozen=True)
class Changed:
    """Examples whose right answer is lost (without labels: whose answer changes), to show. Arrays over them."""

    rows: NDArray[np.intp]
    """Their places in the population: lost in most pairs first, then the surest of the reference first."""
    flips: NDArray[np.int64]
    """Number of pairs in which it is lost."""
    before: NDArray[np.intp]
    """Most frequent answer of the reference in these pairs: the true class, where it is known."""
    after: NDArray[np.intp]
    """Most frequent answer of the compressed models in these pairs."""
    sure_before: NDArray[np.float64] | None
    """Mean probability of `before` in the reference models of these pairs; None without logits."""
    sure_after: NDArray[np.float64] | None
    """Mean probability of `after` in the compressed models of these pairs."""


def changed(part: Part, most: int) -> Changed:
    """At most `most` of the changed examples; among equals by their ids."""
    comparison, flags = part.comparison, part.flags.get("cie_u", part.flags["cie"])
    rows = np.flatnonzero(flags.any(axis=0))
    flips = np.count_nonzero(flags[:, rows], axis=0)
    if len(rows) > most:
        least = np.sort(flips)[::-1][most - 1] if most > 0 else np.inf
        rows, flips = rows[flips >= least], flips[flips >= least]
    flipped = flags[:, rows]
    sure = _sure(comparison, 0, rows, flipped, _usual(comparison, 0, rows, flipped)) if most > 0 else None
    ids = comparison.reference["example"].values[rows]
    order = np.lexsort((ids, np.zeros(len(rows)) if sure is None else -sure, -flips))[: max(most, 0)]
    rows, flips, flipped = rows[order], flips[order], flipped[:, order]
    before, after = (_usual(comparison, side, rows, flipped) for side in (0, 1))
    return Changed(
        rows,
        flips,
        before,
        after,
        None if sure is None else sure[order],
        _sure(comparison, 1, rows, flipped, after),
    )


def changed_table(part: Part, found: Changed, names: Sequence[str], *, with_pairs: bool) -> pd.DataFrame:
    """One row for each changed example: answers before and after, in how many pairs, confidences, text."""
    population, rows = part.comparison.reference, found.rows
    label = part.comparison.label
    columns: dict[str, Any] = {"scheme": part.comparison.scheme, "example": population["example"].values[rows]}
    classes = {"reference_answer": found.before, "compressed_answer": found.after}
    if label is not None:
        classes = {"true": label[rows], **classes}
    for column, chosen in classes.items():
        columns[column] = [answer(population, names, i, int(c)) for i, c in zip(rows, chosen, strict=True)]
    if with_pairs:
        columns["pairs_changed"] = found.flips
    if found.sure_before is not None:
        columns |= {"reference_confidence": found.sure_before, "compressed_confidence": found.sure_after}
    if "text" in population:
        columns["text"] = texts(population, rows)
    return pd.DataFrame(columns)


def changed_gallery(part: Part, found: Changed, names: Sequence[str], most: int) -> tuple[Exhibit, ...]:
    """The first `most` of the changed examples, as exhibits."""
    population, num_pairs = part.comparison.reference, part.num_pairs
    ids = population["example"].values
    return tuple(
        Exhibit(
            "test",
            str(ids[i]),
            (*text_lines(population, i), *_lines(part, found, names, place)),
            _value(found, place, num_pairs),
        )
        for place, i in enumerate(found.rows[: max(most, 0)])
    )


def _value(found: Changed, place: int, num_pairs: int) -> float | None:
    """What the gallery is ordered by: the share of pairs; with one pair, the confidence of the reference."""
    if num_pairs > 1:
        return float(found.flips[place] / num_pairs)
    return None if found.sure_before is None else float(found.sure_before[place])


def _lines(part: Part, found: Changed, names: Sequence[str], place: int) -> tuple[str, ...]:
    comparison, i = part.comparison, found.rows[place]
    label, population = comparison.label, comparison.reference
    before, after = (answer(population, names, i, int(chosen[place])) for chosen in (found.before, found.after))
    sure = "" if found.sure_before is None else f"sure by {found.sure_before[place]:.2f}"
    true = () if label is None else (f"true: {answer(population, names, i, int(label[i]))}",)
    if part.num_pairs == 1:
        later = "" if found.sure_after is None else f", sure by {found.sure_after[place]:.2f}"
        first = f"{comparison.reference_label}: {before}" + (f", {sure}" if sure else "")
        return (*true, first, f"{comparison.scheme}: {after}{later}")
    often = f"{found.flips[place]} of {part.num_pairs}"
    if label is None:
        first, second = f"{comparison.reference_label}: {before}", f"{after}; another answer in {often}"
    else:
        right = int(np.count_nonzero(comparison.first[:, i] == label[i]))
        first = f"{comparison.reference_label}: right in {right} of {comparison.num_first}"
        second = f"{after}; right answer lost in {often}"
    return (*true, first + (f", {sure}" if sure else ""), f"{comparison.scheme}: {second}")


def _usual(comparison: Comparison, side: int, rows: NDArray[np.intp], flipped: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Most frequent answer of one side (0 the reference) in the pairs that flip, the lowest of equals.

    Parameters
    ----------
    flipped
        Shape (pair, row).
    """
    predictions = (comparison.first, comparison.second)[side]
    votes = np.stack([predictions[pair[side], rows] for pair in comparison.pairs]).astype(np.intp)
    if len(votes) == 1:
        return votes[0]
    best, most = np.zeros(len(rows), np.intp), np.zeros(len(rows), np.intp)
    # Every answer of some pair is a candidate: its votes are counted over all pairs.
    for candidate, cast in zip(votes, flipped, strict=True):
        count = np.where(cast, np.count_nonzero((votes == candidate) & flipped, axis=0), 0)
        better = (count > most) | ((count == most) & (candidate < best))
        best, most = np.where(better, candidate, best), np.where(better, count, most)
    return best


def _sure(
    comparison: Comparison, side: int, rows: NDArray[np.intp], flipped: NDArray[np.bool_], classes: NDArray[np.intp]
) -> NDArray[np.float64] | None:
    """Mean probability of one class per row in the models of one side of the pairs that flip; None without logits."""
    if not comparison.has_logits:
        return None
    data: xr.Dataset = (comparison.reference, comparison.compressed)[side]
    total, known = np.zeros(len(rows)), log_partitions(data)
    for pair, here in zip(comparison.pairs, flipped, strict=True):
        logits = data["logits"][pair[side], rows[here]].values
        partition = None if known is None else known[pair[side], rows[here]]
        total[here] += class_probability(logits, np.arange(len(logits)), classes[here], partition)
    return total / np.count_nonzero(flipped, axis=0)
