"""How much better models are on what they were trained on, and whether memorization accounts for it."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.panels import SERIES, panels, short
from remnant.analyses.subset_trials import correctness
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.population import schemes, subsets, whole
from remnant.stats.influence import memorization
from remnant.stats.trial_intervals import Interval, block_jackknife, mean_interval

QUESTION = "How much better are models on what they were trained on, and does memorization account for it?"
CITATION = "feldman2020what, section 2"
MEANINGS = {
    "train_accuracy": "on the examples of its training set",
    "test_accuracy": "on the test examples",
    "generalization_gap": "train minus test accuracy, trained on the whole training set",
    "generalization_gap_change": "generalization gap minus that of the dense models of the same seeds",
    "subset_train_accuracy": "on the examples of its training subset",
    "left_out_accuracy": "on the training examples left out of its subset",
    "subset_test_accuracy": "on the test examples, trained on a subset",
    "left_out_gap": "accuracy on its subset minus accuracy on the training examples left out of it",
    "subset_test_gap": "accuracy on its subset minus test accuracy: also holds how test and training sets differ",
    "mean_memorization": "mean over training examples of accuracy with minus without the example",
    "memorization_minus_gap": "mean memorization minus the gap to left-out examples: 0 in expectation",
}
"""Measure to what it says."""


def run(population: xr.Dataset) -> Finding:
    """Accuracy, generalization gap and mean memorization of each scheme, with intervals over trials.

    In expectation, mean memorization is the generalization gap (Feldman & Zhang 2020). With random training
    subsets both are estimated on one population: the gap between a model's subset and the training examples left
    out of it, and the mean of memorization. They must agree but for the weights of examples and trials.
    """
    dense = _gaps(whole(population, "dense"))
    rows: list[dict[str, Any]] = []
    for label in schemes(population):
        of_whole, of_subsets = whole(population, label), subsets(population, label)
        if of_whole.sizes["trial"]:
            rows += _whole_rows(label, of_whole, dense)
        if of_subsets.sizes["trial"]:
            rows += _subset_rows(label, of_subsets)
    measures = pd.DataFrame(rows)
    if measures.empty:
        raise NotApplicable("Needs at least one trial.")
    measures["meaning"] = [MEANINGS[name] for name in measures["measure"]]
    wide = measures.pivot(index="scheme", columns="measure", values="estimate").reindex(schemes(population))
    wide = wide[[name for name in MEANINGS if name in wide]].reset_index()
    wide.columns.name = None
    return Finding(
        analysis="generalization",
        question=QUESTION,
        parameters={},
        claims=_claims(measures),
        tables={"schemes": wide, "measures": measures},
        caveats=_caveats(measures),
        cites=ANALYSIS.cites,
    )


def _accuracies(trials: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each trial: on the training examples that it saw, and on the test examples."""
    right = trials["train_correct"].values
    seen = trials["included"].values if "included" in trials else np.ones_like(right)
    with np.errstate(invalid="ignore"):
        return (right & seen).sum(axis=1) / seen.sum(axis=1), correctness(trials).mean(axis=1)


def _gaps(trials: xr.Dataset) -> dict[int, float]:
    """Generalization gap by seed."""
    if not trials.sizes["trial"]:
        return {}
    train, test = _accuracies(trials)
    return dict(zip(trials["seed"].values.tolist(), (train - test).tolist(), strict=True))


def _whole_rows(label: str, trials: xr.Dataset, dense: dict[int, float]) -> list[dict[str, Any]]:
    train, test = _accuracies(trials)
    values = {"train_accuracy": train, "test_accuracy": test, "generalization_gap": train - test}
    seeds = trials["seed"].values.tolist()
    change = [gap - dense[seed] for seed, gap in zip(seeds, train - test, strict=True) if seed in dense]
    if label != "dense" and change:
        values["generalization_gap_change"] = np.array(change)
    return [_row(label, name, mean_interval(value), len(value), "trial mean") for name, value in values.items()]


def _subset_rows(label: str, trials: xr.Dataset) -> list[dict[str, Any]]:
    train, test = _accuracies(trials)
    right, included = trials["train_correct"].values, trials["included"].values
    left_out = (right & ~included).sum(axis=1) / (~included).sum(axis=1)
    values = {
        "subset_train_accuracy": train,
        "left_out_accuracy": left_out,
        "subset_test_accuracy": test,
        "left_out_gap": train - left_out,
        "subset_test_gap": train - test,
    }
    rows = [_row(label, name, mean_interval(value), len(value), "trial mean") for name, value in values.items()]
    if len(right) < 2:
        return rows

    def memorized(kept: NDArray[np.intp]) -> NDArray[np.float64]:
        if len(kept) < 2:
            return np.full(2, np.nan)
        value = memorization(right[kept], included[kept]).value
        defined = value[np.isfinite(value)]
        mean = defined.mean() if len(defined) else np.nan
        return np.array([mean, mean - (train - left_out)[kept].mean()])

    both = block_jackknife(memorized, len(right))
    for place, name in enumerate(("mean_memorization", "memorization_minus_gap")):
        part = Interval(
            *(np.asarray(values)[place] for values in (both.estimate, both.standard_error, both.low, both.high))
        )
        if np.isfinite(part.estimate):
            rows.append(_row(label, name, part, len(right), "jackknife"))
    return rows


