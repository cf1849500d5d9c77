"""Tables and galleries of the agreement of features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from remnant.analyses.feature_measures import BY_EXAMPLE, MEASURES, Agreement, Models, contrast
from remnant.finding import Exhibit


def scheme_rows(scheme: str, found: Agreement, between: Agreement) -> list[dict[str, Any]]:
    """One row for each measure: agreement with the reference, that between reference models, and on changed answers."""
    rows = []
    for measure in MEASURES:
        part = contrast(found, measure) if measure in BY_EXAMPLE else None
        null = contrast(between, measure) if measure in BY_EXAMPLE and between.pairs else None
        low, high = found.interval(measure) or (np.nan, np.nan)
        seeds_low, seeds_high = (between.interval(measure) if between.pairs else None) or (np.nan, np.nan)
        less, more = (part.interval if part else None) or (np.nan, np.nan)
        rows.append(
            {
                "scheme": scheme,
                "measure": measure,
                "value": found.mean(measure),
                "value_low": low,
                "value_high": high,
                "seeds": between.mean(measure) if between.pairs else np.nan,
                "seeds_low": seeds_low,
                "seeds_high": seeds_high,
                "value_cie": part.differing if part else np.nan,
                "value_other": part.alike if part else np.nan,
                "cie_minus_other": part.difference if part else np.nan,
                "cie_minus_other_low": less,
                "cie_minus_other_high": more,
                "cie_minus_other_seeds": null.difference if null else np.nan,
                "pairs": len(found.pairs),
            }
        )
    return rows


def pair_table(models: Models, scheme: str, found: Agreement) -> pd.DataFrame:
    """One row for each pair: the seeds of the two models, their agreement, and how many answers differ."""
    seed = models.measured["seed"].values
    return pd.DataFrame(
        {
            "scheme": scheme,
            "reference_seed": [int(seed[a]) for a, _ in found.pairs],
            "seed": [int(seed[b]) for _, b in found.pairs],
            **{measure: found.of_pairs(measure) for measure in MEASURES},
            "answers_differ": found.differ.sum(axis=1),
        }
    )


def class_table(
    models: Models, scheme: str, found: Agreement, between: Agreement, names: Sequence[str]
) -> pd.DataFrame:
    """One row for each class: mean agreement of its examples, with the reference and between reference models."""
    label = models.measured["label"].values
    sizes = np.bincount(label, minlength=len(names))
    columns: dict[str, Any] = {"scheme": scheme, "class": list(names), "examples": sizes}
    for measure in BY_EXAMPLE:
        columns[measure] = _by_class(found, measure, label, len(names))
        columns[f"{measure}_seeds"] = _by_class(between, measure, label, len(names))
    return pd.DataFrame(columns).loc[sizes > 0].reset_index(drop=True)


def example_table(
    models: Models, scheme: str, found: Agreement, between: Agreement, names: Sequence[str]
) -> pd.DataFrame:
    """One row for each probed example, those with the lowest cosine first; equal ones by their ids."""
    ids, label = models.measured["example"].values, models.measured["label"].values
    table = pd.DataFrame(
        {
            "scheme": scheme,
            "example": ids,
            "true": np.asarray(names, object)[label],
            **{f"feature_{measure}": found.of_examples(measure) for measure in BY_EXAMPLE},
            **{f"feature_{measure}_seeds": between.of_examples(measure) for measure in BY_EXAMPLE},
            "answer_changes": found.differ.sum(axis=0),
        }
    )
    return table.sort_values(["feature_cosine", "example"], ignore_index=True)


def changed_gallery(table: pd.DataFrame, num_pairs: int) -> tuple[Exhibit, ...]:
    """The examples of the table, in its order."""
    exhibits = []
    for row in table.to_dict("records"):
        if not np.isfinite(row["feature_cosine"]):
            continue
        seeds = row["feature_cosine_seeds"]
        beside = f", between seeds {seeds:.2f}" if np.isfinite(seeds) else ""
        lines = (
            f"true: {row['true']}",
            f"cosine: {row['feature_cosine']:.2f}{beside}",
            f"neighbours kept: {row['feature_neighbours']:.0%}",
            f"answer changes: in {row['answer_changes']} of {num_pairs}",
        )
        exhibits.append(Exhibit("test", str(row["example"]), lines, float(row["feature_cosine"])))
    return tuple(exhibits)


def _by_class(found: Agreement, measure: str, label: np.ndarray, num: int) -> np.ndarray:
    if not found.pairs:
        return np.full(num, np.nan)
    values = found.of_examples(measure)
    known = np.isfinite(values)
    total = np.bincount(label[known], weights=values[known], minlength=num)
    count = np.bincount(label[known], minlength=num)
    return np.divide(total, count, out=np.full(num, np.nan), where=count > 0)
