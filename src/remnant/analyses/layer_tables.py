"""Tables on the layers in which answers were lost."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from remnant.analyses.layer_measures import Part, Values, change_interval, share_interval


def layer_table(part: Part) -> pd.DataFrame:
    """One row for each layer, most harm alone first, then most harm taken away by restoring it.

    Rates are shares of the probed examples, counts means over pairs. NaN: the layer cannot be exchanged, or for
    decibels, there is no noise.
    """
    n = part.num_examples
    low, high, less, more = np.full((4, len(part.names)), np.nan)
    for layer in np.flatnonzero(part.is_known).tolist():
        low[layer], high[layer] = share_interval(part.lost_alone(layer)) or (np.nan, np.nan)
        ends = change_interval(part.lost, part.lost_restored(layer))
        less[layer], more[layer] = ends or (np.nan, np.nan)
    columns: dict[str, Any] = {
        "scheme": part.scheme,
        "layer": list(part.names),
        "place": np.arange(1, len(part.names) + 1),
        "cie_alone": n * part.mean("cie_alone"),
        "cie_u_alone": n * part.mean("cie_u_alone"),
        "cie_u_rate_alone": part.mean("cie_u_alone"),
        "cie_u_rate_alone_low": low,
        "cie_u_rate_alone_high": high,
        "cie_restored": n * part.mean("cie_restored"),
        "cie_u_restored": n * part.mean("cie_u_restored"),
        "regained": n * part.mean("regained"),
        "broken": n * part.mean("broken"),
        "cie_u_rate_change_restored": part.change,
        "cie_u_rate_change_restored_low": less,
        "cie_u_rate_change_restored_high": more,
        "local_snr_db": _finite(part.ratio("local")),
        "local_snr_flipped_db": _finite(part.ratio("local", flipped=True)),
        "accumulated_snr_db": _finite(part.ratio("accumulated")),
        "accumulated_snr_flipped_db": _finite(part.ratio("accumulated", flipped=True)),
        "reference_bytes": part.bytes[0],
        "compressed_bytes": part.bytes[1],
        "exchanged": part.is_known,
        "pairs": part.num_pairs,
    }
    table = pd.DataFrame(columns)
    order = ["cie_u_rate_alone", "cie_u_rate_change_restored", "place"]
    return table.sort_values(order, ascending=[False, True, True], ignore_index=True)


def scheme_row(part: Part) -> dict[str, Any]:
    """One row for the scheme: what is lost, by which layer, and what restoring the best one brings."""
    worst, best = _first(-part.mean("cie_u_alone")), _first(part.change)
    lost = part.mean("cie_u")
    alone = part.mean("cie_u_alone")[part.is_known].sum()
    row = {
        "scheme": part.scheme,
        "cie_rate": float(part.mean("cie")),
        "cie_u_rate": float(lost),
        "worst_layer_alone": "" if worst is None else part.names[worst],
        "its_cie_u_rate": np.nan if worst is None else part.mean("cie_u_alone")[worst],
        "best_layer_restored": "" if best is None else part.names[best],
        "its_cie_u_rate_change": np.nan if best is None else part.change[best],
        "sum_over_layers_alone": alone,
    }
    for name in ("weights", "activations"):
        answers = part.halves.get(name)
        flags = None if answers is None else (part.reference == part.label) & (answers != part.label)
        row[f"{name}_only_cie_u_rate"] = np.nan if flags is None else flags.mean()
    return row | {
        "layers": len(part.names),
        "exchanged_layers": int(part.is_known.sum()),
        "examples": part.num_examples,
        "pairs": part.num_pairs,
    }


def example_table(part: Part, ids: np.ndarray, names: Sequence[str]) -> pd.DataFrame:
    """One row for each lost example: in how many pairs, how many layers bring it back alone, and which does so most.

    Those that few layers bring back come first; then by their ids.
    """
    known = np.flatnonzero(part.is_known)
    lost = part.lost
    back = lost[:, None] & (part.restored == part.label)  # (pair, layer, example)
    rows = np.flatnonzero(lost.any(axis=0))
    times = back[:, known][:, :, rows].sum(axis=0)  # (layer, example)
    pairs = lost[:, rows].sum(axis=0)
    best = times.argmax(axis=0) if len(known) else np.zeros(len(rows), int)
    table = pd.DataFrame(
        {
            "scheme": part.scheme,
            "example": ids[rows],
            "true": np.asarray(names, object)[part.label[rows]],
            "lost_in_pairs": pairs,
            "layers_that_bring_it_back": times.sum(axis=0) / np.maximum(pairs, 1),
            "most_often": [
                part.names[known[place]] if len(known) and times[place, column] else ""
                for column, place in enumerate(best)
            ],
        }
    )
    return table.sort_values(
        ["lost_in_pairs", "layers_that_bring_it_back", "example"], ascending=[False, True, True], ignore_index=True
    )


def _finite(values: Values) -> Values:
    return np.where(np.isfinite(values), values, np.nan)


def _first(values: Values) -> int | None:
    """Place of the least value; None if none is known."""
    return None if np.isnan(values).all() else int(np.nanargmin(values))
