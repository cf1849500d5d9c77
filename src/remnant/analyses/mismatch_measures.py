"""What two models of a seed, two populations, and two seeds of the reference differ in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison, Exchange, Null, exchange, stream
from remnant.stats.agreement import (
    disagreement,
    kl_divergence,
    log_softmax,
    mean_kl_divergences,
    mismatches,
    prediction_distances,
)
from remnant.stats.resampling import jackknife, permutation_p

KL_STATISTICS = ("mean", "p50", "p90", "p99", "max")
"""Of KL(reference || compressed) over the examples of a pair of models."""
_VALUES = 2**22
"""Log-probabilities held at a time: 32 MiB."""


@dataclass(frozen=True)
class Part:
    """One scheme against the reference."""

    comparison: Comparison
    flags: dict[str, NDArray[np.bool_]]
    """Kind of mismatch to flags, each of shape (pair, example)."""
    kl: NDArray[np.float64]
    """Shape (pair, statistic): mean, percentiles and maximum over examples."""
    exchange: Exchange
    distance: float | None
    """Distance between the populations, with its p; None with fewer than 2 pairs."""
    distance_p: float | None

    @property
    def num_pairs(self) -> int:
        """Number of pairs of models of the same seed."""
        return len(self.kl)

    @property
    def net(self) -> NDArray[np.float64]:
        """Change of accuracy of each pair."""
        return (self.flags["cie_c"].sum(axis=1) - self.flags["cie_u"].sum(axis=1)) / self.flags["cie"].shape[1]


@dataclass(frozen=True)
class Noise:
    """What reference models of different seeds differ in; all of shape (trial, trial)."""

    cie: NDArray[np.float64]
    """Share of examples with different predictions."""
    cie_u: NDArray[np.float64]
    """Share of examples on which the first is right and the second wrong."""
    kl: NDArray[np.float64]
    """Mean over examples of KL(first || second), in nats."""


def measure(comparison: Comparison, null: Null, num_permutations: int, seed: int) -> Part:
    """Mismatches pair by pair, and the test of the distance between the populations."""
    label = comparison.reference["label"].values
    how = exchange(comparison, null, stream(seed, "exchange", comparison.scheme))
    distance = p = None
    if comparison.num_first >= 2:
        pooled = np.concatenate([comparison.first, comparison.second])
        between = disagreement(pooled, pooled)
        ways = how.rearrangements(comparison, num_permutations, stream(seed, "mismatches", comparison.scheme))
        observed = np.arange(len(pooled)) < comparison.num_first
        is_paired = how.kind == "paired"
        distance = float(prediction_distances(between, observed[None], paired=is_paired)[0])
        by_chance = prediction_distances(between, ways.in_first, paired=is_paired)
        p = float(permutation_p(distance, by_chance, exact=ways.exact))
    return Part(comparison, mismatches(comparison.first, comparison.second, label), _kl(comparison), how, distance, p)


def _kl(comparison: Comparison) -> NDArray[np.float64]:
    rows = []
    for k in range(comparison.num_first):
        kl = kl_divergence(comparison.reference["logits"][k].values, comparison.compressed["logits"][k].values)
        rows.append([kl.mean(), *np.percentile(kl, (50, 90, 99)), kl.max()])
    return np.array(rows)


def noise_between_seeds(comparison: Comparison) -> Noise | None:
    """What two seeds of the reference differ in; None with one model."""
    if comparison.num_first < 2:
        return None
    logits = comparison.reference["logits"]
    num_trials, num_examples, num_classes = logits.shape
    kl = np.zeros((num_trials, num_trials))
    # Blocks of examples: the log-probabilities of all trials may not fit in memory.
    size = max(1, _VALUES // (num_trials * num_classes))
    for start in range(0, num_examples, size):
        block = log_softmax(logits[:, start : start + size].values)
        kl += mean_kl_divergences(block) * (block.shape[1] / num_examples)
    right = (comparison.first == comparison.reference["label"].values).astype(np.float64)
    return Noise(disagreement(comparison.first, comparison.first), right @ (1 - right).T / num_examples, kl)


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
