"""Statistics and tables of the analysis of the long tail."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.subset_trials import SubsetTrials
from remnant.finding import Exhibit
from remnant.population import paired, predictions, whole
from remnant.stats import influence as estimator
from remnant.stats import influence_tiles as tiled
from remnant.stats import long_tail as stats
from remnant.stats.agreement import mismatches
from remnant.stats.multiplicity import benjamini_hochberg

TYPES = {"cie": "CIE", "cie_u": "CIE-U", "cie_c": "CIE-C"}
"""Kinds of mismatch that are tested, with the names of Dam et al."""
MEAN = "mean over all training examples"
SAME_CLASS_MEAN = "mean over the same class"
PRIMARY = "mean of the top, same class"
"""The statistic that the calibrated claims are on, chosen before any data was seen."""
ALL_PAIRS, FIRST_PAIR = "all pairs", "first pair"
_COLUMNS = (
    "scheme", "type", "statistic", "models", "testable_cases", "testable_controls", "auc", "auc_low", "auc_high", "p",
    "q", "p_independent", "t", "t_p", "t_mean_by_chance", "t_spread_by_chance", "cases", "controls",
)  # fmt: skip
_NAMES = {
    "max": "maximum, same class",
    "top": PRIMARY,
    "memorized_max": "maximum, memorized of the same class",
    "memorized_top": "mean of the top, memorized of the same class",
}


@dataclass(frozen=True)
class Mismatches:
    """Where the models of a scheme differ from the dense models of the same seeds."""

    scheme: str
    seeds: tuple[int, ...]
    kinds: dict[str, NDArray[np.bool_]]
    """Kind to an array (pair, example)."""
    dense: NDArray[np.integer]
    """Predictions, shape (pair, example)."""
    compressed: NDArray[np.integer]

    @staticmethod
    def of(population: xr.Dataset, scheme: str) -> "Mismatches | None":
        """None if no seed has both a dense and a compressed model."""
        dense, compressed = whole(population, "dense"), whole(population, scheme)
        seeds = np.intersect1d(dense["seed"].values, compressed["seed"].values)
        if len(seeds) == 0:
            return None
        dense, compressed = paired(
            *(side.isel(trial=np.isin(side["seed"].values, seeds)) for side in (dense, compressed))
        )
        first, second = predictions(dense), predictions(compressed)
        kinds = mismatches(first, second, dense["label"].values)
        return Mismatches(scheme, tuple(int(s) for s in seeds), kinds, first, second)

    def weights(self, kind: str, models: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of each test example as a case and as a control (the pair agrees): shares of the pairs."""
        pairs = slice(0, 1) if models == FIRST_PAIR else slice(None)
        return self.kinds[kind][pairs].mean(axis=0), (~self.kinds["cie"][pairs]).mean(axis=0)


def statistics(
    data: SubsetTrials, orders: NDArray[np.intp], top: int
) -> tuple[dict[str, NDArray[np.floating]], list[str]]:
    """Statistics of each test example for each order of the trials, and the names of those fixed by the design.

    A mean over training examples says nothing if every subset holds as many of them: its names are returned, and
    it is left out where it is 0 but for rounding.
    """
    everything = np.ones((len(data.train_labels), 1), bool)
    contrast = estimator.contrasts(data.included, everything)[:, 0]
    same = np.stack([data.train_labels == label for label in np.unique(data.labels)], axis=1)
    found: dict[str, NDArray[np.floating]] = {}
    fixed = []
    if _constant(data.included, everything):
        fixed.append(MEAN)
    if np.abs(contrast).max() > 1e-12:
        found[MEAN] = stats.linear_statistic(data.correct, contrast, orders)
    if _constant(data.included, same):
        fixed.append(SAME_CLASS_MEAN)
    else:
        found[SAME_CLASS_MEAN] = stats.same_class_means(
            data.correct, data.included, orders, labels=data.labels, train_labels=data.train_labels
        )
    varies = data.correct.any(axis=0) & ~data.correct.all(axis=0)
    tops = stats.same_class_tops(
        data.correct[:, varies],
        data.included,
        orders,
        labels=data.labels[varies],
        train_labels=data.train_labels,
        memorized=data.memorized,
        top=top,
    )
    for name, values in tops.items():
        # Where all trials are right, or all wrong, every influence is 0 in every order.
        every = np.zeros((len(orders), data.correct.shape[1]), values.dtype)
        every[:, varies] = values
        found[_NAMES[name]] = every
    return found, fixed


