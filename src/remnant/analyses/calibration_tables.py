"""Tables of calibration: by scheme, changes, flipped answers, parts of the Brier score, reliability by bin."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from remnant.analyses.calibration_measures import KINDS, MEASURES, Change, Flips, Model
from remnant.stats.calibration import decomposition, squared_calibration_error
from remnant.stats.trial_intervals import mean_interval


class _Part(Protocol):
    @property
    def scheme(self) -> str: ...

    @property
    def changes(self) -> dict[str, Change]: ...


def scheme_table(
    sides: Mapping[str, Sequence[Model]], chance: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
) -> pd.DataFrame:
    """One row for each scheme, the reference first: means over its models."""
    rows = []
    for scheme, models in sides.items():
        row: dict[str, Any] = {"scheme": scheme, "models": len(models)}
        for measure in MEASURES:
            row[measure] = float(np.mean([model.values[measure] for model in models]))
            if (scheme, measure) in chance:
                row[f"{measure}_if_calibrated"] = float(np.mean([mean for mean, _ in chance[scheme, measure]]))
                # Several models have several p-values: the largest one is that of the best calibrated.
                row[f"{measure}_largest_p"] = max(p for _, p in chance[scheme, measure])
        rows.append(row)
    return pd.DataFrame(rows)


def change_table(
    reference: str, base: Sequence[Model], parts: Sequence[_Part], between: Mapping[str, float]
) -> pd.DataFrame:
    """One row for each scheme and measure."""
    rows = []
    for part in parts:
        for measure, meaning in MEASURES.items():
            found = part.changes[measure]
            rows.append(
                {
                    "scheme": part.scheme,
                    "measure": measure,
                    "reference": float(np.mean([model.values[measure] for model in base])),
                    "change": float(found.values.mean()),
                    "low": np.nan if found.low is None else found.low,
                    "high": np.nan if found.high is None else found.high,
                    "interval_over": f"{found.over}s",
                    "difference_between_seeds": between.get(measure, np.nan),
                    "meaning": meaning,
                }
            )
    return pd.DataFrame(rows)


def flip_table(flips: Mapping[str, Mapping[str, Flips]], seeds: Mapping[str, Flips]) -> pd.DataFrame:
    """Confidence on examples of each kind of mismatch; `seeds` is what two reference models differ in."""
    rows = [_flip_row(scheme, kind, found) for scheme, kinds in flips.items() for kind, found in kinds.items()]
    rows += [_flip_row("between seeds of the reference", kind, found) for kind, found in seeds.items()]
    return pd.DataFrame(rows)


def _flip_row(scheme: str, kind: str, found: Flips) -> dict[str, Any]:
    def mean(values: Any) -> float:
        return float(values[found.defined].mean()) if found.defined.any() else np.nan

    low, high = found.shift or (np.nan, np.nan)
    return {
        "scheme": scheme,
        "kind": kind,
        "meaning": KINDS[kind],
        "examples": float(found.examples.mean()),
        "reference_confidence": mean(found.first),
        "compressed_confidence": mean(found.second),
        "confidence_shift": mean(found.second - found.first),
        "shift_low": low,
        "shift_high": high,
        "true_probability_change": mean(found.true),
    }


def decomposition_table(sides: Mapping[str, Sequence[Model]]) -> pd.DataFrame:
    """The Brier score of the confidence in parts, means over models; bins of equal width."""
    rows = []
    for scheme, models in sides.items():
        parts = [decomposition(model.bins["ece"]) for model in models]
        row: dict[str, Any] = {"scheme": scheme, "brier_of_confidence": float(np.mean([part.score for part in parts]))}
        for name in ("reliability", "resolution", "uncertainty", "within"):
            row[name] = float(np.mean([getattr(part, name) for part in parts]))
        row["reliability_debiased"] = float(np.mean([squared_calibration_error(model.bins["ece"]) for model in models]))
        rows.append(row)
    return pd.DataFrame(rows)


def reliability_table(sides: Mapping[str, Sequence[Model]]) -> pd.DataFrame:
    """Mean confidence and accuracy of each bin with examples, over all models of a scheme together."""
    frames = []
    for scheme, models in sides.items():
        edges = models[0].edges["ece"]
        number = np.sum([model.bins["ece"].number for model in models], axis=0)
        keep = number > 0
        confidence = np.sum([model.bins["ece"].confidence for model in models], axis=0)[keep] / number[keep]
        accuracy = np.sum([model.bins["ece"].right for model in models], axis=0)[keep] / number[keep]
        spread = _accuracies(models)[keep]
        table = {
            "scheme": scheme,
            "confidence_low": edges[:-1][keep],
            "confidence_high": edges[1:][keep],
            "share": number[keep] / number.sum(),
            "mean_confidence": confidence,
            "accuracy": accuracy,
            "accuracy_low": spread[:, 0],
            "accuracy_high": spread[:, 1],
        }
        frames.append(pd.DataFrame(table))
    return pd.concat(frames, ignore_index=True)


def class_table(sides: Mapping[str, Sequence[Model]], names: Sequence[str]) -> pd.DataFrame:
    """Calibration of the probability of each class: its error, and its mean minus the class's share of the examples."""
    frames = []
    for scheme, models in sides.items():
        num_examples = len(models[0].answer)
        gaps = np.array([model.class_gaps for model in models]) / num_examples
        table = {
            "scheme": scheme,
            "class": list(names),
            "calibration_error": np.abs(gaps).sum(axis=2).mean(axis=0),
            "mean_probability_minus_share": -gaps.sum(axis=2).mean(axis=0),
        }
        frames.append(pd.DataFrame(table))
    return pd.concat(frames, ignore_index=True)


def _accuracies(models: Sequence[Model]) -> np.ndarray:
    """95 % t interval over models of the accuracy of each bin; NaN unless all models have examples there."""
    number = np.array([model.bins["ece"].number for model in models])
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.array([model.bins["ece"].right for model in models]) / number
    if len(models) < 2:
        return np.full((number.shape[1], 2), np.nan)
    found = mean_interval(accuracy)
    return np.stack([np.maximum(found.low, 0), np.minimum(found.high, 1)], axis=1)
