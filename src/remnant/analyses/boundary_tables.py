"""Tables and pictures of the distances to the decision boundary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.boundary_claims import Estimate
from remnant.analyses.boundary_measures import Change, Part, Sides
from remnant.finding import Exhibit


def scheme_row(part: Part, found: Mapping[str, Estimate], null: Mapping[str, Estimate]) -> dict[str, Any]:
    """The row of a scheme and a measure in the main table; beside each statistic that between seeds."""
    row: dict[str, Any] = {
        "scheme": part.scheme,
        "measure": part.measure,
        "pairs": len(part.changes),
        "examples": int(np.mean([change.num for change in part.changes])),
        "reference_median": _mean([change.reference_median for change in part.changes]),
        "compressed_median": _mean([change.compressed_median for change in part.changes]),
        "reference_mean": _mean([change.reference_mean for change in part.changes]),
        "compressed_mean": _mean([change.compressed_mean for change in part.changes]),
    }
    for name in ("ratio", "correlation", "preserved", "factor", "cie_nearer"):
        one = found.get(name)
        row[name] = np.nan if one is None else one.value
        row[f"{name}_low"] = np.nan if one is None or one.low is None else one.low
        row[f"{name}_high"] = np.nan if one is None or one.high is None else one.high
        row[f"{name}_null"] = null[name].value if name in null else np.nan
    return row


def factor_rows(part: Part, null: Mapping[Any, Change]) -> list[dict[str, Any]]:
    """Share preserved by factor, mean over pairs, and between models of other seeds."""
    return [
        {
            "scheme": part.scheme,
            "measure": part.measure,
            "factor": factor,
            "preserved": _mean([change.preserved[factor] for change in part.changes]),
            "preserved_null": _mean([change.preserved[factor] for change in null.values()]),
        }
        for factor in part.changes[0].preserved
    ]


def distance_rows(found: Sides) -> list[tuple[str, str, NDArray[np.float64], int]]:
    """(measure, label, median over examples of each model, number of examples) of the reference and each scheme."""
    first = found.comparisons[0]
    every = [(first.reference_label, first.reference), *((c.scheme, c.compressed) for c in found.comparisons)]
    rows = []
    for measure in found.measures:
        for label, side in every:
            own = found.distances(side, measure)
            if own.measured.any():
                rows.append((measure, label, np.median(own.values[own.measured], axis=1), own.values.shape[1]))
    return rows


def beyond_limit(found: Sides) -> float:
    """Share of (model, example, direction) without another answer within the limit."""
    return float(1 - found.probe["random_found"].values.mean())


def example_table(found: Sides, parts: Sequence[Part], names: Sequence[str]) -> pd.DataFrame:
    """Every probed example under one scheme: distances before and after, mean over pairs; most shortened first."""
    first = parts[0]
    table: dict[str, Any] = {"scheme": first.scheme, "example": found.probe["example"].values}
    if "label" in found.probe:
        table["class"] = np.array(names)[found.probe["label"].values]
    table["another_answer"] = first.mismatch.mean(axis=0)
    for part in parts:
        table[f"reference_{part.measure}"] = part.reference.mean(axis=0)
        table[f"compressed_{part.measure}"] = part.compressed.mean(axis=0)
        table[f"{part.measure}_ratio"] = geometric_mean(part.ratio)
    by = f"{first.measure}_ratio"
    return pd.DataFrame(table).sort_values(by, kind="stable", na_position="last", ignore_index=True)


def geometric_mean(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the pairs where the ratio is known, shape (example,); NaN where it is known of none."""
    known = np.isfinite(ratio)
    count = known.sum(axis=0)
    total = np.where(known, np.log(np.where(known, ratio, 1.0)), 0.0).sum(axis=0)
    return np.where(count > 0, np.exp(total / np.maximum(count, 1)), np.nan)


def scatter_table(
    found: Sides, shown: tuple[str, tuple[xr.Dataset, int], tuple[xr.Dataset, int]], most: int
) -> pd.DataFrame:
    """Distances along random directions in two models."""
    label, one, two = shown
    values = [found.distances(side, "random").values[trial] for side, trial in (one, two)]
    keys = [str(side["trial"].values[trial]) for side, trial in (one, two)]
    answers: dict[str, NDArray[np.integer]] = {}
    for c in found.comparisons:
        for side, rows in ((c.reference, c.first), (c.compressed, c.second)):
            answers |= dict(zip(map(str, side["trial"].values), rows, strict=True))
    table = {
        "scheme": label,
        "example": found.probe["example"].values,
        "reference": values[0],
        "compressed": values[1],
        "same_answer": answers[keys[0]][found.rows] == answers[keys[1]][found.rows],
    }
    return pd.DataFrame(table).head(most)


def nearing_gallery(found: Sides, parts: Sequence[Part], names: Sequence[str], most: int) -> tuple[Exhibit, ...]:
    """Examples whose distance along random directions shrinks most, with the same answer in all pairs."""
    part = parts[0]
    if part.measure != "random":
        return ()
    ratio = geometric_mean(part.ratio)
    ratio[~np.isfinite(part.ratio).all(axis=0)] = np.nan
    order = [i for i in np.argsort(ratio, kind="stable")[: max(most, 0)] if ratio[i] < 1]
    ids: NDArray[Any] = found.probe["example"].values
    label: NDArray[np.integer] | None = found.probe["label"].values if "label" in found.probe else None
    before, after = part.reference.mean(axis=0), part.compressed.mean(axis=0)
    return tuple(
        Exhibit(
            "test",
            str(ids[i]),
            (
                *(() if label is None else (f"true: {names[int(label[i])]}",)),
                f"distance before: {before[i]:.3g}",
                f"distance after: {after[i]:.3g}",
            ),
            float(ratio[i]),
        )
        for i in order
    )


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