def _constant(included: NDArray[np.bool_], members: NDArray[np.bool_]) -> bool:
    """Whether every subset holds the same number of each group."""
    sizes = included.astype(np.float32) @ members.astype(np.float32)
    return bool((sizes == sizes[0]).all())


def test_table(data: SubsetTrials, found: dict[str, NDArray[np.floating]], schemes: list[Mismatches]) -> pd.DataFrame:
    """A row for each scheme, kind of mismatch, choice of models and statistic; tests that are undefined are NaN."""
    varies = data.correct.any(axis=0) & ~data.correct.all(axis=0)
    rows = []
    for name, values in found.items():
        defined = np.isfinite(values[0])
        testable = np.flatnonzero(varies & defined)
        levels = stats.levels(values[:, testable])
        for scheme in schemes:
            for kind in TYPES:
                for models in (ALL_PAIRS, FIRST_PAIR) if len(scheme.seeds) > 1 else (ALL_PAIRS,):
                    cases, controls = scheme.weights(kind, models)
                    row = {"scheme": scheme.scheme, "type": TYPES[kind], "statistic": name, "models": models}
                    row |= _calibrated(levels, cases[testable], controls[testable])
                    if models == FIRST_PAIR or len(scheme.seeds) == 1:
                        row |= _naive(values[:, defined], cases[defined] > 0, controls[defined] > 0)
                    rows.append(row)
    table = pd.DataFrame(rows)
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    # The two tests that a reader looks for come first: the calibrated one on all pairs, the paper's on the first.
    first = ((table["statistic"] == PRIMARY) & (table["models"] == ALL_PAIRS)).to_numpy()
    paper = FIRST_PAIR if FIRST_PAIR in table["models"].tolist() else ALL_PAIRS
    second = ((table["statistic"] == MEAN) & (table["models"] == paper)).to_numpy()
    order = np.argsort(np.where(first, 0, np.where(second, 1, 2)), kind="stable")
    return table.iloc[order][[name for name in _COLUMNS if name in table]].reset_index(drop=True)


def _calibrated(levels: NDArray, cases: NDArray[np.float64], controls: NDArray[np.float64]) -> dict[str, float]:
    row: dict[str, float] = {
        "testable_cases": int(np.count_nonzero(cases)),
        "testable_controls": int(np.count_nonzero(controls)),
    }
    if min(row.values()) < 2 or len(levels) < 3:
        return {**row, "auc": np.nan, "auc_low": np.nan, "auc_high": np.nan, "p": np.nan, "p_independent": np.nan}
    found = stats.compare(levels, cases, controls)
    return {
        **row,
        "auc": found.auc,
        "auc_low": found.low,
        "auc_high": found.high,
        "p": found.p,
        "p_independent": found.p_independent,
    }


def _naive(values: NDArray, cases: NDArray[np.bool_], controls: NDArray[np.bool_]) -> dict[str, float]:
    """Student's t as in the paper, and its spread over random orders of the trials, which should be 1."""
    if min(np.count_nonzero(cases), np.count_nonzero(controls)) < 2:
        return {}
    statistic, p = stats.student_t(values.astype(np.float64), cases, controls)
    row: dict[str, float] = {"cases": int(cases.sum()), "controls": int(controls.sum())}
    if not np.isfinite(statistic[0]):
        return row
    row |= {"t": float(statistic[0]), "t_p": float(p[0])}
    others = statistic[1:][np.isfinite(statistic[1:])]
    if len(others) > 1:
        row |= {"t_mean_by_chance": float(others.mean()), "t_spread_by_chance": float(others.std(ddof=1))}
    return row


