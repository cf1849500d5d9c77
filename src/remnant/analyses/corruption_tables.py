"""Tables of the answers on corrupted images, and the examples that compression forgets under shift."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.corruption_claims import ends
from remnant.analyses.corruption_measures import Noise, Part
from remnant.analyses.mismatch_measures import over_pairs
from remnant.finding import Exhibit


def scheme_row(part: Part, noise: Noise | None) -> dict[str, Any]:
    """The row of a scheme in the main table."""
    row: dict[str, Any] = {"scheme": part.comparison.scheme, part.unit + "s": len(part.mismatch)}
    for k, scores in part.top.items():
        row |= _relative(f"corrupted_top{k}", scores.overall)
        if scores.clean_relative is not None:
            row |= _relative(f"clean_top{k}", scores.clean_relative)
    error, relative = part.top[1].error.mean(), part.top[1].relative_error
    row["mean_corruption_error"] = float(error.estimate)
    row["relative_mean_corruption_error"] = np.nan if relative is None else float(relative.mean().estimate)
    row["corrupted_cie_rate"] = float(part.mismatch.mean())
    row["corrupted_cie_rate_null"] = np.nan if noise is None else over_pairs(noise.mismatch.mean(axis=(2, 3)))[0]
    row["clean_cie_rate"] = np.nan if part.clean_mismatch is None else float(part.clean_mismatch.mean())
    row["corrupted_cie_u_rate"] = float(part.harmful.mean())
    row["corrupted_pie_rate"] = np.nan if part.exemplars is None else float(part.exemplars.mean())
    row["clean_pie_rate"] = np.nan if part.clean_exemplars is None else float(part.clean_exemplars.mean())
    return row


def corruption_table(part: Part, noise: Noise | None) -> pd.DataFrame:
    """Table 3 of Hooker et al.: accuracy and accuracy relative to the reference by corruption, mean over severities."""
    columns: dict[str, Any] = {"scheme": part.comparison.scheme, "corruption": list(part.corruptions)}
    for k, scores in part.top.items():
        columns[f"reference_top{k}"] = scores.first.mean(axis=(0, 2))
        columns[f"top{k}"] = scores.second.mean(axis=(0, 2))
        value, low, high = ends(scores.relative, offset=1)
        columns |= {f"top{k}_relative": value, f"top{k}_relative_low": low, f"top{k}_relative_high": high}
    columns["corruption_error"] = part.top[1].error.estimate
    columns |= _mismatch_columns(part, noise, severities=False)
    return pd.DataFrame(columns)


def severity_table(part: Part, noise: Noise | None) -> pd.DataFrame:
    """The same by corruption and severity."""
    number = len(part.severities)
    columns: dict[str, Any] = {
        "scheme": part.comparison.scheme,
        "corruption": np.repeat(part.corruptions, number).tolist(),
        "severity": np.tile(part.severities, len(part.corruptions)),
    }
    for k, scores in part.top.items():
        one, two = (side.mean(axis=0).ravel() for side in (scores.first, scores.second))
        columns |= {f"reference_top{k}": one, f"top{k}": two}
        columns[f"top{k}_relative"] = np.divide(two, one, out=np.full(one.shape, np.nan), where=one > 0) - 1
    columns |= _mismatch_columns(part, noise, severities=True)
    return pd.DataFrame(columns)


def forgotten(part: Part, most: int) -> NDArray[np.intp]:
    """Places of the examples with most harmful flips under shift, highest first; among equals by their ids."""
    share = part.by_example["harmful"]
    ids = part.comparison.reference["example"].values
    order = np.lexsort((ids, part.by_example["compressed"], -share))
    return order[share[order] > 0][:most]


def example_table(part: Part, rows: NDArray[np.intp], names: list[str]) -> pd.DataFrame:
    """The examples in these places: shares over corruptions, severities and pairs."""
    reference = part.comparison.reference
    columns: dict[str, Any] = {
        "scheme": part.comparison.scheme,
        "example": reference["example"].values[rows].tolist(),
        "label": [names[i] for i in reference["label"].values[rows]],
        "harmful_share": part.by_example["harmful"][rows],
        "mismatch_share": part.by_example["mismatch"][rows],
        "reference_right_share": part.by_example["reference"][rows],
        "right_share": part.by_example["compressed"][rows],
    }
    if "clean_prediction" in reference:
        pairs = np.array(part.comparison.pairs)
        one, two = reference["clean_prediction"].values, part.comparison.compressed["clean_prediction"].values
        columns["clean_mismatch_share"] = (one[pairs[:, 0]][:, rows] != two[pairs[:, 1]][:, rows]).mean(axis=0)
    return pd.DataFrame(columns)


def gallery(part: Part, rows: NDArray[np.intp], names: list[str]) -> tuple[Exhibit, ...]:
    """The examples in these places, as they are without corruption."""
    reference = part.comparison.reference
    ids, labels, shares = reference["example"].values, reference["label"].values, part.by_example
    return tuple(
        Exhibit(
            "test",
            str(ids[row]),
            (
                f"true: {names[labels[row]]}",
                f"{part.comparison.reference_label}: right on {100 * shares['reference'][row]:.0f} % when corrupted",
                f"{part.comparison.scheme}: right on {100 * shares['compressed'][row]:.0f} %",
            ),
            float(shares["harmful"][row]),
        )
        for row in rows
    )


def _relative(name: str, found: Any) -> dict[str, float]:
    value, low, high = (float(x) for x in ends(found, offset=1))
    return {f"{name}_relative": value, f"{name}_relative_low": low, f"{name}_relative_high": high}


def _mismatch_columns(part: Part, noise: Noise | None, *, severities: bool) -> dict[str, Any]:
    def cells(values: NDArray) -> NDArray[np.float64]:
        """Mean over all but corruption and severity, which are last; over severities too if they are left out."""
        found = values.mean(axis=tuple(range(values.ndim - 2)))
        return found.ravel() if severities else found.mean(axis=1)

    columns = {"cie_rate": cells(part.mismatch)}
    if noise is not None:
        others = ~np.eye(len(noise.mismatch), dtype=bool)
        columns["cie_rate_null"] = cells(noise.mismatch[others])
    columns["cie_u_rate"] = cells(part.harmful)
    if part.exemplars is not None:
        columns["pie_rate"] = cells(part.exemplars)
    return columns
