"""Why these examples: all that is known of each, and which of it goes together with being forgotten."""

from functools import cache

import pandas as pd
import xarray as xr

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.comparison import class_names, comparisons
from remnant.analyses.examples import can_be_shown
from remnant.analyses.why_claims import caveats_of, claims_of, scheme_rows
from remnant.analyses.why_factors import influencers, reference_measures
from remnant.analyses.why_measures import Settings, measure
from remnant.analyses.why_plot import plot
from remnant.analyses.why_words import example_table, factor_table, gallery, influencer_table
from remnant.finding import Analysis, Finding, NotApplicable
from remnant.population import reference_of
from remnant.streamed import in_threads

QUESTION = "Why were these examples forgotten, and not others?"


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    folds: int = 5,
    permutations: int = 100,
    most_examples: int = 20_000,
    rows: int | None = 500,
    gallery_size: int = 24,
    top: int = 3,
    seed: int = 0,
) -> Finding:
    """One row of facts for each example, and cross-validated models of what goes with being forgotten.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    folds
        Parts of the examples for the cross-validation.
    permutations
        Random orders of the outcome that are fitted again, for the null of the main outcome.
    most_examples
        Of more examples, models are fitted on a random sample of so many.
    rows
        Most examples to list for each scheme, most forgotten first; None for all.
    gallery_size
        Most examples to show for each scheme.
    top
        Number of influential training examples listed for each shown example.
    seed
        Of folds, permutations and samples.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    NotApplicable
        If there is no reference or no compressed side, or nothing is known that could explain anything.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    for name, value, least in (("folds", folds, 2), ("permutations", permutations, 0), ("top", top, 1)):
        if value < least:
            raise ValueError(f"Expected `{name}` >= {least}, but got {value!r}.")
    if most_examples < 100:
        raise ValueError(f"Expected `most_examples` >= 100, but got {most_examples!r}.")
    sides = compressed_sides(population, reference)
    second_run = population.attrs.get("floor")
    floor = next((s for s in comparisons(population, reference, pairs=True) if s.scheme == second_run), None)
    influential = influencers(population, top, seed)
    asked = Settings(folds, permutations, most_examples, seed)
    base, first = sides[0].reference, sides[0].first
    by_reference = cache(lambda models: reference_measures(base.isel(trial=list(models)), first[list(models)]))
    of_reference = by_reference(tuple(range(len(first))))
    parts = in_threads(
        lambda side: measure(population, side, influential, asked, by_reference=by_reference, floor=floor), sides
    )
    if not any(part.known.factors for part in parts):
        raise NotApplicable(
            "Nothing is known of the examples that could explain what is forgotten: keep the `logits`, give columns "
            "of attributes, or several models of the reference."
        )
    names = class_names(population)
    shown = {part.comparison.scheme: gallery(part, influential, names, gallery_size) for part in parts}
    tables = {
        "schemes": pd.DataFrame([row for part in parts for row in scheme_rows(part)]),
        "factors": _joined([factor_table(part) for part in parts]),
        "examples": _joined([example_table(part, of_reference, influential, names, rows) for part in parts]),
    }
    if not isinstance(influential, str):
        listed = [influencer_table(p, influential, [e.example for e in shown[p.comparison.scheme]]) for p in parts]
        tables["influencers"] = _joined(listed)
    return Finding(
        analysis="why",
        question=QUESTION,
        parameters={
            "reference": reference_of(population) if reference is None else reference,
            "folds": folds,
            "permutations": permutations,
            "most_examples": most_examples,
            "rows": rows,
            "gallery_size": gallery_size,
            "top": top,
            "seed": seed,
        },
        claims=tuple(claim for part in parts for claim in claims_of(part)),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=caveats_of(parts),
        galleries={
            f"Most forgotten, with reasons: {scheme}": exhibits
            for scheme, exhibits in shown.items()
            if exhibits and can_be_shown(population)
        },
        cites=ANALYSIS.cites,
    )


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


ANALYSIS = Analysis(
    name="why",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=(
        "hooker2019what",
        "dam2023understanding",
        "firth1993bias",
        "heinze2002solution",
        "northcutt2021confident",
        "delong1988comparing",
        "obuchowski1997nonparametric",
    ),
    pace=50,
)
