"""Claims on the distances to the decision boundary: each scheme, and models of other seeds for comparison."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.boundary_measures import MEASURES, Change, Part
from remnant.analyses.comparison import Comparison
from remnant.finding import Claim
from remnant.stats.long_tail import auc_standard_error
from remnant.stats.preservation import spearman_interval
from remnant.stats.rates import quantile_interval, wilson
from remnant.stats.resampling import jackknife
from remnant.stats.trial_intervals import mean_interval

SOURCE = "joseph2020correctness, section II-D"
_METHODS = {
    "ratio": "{what}: compressed over reference, median over the examples on which both give the same answer",
    "correlation": "{what}: rank correlation of the two models over the examples on which both give the same answer",
    "preserved": "{what}: share of the examples that keep their answer and change by at most the factor {factor:g}",
    "factor": "{what}: half of the examples on which both give the same answer change by at most this factor",
    "cie_nearer": (
        "{what} in the reference model: probability that an example which the other model answers differently is "
        "nearer than one which both answer alike (0.5: no relation)"
    ),
}
_SCALES = {"ratio": "number", "correlation": "number", "preserved": "share", "factor": "number", "cie_nearer": "number"}
_ON_LOGARITHMS = ("ratio", "factor")
_BOUNDS = {
    "ratio": (0, np.inf),
    "correlation": (-1, 1),
    "preserved": (0, 1),
    "factor": (1, np.inf),
    "cie_nearer": (0, 1),
}


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval; None where there is none."""

    value: float
    low: float | None
    high: float | None
    n: int
    unit: str
    how: str
    """How the interval was made, as the end of a sentence."""


def statistics(factor: float) -> dict[str, Callable[[Change], float]]:
    """Name of each statistic of a pair of models to what gives it."""
    return {
        "ratio": lambda change: change.median_ratio,
        "correlation": lambda change: change.correlation,
        "preserved": lambda change: change.preserved[factor],
        "factor": lambda change: change.factor,
        "cie_nearer": lambda change: change.nearer,
    }


def estimates(part: Part, factor: float) -> dict[str, Estimate]:
    """The statistics of a scheme that are defined: over pairs of models; over examples where there is one pair."""
    found = {}
    for name, statistic in statistics(factor).items():
        values = np.array([statistic(change) for change in part.changes])
        values = values[np.isfinite(values)]
        if len(values) > 1:
            found[name] = _over_pairs(name, values, part.comparison)
        elif len(values):
            found[name] = _over_examples(name, float(values[0]), part, factor)
    return found


def null_estimates(changes: Mapping[tuple[int, int], Change], factor: float, num_trials: int) -> dict[str, Estimate]:
    """The same statistics between models of other seeds; of the ratio, how far it is from 1 either way."""
    found = {}
    for name, statistic in statistics(factor).items():
        values = {pair: statistic(change) for pair, change in changes.items()}
        if name == "ratio":
            values = {pair: float(np.exp(abs(np.log(value)))) for pair, value in values.items()}
        values = {pair: value for pair, value in values.items() if np.isfinite(value)}
        if values:
            found[name] = _over_trials(name, values, num_trials)
    return found


def _over_pairs(name: str, values: NDArray[np.float64], comparison: Comparison) -> Estimate:
    logarithms = name in _ON_LOGARITHMS
    interval = mean_interval(np.log(values) if logarithms else values)
    back = np.exp if logarithms else np.asarray
    kind = "geometric mean" if logarithms else "mean"
    how = comparison.over_pairs.replace("mean", kind, 1)
    if np.ptp(values) == 0:
        how += "; no interval: no spread between pairs"
        return Estimate(float(back(interval.estimate)), None, None, len(values), "pair", how)
    low, high = np.clip([back(interval.low), back(interval.high)], *_BOUNDS[name])
    return Estimate(
        float(back(interval.estimate)), float(low), float(high), len(values), "pair", f"{how}; t interval over pairs"
    )


