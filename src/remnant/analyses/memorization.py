"""Which training examples are remembered one by one: right when trained on, wrong when not."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.panels import SERIES, panels, short
from remnant.analyses.subset_trials import class_names, schemes_with_subsets
from remnant.finding import Analysis, Claim, Exhibit, Finding
from remnant.population import subsets
from remnant.stats import influence as stats
from remnant.stats.influence_null import expected_above, own_counts
from remnant.stats.influence_tiles import TOLERANCE
from remnant.stats.memorization_estimators import combined_memorization
from remnant.stats.trial_intervals import Interval, block_jackknife

QUESTION = "Which training examples are memorized, and how many?"
CITATION = "feldman2020what, section 2"
_EDGES = np.round(np.linspace(-1, 1, 41), 2)


def run(
    population: xr.Dataset,
    *,
    thresholds: tuple[float, ...] = (0.25, 0.3, 0.5),
    rows: int | None = 1000,
    gallery: int = 24,
) -> Finding:
    """Memorization of each training example, for each scheme with trials on random training subsets.

    Parameters
    ----------
    thresholds
        Memorization from which on an example counts as memorized; the lowest is that of the claims.
    rows
        Most rows of the table of examples, highest memorization first; None for all.
    gallery
        Number of examples to show.
    """
    thresholds = tuple(sorted(thresholds))
    parts = [_Part.of(population, label, thresholds) for label in schemes_with_subsets(population)]
    names = class_names(population)
    examples = _examples(parts[0], names)
    return Finding(
        analysis="memorization",
        question=QUESTION,
        parameters={"thresholds": list(thresholds), "rows": rows, "gallery": gallery},
        claims=tuple(claim for part in parts for claim in _claims(part, thresholds[0], parts[0])),
        tables={
            "schemes": pd.DataFrame([_scheme_row(part, thresholds) for part in parts]),
            "shares": pd.DataFrame([row for part in parts for row in _share_rows(part, thresholds)]),
            "classes": pd.DataFrame([row for part in parts for row in _class_rows(part, thresholds, names)]),
            "histogram": pd.concat([_histogram(part) for part in parts], ignore_index=True),
            "examples": examples.head(len(examples) if rows is None else rows).drop(columns="place"),
        },
        caveats=_caveats(parts[0]),
        galleries={"Most memorized training examples": _gallery(parts[0], examples.head(gallery), names)},
        cites=ANALYSIS.cites,
    )


@dataclass(frozen=True)
class _Part:
    """The subset trials of one scheme with what is estimated from them."""

    label: str
    trials: xr.Dataset
    correct: NDArray[np.bool_]
    included: NDArray[np.bool_]
    train_label: NDArray[np.integer]
    estimate: stats.Estimate
    summary: Interval
    """Mean, share above each threshold, mean of each class, as of `_summary`."""
    by_chance: NDArray[np.float64]
    """Share above each threshold if membership were unrelated to correctness."""

    @staticmethod
    def of(population: xr.Dataset, label: str, thresholds: tuple[float, ...]) -> "_Part":
        trials = subsets(population, label)
        correct, included = trials["train_correct"].values, trials["included"].values
        train_label = trials["train_label"].values
        estimate = stats.memorization(correct, included)
        summary = block_jackknife(
            lambda kept: _summary(correct[kept], included[kept], train_label, thresholds), len(correct)
        )
        pairs = own_counts(correct.sum(axis=0), estimate.num_in, len(correct))
        defined = np.count_nonzero(np.isfinite(estimate.value))
        by_chance = expected_above(pairs, np.array(thresholds)) / max(defined, 1)
        return _Part(label, trials, correct, included, train_label, estimate, summary, by_chance)

    @property
    def num_trials(self) -> int:
        return len(self.correct)

    def change_from(self, other: "_Part") -> Interval | None:
        """Mean memorization minus that of `other`; None if their trials are not on the same subsets."""
        if self.included.shape != other.included.shape or not np.array_equal(self.included, other.included):
            return None

        def difference(kept: NDArray[np.intp]) -> NDArray[np.float64]:
            means = [_summary(p.correct[kept], p.included[kept], p.train_label, ())[0] for p in (self, other)]
            return np.array(means[0] - means[1])

        return block_jackknife(difference, self.num_trials)


def _summary(
    correct: NDArray[np.bool_],
    included: NDArray[np.bool_],
    train_label: NDArray[np.integer],
    thresholds: tuple[float, ...],
) -> NDArray[np.float64]:
    value = stats.memorization(correct, included).value if len(correct) > 1 else np.full(len(train_label), np.nan)
    defined = np.isfinite(value)
    value, label = value[defined], train_label[defined]
    length = int(train_label.max()) + 1
    with np.errstate(invalid="ignore", divide="ignore"):
        classes = np.bincount(label, weights=value, minlength=length) / np.bincount(label, minlength=length)
        overall = np.divide(value.sum(), len(value))
        shares = [np.divide(np.count_nonzero(value >= threshold - TOLERANCE), len(value)) for threshold in thresholds]
    return np.array([overall, *shares, *classes])


def _claims(part: _Part, threshold: float, reference: _Part) -> list[Claim]:
    if not np.isfinite(part.summary.estimate[0]):
        return []
    claims = [
        _claim(
            "mean_memorization",
            part,
            part.summary,
            0,
            "mean over training examples of accuracy with minus without the example; block jackknife over trials",
        ),
        _claim(
            "memorized_share",
            part,
            part.summary,
            1,
            f"share of training examples with memorization >= {threshold}; block jackknife over trials",
        ),
        Claim(
            "memorized_share_null",
            part.label,
            float(part.by_chance[0]),
            None,
            None,
            part.num_trials,
            "trial",
            "expected share if membership were unrelated to correctness, from the hypergeometric distribution; "
            "exact, so without an interval",
            CITATION,
            "share",
        ),
    ]
    change = part.change_from(reference) if part is not reference else None
    if change is not None:
        text = f"mean memorization minus that of {reference.label} on the same subsets; block jackknife over trials"
        claims.append(_claim("mean_memorization_change", part, change, None, text))
    return claims


def _claim(quantity: str, part: _Part, interval: Interval, place: int | None, method: str) -> Claim:
    index = () if place is None else place
    low, high = float(interval.low[index]), float(interval.high[index])
    known = np.isfinite(low) and np.isfinite(high)
    return Claim(
        quantity,
        part.label,
        float(interval.estimate[index]),
        low if known else None,
        high if known else None,
        part.num_trials,
        "trial",
        method if known else f"{method}; too few trials for an interval",
        CITATION,
        "share",
    )


def _scheme_row(part: _Part, thresholds: tuple[float, ...]) -> dict[str, Any]:
    estimate, summary = part.estimate, part.summary
    row = {
        "scheme": part.label,
        "trials": part.num_trials,
        "train_examples": len(part.train_label),
        "never_in": int((estimate.num_in == 0).sum()),
        "never_out": int((estimate.num_out == 0).sum()),
        "mean_memorization": summary.estimate[0],
        "low": summary.low[0],
        "high": summary.high[0],
        "memorized_share": summary.estimate[1],
        "memorized_share_by_chance": part.by_chance[0],
        "worst_standard_error": stats.worst_standard_error(part.num_trials, float(part.included.mean())),
    }
    if "train_margin" in part.trials:
        margin = stats.memorization(_margins(part), part.included)
        row["mean_margin_memorization"] = _mean(margin.value)
    return row


def _share_rows(part: _Part, thresholds: tuple[float, ...]) -> list[dict[str, Any]]:
    return [
        {
            "scheme": part.label,
            "threshold": threshold,
            "share": part.summary.estimate[1 + place],
            "low": part.summary.low[1 + place],
            "high": part.summary.high[1 + place],
            "share_by_chance": part.by_chance[place],
        }
        for place, threshold in enumerate(thresholds)
    ]


def _class_rows(part: _Part, thresholds: tuple[float, ...], names: list[str]) -> list[dict[str, Any]]:
    first = 1 + len(thresholds)
    rows = []
    for number in np.unique(part.train_label):
        value = part.estimate.value[part.train_label == number]
        value = value[np.isfinite(value)]
        place = first + number
        rows.append(
            {
                "scheme": part.label,
                "class": names[number],
                "train_examples": int((part.train_label == number).sum()),
                "mean_memorization": part.summary.estimate[place],
                "low": part.summary.low[place],
                "high": part.summary.high[place],
                "memorized_share": float((value >= thresholds[0] - TOLERANCE).mean()) if len(value) else np.nan,
            }
        )
    return rows


def _histogram(part: _Part) -> pd.DataFrame:
    value = part.estimate.value[np.isfinite(part.estimate.value)]
    above = np.array([np.count_nonzero(value >= edge - TOLERANCE) for edge in _EDGES])
    pairs = own_counts(part.correct.sum(axis=0), part.estimate.num_in, part.num_trials)
    chance = expected_above(pairs, _EDGES)
    # The last bin also holds its upper edge.
    above[-1], chance[-1] = 0, 0
    return pd.DataFrame(
        {
            "scheme": part.label,
            "memorization_low": _EDGES[:-1],
            "memorization_high": _EDGES[1:],
            "train_examples": above[:-1] - above[1:],
            "expected_by_chance": chance[:-1] - chance[1:],
        }
    )


def _examples(part: _Part, names: list[str]) -> pd.DataFrame:
    estimate = part.estimate
    right_in = (part.correct & part.included).sum(axis=0)
    right_out = (part.correct & ~part.included).sum(axis=0)
    low, high = stats.newcombe_interval(right_in, estimate.num_in, right_out, estimate.num_out)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracies = right_in / estimate.num_in, right_out / estimate.num_out
    columns = {
        "place": np.arange(len(part.train_label)),
        "train_example": part.trials["train_example"].values,
        "class": np.array(names, dtype=object)[part.train_label],
        "memorization": estimate.value,
        "standard_error": estimate.standard_error,
        "low": low,
        "high": high,
        "accuracy_in": accuracies[0],
        "accuracy_out": accuracies[1],
        "trials_in": estimate.num_in,
        "trials_out": estimate.num_out,
    }
    if "train_margin" in part.trials:
        margin = stats.memorization(_margins(part), part.included)
        own = combined_memorization(part.correct, part.trials["train_margin"].values, part.included)
        columns["combined_memorization"] = own.value
        columns |= {"margin_memorization": margin.value, "margin_standard_error": margin.standard_error}
    # Of equal estimates those with the narrower interval come first; undefined ones last.
    frame = pd.DataFrame(columns)
    return frame.sort_values(["memorization", "low"], ascending=False, kind="stable", na_position="last")


def _gallery(part: _Part, examples: Any, names: list[str]) -> tuple[Exhibit, ...]:
    exhibits = []
    for row in examples[np.isfinite(examples["memorization"])].to_dict("records"):
        lines = [f"true: {row['class']}"]
        if "train_prediction" in part.trials:
            out = part.trials["train_prediction"].values[~part.included[:, row["place"]], row["place"]]
            votes = np.bincount(out, minlength=1)
            lines.append(f"left out: {names[int(votes.argmax())]} ({votes.max()} of {len(out)} models)")
        lines.append(f"memorization: {row['memorization']:.2f} ± {row['standard_error']:.2f}")
        exhibits.append(Exhibit("train", str(row["train_example"]), tuple(lines), float(row["memorization"])))
    return tuple(exhibits)


def _caveats(part: _Part) -> tuple[str, ...]:
    caveats = [
        "Memorization is estimated for training on a random subset, not on the whole training set.",
        "Noise widens the distribution of estimates, so that more examples pass a threshold than truly lie above it; "
        "the share by chance says how many would pass it if nothing were memorized.",
        "The standard error of an example is 0 where it is always right when in and always wrong when out; "
        "the interval (Newcombe) keeps a width there.",
    ]
    if (part.estimate.num_in == 0).any() or (part.estimate.num_out == 0).any():
        caveats.append(
            "Some training examples are in all or in none of the subsets: they have no estimate and are left out of "
            "means and shares. More trials, or the design 'balanced', avoid this."
        )
    if part.by_chance[0] > 0.5 * part.summary.estimate[1]:
        caveats.append("Most examples above the threshold could be there by chance alone: train on more subsets.")
    return tuple(caveats)


def _margins(part: _Part) -> NDArray[np.float64]:
    return part.trials["train_margin"].values.astype(np.float64)


def _mean(value: NDArray[np.float64]) -> float:
    defined = value[np.isfinite(value)]
    return float(defined.mean()) if len(defined) else float("nan")


def plot(finding: Finding) -> Any:
    """Distribution of memorization against chance, and the share of memorized examples by scheme."""
    shares: Any = finding.tables["shares"]
    shares = shares[shares["threshold"] == shares["threshold"].min()].reset_index(drop=True)
    upper, lower = panels(2.6, 0.8 + 0.42 * len(shares))
    for place, (scheme, part) in enumerate(finding.tables["histogram"].groupby("scheme", sort=False)):
        edges = np.append(part["memorization_low"].to_numpy(), part["memorization_high"].to_numpy()[-1])
        if place == 0:
            upper.stairs(part["expected_by_chance"], edges, fill=True, color="#bbbbbb", label=f"by chance ({scheme})")
        upper.stairs(part["train_examples"], edges, color=SERIES[place % len(SERIES)], linewidth=1.6, label=scheme)
    upper.set_yscale("log")
    upper.set_ylim(bottom=0.5)
    upper.set_xlim(-0.5, 1)
    upper.set_xlabel("memorization")
    upper.set_ylabel("training examples")
    upper.legend(frameon=False, fontsize=8)
    rows = np.arange(len(shares))
    _error_bars(lower, shares["share"], rows, shares["low"], shares["high"])
    lower.plot(shares["share_by_chance"], rows, linestyle="none", marker="|", markersize=14, color="#777777")
    lower.set_yticks(rows, [short(label) for label in shares["scheme"]])
    lower.set_ylim(len(shares) - 0.5, -0.5)
    lower.set_xlim(left=0)
    lower.set_xlabel(f"share with memorization ≥ {shares['threshold'].iloc[0]} (bar |: by chance)")
    return upper


def _error_bars(axes: Any, value: Any, rows: Any, low: Any, high: Any) -> None:
    reach = np.nan_to_num(np.stack([value - low, high - value]))
    axes.errorbar(value, rows, xerr=reach, linestyle="none", marker="o", markersize=5, color=SERIES[0], capsize=3)


ANALYSIS = Analysis(
    name="memorization",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("included", "train_correct", "train_label"),
    cites=("feldman2020what", "newcombe1998interval", "kunsch1989jackknife"),
    pace=0.5,
)
