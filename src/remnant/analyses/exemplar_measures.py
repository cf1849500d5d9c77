"""Modal labels of a reference population and a compressed one, with what chance alone would change."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, Exchange, Null, exchange, stream
from remnant.analyses.sides import log_partitions
from remnant.stats.agreement import class_probability, in_top_k
from remnant.stats.modal import (
    TIE_RULES,
    Modal,
    Tally,
    TieRule,
    exemplar_counts,
    exemplars_within,
    extrapolated_count,
    half_sample_error,
    modal_labels,
    settle,
    tally,
    vote_distance,
)
from remnant.stats.multiplicity import benjamini_hochberg
from remnant.stats.paired import mcnemar_exact
from remnant.stats.resampling import permutation_p
from remnant.stats.two_sample import fisher_exact
from remnant.streamed import blocks, in_threads


@dataclass(frozen=True)
class TieResult:
    """What one rule for ties makes of the same votes."""

    tie: TieRule
    pies: int
    """Examples whose modal labels differ."""
    decided: int
    """Those of them for which a tie in either population was settled by the rule."""


@dataclass(frozen=True)
class Part:
    """One scheme against the reference. Arrays over examples have shape (example,)."""

    comparison: Comparison
    exchange: Exchange
    first: Modal
    second: Modal
    is_pie: NDArray[np.bool_]
    shift: NDArray[np.float64]
    """Total variation distance between the votes of both populations, in [0, 1]."""
    p: NDArray[np.float64]
    """Of the exact test that both populations vote alike on the example; 1 where it cannot fail."""
    q: NDArray[np.float64]
    """Benjamini-Hochberg over the examples whose votes allow p <= 0.05; NaN on the others."""
    null_counts: NDArray[np.int64]
    """Number of PIEs in each rearrangement of the trials."""
    null_share: NDArray[np.float64]
    """Share of the rearrangements in which the example is a PIE."""
    count_p: float
    error: float
    """Standard error of the number of PIEs over populations of this size."""
    ties: tuple[TieResult, ...]

    @property
    def count(self) -> int:
        """Number of PIEs."""
        return int(self.is_pie.sum())

    @property
    def null_mean(self) -> float:
        """Expected number of PIEs under the null."""
        return float(self.null_counts.mean())


@dataclass(frozen=True)
class ReferenceNoise:
    """PIEs between disjoint populations of reference models."""

    sizes: tuple[int, ...]
    """Numbers of models in either population, rising, the largest half of all models."""
    counts: tuple[float, ...]
    """Mean number of PIEs at each size."""
    extrapolated: float | None
    """At the size of the whole population, from the two largest sizes; None with fewer than 8 models, where
    ties rule."""


def measure(comparison: Comparison, tie: TieRule, null: Null, num_permutations: int, seed: int) -> Part:
    """PIEs of one scheme, the rearrangements of trials that give the null, and the test of each example."""
    how = exchange(comparison, null, stream(seed, "exchange", comparison.scheme))
    predictions = np.concatenate([comparison.first, comparison.second])
    in_first = np.arange(len(predictions)) < comparison.num_first
    # Examples on which all models agree are no PIEs in any arrangement, and are most of a large test set.
    split = _split(predictions)
    tallies = _tallies((comparison.reference, comparison.compressed), predictions, split)
    votes = tallies[tie]
    first, second = modal_labels(votes, in_first), modal_labels(votes, ~in_first)
    differ = first.label != second.label
    ways = how.rearrangements(comparison, num_permutations, stream(seed, "exemplars", comparison.scheme))
    counts, share = exemplar_counts(votes, ways.in_first, ~ways.in_first)
    p, testable = _example_tests(comparison, how, split, modal_labels(votes).label)
    num = predictions.shape[1]
    return Part(
        comparison=comparison,
        exchange=how,
        first=_modal_of_all(first, split, comparison.first),
        second=_modal_of_all(second, split, comparison.second),
        is_pie=_of_all(differ, split, num, False),
        shift=_of_all(vote_distance(votes, in_first), split, num, 0.0),
        p=_of_all(p, split, num, 1.0),
        q=_of_all(benjamini_hochberg(np.where(testable, p, np.nan)), split, num, np.nan),
        null_counts=counts,
        null_share=_of_all(share, split, num, 0.0),
        count_p=float(permutation_p(differ.sum(), counts, exact=ways.exact)),
        error=half_sample_error(
            votes, in_first, stream(seed, "halves", comparison.scheme), paired=how.kind == "paired"
        ),
        ties=tuple(_tie_result(rule, votes, in_first) for rule, votes in tallies.items()),
    )


def _split(predictions: NDArray[np.integer]) -> NDArray[np.intp]:
    """Examples on which not all models agree."""
    differ = np.zeros(predictions.shape[1], bool)
    for row in predictions[1:]:
        differ |= row != predictions[0]
    return np.flatnonzero(differ)


def _tallies(
    sides: Sequence[xr.Dataset], predictions: NDArray[np.integer], split: NDArray[np.intp]
) -> dict[TieRule, Tally]:
    """Votes on the split examples by each rule for ties; without logits, not by the most probable label."""
    votes = tally(predictions[:, split])
    probability = _probabilities(sides, split, votes.labels)
    rules: list[TieRule] = [rule for rule in TIE_RULES if rule != "most-probable" or probability is not None]
    return {rule: settle(votes, rule, probability) for rule in rules}


def _of_all(values: NDArray[Any], split: NDArray[np.intp], num: int, elsewhere: Any) -> NDArray[Any]:
    """Values on the split examples, and one value on all others: shape (example,)."""
    found = np.full(num, elsewhere, values.dtype)
    found[split] = values
    return found


def _modal_of_all(modal: Modal, split: NDArray[np.intp], predictions: NDArray[np.integer]) -> Modal:
    """Modal labels on all examples, from those on the split ones."""
    label, num = predictions[0].copy(), predictions.shape[1]
    label[split] = modal.label
    return Modal(label, _of_all(modal.votes, split, num, len(predictions)), _of_all(modal.tied, split, num, False))


def reference_noise(comparison: Comparison, tie: TieRule, seed: int) -> ReferenceNoise:
    """PIEs between disjoint parts of the reference population, by their size."""
    votes = _tallies((comparison.reference,), comparison.first, _split(comparison.first))[tie]
    total = votes.num_trials
    every, half = np.ones(total, bool), total // 2
    sizes = tuple(sorted({max(1, half // 4), max(1, half // 2), half}))
    counts = tuple(exemplars_within(votes, every, size, stream(seed, "reference", str(size))) for size in sizes)
    further = extrapolated_count(total, sizes, counts) if total >= 8 else None
    return ReferenceNoise(sizes, counts, further)


def right_in_top(comparison: Comparison, label: NDArray[np.integer], k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the k highest logits of each reference model, shape (trial, example)."""
    if k == 1:
        return comparison.first == label
    logits = comparison.reference["logits"]
    found = np.empty(logits.shape[:2], bool)

    def fill(place: tuple[int, slice]) -> None:
        found[place] = in_top_k(logits[place].values, label[place[1]], k)

    in_threads(fill, itertools.product(range(len(found)), blocks(*logits.shape[1:])))
    return found


