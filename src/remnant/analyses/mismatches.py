"""On which examples a compressed model answers differently, and whom that helps or harms."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses.comparison import Null, attributes, class_names, comparisons
from remnant.analyses.examples import can_be_shown
from remnant.analyses.mismatch_claims import accuracy_claims, noise_claims, scheme_claims, scheme_row
from remnant.analyses.mismatch_examples import changed, changed_gallery, changed_table
from remnant.analyses.mismatch_measures import Noise, Part, measure, noise_between_seeds
from remnant.analyses.mismatch_tables import class_table, group_table, pair_table
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.analyses.sides import CHEAP_MODELS
from remnant.finding import Analysis, Finding

QUESTION = "On which examples does the compressed model answer differently, and is it right or wrong there?"


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    null: Null = "auto",
    num_permutations: int = 1000,
    gallery: int = 24,
    regressed: int = 200,
    seed: int = 0,
) -> Finding:
    """Mismatches of each compressed scheme with the reference, pair by pair and over all pairs.

    Pairs are models of the same seed, or files of the same number; one reference file makes a pair with every file
    of a side. `reference`, `null`, `num_permutations` and `seed` are those of `remnant.analyses.comparison`.

    Without labels, what is known is which answers differ; without logits, there is no divergence and no confidence.

    Parameters
    ----------
    gallery
        Most examples to show for each scheme.
    regressed
        Most examples to list for each scheme.

    Raises
    ------
    NotApplicable
        If there is no reference or no compressed scheme, or no answers are known.
    SchemaError
        If the seeds of a scheme are not those of the reference.
    """
    found = comparisons(population, reference, pairs=True)
    reference = found[0].reference_label
    parts = [measure(c, null, num_permutations, seed) for c in found]
    noise = noise_between_seeds(found[0])
    names, groups = class_names(population), attributes(population)
    examples = [changed(part, max(gallery, regressed)) for part in parts]
    several, labelled = any(part.num_pairs > 1 for part in parts), "label" in population
    listed = [
        changed_table(part, rows, names, with_pairs=several).head(regressed)
        for part, rows in zip(parts, examples, strict=True)
    ]
    tables = {
        "schemes": pd.DataFrame([scheme_row(part, noise) for part in parts]),
        "pairs": pd.concat([pair_table(part) for part in parts], ignore_index=True),
        "classes": pd.concat([class_table(part, names) for part in parts], ignore_index=True),
        "groups": pd.concat([group_table(part, groups) for part in parts], ignore_index=True),
        "regressed" if labelled else "changed": pd.concat(listed, ignore_index=True),
    }
    title = "Right answers lost" if labelled else "Answers changed"
    shown = zip(parts, examples, strict=True) if can_be_shown(population) else ()
    sampling = {"num_permutations": num_permutations, "gallery": gallery, "regressed": regressed, "seed": seed}
    return Finding(
        analysis="mismatches",
        question=QUESTION,
        parameters={"reference": reference, "null": null, **sampling},
        claims=(
            *accuracy_claims(found),
            *noise_claims(noise, reference, files=found[0].files),
            *(claim for part in parts for claim in scheme_claims(part, noise)),
        ),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(parts, noise, reference),
        galleries={
            f"{title}: {part.comparison.scheme}": exhibits
            for part, rows in shown
            if (exhibits := changed_gallery(part, rows, names, gallery))
        },
        cites=ANALYSIS.cites,
    )


def _caveats(parts: list[Part], noise: Noise | None, reference: str) -> tuple[str, ...]:
    comparison, caveats = parts[0].comparison, []
    labelled, files = comparison.label is not None, comparison.files
    if any(part.num_pairs > 1 for part in parts):
        caveats.append(
            "The test set is fixed: intervals over pairs say how results vary with the "
            f"{'model' if files else 'seed'}, not with other examples."
        )
    if comparison.num_first == 1 and any(part.num_pairs > 1 for part in parts):
        caveats.append(
            "Several compressed models stand against one reference model: intervals over pairs say how results vary "
            "with the compressed model, not with the reference."
        )
    if any(part.num_pairs == 1 for part in parts):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they say what other examples like "
            "these would show of these two models, not what another training or another compression would."
        )
    if labelled:
        caveats.append(
            "McNemar's test asks whether two trained models differ in accuracy on examples like these; another "
            f"{'run' if files else 'seed'} of the same method can pass it too."
        )
    caveats.append(_on_noise(noise, reference, files))
    if not labelled:
        caveats.append(
            "The population has no `label`: it is known which answers differ, not which are right. Harmful and "
            "beneficial flips and accuracy are left out."
        )
    if not comparison.has_logits:
        caveats.append("The population has no `logits`: KL divergence and confidences are left out.")
    same = [part.comparison.scheme for part in parts if not part.flags["cie"].any()]
    if same:
        caveats.append(f"No mismatch at all: {', '.join(same)}. Tests on mismatches are undefined there and left out.")
    return tuple(caveats)


def _on_noise(noise: Noise | None, reference: str, files: bool) -> str:
    """What the number of reference models allows to say on other models."""
    if noise is None and files:
        return (
            f"There is one model of {reference}: nothing can be said on what another run would change. Examples that a "
            "method forgets as a rule (PIEs), and tests of classes beyond the noise between models, need several "
            f"models a side. {CHEAP_MODELS}"
        )
    if noise is None:
        return (
            f"There is one {reference} model: nothing can be said on what another seed would change. Train more seeds."
        )
    return (
        f"Two {reference} models{'' if files else ' of different seeds'} disagree as well: a scheme that trains anew "
        "cannot be expected to mismatch less than they do."
    )


def plot(finding: Finding) -> Any:
    """Share of examples with each kind of mismatch, by scheme, against the noise between reference models."""
    table = finding.tables["schemes"]
    axes = scheme_rows(table["scheme"], xlabel="share of test examples that change (%)")
    rows = np.arange(len(table))
    left = np.zeros(len(table))
    kinds = [("cie_u", "right to wrong", 1), ("cie_w", "wrong to another wrong", 5), ("cie_c", "wrong to right", 2)]
    if "cie_u_rate" not in table:
        kinds = [("cie", "another answer", 0)]
    for kind, name, colour in kinds:
        share = 100 * table[f"{kind}_rate"].to_numpy(float)
        axes.barh(rows, share, left=left, height=0.62, color=SERIES[colour], label=name)
        left = left + share
    null = table["cie_rate_null"].to_numpy(float)
    if np.isfinite(null).all():
        axes.axvline(100 * null[0], color="#777777", linestyle="--", label="two models of the reference")
    axes.set_xlim(left=0)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="mismatches",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=(
        "dam2023understanding",
        "hooker2019what",
        "mcnemar1947note",
        "newcombe1998improved",
        "wilks1948order",
        "szekely2013energy",
    ),
    pace=0.5,
)