def count_table(schemes: list[Mismatches]) -> pd.DataFrame:
    """Numbers of mismatches by kind: of the first pair of models and the mean over all pairs."""
    rows = [
        {
            "scheme": scheme.scheme,
            "type": TYPES[kind],
            "first_pair": int(scheme.kinds[kind][0].sum()),
            "mean_per_pair": float(scheme.kinds[kind].sum(axis=1).mean()),
            "share": float(scheme.kinds[kind].mean()),
            "ever": int(scheme.kinds[kind].any(axis=0).sum()),
            "pairs": len(scheme.seeds),
        }
        for scheme in schemes
        for kind in TYPES
    ]
    return pd.DataFrame(rows)


def mean_table(data: SubsetTrials, found: dict[str, NDArray[np.floating]], fixed: list[str]) -> pd.DataFrame:
    """How large mean influences are, against the same after random orders of the trials: what is left is signal."""
    rows = []
    for name in (MEAN, SAME_CLASS_MEAN):
        row: dict[str, Any] = {"statistic": name, "fixed_by_design": name in fixed}
        if name in found:
            values = found[name][:, np.isfinite(found[name][0])]
            row["largest"] = float(np.abs(values[0]).max())
            row["spread"] = float(values[0].std())
            row["spread_by_chance"] = float(values[1:].std(axis=1).mean()) if len(values) > 1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def histogram_table(data: SubsetTrials) -> pd.DataFrame:
    """Distributions of mean influence: of all training examples on a test example, and of one on all test examples."""
    everything = np.ones((len(data.train_labels), 1), bool)
    on_tests = data.correct.T.astype(np.float64) @ estimator.contrasts(data.included, everything)[:, 0]
    of_train = estimator.influence(data.correct.mean(axis=1)[:, None], data.included).value[0]
    parts = []
    for what, values in (("test examples", on_tests), ("training examples", of_train)):
        values = values[np.isfinite(values)]
        reach = max(float(np.abs(values).max(initial=0)), 1e-12)
        counts, edges = np.histogram(values, bins=41, range=(-reach, reach))
        columns = {"over": what, "mean_influence_low": edges[:-1], "mean_influence_high": edges[1:], "count": counts}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def gallery(data: SubsetTrials, scheme: Mismatches, num: int) -> tuple[Exhibit, ...]:
    """Examples that half or more of the pairs answer differently, by their strongest training example."""
    often = np.flatnonzero(scheme.kinds["cie"].mean(axis=0) >= 0.5)
    reduce = partial(tiled.top_k, num_examples=len(data.labels), k=1)
    top = tiled.fold(tiled.tiles(data.correct, data.included, examples=often), {"top": reduce})["top"]
    if top is None:
        return ()
    row = often[top.values[often, 0] > 0]
    row = row[np.argsort(-top.values[row, 0], kind="stable")][:num]
    column = top.train_examples[row, 0]
    estimate = estimator.influence_of_pairs(data.correct, data.included, row, column)
    exhibits = []
    for place, (j, i) in enumerate(zip(row, column, strict=True)):
        value = float(estimate.value[place])
        lines = (
            f"true: {data.names[data.labels[j]]}",
            f"dense: {data.names[np.bincount(scheme.dense[:, j]).argmax()]}",
            f"compressed: {data.names[np.bincount(scheme.compressed[:, j]).argmax()]}",
            f"influence: {value:+.2f} ± {estimate.standard_error[place]:.2f} (z {estimate.z[place]:.1f})",
        )
        beside = Exhibit(
            "train", str(data.trials["train_example"].values[i]), (f"true: {data.names[data.train_labels[i]]}",)
        )
        exhibits.append(Exhibit("test", str(data.trials["example"].values[j]), lines, value, beside))
    return tuple(exhibits)