def _probabilities(
    sides: Sequence[xr.Dataset], split: NDArray[np.intp], labels: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Softmax probability of each voted label, shape (trial, split example, slot); None without logits."""
    if "logits" not in sides[0]:
        return None
    place = np.maximum(labels, 0)
    found = np.empty((sum(side.sizes["trial"] for side in sides), *labels.shape), np.float32)
    models = [(side, trial) for side in sides for trial in range(side.sizes["trial"])]

    def fill(row: int) -> None:
        side, trial = models[row]
        known = log_partitions(side)
        for rows in blocks(*side["logits"].shape[1:]):
            here = slice(*np.searchsorted(split, [rows.start, rows.stop]))
            partition = None if known is None else known[trial, rows]
            logits = side["logits"][trial, rows].values
            found[row, here] = class_probability(logits, split[here] - rows.start, place[here], partition)

    in_threads(fill, range(len(models)))
    return found


def _example_tests(
    comparison: Comparison, how: Exchange, split: NDArray[np.intp], label: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """p of each split example, and whether its votes allow p <= 0.05.

    Tests whether both populations predict `label`, the modal label of both together, equally often:
    Fisher's exact test, or McNemar's for pairs. The label and what is testable depend on the pooled
    votes only, so both tests are exact under their null.
    """
    first, second = comparison.first[:, split] == label, comparison.second[:, split] == label
    if how.kind == "free":
        p, smallest = fisher_exact(first.sum(axis=0), len(first), second.sum(axis=0), len(second))
        return p, smallest <= 0.05
    lost, gained = (first & ~second).sum(axis=0), (second & ~first).sum(axis=0)
    p = mcnemar_exact(lost, gained)
    return np.where(np.isnan(p), 1.0, p), 2.0 ** (1 - (lost + gained)) <= 0.05


def _tie_result(rule: TieRule, votes: Tally, in_first: NDArray[np.bool_]) -> TieResult:
    first, second = modal_labels(votes, in_first), modal_labels(votes, ~in_first)
    differ = first.label != second.label
    return TieResult(rule, int(differ.sum()), int((differ & (first.tied | second.tied)).sum()))