def _over_examples(name: str, value: float, part: Part, factor: float) -> Estimate:
    """The statistic of one pair with its interval over examples like these."""
    place = next(i for i, c in enumerate(part.changes) if np.isfinite(statistics(factor)[name](c)))
    change = part.changes[place]
    ratios, n = change.log_ratio, len(change.log_ratio)
    if name == "ratio":
        low, high = np.exp(quantile_interval(np.sort(ratios), 0.5))
        how = "interval by order statistics"
    elif name == "factor":
        low, high = np.exp(quantile_interval(np.sort(np.abs(ratios)), 0.5))
        how = "interval by order statistics"
    elif name == "correlation":
        low, high = spearman_interval(value, n)
        how = "interval of Bonett and Wright"
    elif name == "preserved":
        n = change.num
        low, high = wilson(round(value * n), n)
        how = "Wilson interval"
    else:
        differs = part.mismatch[place]
        n = len(differs)
        error = auc_standard_error(-part.reference[place], differs, ~differs)
        low, high = np.clip([value - 1.959964 * error, value + 1.959964 * error], 0, 1)
        how = "DeLong interval"
    ends = (None, None) if np.isnan(low) or np.isnan(high) else (float(low), float(high))
    how = "; no interval: too few examples" if ends[0] is None else f"; {how} over the examples of one pair"
    return Estimate(value, *ends, n, "example", how)


def _over_trials(name: str, values: dict[tuple[int, int], float], num_trials: int) -> Estimate:
    """Mean over ordered pairs of models of other seeds, with the jackknife over models (3 or more)."""
    matrix = np.full((num_trials, num_trials), np.nan)
    for (j, k), value in values.items():
        matrix[j, k] = np.log(value) if name in _ON_LOGARITHMS else value

    def mean(kept: NDArray[np.intp]) -> float:
        return float(np.nanmean(matrix[np.ix_(kept, kept)]))

    back = np.exp if name in _ON_LOGARITHMS else np.asarray
    used = np.unique([trial for pair in values for trial in pair])
    how = "; mean over all pairs of models of other seeds"
    # Leaving one model out must leave a pair.
    if len(used) < 3 or len(values) < len(used) * (len(used) - 1):
        value = float(back(mean(np.arange(num_trials))))
        return Estimate(value, None, None, len(used), "trial", f"{how}; no interval: needs 3 models")
    found = jackknife(lambda kept: mean(used[kept]), len(used))
    low, high = np.clip([back(found.low), back(found.high)], *_BOUNDS[name])
    how += ", jackknife interval over models"
    return Estimate(float(back(found.estimate)), float(low), float(high), len(used), "trial", how)


def scheme_claims(part: Part, found: dict[str, Estimate], factor: float) -> list[Claim]:
    """What a scheme does to a measure.

    Whether mismatches are near the boundary is asked of the reference alone, where `nearest` and `along_reference`
    are the same distance: it is claimed once, with the latter, which schemes without gradients have too.
    """
    return [
        _claim(
            "nearest" if name == "cie_nearer" and part.measure == "along_reference" else part.measure,
            name,
            part.scheme,
            one,
            factor,
        )
        for name, one in found.items()
        if not (name == "cie_nearer" and part.measure == "nearest" and part.with_reference_direction)
    ]


def null_claims(measure: str, reference: str, found: dict[str, Estimate], factor: float) -> list[Claim]:
    """What another seed of the reference does to a measure."""
    return [_claim(measure, name, reference, one, factor, null=True) for name, one in found.items()]


def distance_claim(measure: str, subject: str, medians: NDArray[np.float64], num_examples: int) -> Claim:
    """The median distance of the examples, mean over models."""
    method = f"{MEASURES[measure]}, median over {num_examples} examples; Euclidean norm of the change of the pixels"
    if len(medians) > 1 and np.ptp(medians) > 0:
        found = mean_interval(medians)
        low, high = max(float(found.low), 0.0), float(found.high)
        method += ", mean over models; t interval over models"
    else:
        low = high = None
        method += "; no interval: one model" if len(medians) == 1 else ", mean over models; no interval: no spread"
    value = float(medians.mean())
    return Claim(f"{measure}_distance", subject, value, low, high, len(medians), "trial", method, SOURCE, "number")


def _claim(measure: str, name: str, subject: str, one: Estimate, factor: float, *, null: bool = False) -> Claim:
    quantity = f"{measure}_{name}" if name == "cie_nearer" else f"{measure}_distance_{name}"
    what = _METHODS[name].format(what=MEASURES[measure], factor=factor)
    if null:
        what = what.replace("compressed over reference", "larger over smaller")
    return Claim(
        f"{quantity}_null" if null else quantity,
        subject,
        one.value,
        one.low,
        one.high,
        one.n,
        one.unit,
        what + one.how,
        SOURCE,
        _SCALES[name],
    )
