"""Tables and galleries on answers under attack."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.adversarial_claims import budget_text, interval_of
from remnant.analyses.adversarial_measures import STRONGEST, Pairs, Side, Transfer
from remnant.finding import Exhibit


def scheme_table(found: Pairs, *, attacks: Sequence[str] = (STRONGEST,)) -> pd.DataFrame:
    """Accuracy of both sides by attack and budget, the change and its interval."""
    rows = []
    for attack in attacks:
        first, second = found.right(attack)
        for place, budget in enumerate(found.reference.budgets):
            change, low, high = interval_of(first[..., place], second[..., place])
            rows.append(
                {
                    "scheme": found.scheme,
                    "attack": attack,
                    "budget": budget,
                    "pairs": len(first),
                    "examples": first.shape[1],
                    "reference_accuracy": float(first[..., place].mean()),
                    "compressed_accuracy": float(second[..., place].mean()),
                    "change": change,
                    "change_low": low,
                    "change_high": high,
                    "interval_over": "pairs" if len(first) > 1 else "examples",
                    "masked_gradients": found.check.masked,
                }
            )
    return pd.DataFrame(rows)


def attack_table(found: Pairs) -> pd.DataFrame:
    """As `scheme_table` for each attack that was made on both sides."""
    return scheme_table(found, attacks=found.attacks)


def transfer_table(subject: str, found: dict[str, Transfer], budgets: Sequence[float]) -> pd.DataFrame:
    """Share of attacks that fool another model, by direction and budget; NaN where no example is eligible."""
    rows = []
    for direction, counts in found.items():
        for place, budget in list(enumerate(budgets))[1:]:
            rates = counts.rates(place)
            rows.append(
                {
                    "scheme": subject,
                    "direction": direction,
                    "budget": budget,
                    "pairs": len(rates),
                    "eligible_examples": float(counts.eligible[:, place].mean()),
                    "transfer_rate": float(rates.mean()) if len(rates) else np.nan,
                    "transfer_rate_sd": float(rates.std(ddof=1)) if len(rates) > 1 else np.nan,
                }
            )
    return pd.DataFrame(rows)


def gradient_table(found: Pairs) -> pd.DataFrame:
    """What attacks along gradients break against what attacks without break, of all models of a scheme."""
    check = found.check
    return pd.DataFrame(
        {
            "scheme": found.scheme,
            "budget": found.compressed.budgets,
            "gradients_followed": ", ".join(check.followed),
            "broken_by_gradients_only": check.gradients_only,
            "broken_by_black_box_only": check.black_box_only,
            "mcnemar_p": check.p,
            "gradients_outdone": check.outdone,
        }
    )


def model_table(base: Side, found: Sequence[Pairs], right: NDArray[np.bool_]) -> pd.DataFrame:
    """Accuracy of each probed model by budget under the strongest attack."""
    models = [(base.scheme, base.seeds, right)]
    models += [(p.scheme, p.compressed.seeds, p.right()[1]) for p in found]
    return pd.DataFrame(
        [
            {"scheme": scheme, "seed": int(seed), "budget": budget, "accuracy": float(one[:, place].mean())}
            for scheme, seeds, rights in models
            for seed, one in zip(seeds, rights, strict=True)
            for place, budget in enumerate(base.budgets)
        ]
    )


def withstood(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of the budgets above 0 that each example withstands, mean over models, (example,); 0 if wrong as it is."""
    return right[..., 1:].mean(axis=(0, 2))


def example_table(found: Pairs, measured: xr.Dataset, names: Sequence[str]) -> pd.DataFrame:
    """What each probed example withstands before and after compression, the greatest losses first."""
    first, second = found.right()
    table = pd.DataFrame(
        {
            "scheme": found.scheme,
            "example": [str(name) for name in measured["example"].values],
            "class": [names[int(code)] for code in found.reference.label],
            "reference_accuracy": first[..., 0].mean(axis=0),
            "compressed_accuracy": second[..., 0].mean(axis=0),
            "reference_withstood": withstood(first),
            "compressed_withstood": withstood(second),
        }
    )
    table["withstood_change"] = table["compressed_withstood"] - table["reference_withstood"]
    return table.sort_values("withstood_change", kind="stable", ignore_index=True)


def lost_gallery(table: pd.DataFrame, budgets: Sequence[float], most: int) -> tuple[Exhibit, ...]:
    """Examples that both sides get right as they are and that withstand least after compression."""
    both = (table["reference_accuracy"] == 1) & (table["compressed_accuracy"] == 1) & (table["withstood_change"] < 0)
    chosen: list[dict[str, Any]] = table.loc[both].head(most).to_dict("records")
    number = len(budgets) - 1
    last = budget_text(budgets[-1])
    return tuple(
        Exhibit(
            "test",
            row["example"],
            (
                f"true: {row['class']}",
                f"reference: withstands {row['reference_withstood'] * number:.3g} of {number} budgets up to {last}",
                f"compressed: {row['compressed_withstood'] * number:.3g}",
            ),
            float(row["withstood_change"]),
        )
        for row in chosen
    )
