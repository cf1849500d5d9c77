"""Whether compression costs more on natural images that are hard for networks: ImageNet-A and sets like it."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.comparison import class_names, comparisons
from remnant.analyses.corruption_claims import ends
from remnant.analyses.natural_adversarial_measures import CONVENTIONS, Part, Selection, measure, select
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Finding
from remnant.population import reference_of
from remnant.stats.relative import Ratio

QUESTION = "Does the compressed model lose more on natural adversarial images than the reference?"
_SOURCE = "hooker2019what, section 4"
_MEANINGS = {
    "class-subset": "among the logits of the classes of the set (as the authors of ImageNet-A)",
    "all-classes": "among the logits of all classes",
}


def run(population: xr.Dataset, *, reference: str | None = None, where: str | None = None) -> Finding:
    """Top-1 and top-5 accuracy on the set, and relative to the reference, by both conventions.

    The classes of the set are those that its labels name. "class-subset" looks among the logits of these classes
    only, "all-classes" among all. With several pairs of models, intervals are over pairs; with one, over examples.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    where
        "COLUMN=VALUE" of an attribute that tells which examples belong to the set; the others of the same classes
        are then the clean images to compare with. Default: all examples, whose labels must leave classes out.

    Raises
    ------
    NotApplicable
        If the labels of the set name all classes or fewer than 2, or there is no reference or compressed scheme.
    ValueError
        If `where` names no attribute or no example.
    SchemaError
        If the seeds of a scheme are not those of the reference.
    """
    chosen = select(population, where)
    label = reference_of(population) if reference is None else reference
    sides = comparisons(population, label, pairs=True)
    conventions = CONVENTIONS if sides[0].has_logits else CONVENTIONS[1:]
    parts = [measure(side, chosen, convention) for side in sides for convention in conventions]
    names, labels = class_names(population), population["label"].values
    counts = pd.DataFrame(
        {
            "class": [names[i] for i in chosen.classes],
            "examples": [int((labels[chosen.rows] == i).sum()) for i in chosen.classes],
            "other_examples": [int((labels[chosen.clean] == i).sum()) for i in chosen.classes],
        }
    )
    return Finding(
        analysis="natural_adversarial",
        question=QUESTION,
        parameters={"reference": label, "where": where, "conventions": list(conventions)},
        claims=(*_size(chosen), *_noise(parts, label), *(claim for part in parts for claim in _claims(part))),
        tables={"schemes": pd.DataFrame([_row(part) for part in parts]), "classes": counts},
        caveats=_caveats(parts),
        cites=ANALYSIS.cites,
    )


def _size(chosen: Selection) -> list[Claim]:
    return [
        Claim(name, "population", number, None, None, len(chosen.rows), "example", f"{text}; no interval: a count")
        for name, number, text in (
            ("natural_adversarial_examples", len(chosen.rows), "number of examples of the set"),
            ("natural_adversarial_classes", len(chosen.classes), "number of classes that its labels name"),
        )
    ]


def _noise(parts: list[Part], reference: str) -> list[Claim]:
    """What two reference models differ in; the same in all schemes."""
    claims = []
    for part in parts:
        if part.noise is None or part.comparison.scheme != parts[0].comparison.scheme:
            continue
        method = f"mean size of the relative difference in top-1 accuracy on the set, {_MEANINGS[part.convention]}, "
        method += f"between two {reference} models of different seeds; no interval: a baseline"
        name = f"natural_top1_relative_null_{_suffix(part)}"
        number = part.comparison.num_first
        claims.append(Claim(name, reference, part.noise, None, None, number, "trial", method, _SOURCE, "share"))
    return claims


def _claims(part: Part) -> list[Claim]:
    claims = []
    for k in part.first:
        for side, value in (("reference_", part.first[k]), ("", part.second[k])):
            mean = np.asarray(value.mean())
            text = f"top-{k} accuracy {'of the reference ' if side else ''}on the set, {_MEANINGS[part.convention]}"
            name = f"{side}natural_top{k}_{_suffix(part)}"
            claims += _claim(part, name, Ratio(mean, value - mean), text, bounded=True)
        text = f"top-{k} accuracy on the set, {_MEANINGS[part.convention]}, over that of the reference, minus 1"
        claims += _claim(part, f"natural_top{k}_relative_{_suffix(part)}", part.relative(k), text, offset=1)
    if part.clean:
        text = f"top-1 accuracy on the other images of these classes, {_MEANINGS[part.convention]}, over that of the "
        claims += _claim(
            part, f"natural_clean_top1_relative_{_suffix(part)}", part.clean[1], text + "reference, minus 1", offset=1
        )
    return claims


def _claim(
    part: Part, quantity: str, found: Ratio, method: str, *, offset: float = 0.0, bounded: bool = False
) -> list[Claim]:
    """The claim, or none where the reference is never right and nothing is relative to it."""
    value, low, high = (float(x) for x in ends(found, offset=offset))
    if not np.isfinite(value):
        return []
    known = np.isfinite(low) and np.isfinite(high)
    if bounded:
        low, high = max(low, 0.0), min(high, 1.0)
    over = "pairs of models" if part.unit == "pair" else "examples of the one pair of models"
    method += part.comparison.over_pairs
    method += f"; t interval over {over}" if known else "; no interval: no spread between units"
    interval = (low, high) if known else (None, None)
    return [Claim(quantity, part.comparison.scheme, value, *interval, len(found.influence), part.unit, method, _SOURCE,
                  "share")]  # fmt: skip


def _suffix(part: Part) -> str:
    return part.convention.replace("-", "_")


def _row(part: Part) -> dict[str, Any]:
    row: dict[str, Any] = {"scheme": part.comparison.scheme, "convention": part.convention}
    for k in part.first:
        value, low, high = (float(x) for x in ends(part.relative(k), offset=1))
        row |= {f"reference_top{k}": float(part.first[k].mean()), f"top{k}": float(part.second[k].mean())}
        row |= {f"top{k}_relative": value, f"top{k}_relative_low": low, f"top{k}_relative_high": high}
    row["clean_top1_relative"] = float(part.clean[1].estimate) - 1 if part.clean else np.nan
    row["top1_relative_null"] = np.nan if part.noise is None else part.noise
    return row | {"pairs": part.comparison.num_second}


def _caveats(parts: list[Part]) -> tuple[str, ...]:
    caveats = [
        "Accuracies on a set with few of the classes depend on the convention: compare numbers of the same one only.",
        "Natural adversarial images are chosen because some network is wrong on them: a reference of its kind starts "
        "from an accuracy that is low by construction.",
    ]
    if len({part.convention for part in parts}) == 1:
        caveats.append("The population has no `logits`: answers among the classes of the set only are not known.")
    if any(part.unit == "example" for part in parts):
        caveats.append("Where there is one pair of models, intervals are over its examples, not over trainings.")
    never = sorted({p.comparison.scheme for p in parts if not np.isfinite(p.relative(1).estimate)})
    if never:
        caveats.append(f"The reference is never right ({', '.join(never)}): nothing is relative to it.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Top-1 accuracy on the set relative to the reference, by scheme and convention."""
    table: Any = finding.tables["schemes"]
    labels = list(dict.fromkeys(table["scheme"]))
    axes = scheme_rows(labels, xlabel="top-1 accuracy relative to the reference (%)")
    conventions = list(dict.fromkeys(table["convention"]))
    for place, convention in enumerate(conventions):
        part = table[table["convention"] == convention].set_index("scheme").reindex(labels)
        value, low, high = (100 * part[f"top1_relative{end}"].to_numpy(float) for end in ("", "_low", "_high"))
        rows = np.arange(len(labels)) + (place - (len(conventions) - 1) / 2) * 0.25
        axes.errorbar(
            value, rows, xerr=np.nan_to_num(np.stack([value - low, high - value])), linestyle="none", capsize=2,
            marker="os"[place], markersize=5, color=SERIES[place], label=convention.replace("-", " "),
        )  # fmt: skip
    axes.axvline(0, color="#777777", linewidth=0.8)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="natural_adversarial",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("label",),
    cites=("hooker2019what", "hendrycks2021natural", "cochran1977sampling"),
)
