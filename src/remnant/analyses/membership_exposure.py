"""Which training examples are exposed: whose membership an attack tells, beside memorization and what was forgotten."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.membership_measures import Attack, Signals
from remnant.finding import Claim
from remnant.population import reference_of, subsets, whole
from remnant.stats.influence import Estimate, memorization
from remnant.stats.membership import separation
from remnant.stats.modal import modal_labels, tally

EDGES = (-1.0, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Bins of memorization; values below 0 are noise."""


@dataclass(frozen=True)
class Exposure:
    """How often an attack tells the membership of each training example of one scheme; shape (training example,)."""

    scheme: str
    examples: NDArray[np.intp]
    """Rows of the training set."""
    found: NDArray[np.float64]
    """Share of the targets trained on the example in which it is called a member, at 1 % false positives."""
    false: NDArray[np.float64]
    """Share of the other targets in which it is called a member."""
    separation: NDArray[np.float64]
    """See `remnant.stats.membership.separation`."""
    memorization: Estimate | None
    """None where correctness on training examples is not known."""

    @property
    def value(self) -> NDArray[np.float64]:
        """Share found minus share falsely found, in [-1, 1]: 0 without a trace; NaN if never in or never out."""
        return self.found - self.false


def exposure(population: xr.Dataset, signals: Signals, attack: Attack) -> Exposure:
    """Of each training example of a scheme whose own subset models are the shadow models."""
    member, called = signals.included[attack.used], attack.called
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (called & member).sum(axis=0) / member.sum(axis=0)
        false = (called & ~member).sum(axis=0) / (~member).sum(axis=0)
    estimate = None
    if "train_correct" in population:
        correct = subsets(population, signals.scheme)["train_correct"].values[:, signals.examples]
        estimate = memorization(correct, signals.included)
    return Exposure(
        signals.scheme, signals.examples, found, false, separation(signals.signal, signals.included), estimate
    )


def halves(population: xr.Dataset, signals: Signals) -> tuple[float, int] | None:
    """Spearman's correlation of separation with memorization, each from another half of the models; and examples.

    On the same models the two share their noise and would correlate even if both were noise. Models 2i and 2i + 1
    stay together, which may hold complementary halves of the training set. Mean of the two ways; lower than that of
    the true values, since both are noisy. None with fewer than 8 models, or where nothing varies.
    """
    if "train_correct" not in population or signals.num_trials < 8:
        return None
    correct = subsets(population, signals.scheme)["train_correct"].values[:, signals.examples]
    from scipy.stats import spearmanr  # takes long to import

    half = (np.arange(signals.num_trials) // 2) % 2 == 0
    values, counts = [], []
    for one, two in ((half, ~half), (~half, half)):
        x = separation(signals.signal[one], signals.included[one])
        y = memorization(correct[two], signals.included[two]).value
        defined = np.isfinite(x) & np.isfinite(y)
        if np.count_nonzero(defined) < 4 or np.ptp(x[defined]) == 0 or np.ptp(y[defined]) == 0:
            return None
        found: Any = spearmanr(x[defined], y[defined])
        values.append(float(found.statistic))
        counts.append(int(np.count_nonzero(defined)))
    return float(np.mean(values)), min(counts)


def correlation_claim(scheme: str, found: tuple[float, int]) -> Claim:
    """The correlation with Bonett and Wright's interval over examples."""
    value, num = found
    z, error = np.arctanh(np.clip(value, -1 + 1e-12, 1 - 1e-12)), np.sqrt((1 + value**2 / 2) / (num - 3))
    low, high = np.tanh(z - 1.96 * error), np.tanh(z + 1.96 * error)
    method = (
        "Spearman's correlation over training examples of membership separation with memorization, each from another "
        "half of the models, mean of both ways; interval of Bonett and Wright over examples"
    )
    return Claim(
        "exposure_memorization_correlation",
        scheme,
        value,
        float(low),
        float(high),
        num,
        "train_example",
        method,
        "bonett2000sample",
        "number",
    )


def memorization_table(found: Iterable[Exposure]) -> pd.DataFrame:
    """Mean exposure of the examples in each bin of memorization."""
    rows = []
    for part in found:
        if part.memorization is None:
            continue
        value = part.memorization.value
        for low, high in pairwise(EDGES):
            chosen = (value >= low) & ((value < high) | (high == EDGES[-1]))
            row = {"scheme": part.scheme, "memorization_low": low, "memorization_high": high}
            rows.append(row | _mean_exposure(part, chosen))
    return pd.DataFrame(rows)


def forgotten_table(population: xr.Dataset, found: Iterable[Exposure]) -> pd.DataFrame:
    """Mean exposure of the training examples whose modal label compression changes, and of the others.

    Modal labels are those of the models on the whole training set. Test examples cannot be exposed: they are in no
    training set.
    """
    if "train_prediction" not in population:
        return pd.DataFrame()
    rows = []
    reference = reference_of(population)
    before = whole(population, reference)
    for part in found:
        after = whole(population, part.scheme)
        if part.scheme == reference or not before.sizes["trial"] or not after.sizes["trial"]:
            continue
        changed = _modal(before, part.examples) != _modal(after, part.examples)
        for name, chosen in (("modal label changed", changed), ("modal label kept", ~changed)):
            rows.append({"scheme": part.scheme, "train_examples_with": name} | _mean_exposure(part, chosen))
    return pd.DataFrame(rows)


def class_table(found: Iterable[Exposure], labels: NDArray[np.integer], names: list[str]) -> pd.DataFrame:
    """Mean exposure of the training examples of each class."""
    rows = []
    for part in found:
        own = labels[part.examples]
        for number in np.unique(own):
            rows.append({"scheme": part.scheme, "class": names[number]} | _mean_exposure(part, own == number))
    return pd.DataFrame(rows)


def _mean_exposure(part: Exposure, chosen: NDArray[np.bool_]) -> dict[str, Any]:
    value = part.value[chosen & np.isfinite(part.value)]
    mean = float(value.mean()) if len(value) else np.nan
    half = float(1.96 * value.std(ddof=1) / np.sqrt(len(value))) if len(value) > 1 else np.nan
    return {"train_examples": len(value), "mean_exposure": mean, "low": mean - half, "high": mean + half}


def _modal(trials: xr.Dataset, examples: NDArray[np.intp]) -> NDArray[np.int64]:
    return modal_labels(tally(trials["train_prediction"].values[:, examples])).label
