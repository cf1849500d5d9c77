"""Tables and claims on the agreement of attribution maps."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import stdtrit

from remnant.analyses.attribution_measures import MEASURES, Agreement, Measured, mean_known
from remnant.analyses.comparison import mean_claim, stream
from remnant.finding import Claim
from remnant.stats.attribution import flagged_difference, flagged_difference_p
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import mean_interval
from remnant.stats.two_sample import welch

_SOURCE = "joseph2020correctness, section II.C"
_WORDS = {
    "similarity": "weighted Jaccard of attribution maps",
    "rank_correlation": "Spearman's correlation of attribution maps over pixels",
    "top_overlap": "intersection over union of the highest pixels of attribution maps",
}
CONVENTIONS = {
    "own": "each for the class that its model predicts",
    "reference": "both for the class that the reference predicts",
}


def method_table(found: Measured) -> pd.DataFrame:
    """One row for each scheme and method: the measures with intervals, beside two models of the reference."""
    return pd.DataFrame([_method_row(found, a) for a in found.schemes])


def _method_row(found: Measured, a: Agreement) -> dict[str, Any]:
    null = found.of(found.reference, a.method)
    row: dict[str, Any] = {"scheme": a.scheme, "method": a.method, "pairs": len(a.pairs)}
    row["examples"] = int(np.isfinite(a.similarity).sum(axis=1).max())
    for measure in MEASURES:
        value, low, high = _over_pairs(a, measure)
        row |= {measure: value, f"{measure}_low": low, f"{measure}_high": high}
        row[f"{measure}_null"] = np.nan if null is None else _mean(null.means(measure))
    row["similarity_other_pictures"] = _mean(a.means("floor"))
    row["reference_route"], row["compressed_route"] = a.routes
    return row


def flipped_table(found: Measured, *, num_permutations: int, seed: int) -> pd.DataFrame:
    """One row for each scheme, method and convention: similarity where answers change and where they stay."""
    rows = []
    for a in (*found.schemes, *found.seeds):
        if not a.usable:
            continue
        for convention, values in (("own", a.similarity), ("reference", a.same_class)):
            if a.scheme == found.reference and convention == "reference":
                continue
            rng = stream(seed, "attribution", a.scheme, a.method, convention)
            rows.append(_flipped_row(a, convention, values, flipped_p(a, values, rng, num_permutations)))
    return pd.DataFrame(rows)


def flipped_p(a: Agreement, values: NDArray[np.float64], rng: np.random.Generator, num: int) -> float:
    """p of the difference between examples whose answers change and the others."""
    return flagged_difference_p(values, a.differ, rng=rng, num=num)


def _flipped_row(a: Agreement, convention: str, values: NDArray[np.float64], p: float) -> dict[str, Any]:
    difference, low, high = _flipped_interval(a, values)
    return {
        "scheme": a.scheme,
        "method": a.method,
        "class_explained": convention,
        "changed_answers": float(np.count_nonzero(a.differ & np.isfinite(values), axis=1).mean()),
        "similarity_changed": _mean(mean_known(np.where(a.differ, values, np.nan), axis=1)),
        "similarity_unchanged": _mean(mean_known(np.where(a.differ, np.nan, values), axis=1)),
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "permutation_p": p,
    }


def _flipped_interval(a: Agreement, values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean difference over pairs, t interval over pairs; of one pair Welch's over examples. NaN if undefined."""
    each = flagged_difference(values, a.differ)
    each = each[np.isfinite(each)]
    if not len(each):
        return np.nan, np.nan, np.nan
    if a.between_seeds:
        return float(each.mean()), np.nan, np.nan
    if len(a.pairs) > 1:
        mean = mean_interval(each)
        return float(mean.estimate), float(mean.low), float(mean.high)
    known = np.isfinite(values[0])
    one, two = values[0, known & a.differ[0]], values[0, known & ~a.differ[0]]
    if min(len(one), len(two)) < 2:
        return float(each[0]), np.nan, np.nan
    _, df, _ = welch(one, two)
    error = np.sqrt(one.var(ddof=1) / len(one) + two.var(ddof=1) / len(two))
    half = float(stdtrit(df, 0.975) * error)
    return float(each[0]), float(each[0]) - half, float(each[0]) + half


def example_table(found: Measured) -> pd.DataFrame:
    """One row for each scheme and probed example: in how many pairs its answer changes, and mean similarities."""
    frames = []
    ids = found.data["example"].values
    for scheme in found.labels:
        columns: dict[str, Any] = {"scheme": scheme, "example": ids}
        first = next(a for a in found.schemes if a.scheme == scheme)
        columns["pairs"] = len(first.pairs)
        columns["pairs_changed"] = np.count_nonzero(first.differ, axis=0)
        for a in found.schemes:
            if a.scheme == scheme and a.usable:
                name = a.method.replace("-", "_")
                columns[f"{name}_similarity"] = mean_known(a.similarity, axis=0)
                columns[f"{name}_similarity_same_class"] = mean_known(a.same_class, axis=0)
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def claims(found: Measured, flipped: pd.DataFrame) -> tuple[Claim, ...]:
    """Claims by the method of the claims: agreement, the null beside it, and what happens where answers change."""
    made: list[Claim] = []
    for scheme in (*found.labels, found.reference):
        a = found.of(scheme)
        if a is None:
            continue
        suffix = "_null" if a.between_seeds else ""
        made += [c for m in MEASURES if (c := _claim(a, m, f"attribution_{m}{suffix}")) is not None]
        made += _flipped_claims(a, flipped, suffix)
    return tuple(made)


