"""What flips cost when mistaking some classes for each other is worse than others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from remnant.analyses import cost_distances as distances
from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.comparison import Comparison, class_names, comparisons
from remnant.analyses.cost_measures import Cost, Measure, Pairs, measure, share_across
from remnant.analyses.cost_tables import flow_table, gallery, level_table, scheme_table
from remnant.analyses.examples import can_be_shown
from remnant.analyses.panels import SERIES, legend_above, panels, short
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.stats.cost import costs, is_metric, superclass_distance, zero_one

QUESTION = "What do changed answers cost, when some classes are farther apart than others?"
_SOURCE = "joseph2020correctness, section II.A"
ZERO_ONE, CONFUSION, SUPERCLASSES, HIERARCHY, GIVEN = "zero-one", "confusion", "superclasses", "hierarchy", "given"
MEANINGS = {
    ZERO_ONE: "1 for any two classes",
    CONFUSION: "1 - 2 x the error rate of the reference between the two classes",
    SUPERCLASSES: "1/2 within a superclass, 1 across",
    HIERARCHY: "height of the lowest common ancestor, over the greatest",
    GIVEN: "as given",
}


_MOST_CLASSES = 5_000
"""Distances of so many classes take 200 MB."""


def run(
    population: xr.Dataset,
    *,
    reference: str | None = None,
    distance: str | ArrayLike = "auto",
    superclasses: Mapping[str, str] | str | None = None,
    hierarchy: str | None = None,
    weights: str | Sequence[float] | None = None,
) -> Finding:
    """Misclassification cost of each compressed scheme relative to the reference, for all distances that are known.

    Parameters
    ----------
    reference
        Label of the side to compare with; default that of the population.
    distance
        The distance of the claims: "confusion", "superclasses", "hierarchy", "zero-one", a matrix of shape
        (class, class) with rows for what is answered, or a .npy or CSV file of one. "auto": from the confusion of the
        reference where labels are known, else "zero-one".
    superclasses
        Class to superclass, or a JSON or CSV file of it; default those of CIFAR-10 and CIFAR-100 by their names.
    hierarchy
        A file of names and their parents, such as WordNet; see `remnant.analyses.cost_distances.hierarchy`.
    weights
        mu: one for each example; "classes" for the same total weight of each true class; default the same for each.

    Raises
    ------
    ValueError
        If a distance, file or weight is malformed, or `distance` names one that is not known here.
    NotApplicable
        If there is no reference or no compressed side.
    SchemaError
        If there are several reference models with other seeds than the compressed ones.
    """
    sides = compressed_sides(population, reference)
    names = class_names(population)
    groups = distances.superclasses(names, superclasses)
    known, main = _distances(sides[0], names, groups, distance, hierarchy)
    mu = _weights(population, weights)
    pairs = {side.scheme: _pairs(side, mu) for side in sides}
    base = sides[0].reference_label
    noise = _noise(population, sides[0], base, mu)
    found = {(s, d): measure(of, matrix) for s, of in pairs.items() for d, matrix in known.items()}
    between = {d: measure(noise, matrix) for d, matrix in known.items()} if noise else {}
    codes = None if groups is None else np.unique(groups, return_inverse=True)[1]
    across = {} if codes is None else {s: share_across(of, codes) for s, of in pairs.items()}
    floor = share_across(noise, codes) if noise and codes is not None else None
    claims = [claim for side in sides for claim in _claims(side, main, found[side.scheme, main])]
    for side in sides:
        if codes is not None:
            claims += _across_claims(side, *across[side.scheme])
    claims += _noise_claims(base, main, between.get(main), floor)
    levels = [d for d in (SUPERCLASSES, HIERARCHY) if d in known]
    tables = {
        "schemes": scheme_table(found, between, across, floor, MEANINGS),
        "severity": level_table(pairs, noise, {d: known[d] for d in levels}),
        "flows": flow_table(pairs, known[main], names),
    }
    shown = (
        {s: gallery(population, of, known[main], names) for s, of in pairs.items()} if can_be_shown(population) else {}
    )
    return Finding(
        analysis="cost",
        question=QUESTION,
        parameters={
            "reference": base,
            "distance": main,
            "weights": weights if isinstance(weights, str) else "equal" if weights is None else "given",
        },
        claims=tuple(claims),
        tables={name: table for name, table in tables.items() if len(table)},
        caveats=_caveats(main, known, noise, sides),
        galleries={f"Most severe flips: {s}": exhibits for s, exhibits in shown.items() if exhibits},
        cites=ANALYSIS.cites,
    )


def _distances(
    side: Comparison, names: list[str], groups: list[str] | None, distance: str | ArrayLike, hierarchy: str | None
) -> tuple[dict[str, NDArray[np.float64]], str]:
    """Every distance that is known, and which one is that of the claims."""
    num = len(names)
    if num > _MOST_CLASSES:
        raise NotApplicable(
            f"Distances between {num:,} classes are more numbers than are held; at most {_MOST_CLASSES:,} classes are "
            "compared. Ask it of superclasses: replace labels and answers by theirs."
        )
    known = {ZERO_ONE: zero_one(num)}
    if side.label is not None and (confusion := distances.from_confusion(side.label, side.first, num)) is not None:
        known[CONFUSION] = confusion
    if groups is not None:
        known[SUPERCLASSES] = superclass_distance(np.unique(groups, return_inverse=True)[1])
    if hierarchy is not None:
        known[HIERARCHY] = distances.hierarchy(names, hierarchy)
    if not isinstance(distance, str):
        return {GIVEN: distances.given(distance, num), **known}, GIVEN
    if distance == "auto":
        return known, CONFUSION if CONFUSION in known else ZERO_ONE
    if distance in known:
        return known, distance
    if distance.endswith((".npy", ".csv")):
        return {GIVEN: distances.matrix(distance, num), **known}, GIVEN
    raise ValueError(
        f"Expected `distance` to be 'auto', one of {list(known)}, a matrix, or a .npy or .csv file, but got "
        f"{distance!r}. 'superclasses' and 'hierarchy' need the parameter of that name; 'confusion' needs labels."
    )


def _weights(population: xr.Dataset, weights: str | Sequence[float] | None) -> NDArray[np.float64]:
    num = population.sizes["example"]
    if weights is None:
        return np.full(num, 1 / num)
    if isinstance(weights, str):
        if weights != "classes":
            raise ValueError(f"Expected `weights` to be None, 'classes' or one number an example, but got {weights!r}.")
        if "label" not in population:
            raise NotApplicable("Weights by class need the true class of each test example: `label`.")
        label = population["label"].values
        size = np.bincount(label)
        return 1 / (size[label] * np.count_nonzero(size))
    found = np.asarray(weights, np.float64)
    if found.shape != (num,) or not np.isfinite(found).all() or found.min() < 0 or found.sum() <= 0:
        raise ValueError(f"Expected `weights` to be {num} numbers >= 0 with a sum > 0, but got shape {found.shape}.")
    return found / found.sum()


def _pairs(side: Comparison, mu: NDArray[np.float64]) -> Pairs:
    first = [side.first[j] for j, _ in side.pairs]
    return Pairs(first, [side.second[k] for _, k in side.pairs], side.label, mu)


def _noise(population: xr.Dataset, side: Comparison, base: str, mu: NDArray[np.float64]) -> Pairs | None:
    """Each reference model against the next; or against its second run, where files have one; None with one model."""
    if side.num_first > 1:
        return Pairs(list(side.first), [*side.first[1:], side.first[0]], side.label, mu)
    floor = population.attrs.get("floor")
    again = [s for s in comparisons(population, base, pairs=True) if s.scheme == floor]
    return _pairs(again[0], mu) if again else None


def _claims(side: Comparison, name: str, found: Cost) -> list[Claim]:
    what = f"distance {name} ({MEANINGS[name]}){side.over_pairs}"
    method = f"weighted mean over examples of the distance between the two answers: {what}"
    claims = [_claim("misclassification_cost", side.scheme, found.cost, method, _SOURCE)]
    if np.isfinite(found.severity.values).any():
        severity = f"mean distance between the two answers of a flip: {what}"
        claims.append(_claim("flip_severity", side.scheme, found.severity, severity, _SOURCE))
        chance = found.severity_by_chance[np.isfinite(found.severity_by_chance)]
        if len(chance):
            text = f"mean distance of a flip if destinations were dealt anew to the flips: {what}; exact, so without "
            claims.append(
                Claim("flip_severity_by_chance", side.scheme, float(chance.mean()), None, None, found.severity.n,
                      found.severity.unit, f"{text}an interval", "", "number")
            )  # fmt: skip
    if found.change is not None:
        text = f"mean distance between answer and true class, compressed minus reference: {what}"
        claims.append(_claim("mistake_cost_change", side.scheme, found.change, text, "bertinetto2020making"))
    return claims


def _claim(
    quantity: str, subject: str, found: Measure, method: str, citation: str = "", scale: str = "number"
) -> Claim:
    low, high = found.interval or (None, None)
    if low is None:
        method += "; no interval: no spread"
    else:
        over = "gamma" if quantity == "misclassification_cost" and found.unit == "example" else "normal"
        over = "Wilson" if scale == "share" and found.unit == "example" else over
        method += f"; {'t' if found.unit == 'pair' else over} interval over {found.unit}s"
        low = max(low, 0.0) if not quantity.endswith("change") else low
        high = min(high, 1.0) if scale == "share" and high is not None else high
    return Claim(quantity, subject, found.mean, low, high, max(found.n, 1), found.unit, method, citation, scale)


def _across_claims(side: Comparison, found: Measure, chance: NDArray[np.float64]) -> list[Claim]:
    if not np.isfinite(found.values).any():
        return []
    method = f"share of flips that lead from one superclass to another{side.over_pairs}"
    claims = [_claim("flips_across_superclasses", side.scheme, found, method, scale="share")]
    if np.isfinite(chance).any():
        text = "share of flips across superclasses if destinations were dealt anew to the flips; exact, so without an "
        value = float(chance[np.isfinite(chance)].mean())
        claims.append(
            Claim("flips_across_superclasses_by_chance", side.scheme, value, None, None, max(found.n, 1), found.unit,
                  f"{text}interval", "", "share")
        )  # fmt: skip
    return claims


def _noise_claims(
    base: str, name: str, between: Cost | None, floor: tuple[Measure, NDArray[np.float64]] | None
) -> list[Claim]:
    if between is None:
        return []
    who = f"each {base} model against the next, or its second run"
    what = f"distance {name} ({MEANINGS[name]})"
    claims = [_claim("misclassification_cost_between_seeds", base, between.cost, f"{who}: mean cost, {what}", _SOURCE)]
    if np.isfinite(between.severity.values).any():
        claims.append(
            _claim("flip_severity_between_seeds", base, between.severity, f"{who}: mean distance of a flip, {what}")
        )
    if floor is not None and np.isfinite(floor[0].values).any():
        text = f"{who}: share of flips that lead from one superclass to another"
        claims.append(_claim("flips_across_superclasses_between_seeds", base, floor[0], text, scale="share"))
    return claims


def _caveats(
    name: str, known: dict[str, NDArray[np.float64]], noise: Pairs | None, sides: list[Comparison]
) -> tuple[str, ...]:
    caveats = [
        "A cost compares schemes under one distance; it has no unit of its own. Which distance is right is for the "
        "application to say.",
        "The cost is relative to the reference, right or wrong: a flip to the true class costs as much as one away "
        "from it. The change of the cost of mistakes says what the truth makes of it.",
    ]
    if name == CONFUSION:
        caveats.append(
            "The distance from the confusion of the reference is estimated on the same examples: pairs of classes with "
            "few examples have noisy distances, and classes that were never confused count as far apart."
        )
    if name == GIVEN and not is_metric(known[name]):
        caveats.append(
            "The distance as given is no metric: it is asymmetric, 0 between classes or has shorter detours."
        )
    if noise is None:
        caveats.append("With one reference model nothing says what flips between two of its runs would cost.")
    if any(side.num_second == 1 for side in sides):
        caveats.append("With one pair of models, intervals are about these two models on other examples of the kind.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Cost, and mean distance of a flip, by scheme and distance, beside chance and two reference models."""
    table: Any = finding.tables["schemes"]
    graded = table[table["distance"] != ZERO_ONE]
    table = graded if len(graded) else table
    labels = list(dict.fromkeys(table["scheme"]))
    height = 0.7 + (0.3 + 0.2 * table["distance"].nunique()) * len(labels)
    upper, lower = panels(height, height)
    _draw(upper, table, "cost", labels)
    _draw(lower, table, "severity", labels)
    upper.set_xlabel("misclassification cost, 95 % interval")
    lower.set_xlabel("mean distance of a flip, 95 % interval")
    lower.plot(table["severity_by_chance"], _heights(table, labels), "|", markersize=13, color="#777777")
    upper.plot([], [], "|", color="#777777", markersize=11, label="destinations by chance")
    if table["cost_between_seeds"].notna().any():
        upper.plot([], [], "x", color="#777777", label="between reference models")
    legend_above(upper, columns=2)
    return upper


