"""Which training examples decide the answers on which test examples."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.influence_probable import Ranked, probable_caveats, probable_claims, probable_pairs
from remnant.analyses.influence_tables import (
    EDGES,
    class_table,
    galleries,
    high_pairs,
    pair_table,
    pairs_above,
    top_table,
    train_table,
    z_tables,
)
from remnant.analyses.panels import SERIES, panels
from remnant.analyses.subset_trials import ANY, MEMORIZED, SubsetTrials, reference_subsets
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.stats import influence as stats
from remnant.stats import influence_null as null
from remnant.stats import influence_tiles as tiled
from remnant.stats.packed_bits import pack

QUESTION = "Which training examples decide the answers on which test examples?"
CITATION = "feldman2020what, section 3"

_LARGE = 2e11
"""Trials x test x training examples from which on integer products are used: about 4 s of float32 products."""


def run(
    population: xr.Dataset,
    *,
    scheme: str | None = None,
    threshold: float = 0.15,
    memorized: float = 0.25,
    thresholds: tuple[float, ...] = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    top: int = 5,
    rows: int = 1000,
    gallery: int = 24,
    permutations: int = 100,
    seed: int = 0,
) -> Finding:
    """Influence of training on test examples, its high pairs, and how many of them chance gives.

    Parameters
    ----------
    scheme
        Whose trials on random training subsets to use; default "dense" if it has some.
    threshold, memorized
        A high-influence pair has influence >= `threshold`, one class, and a training example with
        memorization >= `memorized` (Feldman & Zhang 2020).
    thresholds
        Influence thresholds of the table of pairs.
    top
        Number of training examples listed for each test example.
    rows
        Most rows of a table of examples or pairs, strongest first.
    gallery
        Number of pairs in each gallery.
    permutations
        Random orders of the trials behind the interval of the number of pairs by chance.
    """
    label, trials = reference_subsets(population, scheme)
    data = SubsetTrials.of(label, trials, memorized)
    num_in = data.included.sum(axis=0)
    if not len(data.labels) or not ((num_in > 0) & (num_in < data.num_trials)).any():
        raise NotApplicable(
            "Needs test examples, and training examples that are in some and not in all of the subsets."
        )
    thresholds = tuple(sorted({threshold, *thresholds}))
    found = _scan(data, np.array(thresholds), top)
    pairs = high_pairs(data, min(thresholds))
    counts = pairs_above(data, found["above"], pairs, thresholds)
    listed = pair_table(data, pairs, rows)
    ranked = probable_pairs(data, threshold)
    order = null.orders(np.random.default_rng(seed), data.num_trials, permutations)
    by_chance = _permuted_counts(data, order, threshold)
    parameters = {"scheme": label, "threshold": threshold, "memorized": memorized, "thresholds": list(thresholds)}
    parameters |= {"top": top, "rows": rows, "gallery": gallery, "permutations": permutations, "seed": seed}
    return Finding(
        analysis="influence",
        question=QUESTION,
        parameters=parameters,
        claims=_claims(data, counts, by_chance, threshold, memorized) + probable_claims(data, ranked, threshold),
        tables={
            "pairs_above": counts,
            **({} if ranked is None else {"probable_pairs": ranked.table.head(rows).drop(columns=["row", "column"])}),
            "pairs": listed.drop(columns=["row", "column"]),
            "top_influences": top_table(data, found["top"], rows),
            "train_examples": train_table(data, rows),
            "classes": class_table(data),
            **z_tables(data, found),
        },
        caveats=_caveats(data, counts, threshold, ranked) + probable_caveats(data, ranked),
        galleries=galleries(data, None if ranked is None else ranked.likely, listed, found, gallery),
        cites=ANALYSIS.cites,
    )


def _scan(data: SubsetTrials, thresholds: NDArray[np.float64], top: int) -> dict[str, Any]:
    """One pass over all pairs for each kind of outcome."""
    large = data.correct.size * data.included.shape[1] >= _LARGE
    found = (_scan_of_bits if large else _scan_of_arrays)(data, thresholds, top)
    z = partial(tiled.histogram_z, edges=EDGES)
    found["margin_z"] = tiled.fold(tiled.tiles(data.margin, data.included), {"z": z})["z"]
    return found


def _scan_of_arrays(data: SubsetTrials, thresholds: NDArray[np.float64], top: int) -> dict[str, Any]:
    num_examples = len(data.labels)
    reducers = {
        "top": partial(tiled.top_k, num_examples=num_examples, k=top),
        "bottom": partial(tiled.top_k, num_examples=num_examples, k=1, sign=-1),
        "above": partial(tiled.count_above, thresholds=thresholds, labels=data.labels, train_labels=data.train_labels),
        "z": partial(tiled.histogram_z, edges=EDGES),
    }
    return tiled.fold(tiled.tiles(data.correct, data.included), reducers)


def _scan_of_bits(data: SubsetTrials, thresholds: NDArray[np.float64], top: int) -> dict[str, Any]:
    """The same numbers from integer products, which pay for the import of torch where there are many pairs."""
    from remnant.lab import influence as engine

    shape = (len(data.labels), len(data.train_labels))
    reducers: dict[str, engine.Reducer] = {
        "top": engine.StrongestOnExamples(*shape, top),
        "bottom": engine.StrongestOnExamples(*shape, 1, sign=-1),
        "above": engine.CountAbove(thresholds, data.labels, data.train_labels),
        "z": engine.HistogramZ(EDGES),
    }
    return engine.scan(pack(data.correct), pack(data.included), reducers)


def _permuted_counts(data: SubsetTrials, order: NDArray[np.intp], threshold: float) -> NDArray[np.int64]:
    keep = data.memorized
    return null.permuted_pair_counts(
        data.correct,
        data.included[:, keep],
        order[1:],
        labels=data.labels,
        train_labels=data.train_labels[keep],
        threshold=threshold,
    )


def _claims(
    data: SubsetTrials, counts: pd.DataFrame, permuted: NDArray[np.int64], threshold: float, memorized: float
) -> tuple[Claim, ...]:
    main = counts[(counts["pairs_of"] == MEMORIZED) & (counts["threshold"] == threshold)].iloc[0]
    compared = int(main["compared_pairs"])
    what = f"pairs of one class with influence >= {threshold} and memorization >= {memorized}"
    low, high = np.quantile(permuted, (0.025, 0.975)) if len(permuted) else (None, None)
    expected = "expected number if nothing had any influence, from the hypergeometric distribution (exact)"
    spread = f"interval from {len(permuted)} random orders of the trials" if len(permuted) else "no interval: no orders"
    claims = [
        ("high_influence_pairs", main["pairs"], None, None, compared, "pair", f"{what}; compare with chance", "count"),
        (
            "high_influence_pairs_null",
            main["pairs_by_chance"],
            low,
            high,
            compared,
            "pair",
            f"{expected}; {spread}",
            "count",
        ),
        (
            "influenced_test_examples",
            main["test_examples"],
            None,
            None,
            len(data.labels),
            "example",
            f"in {what}",
            "count",
        ),
        (
            "largest_standard_error",
            stats.worst_standard_error(data.num_trials, float(data.included.mean())),
            None,
            None,
            data.num_trials,
            "trial",
            "of one influence, at an accuracy of one half: 0.5 / sqrt(t p (1 - p))",
            "number",
        ),
    ]
    if len(permuted):
        p = (1 + np.count_nonzero(permuted >= main["pairs"])) / (1 + len(permuted))
        method = "share of random orders of the trials with as many pairs, the true order included"
        claims.append(("high_influence_p", p, None, None, len(permuted), "permutation", method, "p"))
    if main["pairs"]:
        method = "expected by chance over found, at most 1"
        rate = main["false_discovery_rate"]
        claims.append(("high_influence_false_discovery", rate, None, None, int(main["pairs"]), "pair", method, "share"))
    return tuple(
        Claim(name, data.label, float(value), _real(low), _real(high), n, unit, method, CITATION, scale)
        for name, value, low, high, n, unit, method, scale in claims
    )


def _real(value: Any) -> float | None:
    return None if value is None else float(value)


def _caveats(data: SubsetTrials, counts: pd.DataFrame, threshold: float, ranked: Ranked | None) -> tuple[str, ...]:
    main = counts[(counts["pairs_of"] == MEMORIZED) & (counts["threshold"] == threshold)].iloc[0]
    caveats = [
        "Influence is estimated for training on a random subset, not on the whole training set.",
        "What chance gives is computed for no influence anywhere, with each test example's own accuracy.",
        "Test examples on which all trials are right, or all wrong, have influence 0 and no z.",
    ]
    if main["pairs_by_chance"] > 0.5 * main["pairs"]:
        caveats.append(
            "Most pairs above the threshold could be there by chance: the threshold is inside the noise at this number "
            "of trials. Train on more subsets, or read the pairs with a low false discovery rate only"
            + (", or the probable pairs." if ranked is not None and len(ranked.table) else ".")
        )
    if not data.memorized.any():
        caveats.append("No training example is memorized, so there are no high-influence pairs by definition.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Numbers of pairs above thresholds, and the distribution of z, each against chance."""
    upper, lower = panels(2.7, 2.7)
    counts = finding.tables["pairs_above"]
    for place, (kind, part) in enumerate(counts.groupby("pairs_of", sort=False)):
        if kind == ANY:
            continue
        colour = SERIES[place]
        upper.plot(part["threshold"], part["pairs"], marker="o", markersize=4, color=colour, label=f"{kind}: found")
        upper.plot(part["threshold"], part["pairs_by_chance"], linestyle="--", color=colour, label=f"{kind}: by chance")
    upper.set_yscale("log")
    upper.set_ylim(bottom=0.05)
    upper.set_xlabel("influence at least")
    upper.set_ylabel("pairs")
    upper.legend(frameon=False, fontsize=8)
    for place, (outcome, part) in enumerate(finding.tables["z_histogram"].groupby("outcome", sort=False)):
        edges = np.append(part["z_low"].to_numpy(), part["z_high"].to_numpy()[-1])
        if place == 0:
            lower.stairs(part["pairs_by_chance"], edges, fill=True, color="#bbbbbb", label=f"{outcome}: by chance")
        lower.stairs(part["pairs"], edges, color=SERIES[place], linewidth=1.4, label=f"{outcome}: found")
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.5)
    lower.set_xlabel("z of influence")
    lower.set_ylabel("pairs")
    lower.legend(frameon=False, fontsize=8)
    return upper


ANALYSIS = Analysis(
    name="influence",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("included", "train_correct", "train_label", "logits", "label"),
    cites=("feldman2020what", "stephens2017false"),
    pace=13,
)
