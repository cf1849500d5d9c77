"""Whether compressed models still see the same in the examples: agreement of what their last layer is given."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import class_names, stream
from remnant.analyses.feature_claims import agreement_claims, change_claims, contrast_claims
from remnant.analyses.feature_measures import BY_EXAMPLE, Agreement, Models, agreement
from remnant.analyses.feature_pairs import answers_of, reference_pairs, seed_pairs
from remnant.analyses.feature_tables import changed_gallery, class_table, example_table, pair_table, scheme_rows
from remnant.analyses.panels import SERIES, legend_above
from remnant.analyses.panels import scheme_rows as rows_of_schemes
from remnant.finding import Analysis, Claim, Finding
from remnant.population import probed, reference_of

QUESTION = "Do the models still see the same in each example: do their penultimate features agree?"


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    neighbours: int = 10,
    folds: int = 5,
    components: int = 512,
    baseline_pairs: int = 15,
    rows: int = 500,
    gallery: int = 12,
    seed: int = 0,
) -> Finding:
    """Agreement of the penultimate features of compressed models with the reference models of the same seeds.

    Beside it stands the agreement of reference models of different seeds.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    neighbours
        Number of nearest neighbours of an example.
    folds
        Parts of the examples; the rotation of a part is fitted to the others.
    components
        Models with more features are compared on so many principal components, but for CKA and neighbours.
    baseline_pairs
        Most pairs of reference models.
    rows
        Most examples to list for each scheme, those whose features changed most first.
    gallery
        Most examples to show for each scheme.
    seed
        Of the random parts of the examples.

    Raises
    ------
    NotApplicable
        If no model of the reference or no compressed model was probed.
    SchemaError
        If the models were not probed for features, or a scheme has no seed of the reference.
    """
    measured = probed(population, "features")
    reference = reference_of(population) if reference is None else reference
    order = stream(seed, "features", "examples").permutation(measured.sizes["example"])
    models = Models(measured, answers_of(population, measured), order, neighbours, folds, components)
    parts = {p.scheme: agreement(models, p.rows) for p in seed_pairs(measured, population, reference)}
    between = agreement(models, reference_pairs(measured, population, reference, baseline_pairs), share_models=True)
    names = class_names(measured)
    examples = {scheme: example_table(models, scheme, found, between, names) for scheme, found in parts.items()}
    options = {"neighbours": neighbours, "folds": folds, "components": components, "baseline_pairs": baseline_pairs}
    return Finding(
        analysis="features",
        question=QUESTION,
        parameters={"reference": reference, **options, "rows": rows, "gallery": gallery, "seed": seed},
        claims=tuple(_claims(models, parts, between, reference)),
        tables={
            "schemes": pd.DataFrame(
                [row for scheme, found in parts.items() for row in scheme_rows(scheme, found, between)]
            ),
            "pairs": pd.concat(
                [pair_table(models, scheme, found) for scheme, found in {reference: between, **parts}.items()],
                ignore_index=True,
            ),
            "classes": pd.concat(
                [class_table(models, scheme, found, between, names) for scheme, found in parts.items()],
                ignore_index=True,
            ),
            "examples": pd.concat([table.head(max(rows, 0)) for table in examples.values()], ignore_index=True),
        },
        caveats=_caveats(models, parts, between, reference),
        galleries={
            f"Features changed most: {scheme}": exhibits
            for scheme, table in examples.items()
            if (exhibits := changed_gallery(table.head(max(gallery, 0)), len(parts[scheme].pairs)))
        },
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """Agreement of the features of a scheme with the reference, for each probed example: mean over pairs.

    "feature_cosine" and "feature_neighbours", each with ids and values.
    """
    measured = probed(population, "features")
    order = stream(0, "features", "examples").permutation(measured.sizes["example"])
    models = Models(measured, answers_of(population, measured), order)
    pairs = next((p for p in seed_pairs(measured, population) if p.scheme == scheme), None)
    if pairs is None:
        return {}
    found = agreement(models, pairs.rows)
    return {f"feature_{name}": (measured["example"].values, found.of_examples(name)) for name in BY_EXAMPLE}


def _claims(models: Models, parts: dict[str, Agreement], between: Agreement, reference: str) -> list[Claim]:
    chance = Claim(
        "feature_neighbours_chance",
        "population",
        models.k / (len(models.order) - 1),
        None,
        None,
        len(models.order),
        "example",
        "expected share of nearest neighbours in common if two models' features are independent; no interval: exact",
        "",
        "share",
    )
    claims = [chance, *agreement_claims(reference, between, models), *contrast_claims(reference, between)]
    for scheme, found in parts.items():
        claims += agreement_claims(scheme, found, models)
        claims += change_claims(scheme, found, between)
        claims += contrast_claims(scheme, found)
    return claims


def _caveats(models: Models, parts: dict[str, Agreement], between: Agreement, reference: str) -> tuple[str, ...]:
    caveats = [
        "All measures take features as equal that differ by a rotation, a shift and a scale. Small changes in "
        "directions of little variance can change answers and barely move these numbers.",
        "Examples that two models answer differently lie where classes meet, and features differ more there between "
        "any two models: read the difference beside that between reference models.",
    ]
    if not between.pairs:
        caveats.append(
            f"There is one probed {reference} model: nothing can be said on how far the features of another seed lie. "
            "Train more seeds."
        )
    if any(len(found.pairs) == 1 for found in parts.values()):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they do not say what another "
            "training or another compression would give."
        )
    if models.measured.sizes["feature"] > models.components:
        caveats.append(
            "The models have many features: Procrustes distance and cosine are taken on their leading principal "
            "components."
        )
    if any(np.isnan(found.values["cka"]).any() for found in (between, *parts.values())):
        caveats.append("The features of some models do not vary between examples: their agreement is undefined.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Mean cosine of aligned features by scheme: of all examples, and of those whose answer changes or does not."""
    table = finding.tables["schemes"]
    table = table.loc[table["measure"] == "cosine"].reset_index(drop=True)
    axes = rows_of_schemes(table["scheme"], xlabel="cosine of an example's features, reference and compressed")
    rows = np.arange(len(table))
    value = table["value"].to_numpy(float)
    ends = table[["value_low", "value_high"]].to_numpy(float)
    known = np.isfinite(ends).all(axis=1)
    axes.hlines(rows[known], ends[known, 0], ends[known, 1], color=SERIES[0], linewidth=2)
    axes.scatter(value, rows, s=40, color=SERIES[0], label="all examples", zorder=3)
    axes.scatter(table["value_cie"], rows, s=34, marker="D", color=SERIES[1], label="answer changes", zorder=3)
    null = float(table["seeds"].iloc[0])
    if np.isfinite(null):
        axes.axvline(null, color="#777777", linestyle="--", label="two models of the reference")
    axes.set_xlim(right=1.005)
    legend_above(axes, columns=2)
    return axes


ANALYSIS = Analysis(
    name="features",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("features",),
    cites=(
        "joseph2020correctness",
        "kornblith2019similarity",
        "song2012feature",
        "ding2021grounding",
        "schonemann1966generalized",
        "arvesen1969jackknifing",
    ),
    pace=9,
)
