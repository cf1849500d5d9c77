"""What the two models of a pair, two populations, and two models of the reference differ in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, Exchange, Null, exchange, stream
from remnant.analyses.sides import log_partitions
from remnant.stats.agreement import (
    disagreement,
    kl_divergence,
    log_softmax,
    mean_kl_divergences,
    mismatches,
    prediction_distances,
)
from remnant.stats.rates import quantile_interval
from remnant.stats.resampling import jackknife, permutation_p
from remnant.stats.trial_intervals import mean_interval
from remnant.streamed import blocks, in_threads

KL_STATISTICS = ("mean", "p50", "p90", "p99", "max")
"""Of KL(reference || compressed) over the examples of a pair of models."""
_PERCENTILES = (50, 90, 99)
_VALUES = 2**17
"""Log-probabilities held at a time: 1 MiB, which fits into the cache."""


@dataclass(frozen=True)
class Divergence:
    """KL(reference || compressed) over the examples, in nats."""

    values: NDArray[np.float64]
    """Shape (pair, statistic); statistics are `KL_STATISTICS`."""
    low: NDArray[np.float64]
    """Lower ends of 95 % intervals over the examples, of the same shape; NaN where there is none."""
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One scheme against the reference."""

    comparison: Comparison
    flags: dict[str, NDArray[np.bool_]]
    """Kind of mismatch to flags, each of shape (pair, example); only "cie" without labels."""
    kl: Divergence | None
    """None without logits."""
    exchange: Exchange | None
    """None with fewer than 2 models of the reference."""
    distance: float | None
    """Distance between the populations, with its p; None with fewer than 2 models of the reference."""
    distance_p: float | None

    @property
    def num_pairs(self) -> int:
        """Number of pairs of models."""
        return len(self.flags["cie"])

    @property
    def num_examples(self) -> int:
        """Number of test examples."""
        return self.flags["cie"].shape[1]

    @property
    def net(self) -> NDArray[np.float64]:
        """Change of accuracy of each pair; needs labels."""
        return (self.flags["cie_c"].sum(axis=1) - self.flags["cie_u"].sum(axis=1)) / self.num_examples


@dataclass(frozen=True)
class Noise:
    """What different models of the reference differ in; all of shape (trial, trial)."""

    cie: NDArray[np.float64]
    """Share of examples with different predictions."""
    cie_u: NDArray[np.float64] | None
    """Share of examples on which the first is right and the second wrong; None without labels."""
    kl: NDArray[np.float64] | None
    """Mean over examples of KL(first || second), in nats; None without logits."""


def measure(comparison: Comparison, null: Null, num_permutations: int, seed: int) -> Part:
    """Mismatches pair by pair, and the test of the distance between the populations."""
    how = distance = p = None
    if comparison.num_first >= 2:
        how = exchange(comparison, null, stream(seed, "exchange", comparison.scheme))
        pooled = np.concatenate([comparison.first, comparison.second])
        between = disagreement(pooled, pooled)
        ways = how.rearrangements(comparison, num_permutations, stream(seed, "mismatches", comparison.scheme))
        observed = np.arange(len(pooled)) < comparison.num_first
        is_paired = how.kind == "paired"
        distance = float(prediction_distances(between, observed[None], paired=is_paired)[0])
        by_chance = prediction_distances(between, ways.in_first, paired=is_paired)
        p = float(permutation_p(distance, by_chance, exact=ways.exact))
    flags = mismatches(comparison.first, comparison.second, comparison.label)
    return Part(comparison, flags, _divergence(comparison), how, distance, p)


def _divergence(comparison: Comparison) -> Divergence | None:
    if not comparison.has_logits:
        return None
    sides = (comparison.reference, comparison.compressed)
    num_examples, num_classes = sides[0]["logits"].shape[1:]
    values = np.empty((len(comparison.pairs), num_examples))

    def fill(rows: slice) -> None:
        one, two = (side["logits"][:, rows].values for side in sides)
        known = [log_partitions(side, rows) for side in sides]
        for place, (j, k) in enumerate(comparison.pairs):
            partitions = None if known[0] is None or known[1] is None else (known[0][j], known[1][k])
            values[place, rows] = kl_divergence(one[j], two[k], partitions)

    in_threads(fill, blocks(num_examples, num_classes, comparison.num_first + comparison.num_second))
    summaries = np.array([_summary(np.sort(row)) for row in values])
    return Divergence(*np.moveaxis(summaries, 2, 0))


def _summary(ordered: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Each of `KL_STATISTICS` with its interval over the examples, from values in rising order."""
    mean = mean_interval(ordered)
    found = [(float(mean.estimate), max(float(mean.low), 0.0), float(mean.high))]
    for percent, value in zip(_PERCENTILES, np.percentile(ordered, _PERCENTILES), strict=True):
        found.append((float(value), *quantile_interval(ordered, percent / 100)))
    return [*found, (float(ordered[-1]), np.nan, np.nan)]


def noise_between_seeds(comparison: Comparison) -> Noise | None:
    """What two models of the reference differ in; None with one model."""
    if comparison.num_first < 2:
        return None
    label, cie_u = comparison.label, None
    if label is not None:
        right = comparison.first == label
        cie_u = np.array([np.count_nonzero(row & ~right, axis=1) for row in right]) / right.shape[1]
    return Noise(disagreement(comparison.first, comparison.first), cie_u, _kl_between_seeds(comparison))


def _kl_between_seeds(comparison: Comparison) -> NDArray[np.float64] | None:
    if not comparison.has_logits:
        return None
    reference = comparison.reference
    num_trials, num_examples, num_classes = reference["logits"].shape
    # Log-probabilities of all trials in double precision may not fit into memory.
    size = max(1, _VALUES // (num_trials * num_classes))

    def total(rows: slice) -> NDArray[np.float64]:
        logits, known = reference["logits"][:, rows].values, log_partitions(reference, rows)
        kl = np.zeros((num_trials, num_trials))
        for start in range(0, logits.shape[1], size):
            part = slice(start, start + size)
            block = log_softmax(logits[:, part], None if known is None else known[:, part])
            kl += mean_kl_divergences(block) * (block.shape[1] / num_examples)
        return kl

    return sum(in_threads(total, blocks(num_examples, num_classes, num_trials)), np.zeros((num_trials, num_trials)))


def over_pairs(matrix: NDArray[np.float64]) -> tuple[float, float | None, float | None]:
    """Mean over pairs of different trials, and its interval by the jackknife over trials (3 or more)."""
    if len(matrix) < 3:
        return off_diagonal(matrix, np.arange(len(matrix))), None, None
    found = jackknife(lambda kept: off_diagonal(matrix, kept), len(matrix))
    return float(found.estimate), max(float(found.low), 0.0), float(found.high)


def off_diagonal(matrix: NDArray[np.float64], kept: NDArray[np.intp]) -> float:
    """Mean over ordered pairs of different trials among those kept."""
    inner = matrix[np.ix_(kept, kept)]
    return float(inner[~np.eye(len(kept), dtype=bool)].mean())
