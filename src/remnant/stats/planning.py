"""How certain memorization and influence will be, before anything is trained.

A population of t models on random subsets with a share p of the training set; a test example on which a share q of
the models is right; a training example that is in n1 ~ Binomial(t, p) of the subsets. Influence is estimated as
c1 / n1 - c0 / n0. Without any effect c1 and c0 are independent binomial counts with the same q, so the chance that
an estimate passes a threshold is a finite sum, exact for given n1 and q.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaln, xlog1py, xlogy

Real = NDArray[np.float64]

TOLERANCE = 1e-9
"""An influence this little below a threshold passes it: 0.15 is not a binary fraction."""

MOST_TRIALS = 100_000
"""No larger number of trials is searched for."""


@dataclass(frozen=True)
class AccuracyDistribution:
    """How the share of models that are right differs between test examples: a Beta distribution."""

    mean: float
    """Mean accuracy, in (0, 1)."""
    concentration: float
    """a + b of Beta(a, b): near 0 each example is always right or always wrong, large all have the mean accuracy."""

    def __post_init__(self) -> None:
        if not 0 < self.mean < 1:
            raise ValueError(f"Expected `mean` in (0, 1), but got {self.mean!r}.")
        if not self.concentration > 0:
            raise ValueError(f"Expected `concentration` > 0, but got {self.concentration!r}.")

    def values(self, number: int = 200) -> Real:
        """Accuracies that stand for equal shares of the examples: the medians of `number` equal parts."""
        share = (np.arange(number) + 0.5) / number
        return betaincinv(self.mean * self.concentration, (1 - self.mean) * self.concentration, share)

    @staticmethod
    def of_counts(num_right: NDArray[np.integer], num_trials: int) -> "AccuracyDistribution":
        """The distribution with the mean and variance of the examples' accuracies, noise of few trials removed.

        With d right answers of t on an example, d / t and d (d - 1) / (t (t - 1)) are unbiased for q and q^2 (the
        share of pairs of models that are both right). Kept within a concentration of 0.01 to 1,000, and a mean of
        half an answer from 0 and 1.

        Raises
        ------
        ValueError
            If there are fewer than 2 trials: one does not tell examples from luck.
        """
        if num_trials < 2:
            raise ValueError(f"Expected at least 2 trials to see how accuracies differ, but got {num_trials}.")
        right = np.asarray(num_right, np.float64)
        least = 0.5 / (num_trials * len(right))
        mean = float(np.clip(right.mean() / num_trials, least, 1 - least))
        variance = float((right * (right - 1)).mean() / (num_trials * (num_trials - 1)) - mean**2)
        most = mean * (1 - mean)
        concentration = most / variance - 1 if variance > 0 else np.inf
        return AccuracyDistribution(mean, float(np.clip(concentration, 0.01, 1000)))


def probability_above(threshold: float, with_it: Real, without_it: Real, num_in: int, num_out: int) -> Real:
    """P(c1 / n1 - c0 / n0 >= threshold) for c1 ~ Binomial(n1, with_it), c0 ~ Binomial(n0, without_it).

    Elementwise over accuracies, exact up to rounding.
    """
    upper = np.concatenate(
        [_binomial(num_in, with_it)[:, ::-1].cumsum(axis=1)[:, ::-1], np.zeros((len(with_it), 1))], 1
    )
    lowest = np.ceil(num_in * (threshold - TOLERANCE + np.arange(num_out + 1) / num_out))
    lowest = np.clip(lowest, 0, num_in + 1).astype(np.intp)
    return (_binomial(num_out, without_it) * upper[:, lowest]).sum(axis=1)


def false_positive_rate(
    threshold: float, accuracy: AccuracyDistribution, num_trials: int, fraction: float, *, balanced: bool = False
) -> float:
    """Chance that a pair without any effect has an estimated influence >= threshold.

    Averaged over the examples' accuracies and, unless `balanced` (every training example in as many subsets), over
    n1 ~ Binomial(t, p) by Gauss-Hermite quadrature with five points of the normal approximation.
    """
    q = accuracy.values()
    nodes, weights = (np.zeros(1), np.ones(1)) if balanced else hermegauss(5)
    spread = np.sqrt(num_trials * fraction * (1 - fraction))
    found = 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        num_in = int(np.clip(round(num_trials * fraction + node * spread), 1, num_trials - 1))
        found += weight * float(probability_above(threshold, q, q, num_in, num_trials - num_in).mean())
    return found


def power(threshold: float, effect: float, num_trials: int, fraction: float) -> float:
    """Chance that a true influence of `effect` is estimated >= threshold, where it is hardest to see.

    That is around an accuracy of one half: (1 + effect) / 2 with the training example, (1 - effect) / 2 without.
    About one half for effect = threshold, however many trials.
    """
    num_in = int(np.clip(round(num_trials * fraction), 1, num_trials - 1))
    high, low = np.array([(1 + effect) / 2]), np.array([(1 - effect) / 2])
    return float(probability_above(threshold, high, low, num_in, num_trials - num_in)[0])


def expected_standard_error(accuracy: AccuracyDistribution, num_trials: int, fraction: float) -> float:
    """Mean over test examples of the standard error of an influence that is 0: sqrt(q (1 - q) / (t p (1 - p)))."""
    q = accuracy.values()
    return float(np.sqrt(q * (1 - q)).mean() / np.sqrt(num_trials * fraction * (1 - fraction)))


def memorization_standard_error(accuracy: AccuracyDistribution, num_trials: int, fraction: float) -> float:
    """Mean standard error of memorization if models are always right on what they were trained on.

    Then all noise is that of the trials without the example: sqrt(q (1 - q) / (t (1 - p))), at most
    0.5 / sqrt(t (1 - p)).
    """
    q = accuracy.values()
    return float(np.sqrt(q * (1 - q)).mean() / np.sqrt(num_trials * (1 - fraction)))


def never(num_train: int, num_trials: int, fraction: float) -> tuple[float, float]:
    """Expected numbers of training examples that are in none and in all of the subsets, drawn independently.

    Their memorization and influence cannot be estimated. Feldman & Zhang's own script sets them to 0 and to the
    accuracy.
    """
    return num_train * (1 - fraction) ** num_trials, num_train * fraction**num_trials


def trials_needed(enough: Callable[[int], bool], *, least: int = 4, most: int = MOST_TRIALS) -> int | None:
    """The smallest number of trials that is enough, by doubling and halving; None if `most` is not.

    Counts are whole numbers, so that a chance of passing a threshold has small teeth over t: the answer is then
    one crossing, not always the first.
    """
    low, high = least - 1, least
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _binomial(number: int, probability: Real) -> Real:
    """P(X = 0), ..., P(X = number) for each probability, shape (probability, number + 1)."""
    count = np.arange(number + 1)
    ways = gammaln(number + 1) - gammaln(count + 1) - gammaln(number - count + 1)
    p = np.asarray(probability, np.float64)[:, None]
    return np.exp(ways + xlogy(count, p) + xlog1py(number - count, -p))
