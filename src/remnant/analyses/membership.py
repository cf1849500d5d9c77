"""Whether a model tells on what it was trained on, and whether compression protects the training examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.comparison import class_names, mean_claim, stream
from remnant.analyses.membership_exposure import (
    Exposure,
    class_table,
    correlation_claim,
    exposure,
    forgotten_table,
    halves,
    memorization_table,
)
from remnant.analyses.membership_measures import (
    ATTACKS,
    HEADLINE,
    LEVELS,
    OWN,
    REFERENCE,
    Attack,
    Signals,
    attack,
    can_run,
    pair_up,
    signals,
    usable_probe,
)
from remnant.analyses.membership_tables import attack_table, curve_table, example_table, target_table
from remnant.analyses.panels import SERIES, legend_above, panels
from remnant.analyses.subset_trials import schemes_with_subsets
from remnant.finding import Analysis, Claim, Exhibit, Finding, NotApplicable
from remnant.population import reference_of
from remnant.stats.membership import permuted
from remnant.stats.rates import clopper_pearson

QUESTION = "Can it be told from a model's answers which examples it was trained on, and does compression protect them?"
_SOURCE = {"lira_online": "carlini2022membership", "rmia": "zarifzadeh2024low", "loss": "yeom2018privacy"}
_LEVEL_NAMES = {0.001: "0_1_percent", 0.01: "1_percent"}
_LEAST = 8
"""Models on subsets that an attack needs: a target and some shadow models with and without each example."""
_FEW = 64


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    attacks: Sequence[str] = ATTACKS,
    rows: int | None = 1000,
    gallery: int = 24,
    seed: int = 0,
) -> Finding:
    """How well attacks tell the training examples of each scheme's models from examples that they never saw.

    The models on random training subsets attack each other: each in turn is the target, the others are its shadow
    models. Targets of a compressed scheme are attacked with shadow models of that scheme and, where the same subsets
    were trained, with those of the reference.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    attacks
        Which of `ATTACKS` to run; "lira_online" is that of the claims and always run.
    rows
        Most rows of the table of examples, most exposed first; None for all.
    gallery
        Number of examples to show.
    seed
        Of the random membership that makes the null.

    Raises
    ------
    ValueError
        If an attack is unknown.
    NotApplicable
        If no scheme has 8 trials on random training subsets.
    """
    names = _checked(attacks)
    labels = [s for s in schemes_with_subsets(population, least=_LEAST) if not s.startswith("selected-data")]
    if not labels:
        raise NotApplicable(f"Needs at least {_LEAST} trials of one scheme on random training subsets.")
    base = reference_of(population) if reference is None else reference
    probe, why = usable_probe(population, labels)
    parts = {label: signals(population, label, probe=probe) for label in labels}
    found = _attacks(parts, base, names, seed)
    own = {a.scheme: a for a in found["true"] if a.name == HEADLINE and a.shadows == OWN}
    exposures = [exposure(population, parts[label], own[label]) for label in labels]
    tables = _tables(population, found, exposures, parts)
    examples = tables["examples"]
    tables["examples"] = examples.head(len(examples) if rows is None else rows)
    claims = _claims(found, base)
    for label in labels:
        if (correlation := halves(population, parts[label])) is not None:
            claims.append(correlation_claim(label, correlation))
    return Finding(
        analysis="membership",
        question=QUESTION,
        parameters={
            "reference": base,
            "attacks": list(names),
            "signal": parts[labels[0]].kind,
            "rows": rows,
            "gallery": gallery,
            "seed": seed,
        },
        claims=tuple(claims),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, found, base, why),
        galleries={f"Most exposed training examples: {labels[0]}": _gallery(examples.head(gallery))},
        cites=ANALYSIS.cites,
    )


def _checked(attacks: Sequence[str]) -> tuple[str, ...]:
    for name in attacks:
        if name not in ATTACKS:
            raise ValueError(f"Expected `attacks` to be among {list(ATTACKS)}, but got {name!r}.")
    return tuple(name for name in ATTACKS if name in attacks or name == HEADLINE)


def _attacks(parts: dict[str, Signals], base: str, names: tuple[str, ...], seed: int) -> dict[str, list[Attack]]:
    """All attacks with the true membership, and the headline attack with membership permuted."""
    true, null = [], []
    for label, target in parts.items():
        runs = [(target, target)]
        if base in parts and label != base:
            pair = pair_up(target, parts[base])
            runs += [pair] if pair[0].num_trials >= _LEAST else []
        for one, two in runs:
            true += [attack(one, two, name) for name in names if can_run(name, one) and (one is two or name != "loss")]
        dealt = permuted(target.included, stream(seed, "membership"))
        null.append(attack(target, target, HEADLINE, dealt))
    return {"true": true, "null": null}


def _tables(
    population: xr.Dataset, found: dict[str, list[Attack]], exposures: list[Exposure], parts: dict[str, Signals]
) -> dict[str, pd.DataFrame]:
    names = class_names(population)
    labels = population["train_label"].values
    return {
        "attacks": attack_table(found["true"], found["null"]),
        "targets": target_table(found["true"]),
        "curves": curve_table(found["true"], found["null"]),
        "examples": example_table(population, exposures, parts, names),
        "memorization": memorization_table(exposures),
        "forgotten": forgotten_table(population, exposures),
        "classes": class_table(exposures, labels, names),
    }


def _claims(found: dict[str, list[Attack]], base: str) -> list[Claim]:
    claims = []
    by = {(a.scheme, a.shadows, a.name): a for a in found["true"]}
    for (_, shadows, name), part in by.items():
        if shadows == OWN and name in (HEADLINE, "rmia", "loss"):
            claims += _measures(part, "" if name == HEADLINE else f"_{name}", name)
        elif name == HEADLINE:
            claims += _measures(part, f"_from_{REFERENCE}_models", name)
    for part in found["null"]:
        claims += _measures(part, "_null", HEADLINE, note="; with the membership of each example permuted over models")
    dense = by.get((base, OWN, HEADLINE))
    for (scheme, shadows, name), part in by.items():
        if dense is not None and name == HEADLINE and scheme != base:
            claims += _changes(part, dense, "_change" if shadows == OWN else f"_change_from_{REFERENCE}_models")
    return claims


def _measures(part: Attack, suffix: str, name: str, *, note: str = "") -> list[Claim]:
    how = f"attack {name} on each model with the others as shadow models{note}; mean over targets"
    citation = _SOURCE[name]
    claims = [
        mean_claim(
            f"membership_auc{suffix}", part.scheme, part.area, "trial", method=f"area under the ROC curve, {how}",
            citation=citation, scale="number",
        )
    ]  # fmt: skip
    for place, level in enumerate(LEVELS):
        method = f"share of members found at most {level:.1%} false positives, {how}"
        quantity = f"membership_tpr_at_{_LEVEL_NAMES[level]}_fpr{suffix}"
        claims.append(_rate_claim(quantity, part, place, method, citation))
    return claims


def _rate_claim(quantity: str, part: Attack, place: int, method: str, citation: str) -> Claim:
    rates = part.rates[:, place]
    if np.ptp(rates) > 0:
        return mean_claim(quantity, part.scheme, rates, "trial", method=method, citation=citation)
    # All targets alike, such as none found: the interval of one target still has a width.
    low, high = clopper_pearson(part.found[0, place], part.num_members[0])
    method += "; all targets alike: Clopper-Pearson interval over the members of one"
    count = int(part.num_members[0])
    return Claim(
        quantity, part.scheme, float(rates[0]), float(low), float(high), count, "train_example", method, citation,
        "share",
    )  # fmt: skip


def _changes(part: Attack, dense: Attack, suffix: str) -> list[Claim]:
    """Compressed minus reference on the same training subsets, with the reference attacked by its own kind."""
    place = {key: row for row, key in enumerate(dense.keys)}
    both = [(row, place[key]) for row, key in enumerate(part.keys) if key in place]
    if len(both) < 2:
        return []
    one, two = np.array(both).T
    how = f"minus that of {dense.scheme} on the same training subsets; mean over pairs of targets"
    values = {"membership_auc": ("number", part.area[one] - dense.area[two], "area under the ROC curve")}
    for number, level in enumerate(LEVELS):
        change = part.rates[one, number] - dense.rates[two, number]
        quantity = f"membership_tpr_at_{_LEVEL_NAMES[level]}_fpr"
        values[quantity] = ("points", change, f"share of members found at most {level:.1%} false positives")
    return [
        mean_claim(
            f"{name}{suffix}", part.scheme, change, "pair", method=f"{what} {how}", citation=_SOURCE[HEADLINE],
            scale=scale,
        )
        for name, (scale, change, what) in values.items()
    ]  # fmt: skip


def _caveats(parts: dict[str, Signals], found: dict[str, list[Attack]], base: str, why: str) -> tuple[str, ...]:
    one = next(iter(parts.values()))
    caveats = [
        "The attacker knows the recipe, the pool of examples that training subsets were drawn from, and has trained "
        "as many shadow models: an upper range of what an outsider can do, and a lower range of what the best attack "
        "could.",
        "Targets share their shadow models and the pool of examples, so that intervals over targets are somewhat too "
        "narrow.",
    ]
    if one.kind == "margin":
        caveats.append(
            f"The signal is the margin of training examples, because of the probe `confidence` {why}: attacks on the "
            "logit-scaled confidence can be stronger. Measure it: `remnant probe STORE confidence`."
        )
    if one.outside is None:
        caveats.append("RMIA was not run: it needs the models' scores on test examples.")
    least = min(int(a.num_others.min()) for a in found["true"])
    if least < 1 / LEVELS[0]:
        caveats.append(
            "Some targets have fewer examples outside of their subset than one in the lowest false positive rate: the "
            "rate there is that without any false positive."
        )
    if min(part.num_trials for part in parts.values()) < _FEW:
        caveats.append(
            "With few models the attacks use one global variance, and stronger attackers with more shadow models are "
            "conceivable."
        )
    if base not in parts:
        caveats.append(f"{base} has no models on subsets, so that nothing says whether compression protects.")
    return tuple(caveats)


def _gallery(examples: Any) -> tuple[Exhibit, ...]:
    exhibits = []
    for row in examples.to_dict("records"):
        lines = [f"true: {row['class']}", f"found: {row['found_share']:.0%} of models that saw it"]
        lines.append(f"falsely: {row['false_share']:.0%} of models that did not")
        if "memorization" in row:
            lines.append(f"memorization: {row['memorization']:.2f}")
        exhibits.append(Exhibit("train", str(row["train_example"]), tuple(lines), float(row["exposure"])))
    return tuple(exhibits)


def plot(finding: Finding) -> Any:
    """ROC curves of the headline attack on logarithmic axes, by scheme and shadow models, beside chance."""
    table: Any = finding.tables["curves"]
    (axes,) = panels(4.2)
    labels = list(dict.fromkeys(table["scheme"]))
    styles = {OWN: "-", REFERENCE: "--", "permuted": ":"}
    for (scheme, shadows), part in table.groupby(["scheme", "shadow_models"], sort=False):
        colour = SERIES[labels.index(str(scheme)) % len(SERIES)]
        name = str(scheme) if shadows == OWN else f"{scheme}, {shadows}" + (" models" if shadows == REFERENCE else "")
        x, y = part["false_positive_rate"].to_numpy(float), part["true_positive_rate"].to_numpy(float)
        axes.plot(x, np.where(y > 0, y, np.nan), styles[str(shadows)], color=colour, linewidth=1.5, label=name)
    least = float(table["false_positive_rate"].min())
    axes.plot([least, 1], [least, 1], color="#999999", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(least, 1)
    axes.set_ylim(least, 1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate (members found)")
    legend_above(axes, columns=1)
    return axes


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[Any, Any]]:
    """Per training example of a scheme with subset models: exposure to the headline attack, and separation."""
    probe, _ = usable_probe(population, [scheme])
    part = signals(population, scheme, probe=probe)
    found = exposure(population, part, attack(part, part, HEADLINE))
    ids = population["train_example"].values[found.examples]
    return {"exposure": (ids, found.value), "separation": (ids, found.separation)}


ANALYSIS = Analysis(
    name="membership",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("included", "train_margin", "train_label"),
    cites=("carlini2022membership", "zarifzadeh2024low", "yeom2018privacy", "clopper1934use", "feldman2020what"),
    pace=4.5,
)
