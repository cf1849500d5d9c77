"""Whether compression makes models more sensitive to noise, blur, weather and coding of the images."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import class_names, comparisons
from remnant.analyses.corruption_claims import noise_claims, scheme_claims
from remnant.analyses.corruption_measures import Noise, Part, clean_answers, measure, noise_between_seeds, with_clean
from remnant.analyses.corruption_tables import (
    corruption_table,
    example_table,
    forgotten,
    gallery,
    scheme_row,
    severity_table,
)
from remnant.analyses.examples import can_be_shown
from remnant.analyses.panels import SERIES, legend_above, panels
from remnant.finding import Analysis, Finding
from remnant.population import probed, reference_of

QUESTION = "Is the compressed model more sensitive to corrupted images than the reference?"


def run(population: xr.Dataset, *, reference: str | None = None, listed: int = 200, shown: int = 24) -> Finding:
    """Accuracy on corrupted images relative to the reference, corruption errors, and mismatches under shift.

    Pairs are models of the same seed. With several, intervals are over pairs; with one, over its examples.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    listed
        Most examples to list for each scheme.
    shown
        Most examples to show for each scheme.

    Raises
    ------
    NotApplicable
        If there is no reference or no compressed scheme.
    SchemaError
        If the models were not probed, or the seeds of a scheme are not those of the reference.
    """
    found = probed(population, "corruptions")
    label = reference_of(population) if reference is None else reference
    sides = comparisons(with_clean(found, clean_answers(population, found)), label, pairs=True)
    parts, noise = [measure(side) for side in sides], noise_between_seeds(sides[0])
    names = class_names(population)
    examples = [forgotten(part, max(listed, shown)) for part in parts]
    tables = {
        "schemes": pd.DataFrame([scheme_row(part, noise) for part in parts]),
        "corruptions": pd.concat([corruption_table(part, noise) for part in parts], ignore_index=True),
        "severities": pd.concat([severity_table(part, noise) for part in parts], ignore_index=True),
        "examples": pd.concat(
            [example_table(p, rows[:listed], names) for p, rows in zip(parts, examples, strict=True)],
            ignore_index=True,
        ),
    }
    galleries = {
        f"Right answers lost under corruption: {part.comparison.scheme}": gallery(part, rows[:shown], names)
        for part, rows in zip(parts, examples, strict=True)
        if len(rows) and can_be_shown(population)
    }
    return Finding(
        analysis="corruptions",
        question=QUESTION,
        parameters={"reference": label, "listed": listed, "shown": shown, "probe": dict(found.attrs.get("probe", {}))},
        claims=(*noise_claims(noise, label), *(claim for part in parts for claim in scheme_claims(part))),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, noise, label),
        galleries={title: exhibits for title, exhibits in galleries.items() if exhibits},
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """Per example, the mean over corruptions, severities and pairs of models.

    - "corruption_mismatch": share of corrupted versions that reference and compressed model answer differently;
    - "corruption_accuracy_change": accuracy of the compressed model on them minus that of the reference, in [-1, 1].
    """
    found = probed(population, "corruptions")
    sides = comparisons(found, reference_of(population), pairs=True)
    for side in sides:
        if side.scheme == scheme:
            shares, ids = measure(side).by_example, found["example"].values
            return {
                "corruption_mismatch": (ids, shares["mismatch"]),
                "corruption_accuracy_change": (ids, shares["compressed"] - shares["reference"]),
            }
    return {}


def _caveats(parts: list[Part], noise: Noise | None, reference: str) -> tuple[str, ...]:
    caveats = []
    if any(part.unit == "pair" for part in parts):
        caveats.append("The images are fixed: intervals over pairs say how results vary with the seed.")
    if any(part.unit == "example" for part in parts):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they say what other images would show "
            "of these two models, not what another training would."
        )
    if noise is None:
        caveats.append(
            f"There is one {reference} model: nothing can be said on what another seed would change. Train more seeds."
        )
    if "frost" in parts[0].corruptions:
        caveats.append(
            "Frost is drawn, not photographed: its numbers cannot be compared with those of ImageNet-C or CIFAR-10-C."
        )
    caveats.append(
        "Images are corrupted when they are asked for. The published ImageNet-C was saved as JPEG as well, so that "
        "accuracies on it are not the same."
    )
    caveats.append("Errors are relative to this reference, where Hendrycks and Dietterich take AlexNet.")
    if parts[0].clean_mismatch is None:
        caveats.append(
            "The answers on clean images are not known for all probed models: comparisons with them are left out."
        )
    undefined = [p.comparison.scheme for p in parts if not np.isfinite(p.top[1].relative.estimate).all()]
    if undefined:
        caveats.append(
            f"The reference is never right on some corruption ({', '.join(undefined)}): nothing is relative to it."
        )
    relative = [part.top[1].relative_error for part in parts]
    if any(found is not None and not np.isfinite(found.estimate).all() for found in relative):
        caveats.append(
            "The reference loses nothing on some corruption: the increase of an error relative to that, and its mean "
            "over corruptions, are left out."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Relative top-1 accuracy by corruption and scheme, with what seeds differ in as a band."""
    table: Any = finding.tables["corruptions"]
    corruptions = list(dict.fromkeys(table["corruption"]))
    schemes = list(dict.fromkeys(table["scheme"]))
    (axes,) = panels(1.2 + len(corruptions) * (0.16 + 0.1 * len(schemes)))
    rows = np.arange(len(corruptions))
    for place, scheme in enumerate(schemes):
        part = table[table["scheme"] == scheme]
        value = 100 * part["top1_relative"].to_numpy(float)
        ends = [100 * part[f"top1_relative_{end}"].to_numpy(float) for end in ("low", "high")]
        reach = np.nan_to_num(np.stack([value - ends[0], ends[1] - value]))
        at = rows + (place - (len(schemes) - 1) / 2) * 0.7 / len(schemes)
        axes.errorbar(
            value, at, xerr=reach, linestyle="none", marker="os^Dv<>p"[place % 8], markersize=4, capsize=2,
            color=SERIES[place % len(SERIES)], label=scheme,
        )  # fmt: skip
    null = [c.estimate for c in finding.claims if c.quantity == "corrupted_top1_relative_null"]
    if null:
        axes.axvspan(
            -100 * null[0], 100 * null[0], color="#777777", alpha=0.15, label="two reference models, on average"
        )
    axes.axvline(0, color="#777777", linewidth=0.8)
    axes.set_yticks(rows, [name.replace("_", " ") for name in corruptions])
    axes.set_ylim(len(corruptions) - 0.5, -0.5)
    axes.set_xlabel("top-1 accuracy relative to the reference (%)")
    legend_above(axes, columns=1)
    return axes


ANALYSIS = Analysis(
    name="corruptions",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("corruptions",),
    cites=("hooker2019what", "hendrycks2019benchmarking", "dam2023understanding", "cochran1977sampling"),
    pace=1.3,
)
