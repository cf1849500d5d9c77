"""Whether compression changes what explains a model: soft decision trees distilled from reference and compressed."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import class_names
from remnant.analyses.explanation_claims import change_claims, model_claims, pair_claims
from remnant.analyses.explanation_gallery import MOST_PICTURES, decision_gallery, leaf_gallery
from remnant.analyses.explanation_measures import TreePairs, Trees, tree_pairs
from remnant.analyses.explanation_tables import example_table, leaf_table, pair_table, scheme_row
from remnant.analyses.feature_pairs import answers_of, reference_pairs, seed_pairs
from remnant.analyses.panels import SERIES, legend_above, scheme_rows
from remnant.finding import Analysis, Claim, Exhibit, Finding
from remnant.population import probed, reference_of, whole

QUESTION = "Does a decision tree that explains the reference explain the compressed model as well, and in the same way?"


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    baseline_pairs: int = 15,
    rows: int = 500,
    gallery: int = 6,
) -> Finding:
    """Soft decision trees distilled from the models, of reference and compressed models of the same seeds.

    All trees start from the same weights and see the same images in the same order, so that they differ because
    the models do. Beside it stand the trees of reference models of different seeds, and a tree trained on labels.

    Parameters
    ----------
    reference
        Label of the scheme to compare with; default that of the population.
    baseline_pairs
        Most pairs of reference models.
    rows
        Most examples to list for each scheme.
    gallery
        Most leaves, and most decisions, to show for each scheme; fewer with many schemes.

    Raises
    ------
    NotApplicable
        If no model of the reference or no compressed model was probed.
    SchemaError
        If the models have no soft trees, or a scheme has no seed of the reference.
    """
    measured = probed(population, "soft-tree")
    reference = reference_of(population) if reference is None else reference
    trees = Trees(measured, answers_of(population, measured))
    parts = {p.scheme: tree_pairs(trees, p.rows) for p in seed_pairs(measured, population, reference)}
    between = tree_pairs(trees, reference_pairs(measured, population, reference, baseline_pairs), shared=True)
    base = _rows_of(measured, reference)
    own = {scheme: [second for _, second in found.rows] for scheme, found in parts.items()}
    names = class_names(measured)
    schemes = [scheme_row(reference, trees, base, None, between)]
    schemes += [scheme_row(scheme, trees, own[scheme], found, between) for scheme, found in parts.items()]
    claims = [*model_claims(reference, trees, base), *pair_claims(reference, between)]
    for scheme, found in parts.items():
        claims += model_claims(scheme, trees, own[scheme])
        claims += change_claims(scheme, trees, found)
        claims += pair_claims(scheme, found)
    return Finding(
        analysis="explanation",
        question=QUESTION,
        parameters={"reference": reference, "baseline_pairs": baseline_pairs, "rows": rows, "gallery": gallery},
        claims=(_labels_claim(trees), *claims),
        tables={
            "schemes": pd.DataFrame(schemes),
            "pairs": pd.concat([pair_table(trees, s, p) for s, p in {reference: between, **parts}.items()]).reset_index(
                drop=True
            ),
            "leaves": pd.concat([leaf_table(trees, s, p.rows[0], names) for s, p in parts.items()], ignore_index=True),
            "examples": pd.concat(
                [example_table(trees, s, p, names).head(max(rows, 0)) for s, p in parts.items()], ignore_index=True
            ),
        },
        caveats=_caveats(trees, parts, between, reference),
        galleries=_galleries(trees, parts, names, gallery),
        cites=ANALYSIS.cites,
    )


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """What the trees say of each probed example, mean over pairs: name to ids and values.

    "tree_agreement": the trees of reference and compressed model give the same answer. "tree_fidelity": the tree of
    the compressed model gives its answer.
    """
    measured = probed(population, "soft-tree")
    trees = Trees(measured, answers_of(population, measured))
    pairs = next((p for p in seed_pairs(measured, population) if p.scheme == scheme), None)
    if pairs is None:
        return {}
    ids, second = measured["example"].values, pairs.second
    return {
        "tree_agreement": (ids, (trees.tree[pairs.first] == trees.tree[second]).mean(axis=0)),
        "tree_fidelity": (ids, (trees.tree[second] == trees.answers[second]).mean(axis=0)),
    }


def _rows_of(measured: xr.Dataset, scheme: str) -> list[int]:
    place = {key: row for row, key in enumerate(measured["trial"].values.tolist())}
    return [place[key] for key in whole(measured, scheme)["trial"].values.tolist()]


def _labels_claim(trees: Trees) -> Claim:
    right = trees.labels_tree[0] == trees.label
    from remnant.stats.rates import wilson

    low, high = wilson(np.count_nonzero(right), len(right))
    method = "share of test examples on which a soft decision tree trained on labels is right; Wilson interval over "
    method += "examples"
    return Claim(
        "tree_accuracy_of_labels", "population", float(right.mean()), float(low), float(high), len(right), "example",
        method, "frosst2017distilling", "share",
    )  # fmt: skip


def _galleries(
    trees: Trees, parts: dict[str, TreePairs], names: list[str], most: int
) -> dict[str, tuple[Exhibit, ...]]:
    """Leaves and decisions of the first pair of each scheme, where inputs are pictures."""
    if trees.measured.sizes["height"] == 1:
        return {}
    found: dict[str, tuple[Exhibit, ...]] = {}
    each = min(most, max(1, MOST_PICTURES // (2 * len(parts))))
    for scheme, part in list(parts.items())[: MOST_PICTURES // 2]:
        found[f"Leaves of the trees, reference left: {scheme}"] = leaf_gallery(trees, part.rows[0], names, each)
        found[f"Decisions of the trees, reference left: {scheme}"] = decision_gallery(trees, part.rows[0], names, each)
    return {title: exhibits for title, exhibits in found.items() if exhibits}


def _caveats(trees: Trees, parts: dict[str, TreePairs], between: TreePairs, reference: str) -> tuple[str, ...]:
    caveats = [
        "A tree explains its model only as far as it gives the model's answers: where fidelity is low, its leaves and "
        "decisions say little about the model.",
        "Trees are trained on pixels. A tree changes where the model changed, and also because training a tree is "
        "itself unstable: read the agreement of trees beside that between reference models.",
        "Leaf pictures are means of training images by path probability; filters weigh pixels of the normalized "
        "image. Both are those of the first pair of models.",
    ]
    if not between.rows:
        caveats.append(
            f"There is one probed {reference} model: nothing can be said on how far the trees of two seeds agree. "
            "Train more seeds."
        )
    if any(len(found.rows) == 1 for found in parts.values()):
        caveats.append(
            "Where there is one pair of models, intervals are over its examples: they do not say what another "
            "training or another compression would give."
        )
    same = [scheme for scheme, found in parts.items() if not any(own.any() for own in found.differ)]
    if same:
        caveats.append(f"No answer changes: {', '.join(same)}. What trees do there is left out.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Fidelity of the distilled trees by scheme, beside that of the tree trained on labels."""
    table = finding.tables["schemes"]
    axes = scheme_rows(table["scheme"], xlabel="share of test examples (%)")
    rows = np.arange(len(table))
    value = 100 * table["fidelity"].to_numpy(float)
    ends = 100 * table[["fidelity_low", "fidelity_high"]].to_numpy(float)
    known = np.isfinite(ends).all(axis=1)
    axes.hlines(rows[known], ends[known, 0], ends[known, 1], color=SERIES[0], linewidth=2)
    axes.scatter(value, rows, s=40, color=SERIES[0], label="distilled tree gives the model's answer", zorder=3)
    axes.scatter(
        100 * table["fidelity_of_labels_tree"], rows, s=34, marker="D", color=SERIES[1],
        label="tree trained on labels gives it", zorder=3,
    )  # fmt: skip
    axes.scatter(
        100 * table["agreement"], rows, s=34, marker="s", color=SERIES[2],
        label="trees of reference and compressed agree", zorder=3,
    )  # fmt: skip
    null = float(table["agreement_seeds"].iloc[0])
    if np.isfinite(null):
        axes.axvline(100 * null, color=SERIES[2], linestyle="--", linewidth=1, label="trees of two references agree")
    legend_above(axes, columns=1)
    return axes


ANALYSIS = Analysis(
    name="explanation",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("soft-tree",),
    cites=("frosst2017distilling", "arvesen1969jackknifing", "newcombe1998interval", "wilson1927probable"),
    pace=1.4,
)
