"""Whether compressed models are still as sure as they are right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.calibration_measures import (
    KINDS,
    MEASURES,
    Change,
    Flips,
    Model,
    between_seeds,
    by_chance,
    change,
    flips,
    models_of,
    random,
)
from remnant.analyses.calibration_tables import (
    change_table,
    class_table,
    decomposition_table,
    flip_table,
    reliability_table,
    scheme_table,
)
from remnant.analyses.comparison import class_names, comparisons, mean_claim
from remnant.analyses.panels import SERIES, legend_above, panels
from remnant.finding import Analysis, Claim, Finding
from remnant.streamed import in_threads

QUESTION = "Are compressed models still as sure as they are right, and how sure are they where their answer flips?"
_SOURCES = {
    "ece": "guo2017calibration, equation 3",
    "ece_debiased": "kumar2019verified, section 4",
    "brier": "brier1950verification",
}
_SCALES = {"nll": "number", "brier": "number"}
_BINNED = ("ece", "ece_equal_mass")
_CLAIMED = ("ece", "ece_equal_mass", "ece_debiased", "brier", "nll", "mean_confidence", "overconfidence")


def run(population: xr.Dataset, *, reference: str | None = None, num_bins: int = 15, seed: int = 0) -> Finding:
    """Calibration of the reference and of each compressed scheme, and what compression changes.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    num_bins
        Bins of confidence.
    seed
        Of the simulated calibrated models, and of intervals over examples.

    Raises
    ------
    ValueError
        If `num_bins` is below 1.
    NotApplicable
        If there is no reference or no compressed side.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    if num_bins < 1:
        raise ValueError(f"Expected `num_bins` >= 1, but got {num_bins!r}.")
    sides = compressed_sides(population, reference)
    label = population["label"].values
    known: dict[str, Model] = {}
    parts: list[Part] = []
    for side in sides:
        pairs = models_of(side, known, num_bins)
        rng = random(seed, "changes")
        changes = {name: change(pairs, name, rng) for name in MEASURES}
        parts.append(Part(side.scheme, [second for _, second in pairs], changes, flips(pairs, label), side.over_pairs))
    base = list(known.values())
    name = sides[0].reference_label
    again = [*base, *_second_run(population, name, known, num_bins)]
    seeds = flips(list(zip(again, [*again[1:], again[0]], strict=True)), label) if len(again) > 1 else {}
    sides_of = {name: base, **{part.scheme: part.models for part in parts}}
    chance = {(scheme, m): _chances(models, m, seed) for scheme, models in sides_of.items() for m in _BINNED}
    return Finding(
        analysis="calibration",
        question=QUESTION,
        parameters={"reference": name, "num_bins": num_bins, "seed": seed},
        claims=tuple(_claims(name, base, parts, chance, seeds, between_seeds(again))),
        tables={
            "schemes": scheme_table(sides_of, chance),
            "changes": change_table(name, base, parts, between_seeds(again)),
            "flips": flip_table({part.scheme: part.flips for part in parts}, seeds),
            "decomposition": decomposition_table(sides_of),
            "reliability": reliability_table(sides_of),
            "classes": class_table(sides_of, class_names(population)),
        },
        caveats=_caveats(again, parts),
        cites=ANALYSIS.cites,
    )


def _second_run(population: xr.Dataset, name: str, known: dict[str, Model], num_bins: int) -> list[Model]:
    """The reference run again, where there is one reference model and files say which side is that."""
    floor = population.attrs.get("floor")
    if floor is None or len(known) > 1:
        return []
    again = [side for side in comparisons(population, name, pairs=True) if side.scheme == floor]
    return [second for side in again for _, second in models_of(side, known, num_bins)]


@dataclass(frozen=True)
class Part:
    """One compressed scheme."""

    scheme: str
    models: list[Model]
    changes: dict[str, Change]
    flips: dict[str, Flips]
    over_pairs: str


_Chance = dict[tuple[str, str], list[tuple[float, float]]]


def _chances(models: list[Model], measure: str, seed: int) -> list[tuple[float, float]]:
    return in_threads(lambda k: by_chance(models[k], measure, random(seed, measure, str(k))), range(len(models)))


def _claims(
    name: str,
    base: list[Model],
    parts: list[Part],
    chance: _Chance,
    seeds: dict[str, Flips],
    between: dict[str, float],
) -> list[Claim]:
    claims = _own_claims(name, base, chance[name, "ece"])
    for part in parts:
        claims += _own_claims(part.scheme, part.models, chance[part.scheme, "ece"])
        claims += [_change_claim(part, measure) for measure in _CLAIMED]
        claims += _flip_claims(part)
    for measure, value in between.items():
        if measure in _CLAIMED:
            method = (
                f"mean absolute difference between two models of {name}: {MEASURES[measure]}; no interval: a yardstick"
            )
            claims.append(
                Claim(f"{measure}_change_between_seeds", name, value, None, None, len(base), "trial", method,
                      _SOURCES.get(measure, ""), _SCALES.get(measure, "points"))
            )  # fmt: skip
    return claims + (_seed_claims(name, seeds) if seeds else [])


def _own_claims(scheme: str, models: list[Model], chance: list[tuple[float, float]]) -> list[Claim]:
    found = []
    for measure in ("ece", "ece_debiased"):
        values = np.array([model.values[measure] for model in models])
        method = f"{MEASURES[measure]}, mean over models"
        citation = _SOURCES[measure]
        found.append(mean_claim(measure, scheme, values, "trial", method=method, citation=citation))
    method = "mean over models of the expected calibration error of 200 simulated models that are right as often as "
    method += "these say: what chance alone gives; no interval: a null value"
    value = float(np.mean([mean for mean, _ in chance]))
    found.append(
        Claim("ece_if_calibrated", scheme, value, None, None, len(models), "trial", method, "brocker2007increasing",
              "share")
    )  # fmt: skip
    return found


