"""Whether compressed models are easier or harder to attack, and whether attacks carry over."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.adversarial_claims import (
    accuracy_claims,
    budget_text,
    masked_claims,
    seed_claims,
    seed_transfer_claims,
    transfer_claims,
)
from remnant.analyses.adversarial_measures import (
    Check,
    Pairs,
    Side,
    Transfer,
    between_seeds,
    check,
    headline,
    pairs,
    strongest,
    transfers,
)
from remnant.analyses.adversarial_tables import (
    attack_table,
    example_table,
    gradient_table,
    lost_gallery,
    model_table,
    scheme_table,
    transfer_table,
    withstood,
)
from remnant.analyses.comparison import class_names
from remnant.analyses.panels import SERIES, legend_above, panels, short
from remnant.finding import Analysis, Finding
from remnant.population import probed

QUESTION = "Are compressed models easier to attack, and do attacks on one model fool the other?"


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    budget: float | None = None,
    rows: int = 500,
    gallery: int = 12,
) -> Finding:
    """Accuracy under attack by budget, its change with compression, and transfer of attacks in both directions.

    Beside them stand the difference between reference models of other seeds, and a check whether gradients are
    masked.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    budget
        The budget that claims are on, one of those probed, in 1/255 of the range of a pixel; default the one at which
        the reference models keep closest to half of their accuracy.
    rows
        Most examples to list for each scheme, those that lose most first.
    gallery
        Most examples to show for each scheme.

    Raises
    ------
    ValueError
        If `budget` was not probed.
    NotApplicable
        If no model of the reference or of a compressed scheme was probed, or they share no seed.
    SchemaError
        If the models were not probed under attack.
    """
    measured = probed(population, "adversarial")
    base, found = pairs(measured, population, reference)
    right = strongest(base)
    place = headline(right) if budget is None else _place(base, budget)
    names = class_names(measured)
    examples = {pair.scheme: example_table(pair, measured, names) for pair in found}
    carried = {pair.scheme: transfers(pair) for pair in found}
    seeds = between_seeds(base)
    claims = [*seed_claims(base, right, place), *seed_transfer_claims(base.scheme, seeds, place, base.budgets[place])]
    for pair in found:
        claims += accuracy_claims(pair, place)
        claims += transfer_claims(pair.scheme, carried[pair.scheme], place, base.budgets[place])
        claims += masked_claims(pair)
    tables = {
        "schemes": _joined([scheme_table(pair) for pair in found]),
        "attacks": _joined([attack_table(pair) for pair in found]),
        "transfer": _joined(_transfer_tables(base, carried, seeds)),
        "gradients": _joined([gradient_table(pair) for pair in found]),
        "models": model_table(base, found, right),
        "examples": _joined([table.head(max(rows, 0)) for table in examples.values()]),
    }
    return Finding(
        analysis="adversarial",
        question=QUESTION,
        parameters={"reference": base.scheme, "budget": base.budgets[place], "rows": rows, "gallery": gallery},
        claims=tuple(claims),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(base, found, seeds, place, budget is None),
        galleries={
            f"Easiest to attack after compression: {scheme}": exhibits
            for scheme, table in examples.items()
            if (exhibits := lost_gallery(table, base.budgets, max(gallery, 0)))
        },
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """What each probed example withstands, mean over pairs: name to ids and values.

    "adversarial_withstood": share of the budgets that it withstands on the reference models, in [0, 1];
    "adversarial_withstood_change": that on the compressed models minus it.
    """
    measured = probed(population, "adversarial")
    pair = next((pair for pair in pairs(measured, population)[1] if pair.scheme == scheme), None)
    if pair is None:
        return {}
    first, second = map(withstood, pair.right())
    ids = measured["example"].values
    return {"adversarial_withstood": (ids, first), "adversarial_withstood_change": (ids, second - first)}


def _place(base: Side, budget: float) -> int:
    if budget not in base.budgets[1:]:
        raise ValueError(f"Expected `budget` to be one of those probed, {list(base.budgets[1:])}, but got {budget!r}.")
    return base.budgets.index(budget)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _transfer_tables(base: Side, carried: dict[str, dict[str, Transfer]], seeds: Transfer | None) -> list[pd.DataFrame]:
    tables = [transfer_table(scheme, found, base.budgets) for scheme, found in carried.items() if found]
    return tables if seeds is None else [transfer_table(base.scheme, {"between seeds": seeds}, base.budgets), *tables]


def _caveats(
    base: Side, found: list[Pairs], seeds: Transfer | None, place: int, chosen: bool
) -> tuple[str, ...]:  # fmt: skip
    caveats = [
        "Attacks find upper bounds: with more steps, restarts and queries they break more. The settings of the probe "
        "are small; read differences between models, and never an accuracy as proof of robustness.",
    ]
    if chosen:
        caveats.append(
            f"Claims are on the budget {budget_text(base.budgets[place])}, at which the reference models keep closest "
            "to half of their accuracy; the tables hold all budgets."
        )
    models = {base.scheme: check(base), **{pair.scheme: pair.check for pair in found}}
    caveats += [_masked_caveat(scheme, checked) for scheme, checked in models.items() if checked.masked]
    if seeds is None:
        caveats.append(
            "Transfer between reference models of other seeds was not measured: how much of the transfer any two "
            "trained models share is not known. The baseline given is the difference of accuracy between seeds."
        )
    if len(base.seeds) < 2:
        caveats.append(
            f"There is one probed {base.scheme} model: how far another seed would lie is not known. Train more seeds."
        )
    if unpaired := [f"{pair.scheme} ({pair.left_out})" for pair in found if pair.left_out]:
        caveats.append(f"Models without a probed reference of their seed are left out: {', '.join(unpaired)}.")
    return tuple(caveats)


def _masked_caveat(scheme: str, checked: Check) -> str:
    followed = checked.followed
    if "straight-through" in followed:
        how = (
            "Attacks took rounding as the identity instead (straight-through gradients), beside random search and "
            "transfer from the reference."
        )
    elif "reference" in followed:
        how = "Attacks followed the gradients of the reference model instead, beside random search."
    elif "masked" in followed:
        how = "There was no other gradient to follow: attacks along them are left out."
    else:
        how = "Attacks without gradients break examples that attacks along them do not; the strongest attack has both."
    return (
        f"Masked gradients in {scheme}: the gradients of its models do not say how their answers change, and what "
        f"withstands an attack along them need not be robust. {how}"
    )


def plot(finding: Finding) -> Any:
    """Accuracy under the strongest attack by budget: the reference and each scheme; open marks for masked gradients."""
    table, models = finding.tables["schemes"], finding.tables["models"]
    (axes,) = panels(3.6)
    base = str(finding.parameters["reference"])
    budgets = sorted(set(table["budget"]))
    own = models.loc[models["scheme"] == base].groupby("budget")["accuracy"]
    axes.plot(range(len(budgets)), 100 * own.mean().loc[budgets], "o-", color="#555555", label=base, linewidth=2)
    ends = [100 * end.loc[budgets] for end in (own.min(), own.max())]
    axes.fill_between(range(len(budgets)), *ends, color="#999999", alpha=0.25, linewidth=0)
    for number, (scheme, part) in enumerate(table.groupby("scheme", sort=False)):
        colour = SERIES[number % len(SERIES)]
        face = "none" if part["masked_gradients"].tolist()[0] else colour
        place = [budgets.index(budget) for budget in part["budget"]]
        accuracy = 100 * part["compressed_accuracy"]
        axes.plot(
            place, accuracy, "s-", color=colour, markerfacecolor=face, label=short(str(scheme)).replace("\n", " ")
        )
    axes.set_xticks(range(len(budgets)), [f"{budget:g}" for budget in budgets])
    axes.set_xlabel("most change of a pixel (1/255)")
    axes.set_ylabel("accuracy under attack (%)")
    axes.set_ylim(-2, 102)
    legend_above(axes, columns=1)
    return axes


ANALYSIS = Analysis(
    name="adversarial",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("adversarial",),
    cites=(
        "zhao2018compress",
        "goodfellow2015explaining",
        "madry2018towards",
        "croce2020reliable",
        "andriushchenko2020square",
        "athalye2018obfuscated",
    ),
    pace=0.6,
)
