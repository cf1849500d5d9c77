"""How few training examples keep the model: accuracy, PIEs and the worst class against the share that is kept."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, Null, class_names, comparisons, mean_claim
from remnant.analyses.exemplar_measures import measure
from remnant.analyses.panels import SERIES, panels
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.stats.rates import rate_by_group
from remnant.stats.selection import smallest_share_interval
from remnant.stats.trial_intervals import mean_interval

QUESTION = "How few training examples keep the model, and which choice of them is best?"
_LABEL = re.compile(r"selected-data\(method=([^,]+), share=([^,]+), selection=[0-9a-f]+\)")
_SHARE = "share of the training examples that are kept; no interval: fixed"


@dataclass(frozen=True)
class _Part:
    """One choice of training examples against all of them."""

    label: str
    method: str
    share: float
    train_examples: float
    seeds: tuple[int, ...]
    accuracy: NDArray[np.float64]
    change: NDArray[np.float64]
    """Accuracy minus that of the reference of the same seed, shape (seed,)."""
    class_change: NDArray[np.float64]
    """Shape (seed, class): the same for the accuracy on each class; classes without test examples left out."""
    classes: NDArray[np.object_]
    pies: int
    pies_by_chance: float
    pies_error: float

    @property
    def worst(self) -> int:
        """Place of the class whose mean accuracy falls most; the first of equal ones."""
        return int(self.class_change.mean(axis=0).argmin())


def run(
    population: xr.Dataset,
    *,
    reference: str = "dense",
    drops: tuple[float, ...] = (0.02, 0.05),
    null: Null = "auto",
    num_permutations: int = 200,
    seed: int = 0,
) -> Finding:
    """Models trained on chosen training examples ("selected-data") against models trained on all of them.

    Parameters
    ----------
    reference
        Label of the models that were trained on all examples.
    drops
        Falls of accuracy, as differences of shares, for which the smallest share is looked for.
    null, num_permutations, seed
        Of the number of PIEs by chance; see `remnant.analyses.comparison`.

    Raises
    ------
    NotApplicable
        If no models were trained on chosen examples.
    SchemaError
        If the seeds of a choice are not those of the reference.
    """
    chosen = [label for label in dict.fromkeys(population["scheme"].values.tolist()) if _LABEL.fullmatch(label)]
    if not chosen:
        raise NotApplicable(
            "Needs models trained on chosen training examples. Choose some with `remnant data select STORE`, and train "
            "on them: the command prints the scheme for the study."
        )
    keep = np.isin(population["scheme"].values, [reference, *chosen])
    found = comparisons(population.isel(trial=keep), reference, pairs=True)
    names = np.array(class_names(population), object)
    parts = sorted((_part(c, names, null, num_permutations, seed) for c in found), key=lambda p: (p.method, -p.share))
    tables = {
        "shares": pd.DataFrame([_row(part) for part in parts]),
        "smallest_shares": _smallest(parts, drops),
        "against_random": _against_random(parts),
    }
    base = (found[0].first == found[0].reference["label"].values).mean(axis=1)
    return Finding(
        analysis="sufficiency",
        question=QUESTION,
        parameters={
            "reference": reference, "drops": list(drops), "null": null, "num_permutations": num_permutations,
            "seed": seed, "reference_accuracy": float(base.mean()),
        },
        claims=tuple(claim for part in parts for claim in _claims(part, parts)),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(population, parts),
        cites=ANALYSIS.cites,
    )  # fmt: skip


def _part(comparison: Comparison, names: NDArray, null: Null, num_permutations: int, seed: int) -> _Part:
    match = _LABEL.fullmatch(comparison.scheme)
    assert match is not None
    label = comparison.reference["label"].values
    right, right_after = comparison.first == label, comparison.second == label
    held = np.unique(label)
    index = np.searchsorted(held, label)
    by_class = rate_by_group(right_after, index, len(held)) - rate_by_group(right, index, len(held))
    exemplars = measure(comparison, "most-probable", null, num_permutations, seed)
    side = comparison.compressed
    return _Part(
        label=comparison.scheme,
        method=match[1],
        share=float(match[2]),
        train_examples=float(side["included"].values.sum(axis=1).mean()) if "included" in side else np.nan,
        seeds=tuple(side["seed"].values.tolist()),
        accuracy=right_after.mean(axis=1),
        change=right_after.mean(axis=1) - right.mean(axis=1),
        class_change=by_class,
        classes=names[held],
        pies=exemplars.count,
        pies_by_chance=exemplars.null_mean,
        pies_error=exemplars.error,
    )


def _row(part: _Part) -> dict[str, Any]:
    change, worst = mean_interval(part.change), _worst_interval(part)
    return {
        "scheme": part.label,
        "method": part.method,
        "share": part.share,
        "train_examples": part.train_examples,
        "trials": len(part.change),
        "accuracy": float(part.accuracy.mean()),
        "accuracy_change": float(change.estimate),
        "low": float(change.low),
        "high": float(change.high),
        "pies": part.pies,
        "pies_by_chance": part.pies_by_chance,
        "worst_class": str(part.classes[part.worst]),
        "worst_class_change": worst[0],
        "worst_class_low": worst[1],
        "worst_class_high": worst[2],
    }


def _worst_interval(part: _Part) -> tuple[float, float, float]:
    """Change of the worst class with an interval that holds for all classes together (Bonferroni)."""
    found = mean_interval(part.class_change, level=1 - 0.05 / part.class_change.shape[1])
    return tuple(float(values[part.worst]) for values in (found.estimate, found.low, found.high))  # pyright: ignore


def _smallest(parts: list[_Part], drops: tuple[float, ...]) -> pd.DataFrame:
    """For each method and drop, where the accuracy falls by exactly the drop, between the shares of the population."""
    rows = []
    for method in dict.fromkeys(part.method for part in parts):
        mine = sorted((p for p in parts if p.method == method and p.share < 1), key=lambda p: p.share)
        if not mine or len({part.share for part in mine}) < len(mine) or len({part.seeds for part in mine}) > 1:
            continue
        shares = [*(part.share for part in mine), 1.0]
        changes = np.stack([*(part.change for part in mine), np.zeros(len(mine[0].change))], axis=1)
        for drop in drops:
            found = smallest_share_interval(shares, changes, drop)
            rows.append(
                {
                    "method": method,
                    "allowed_drop": drop,
                    "share": float(found.estimate),
                    "low": float(found.low),
                    "high": float(found.high),
                    "smaller_may_do": bool(found.estimate <= shares[0]),
                    "tested_shares": len(mine),
                    "trials": len(mine[0].change),
                }
            )
    return pd.DataFrame(rows)


def _rival(part: _Part, parts: list[_Part]) -> _Part | None:
    """The random choice of as many examples, with the same seeds; None if there is none."""
    same = [p for p in parts if p.method == "random" and abs(p.share - part.share) < 1e-3 and p.seeds == part.seeds]
    return same[0] if same and part.method != "random" else None


def _against_random(parts: list[_Part]) -> pd.DataFrame:
    rows = []
    for part in parts:
        rival = _rival(part, parts)
        if rival is None:
            continue
        found = mean_interval(part.accuracy - rival.accuracy)
        rows.append(
            {
                "scheme": part.label,
                "method": part.method,
                "share": part.share,
                "removed_share": 1 - part.share,
                "accuracy_change": float(part.change.mean()),
                "random_accuracy_change": float(rival.change.mean()),
                "difference": float(found.estimate),
                "low": float(found.low),
                "high": float(found.high),
                "pies": part.pies,
                "random_pies": rival.pies,
                "trials": len(part.change),
            }
        )
    return pd.DataFrame(rows)


def _claims(part: _Part, parts: list[_Part]) -> list[Claim]:
    trials, label = len(part.change), part.label
    worst, low, high = _worst_interval(part)
    known = bool(np.isfinite(low) and np.isfinite(high) and high > low)
    pairs = "minus that of the models trained on all examples, mean over pairs of the same seed"
    reach = 1.96 * part.pies_error
    claims = [
        Claim("kept_share", label, part.share, None, None, trials, "trial", _SHARE, "joseph2020correctness", "share"),
        mean_claim("kept_accuracy", label, part.accuracy, "trial", method="test accuracy, mean over trials"),
        mean_claim("kept_accuracy_change", label, part.change, "pair", method=f"test accuracy {pairs}", scale="points"),
        Claim(
            "kept_pie_count",
            label,
            float(part.pies),
            max(0.0, part.pies - reach) if np.isfinite(reach) else None,
            part.pies + reach if np.isfinite(reach) else None,
            trials,
            "pair",
            "test examples whose modal label differs from that of the models trained on all examples; "
            + ("normal interval from random halves" if np.isfinite(reach) else "no interval: too few trials"),
            "hooker2019what",
        ),
        Claim(
            "kept_worst_class_change",
            label,
            worst,
            low if known else None,
            high if known else None,
            trials,
            "pair",
            f"accuracy on the class that loses most, {pairs}; "
            + ("t interval that holds for all classes together" if known else "no interval: no spread between pairs"),
            scale="points",
            detail=str(part.classes[part.worst]),
        ),
    ]
    rival = _rival(part, parts)
    if rival is not None:
        method = "test accuracy minus that of models trained on as many random examples, mean over pairs of a seed"
        difference = part.accuracy - rival.accuracy
        cite = "feldman2020what, section 3" if part.method == "memorization-easy" else ""
        claims.append(
            mean_claim(
                "accuracy_against_random", label, difference, "pair", method=method, citation=cite, scale="points"
            )
        )
    return claims


def _caveats(population: xr.Dataset, parts: list[_Part]) -> tuple[str, ...]:
    caveats = [
        "The test set is fixed: intervals over pairs say how results vary with the seed and, for random choices, with "
        "the draw; not with other test examples.",
        "Scores were computed once: intervals do not hold what other scores of the same kind would choose.",
        "The smallest share lies between tested shares, on the accuracy of all test examples, and is a description; "
        "`remnant.sufficient.search` keeps half of the test examples apart for the report.",
    ]
    recipe = population.attrs.get("recipe")
    if isinstance(recipe, dict) and "steps" not in recipe:
        caveats.append(
            "The recipe counts epochs: models on fewer examples also trained for fewer steps, and some of their loss "
            "is due to that. Fix the number of `steps` to tell the two apart."
        )
    if any(len(part.change) < 2 for part in parts):
        caveats.append("There is one model a side: nothing can be said on what another seed would change.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Accuracy and number of PIEs against the share kept, one line for each way to choose."""
    table = finding.tables["shares"]
    upper, lower = panels(3.0, 2.2)
    full = 100 * float(finding.parameters["reference_accuracy"])
    for place, (method, rows) in enumerate(table.groupby("method", sort=False)):
        colour = SERIES[place % len(SERIES)]
        rows = rows.sort_values("share")
        share, accuracy = 100 * rows["share"].to_numpy(float), 100 * rows["accuracy"].to_numpy(float)
        low, high = (full + 100 * rows[end].to_numpy(float) for end in ("low", "high"))
        known = np.isfinite(low) & np.isfinite(high)
        upper.plot(share, accuracy, marker="o", markersize=4, color=colour, label=str(method))
        upper.vlines(share[known], low[known], high[known], color=colour, linewidth=1, alpha=0.6)
        lower.plot(share, rows["pies"].to_numpy(float), marker="o", markersize=4, color=colour)
    upper.axhline(full, color="#777777", linestyle="--", label="all examples")
    upper.set_ylabel("test accuracy (%)")
    upper.legend(frameon=False, fontsize=8)
    lower.set_ylabel("PIEs")
    lower.set_ylim(bottom=0)
    lower.set_xlabel("training examples kept (%)")
    for axes in (upper, lower):
        axes.set_xscale("log")
        ticks = sorted({round(100 * value, 4) for value in table["share"]} | {100.0})
        shown = ticks if len(ticks) <= 8 else ticks[:: -(-len(ticks) // 8)]
        axes.set_xticks(shown, [f"{tick:.3g}" for tick in shown])
        axes.minorticks_off()
    return upper


ANALYSIS = Analysis(
    name="sufficiency",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("logits", "label"),
    cites=(
        "joseph2020correctness", "toneva2019empirical", "paul2021deep", "pleiss2020identifying", "sorscher2022beyond",
        "zheng2023coverage", "feldman2020what", "hooker2019what",
    ),
)  # fmt: skip
