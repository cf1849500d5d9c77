"""Tables of costs: by scheme and distance, flips by how far they lead, between which classes, and the worst ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.cost_measures import Cost, Measure, Pairs
from remnant.analyses.examples import text_lines
from remnant.finding import Exhibit
from remnant.stats.cost import costs

_MOST_FLOWS = 50
_MOST_EXHIBITS = 24

Across = tuple[Measure, NDArray[np.float64]]


def scheme_table(
    found: Mapping[tuple[str, str], Cost],
    between: Mapping[str, Cost],
    across: Mapping[str, Across],
    floor: Across | None,
    meanings: Mapping[str, str],
) -> pd.DataFrame:
    """One row for each scheme and distance."""
    rows = []
    for (scheme, distance), part in found.items():
        row: dict[str, Any] = {"scheme": scheme, "distance": distance, "pairs": len(part.cost.values)}
        row |= _spread("cost", part.cost) | _spread("severity", part.severity)
        row["severity_by_chance"] = _mean(part.severity_by_chance)
        noise = between.get(distance)
        row["cost_between_seeds"] = noise.cost.mean if noise else np.nan
        row["severity_between_seeds"] = noise.severity.mean if noise else np.nan
        if part.change is not None and part.before is not None and part.after is not None:
            row |= {"mistake_cost_reference": _mean(part.before), "mistake_cost_compressed": _mean(part.after)}
            row |= _spread("mistake_cost_change", part.change)
        if scheme in across:
            share, chance = across[scheme]
            row |= _spread("flips_across_superclasses", share)
            row["flips_across_superclasses_by_chance"] = _mean(chance)
            row["flips_across_superclasses_between_seeds"] = floor[0].mean if floor else np.nan
        rows.append(row | {"meaning": meanings[distance]})
    return pd.DataFrame(rows)


def level_table(
    pairs: Mapping[str, Pairs], noise: Pairs | None, known: Mapping[str, NDArray[np.float64]]
) -> pd.DataFrame:
    """Share of flips at each distance, for distances with few values."""
    rows = []
    sides = {**pairs, **({"between seeds of the reference": noise} if noise else {})}
    for scheme, of in sides.items():
        for distance, matrix in known.items():
            values = np.unique(matrix[matrix > 0])
            counts = np.zeros(len(values))
            for first, second in zip(of.first, of.second, strict=True):
                flip = first != second
                # Distances of 0 between two classes are below all values.
                level = np.searchsorted(values, costs(second[flip], first[flip], matrix))
                counts += np.bincount(level, minlength=len(values))[: len(values)]
            for value, count in zip(values, counts, strict=True):
                row = {"scheme": scheme, "distance": distance, "value": value, "flips": count / len(of.first)}
                rows.append(row | {"share_of_flips": count / counts.sum() if counts.any() else np.nan})
    return pd.DataFrame(rows)


def flow_table(pairs: Mapping[str, Pairs], distance: NDArray[np.float64], names: Sequence[str]) -> pd.DataFrame:
    """From which class to which flips go and what that costs, the most costly first, means over pairs."""
    num, frames = len(names), []
    for scheme, of in pairs.items():
        count, weight = np.zeros(num * num), np.zeros(num * num)
        for first, second in zip(of.first, of.second, strict=True):
            flip = np.flatnonzero(first != second)
            way = first[flip].astype(np.int64) * num + second[flip]
            count += np.bincount(way, minlength=num * num)
            weight += np.bincount(way, weights=of.weights[flip], minlength=num * num)
        far = distance.T.ravel()
        total = far * weight / len(of.first)
        order = np.argsort(-total, kind="stable")[: min(_MOST_FLOWS, np.count_nonzero(count))]
        table = {
            "scheme": scheme,
            "from_class": [names[way // num] for way in order.tolist()],
            "to_class": [names[way % num] for way in order.tolist()],
            "flips": count[order] / len(of.first),
            "distance": far[order],
            "cost": total[order],
            "share_of_cost": total[order] / total.sum() if total.any() else np.nan,
        }
        frames.append(pd.DataFrame(table))
    return pd.concat(frames, ignore_index=True)


def gallery(
    population: xr.Dataset, pairs: Pairs, distance: NDArray[np.float64], names: Sequence[str]
) -> tuple[Exhibit, ...]:
    """The examples whose answers moved farthest, mean over pairs."""
    value = np.mean([costs(b, a, distance) for a, b in zip(pairs.first, pairs.second, strict=True)], axis=0)
    order = np.argsort(-value, kind="stable")[: min(_MOST_EXHIBITS, np.count_nonzero(value))]
    ids, exhibits = population["example"].values, []
    for row in order.tolist():
        lines = [] if pairs.label is None else [f"true: {names[int(pairs.label[row])]}"]
        lines += [f"reference: {names[_most(pairs.first, row)]}", f"compressed: {names[_most(pairs.second, row)]}"]
        lines.append(f"distance: {value[row]:.2f}")
        exhibits.append(Exhibit("test", str(ids[row]), (*lines, *text_lines(population, row)), float(value[row])))
    return tuple(exhibits)


def _most(answers: Sequence[NDArray[np.integer]], row: int) -> int:
    return int(np.bincount([answer[row] for answer in answers]).argmax())


def _spread(name: str, found: Measure) -> dict[str, float]:
    low, high = found.interval or (np.nan, np.nan)
    return {name: found.mean, f"{name}_low": low, f"{name}_high": high}


def _mean(values: NDArray[np.float64]) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if len(defined) else np.nan