def _heights(table: Any, labels: list[str]) -> NDArray[np.float64]:
    """Where each row of the table is drawn: distances of one scheme beside each other."""
    kinds = list(dict.fromkeys(table["distance"]))
    offset = np.array([kinds.index(kind) for kind in table["distance"]]) - (len(kinds) - 1) / 2
    return np.array([labels.index(scheme) for scheme in table["scheme"]]) + 0.22 * offset


def _draw(axes: Any, table: Any, name: str, labels: list[str]) -> None:
    heights = _heights(table, labels)
    for place, kind in enumerate(dict.fromkeys(table["distance"])):
        chosen = (table["distance"] == kind).to_numpy()
        part, rows = table[chosen], heights[chosen]
        value = part[name].to_numpy(float)
        ends = np.stack([value - part[f"{name}_low"], part[f"{name}_high"] - value])
        shown = {"label": str(kind)} if name == "cost" else {}
        colour = SERIES[place % len(SERIES)]
        axes.errorbar(value, rows, np.zeros(len(value)), np.maximum(np.nan_to_num(ends), 0), fmt="o", markersize=5,
                      color=colour, capsize=3, **shown)  # fmt: skip
        axes.plot(part[f"{name}_between_seeds"], rows, "x", markersize=6, color=colour)
    axes.set_yticks(range(len(labels)), [short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)


def example_columns(population: xr.Dataset, scheme: str) -> dict[str, tuple[NDArray, NDArray[np.float64]]]:
    """Per test example, mean over pairs: the distance between the answers of the two models."""
    side = next(s for s in compressed_sides(population, None) if s.scheme == scheme)
    known, main = _distances(side, class_names(population), None, "auto", None)
    value = np.mean([costs(side.second[k], side.first[j], known[main]) for j, k in side.pairs], axis=0)
    return {"flip_cost": (population["example"].values, value)}


ANALYSIS = Analysis(
    name="cost",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=("joseph2020correctness", "deng2010what", "bertinetto2020making", "fay1997confidence"),
    pace=0.3,
)