def _row(label: str, measure: str, interval: Interval, trials: int, interval_by: str) -> dict[str, Any]:
    return {
        "scheme": label,
        "measure": measure,
        "estimate": float(interval.estimate),
        "low": float(interval.low),
        "high": float(interval.high),
        "trials": trials,
        "interval_by": interval_by,
    }


def _claims(measures: pd.DataFrame) -> tuple[Claim, ...]:
    """A claim for each measure; those of the subsets stand in for the whole training set where that has no trials."""
    stand_in = {
        "subset_train_accuracy": "train_accuracy",
        "subset_test_accuracy": "test_accuracy",
        "subset_test_gap": "generalization_gap",
    }
    claims = []
    present = set(zip(measures["scheme"], measures["measure"], strict=True))
    by = {
        "trial mean": "mean over trials, Student's interval: the spread between trainings, not between test sets",
        "jackknife": "block jackknife over trials",
    }
    for row in measures.to_dict(orient="records"):
        known = np.isfinite(row["low"]) and np.isfinite(row["high"])
        how = by[row["interval_by"]] if known else "too few trials for an interval"
        names = [row["measure"]]
        other = stand_in.get(row["measure"])
        if other and (row["scheme"], other) not in present:
            names.append(other)
        for name in names:
            claims.append(
                Claim(
                    quantity=name,
                    subject=row["scheme"],
                    estimate=row["estimate"],
                    low=row["low"] if known else None,
                    high=row["high"] if known else None,
                    n=row["trials"],
                    unit="trial",
                    method=f"{row['meaning']}; {how}",
                    citation=CITATION if "memorization" in name or "gap" in name else "",
                    scale="share",
                )
            )
    return tuple(claims)


def _caveats(measures: Any) -> tuple[str, ...]:
    found = set(measures["measure"])
    caveats = []
    if "left_out_gap" in found:
        caveats += [
            "Trained on a subset, models see fewer examples: their gaps are usually larger than on the whole training "
            "set, and it is these that mean memorization equals in expectation.",
            "Mean memorization averages over training examples, the gap to left-out examples over trials: they differ "
            "by these weights only.",
            "The gap to test examples also holds how test and training sets differ, and the sampling of the test set.",
        ]
    else:
        caveats.append("Without trials on random training subsets there is no memorization to hold the gap against.")
    if measures["low"].isna().any():
        caveats.append("Measures of a single trial, or of very few, have no interval.")
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Gaps and mean memorization by scheme, and the accuracies behind them."""
    measures: Any = finding.tables["measures"]
    labels = list(dict.fromkeys(measures["scheme"]))
    height = 1.1 + 0.55 * len(labels)
    upper, lower = panels(height, height)
    gaps = {
        "generalization_gap": "gap to test (whole set)",
        "left_out_gap": "gap to left out (subsets)",
        "subset_test_gap": "gap to test (subsets)",
        "mean_memorization": "mean memorization",
    }
    accuracies = {
        "train_accuracy": "train (whole set)",
        "test_accuracy": "test (whole set)",
        "subset_train_accuracy": "own subset",
        "left_out_accuracy": "left out of subset",
    }
    for axes, names, xlabel in ((upper, gaps, "difference in accuracy"), (lower, accuracies, "accuracy")):
        shown = [name for name in names if (measures["measure"] == name).any()]
        for place, name in enumerate(shown):
            part = measures[measures["measure"] == name].set_index("scheme").reindex(labels)
            rows = np.arange(len(labels)) + (place - (len(shown) - 1) / 2) * 0.16
            reach = np.nan_to_num(np.stack([part["estimate"] - part["low"], part["high"] - part["estimate"]]))
            marker, colour = "osD^"[place], SERIES[place]
            axes.errorbar(
                part["estimate"], rows, xerr=reach, linestyle="none", marker=marker, markersize=4,
                color=colour, capsize=2, label=names[name],
            )  # fmt: skip
        axes.set_yticks(range(len(labels)), [short(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel(xlabel)
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    return upper


ANALYSIS = Analysis(
    name="generalization",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("logits", "label", "train_correct"),
    cites=("feldman2020what",),
    pace=0.3,
)
