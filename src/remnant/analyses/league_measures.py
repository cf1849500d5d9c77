"""Harm, size and speed of many compressed sides against one reference, and how sure their order is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import outcome_blocks, reference_right
from remnant.analyses.comparison import Comparison
from remnant.analyses.equivalence_measures import Change, change_of
from remnant.analyses.footprint import lossless
from remnant.stats.agreement import kl_divergence
from remnant.stats.paired_bootstrap import patterns, resampled_means

Harm = Literal["harmful", "net"]
"""What is held against a method: right answers lost, or the fall of accuracy."""


@dataclass(frozen=True)
class Contest:
    """The compressed sides with their harm, observed and resampled."""

    sides: tuple[Comparison, ...]
    changes: tuple[Change, ...]
    """Change of accuracy of each side."""
    harm: NDArray[np.float64]
    """Share of examples harmed, mean over pairs, shape (side,)."""
    resampled: NDArray[np.float64]
    """The same in bootstrap samples, shape (resample, side)."""


@dataclass(frozen=True)
class Cost:
    """Bytes or seconds of the reference and of each side; NaN where they are not known."""

    reference: float
    sides: NDArray[np.float64]

    @property
    def known(self) -> bool:
        """Whether any side has a cost."""
        return bool(np.isfinite(self.sides).any())

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Reference over side: 2 is half the cost."""
        return self.reference / self.sides


def contest(sides: Sequence[Comparison], by: Harm, num: int, rng: np.random.Generator) -> Contest:
    """Harm of all sides on the same resampled examples, and resampled models where there are several a side."""
    if by not in get_args(Harm):
        raise ValueError(f"Expected `by` to be one of {list(get_args(Harm))}, but got {by!r}.")
    every = patterns(outcome_blocks(sides))
    ends = np.cumsum([len(side.pairs) for side in sides])
    columns = [slice(end - len(side.pairs), end) for side, end in zip(sides, ends, strict=True)]
    right = reference_right(sides[0])
    changes = tuple(
        change_of(side, replace(every, values=every.values[:, column]), right)
        for side, column in zip(sides, columns, strict=True)
    )
    values = (every.values < 0).astype(np.int8) if by == "harmful" else -every.values
    harms = replace(every, values=values)
    resampled = resampled_means(harms, rng, num=num)
    weights = {len(side.pairs): _weights(len(side.pairs), num, rng) for side in sides}
    # The reference models, and so the noise that they bring, are the same for all sides: so are their weights.
    by_side = [np.einsum("rk,rk->r", resampled[:, c], weights[c.stop - c.start]) for c in columns]
    observed = np.array([harms.means[column].mean() for column in columns])
    return Contest(tuple(sides), changes, observed, np.stack(by_side, axis=1))


def _weights(num_pairs: int, num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Of each pair in each resample; spread so that a mean varies as much as that of other pairs would."""
    if num_pairs == 1:
        return np.ones((num, 1))
    drawn = rng.multinomial(num_pairs, np.full(num_pairs, 1 / num_pairs), size=num) / num_pairs
    # Resampled means vary less than true ones, by (K - 1) / K.
    return 1 / num_pairs + np.sqrt(num_pairs / (num_pairs - 1)) * (drawn - 1 / num_pairs)


def sizes(sides: Sequence[Comparison]) -> Cost:
    """Bytes of the files, or of the smallest stated encoding that keeps the weights."""
    if "bytes" not in sides[0].reference:
        return Cost(np.nan, np.full(len(sides), np.nan))
    base = sides[0].reference
    # A study states what the reference would take in many encodings; it is delivered as float32.
    own = _bytes(base, "dense", first="float32")
    return Cost(own, np.array([_bytes(side.compressed, side.scheme) for side in sides]))


def _bytes(trials: xr.Dataset, label: str, *, first: str = "file") -> float:
    encodings = [str(name) for name in trials["encoding"].values.tolist()]
    for name in ("file", first):
        if name in encodings:
            return _mean(trials["bytes"].values[:, encodings.index(name)])
    kept = [_mean(trials["bytes"].values[:, i]) for i, name in enumerate(encodings) if lossless(name, label)]
    return float(np.nanmin(kept)) if np.isfinite(kept).any() else np.nan


def latencies(sides: Sequence[Comparison]) -> Cost:
    """Seconds for one example."""
    if "latency" not in sides[0].reference:
        return Cost(np.nan, np.full(len(sides), np.nan))
    base = _mean(sides[0].reference["latency"].values)
    return Cost(base, np.array([_mean(side.compressed["latency"].values) for side in sides]))


def _mean(values: NDArray) -> float:
    """NaN unless all are known and above 0."""
    found = np.asarray(values, np.float64)
    return float(found.mean()) if np.isfinite(found).all() and (found > 0).all() else np.nan


def on_front(cost: Cost, harm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Sides that no other, nor the reference, beats in one of cost and harm without losing in the other.

    Parameters
    ----------
    harm
        Shape (resample, side); the result has that shape. Sides of unknown cost are not on the front.
    """
    costs = np.append(cost.sides, cost.reference)
    harms = np.concatenate([harm, np.zeros((len(harm), 1))], axis=1)
    front = np.zeros(harm.shape, bool)
    for j in np.flatnonzero(np.isfinite(cost.sides)):
        cheaper, as_cheap = costs < costs[j], costs <= costs[j]
        less, as_little = harms < harms[:, [j]], harms <= harms[:, [j]]
        front[:, j] = ~((as_cheap & less) | (cheaper & as_little)).any(axis=1)
    return front


def kl_means(side: Comparison) -> float:
    """Mean KL(reference || compressed) over examples and pairs in nats; NaN without logits."""
    if not side.has_logits:
        return np.nan
    one, two = side.reference["logits"], side.compressed["logits"]
    return float(np.mean([kl_divergence(one[j].values, two[k].values).mean() for j, k in side.pairs]))