def _claim(a: Agreement, measure: str, quantity: str) -> Claim | None:
    means = a.means(measure)
    if not len(means):
        return None
    method = f"{_WORDS[measure]} ({_name(a.method)}), {CONVENTIONS['own']}, mean over examples"
    if a.between_seeds:
        value, low, high = _over_pairs(a, measure)
        method += ", mean over pairs of models of different seeds; "
        method += "jackknife interval over models" if np.isfinite(low) else "no interval: needs 3 models"
        ends = (low, high) if np.isfinite(low) else (None, None)
        models = len({row for pair in a.pairs for row in pair})
        return Claim(quantity, a.scheme, value, *ends, models, "trial", method, _SOURCE, "number", a.method)
    unit = "example" if len(a.pairs) == 1 else "pair"
    values = getattr(a, measure)[0] if unit == "example" else means
    method += "" if unit == "example" else " and over pairs of the same seed"
    made = mean_claim(
        quantity, a.scheme, values[np.isfinite(values)], unit, method=method, citation=_SOURCE, scale="number"
    )
    bounds = (made.low, made.high)
    if made.low is not None and made.high is not None:
        bounds = (max(made.low, _LEAST[measure]), min(made.high, 1.0))
    return Claim(quantity, a.scheme, made.estimate, *bounds, made.n, unit, made.method, _SOURCE, "number", a.method)


_LEAST = {"similarity": 0.0, "rank_correlation": -1.0, "top_overlap": 0.0}


def _flipped_claims(a: Agreement, flipped: pd.DataFrame, suffix: str) -> list[Claim]:
    made: list[Claim] = []
    own = flipped.loc[(flipped["scheme"] == a.scheme) & (flipped["method"] == a.method)]
    for row in own.to_dict("records"):
        if not np.isfinite(row["difference"]):
            continue
        convention = str(row["class_explained"])
        name = f"attribution_cie_difference{'' if convention == 'own' else '_same_class'}{suffix}"
        ends = (row["difference_low"], row["difference_high"]) if np.isfinite(row["difference_low"]) else (None, None)
        unit = "example" if len(a.pairs) == 1 else "pair"
        number = a.differ.shape[1] if unit == "example" else len(a.pairs)
        what = (
            f"mean {_WORDS['similarity']} ({_name(a.method)}), {CONVENTIONS[convention]}, over examples whose answer "
            "changes minus that over the others"
        )
        how = {"example": "Welch's interval over examples", "pair": "mean over pairs; t interval over pairs"}[unit]
        how = how if ends[0] is not None else "no interval"
        made.append(Claim(name, a.scheme, row["difference"], *ends, number, unit, f"{what}; {how}", _SOURCE, "number"))
        if np.isfinite(row["permutation_p"]):
            method = f"{what}: share of rearrangements of the examples with a difference as large"
            size = a.differ.shape[1]
            p = float(row["permutation_p"])
            made.append(Claim(f"{name}_p", a.scheme, p, None, None, size, "example", method, _SOURCE, "p"))
    return made


def _over_pairs(a: Agreement, measure: str) -> tuple[float, float, float]:
    """Mean over pairs, and its interval: over pairs; over examples of one pair; by the jackknife between seeds."""
    means = a.means(measure)
    if not len(means):
        return np.nan, np.nan, np.nan
    if a.between_seeds:
        return _between_seeds(a, measure)
    values = getattr(a, measure)[0] if len(a.pairs) == 1 else means
    found = mean_interval(values[np.isfinite(values)])
    least = _LEAST[measure]
    return float(means.mean()), float(np.fmax(found.low, least)), float(np.fmin(found.high, 1.0))


def _between_seeds(a: Agreement, measure: str) -> tuple[float, float, float]:
    means = mean_known(getattr(a, measure), axis=1)
    models = sorted({row for pair in a.pairs for row in pair})
    ends = np.array([[models.index(i), models.index(j)] for i, j in a.pairs])

    def statistic(kept: NDArray[np.intp]) -> float:
        return _mean(means[np.isin(ends, kept).all(axis=1)])

    value = _mean(means)
    if len(models) < 3:
        return value, np.nan, np.nan
    found = jackknife(statistic, len(models))
    return value, max(float(found.low), _LEAST[measure]), min(float(found.high), 1.0)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def _name(method: str) -> str:
    return method.replace("-", " ")