def _change_claim(part: Part, measure: str) -> Claim:
    found = part.changes[measure]
    over = "no interval" if found.low is None else "t interval" if found.over == "pair" else "interval"
    if found.low is not None and found.over == "example" and measure.startswith("ece"):
        over = "interval from normal gaps"
    method = f"{MEASURES[measure]}: compressed minus reference{part.over_pairs}; {over} over {found.over}s"
    n = len(found.values) if found.over == "pair" else len(part.models[0].answer)
    return Claim(
        f"{measure}_change", part.scheme, float(found.values.mean()), found.low, found.high, n, found.over, method,
        _SOURCES.get(measure, ""), _SCALES.get(measure, "points"),
    )  # fmt: skip


def _flip_claims(part: Part) -> list[Claim]:
    """Of all answers that differ, and of the right ones that are lost."""
    claims = []
    for kind, quantity in (("cie", "flipped"), ("cie_u", "lost_answer")):
        found = part.flips[kind]
        if not found.defined.any():
            continue
        defined = found.defined
        several = len(found.examples) > 1
        n, unit = (int(defined.sum()), "pair") if several else (int(found.examples[0]), "example")
        low, high = found.shift or (None, None)
        what = f"the examples of one kind ({KINDS[kind]}){part.over_pairs}"
        method = f"confidence of the compressed model in its answer minus that of the reference in its own, on {what}"
        method += (
            f"; {'t' if several else 'normal'} interval over {unit}s" if found.shift else "; no interval: no spread"
        )
        shift = float((found.second - found.first)[defined].mean())
        claims.append(
            Claim(f"{quantity}_confidence_shift", part.scheme, shift, low, high, n, unit, method, "", "points")
        )
        if several:
            text = f"mean confidence of the reference in its answer on {what}"
            claims.append(
                mean_claim(f"{quantity}_reference_confidence", part.scheme, found.first[defined], "pair", method=text)
            )
    return claims


def _seed_claims(name: str, seeds: dict[str, Flips]) -> list[Claim]:
    """The same where one reference model is taken for the compressed one of the next."""
    found, lost = seeds["cie"], seeds["cie_u"]
    claims = []
    if found.defined.any():
        method = "mean confidence in its answer of a reference model on examples where the next one answers differently"
        values: NDArray[np.float64] = found.first[found.defined]
        claims.append(mean_claim("flipped_confidence_between_seeds", name, values, "pair", method=method))
    if lost.defined.any():
        method = "confidence of a reference model in its answer minus that of the one before in its own, on examples "
        method += "where the right answer of the latter is lost"
        shift: NDArray[np.float64] = (lost.second - lost.first)[lost.defined]
        quantity = "lost_answer_confidence_shift_between_seeds"
        claims.append(mean_claim(quantity, name, shift, "pair", method=method, scale="points"))
    return claims


def _caveats(base: list[Model], parts: list[Part]) -> tuple[str, ...]:
    caveats = [
        "The expected calibration error is above 0 for perfectly calibrated models too; read it beside the value that "
        "chance gives, and compare models on the same examples only. It depends on the number of bins.",
        "Calibration is judged on the test examples: another mix of easy and hard ones has another calibration.",
        "Examples are called flipped because the answers differ, which selects those on which both models are unsure: "
        "compare with the confidence where two reference models differ.",
    ]
    if len(base) < 2:
        caveats.append("With one reference model nothing says how much calibration differs between seeds.")
    if any(part.changes["ece"].over == "example" for part in parts):
        caveats.append(
            "With one pair of models, intervals are about these two models on other examples of the same kind."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Reliability diagram: accuracy against confidence by scheme, and how many examples have which confidence."""
    table = finding.tables["reliability"]
    upper, lower = panels(3.4, 1.3)
    upper.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for number, (scheme, part) in enumerate(table.groupby("scheme", sort=False)):
        colour = SERIES[number % len(SERIES)]
        middle = (part["confidence_low"] + part["confidence_high"]) / 2
        upper.plot(part["mean_confidence"], part["accuracy"], marker="o", markersize=4, color=colour, label=str(scheme))
        lower.plot(middle, part["share"], color=colour, linewidth=1.2)
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    lower.set_xlim(0, 1)
    lower.set_ylim(bottom=0)
    upper.set_ylabel("accuracy")
    lower.set_ylabel("share")
    lower.set_xlabel("confidence (probability of the answer)")
    legend_above(upper, columns=1)
    return upper


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """Per test example, mean over pairs: confidence of the reference, change of confidence, of the true probability."""
    side = next(s for s in compressed_sides(population, None) if s.scheme == scheme)
    pairs = models_of(side, {}, 15)
    ids = population["example"].values
    values = {
        "confidence": [first.confidence for first, _ in pairs],
        "confidence_change": [second.confidence - first.confidence for first, second in pairs],
        "true_probability_change": [second.true - first.true for first, second in pairs],
    }
    return {name: (ids, np.asarray(np.mean(found, axis=0, dtype=np.float64))) for name, found in values.items()}


ANALYSIS = Analysis(
    name="calibration",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("logits", "label"),
    cites=(
        "naeini2015obtaining",
        "guo2017calibration",
        "kumar2019verified",
        "brocker2007increasing",
        "brier1950verification",
        "murphy1973vector",
        "stephenson2008two",
        "kull2019beyond",
    ),
    pace=6,
)
