"""Tables of attacks on membership: by attack, by target model, the curves, and the training examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.membership_exposure import Exposure
from remnant.analyses.membership_measures import HEADLINE, LEVELS, Attack, Signals
from remnant.stats.rates import clopper_pearson
from remnant.stats.trial_intervals import mean_interval


def attack_table(attacks: Sequence[Attack], null: Sequence[Attack]) -> pd.DataFrame:
    """One row for each scheme, kind of shadow models and attack, and one for permuted membership."""
    rows = [_attack_row(part, part.shadows) for part in attacks]
    return pd.DataFrame([*rows, *(_attack_row(part, "permuted") for part in null)])


def _attack_row(part: Attack, shadows: str) -> dict[str, Any]:
    row: dict[str, Any] = {"scheme": part.scheme, "shadow_models": shadows, "attack": part.name}
    row |= {"targets": len(part.area), **_spread("auc", part.area)}
    for place, level in enumerate(LEVELS):
        name = f"tpr_at_fpr_{level:g}"
        row |= _spread(name, part.rates[:, place])
        row[f"{name}_threshold_of_others"] = float(part.calibrated[:, place, 0].mean())
        row[f"fpr_{level:g}_threshold_of_others"] = float(part.calibrated[:, place, 1].mean())
    row["advantage"] = float(part.advantage.mean())
    return row


def _spread(name: str, values: Any) -> dict[str, float]:
    found = mean_interval(values)
    return {name: float(found.estimate), f"{name}_low": float(found.low), f"{name}_high": float(found.high)}


def target_table(attacks: Sequence[Attack]) -> pd.DataFrame:
    """Each target model of each attack, with Clopper-Pearson intervals over its members."""
    frames = []
    for part in attacks:
        table: dict[str, Any] = {"scheme": part.scheme, "shadow_models": part.shadows, "attack": part.name}
        table |= {"subset": [key[0] for key in part.keys], "members": part.num_members, "others": part.num_others}
        table["auc"] = part.area
        for place, level in enumerate(LEVELS):
            low, high = clopper_pearson(part.found[:, place], part.num_members)
            name = f"tpr_at_fpr_{level:g}"
            table |= {name: part.rates[:, place], f"{name}_low": low, f"{name}_high": high}
            table[f"false_positives_{level:g}"] = part.false[:, place]
        frames.append(pd.DataFrame(table))
    return pd.concat(frames, ignore_index=True)


def curve_table(attacks: Sequence[Attack], null: Sequence[Attack]) -> pd.DataFrame:
    """Mean ROC curve over targets of the headline attack, at false positive rates evenly spaced in their logarithm."""
    chosen = [(part, part.shadows) for part in attacks if part.name == HEADLINE]
    frames = []
    for part, shadows in [*chosen, *((part, "permuted") for part in null[:1])]:
        table = {
            "scheme": part.scheme,
            "shadow_models": shadows,
            "false_positive_rate": part.grid,
            "true_positive_rate": part.curve.mean(axis=0),
        }
        frames.append(pd.DataFrame(table))
    return pd.concat(frames, ignore_index=True)


def example_table(
    population: xr.Dataset, exposures: Sequence[Exposure], parts: dict[str, Signals], names: Sequence[str]
) -> pd.DataFrame:
    """Each training example, the most exposed in the first scheme first; the other schemes beside it."""
    first = exposures[0]
    signals = parts[first.scheme]
    labels = population["train_label"].values[first.examples]
    table: dict[str, Any] = {
        "scheme": first.scheme,
        "train_example": population["train_example"].values[first.examples],
        "class": np.array(names, object)[labels],
        "exposure": first.value,
        "found_share": first.found,
        "false_share": first.false,
        "separation": first.separation,
        "models_in": signals.included.sum(axis=0),
        "models_out": (~signals.included).sum(axis=0),
    }
    if first.memorization is not None:
        table["memorization"] = first.memorization.value
        table["memorization_standard_error"] = first.memorization.standard_error
    for other in exposures[1:]:
        table[f"exposure in {other.scheme}"] = other.value
        table[f"separation in {other.scheme}"] = other.separation
    found = pd.DataFrame(table).dropna(subset=["exposure"])
    return found.sort_values(["exposure", "separation"], ascending=False, kind="stable", ignore_index=True)
