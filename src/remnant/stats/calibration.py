"""How far the confidence of a model is from its accuracy: calibration errors and proper scores.

Confidence is the probability of the class that a model answers. Errors are made from sums over bins of confidence, so
that examples can be read in blocks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from remnant.stats.agreement import log_softmax

_CELLS = 1024
"""Confidences within 1 / 1024 of each other share one binomial draw of `calibrated_errors`."""
_VALUES = 2**20

Real = NDArray[np.floating]


@dataclass(frozen=True)
class Scores:
    """What a model's probabilities say about each example; all of shape (example,)."""

    answer: NDArray[np.intp]
    """The class with the highest probability; the first of equal ones."""
    confidence: NDArray[np.float64]
    """Probability of the answer."""
    true: NDArray[np.float64]
    """Probability of the true class."""
    loss: NDArray[np.float64]
    """-log of the probability of the true class, in nats."""
    brier: NDArray[np.float64]
    """Sum over classes of (probability - 1 if true else 0)^2, in [0, 2]."""


def scores(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Scores:
    """Confidence, loss and Brier score of each example, in double precision.

    Parameters
    ----------
    logits
        Shape (example, class), of any precision; log-probabilities do too.
    labels
        True classes, shape (example,).

    References
    ----------
    brier1950verification
    """
    found = np.empty((4, len(labels)))
    answer = np.empty(len(labels), np.intp)
    size = max(1, _VALUES // max(1, logits.shape[-1]))
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        logs = log_softmax(logits[part])
        p = np.exp(logs)
        rows, label = np.arange(len(p)), labels[part]
        answer[part] = logs.argmax(axis=1)
        true = p[rows, label]
        brier = np.einsum("nc,nc->n", p, p) - 2 * true + 1
        found[:, part] = p[rows, answer[part]], true, -logs[rows, label], np.maximum(brier, 0)
    return Scores(answer, *found)


@dataclass(frozen=True)
class Bins:
    """Sums over the examples in each bin of confidence, all of shape (bin,)."""

    number: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.int64]
    squares: NDArray[np.float64]
    """Of the confidence."""
    products: NDArray[np.float64]
    """Confidence of the examples that are right."""

    @property
    def num_examples(self) -> int:
        """Number of examples in all bins."""
        return int(self.number.sum())

    @property
    def gaps(self) -> NDArray[np.float64]:
        """Share of all examples in the bin times its accuracy minus its mean confidence."""
        return (self.right - self.confidence) / self.num_examples


def equal_width(num: int = 15) -> NDArray[np.float64]:
    """Edges of bins of equal width from 0 to 1.

    Raises
    ------
    ValueError
        If `num` is below 1.
    """
    if num < 1:
        raise ValueError(f"Expected `num` >= 1 bins, but got {num!r}.")
    return np.linspace(0, 1, num + 1)


def equal_mass(confidence: Real, num: int = 15) -> NDArray[np.float64]:
    """Edges of bins with as many examples each; fewer bins where many confidences are equal."""
    inner = np.quantile(confidence, equal_width(num)[1:-1], method="inverted_cdf")
    return np.concatenate([[0.0], np.unique(inner[(inner > 0) & (inner < 1)]), [1.0]])


def place(confidence: Real, edges: NDArray[np.float64]) -> NDArray[np.intp]:
    """The bin of each confidence. Bins hold their upper edge and not their lower one; the first holds 0."""
    return np.searchsorted(edges[1:-1], confidence, side="left")


def binned(confidence: Real, correct: NDArray[np.bool_], edges: NDArray[np.float64]) -> Bins:
    """Sums of the examples in each bin."""
    where, num = place(confidence, edges), len(edges) - 1

    def total(weights: NDArray) -> NDArray[np.float64]:
        return np.bincount(where, weights=weights, minlength=num).astype(np.float64)

    return Bins(
        number=np.bincount(where, minlength=num),
        confidence=total(confidence),
        right=total(correct).astype(np.int64),
        squares=total(np.square(confidence, dtype=np.float64)),
        products=total(confidence * correct),
    )


def expected_calibration_error(bins: Bins) -> float:
    """Mean over examples of the distance between accuracy and mean confidence of their bin, in [0, 1].

    sum over bins of n_b / n |accuracy_b - confidence_b|. 0: every bin is as often right as it is sure. The plug-in
    estimate is too high, more so for few examples and many bins: even a perfectly calibrated model has a value above
    0 (`calibrated_errors`). Bins in which over- and underconfidence cancel hide it.

    References
    ----------
    naeini2015obtaining; guo2017calibration, equation 3
    """
    return float(np.abs(bins.gaps).sum())


def debiased_calibration_error(bins: Bins) -> float:
    """Expected calibration error minus an estimate of its bias, at least 0.

    The bias of each |gap| is taken from the normal distribution around the observed gap, with the variance
    accuracy (1 - accuracy) / n of the bin's accuracy. Still somewhat too high near 0.

    References
    ----------
    kumar2019verified, section 4 (there for squares; the authors' library does this for absolute values)
    """
    number = np.maximum(bins.number, 1)
    accuracy = bins.right / number
    error = np.sqrt(accuracy * (1 - accuracy) / number) * bins.number / bins.num_examples
    return max(0.0, float((2 * np.abs(bins.gaps) - _folded_mean(bins.gaps, error)).sum()))


def squared_calibration_error(bins: Bins) -> float:
    """Mean over examples of the squared gap of their bin, without bias: sum of n_b / n (gap_b^2 - var_b).

    var_b = accuracy_b (1 - accuracy_b) / (n_b - 1). 0 in expectation for a perfectly calibrated model, so that it can
    be negative. Bins of one example are left out.

    References
    ----------
    kumar2019verified, definition 4.1; brocker2012estimating
    """
    keep = bins.number > 1
    number, right = bins.number[keep], bins.right[keep]
    accuracy = right / number
    gap = accuracy - bins.confidence[keep] / number
    return float((number * (gap**2 - accuracy * (1 - accuracy) / (number - 1))).sum() / bins.num_examples)


def calibrated_errors(
    confidence: Real, edges: NDArray[np.float64], rng: np.random.Generator, *, num: int = 200
) -> NDArray[np.float64]:
    """Expected calibration errors of a perfectly calibrated model with these confidences, shape (num,).

    Each answer is right with the probability that the model states. Their mean is the value that the error has by
    chance alone; the share that is at least the observed error is a p-value of perfect calibration.

    References
    ----------
    brocker2007increasing
    """
    confidence = np.asarray(confidence, np.float64)
    cell = np.minimum((confidence * _CELLS).astype(np.int64), _CELLS - 1)
    where = place(confidence, edges)
    key, inverse, number = np.unique(where * _CELLS + cell, return_inverse=True, return_counts=True)
    total = np.bincount(inverse.ravel(), weights=confidence)
    # Cell by cell: NumPy prepares a binomial distribution once as long as its parameters stay the same.
    drawn = rng.binomial(number[:, None], np.clip(total / number, 0, 1)[:, None], size=(len(key), num))
    starts = np.flatnonzero(np.diff(key // _CELLS, prepend=-1))
    gaps = np.add.reduceat(drawn - total[:, None], starts, axis=0)
    return np.abs(gaps).sum(axis=0) / len(confidence)


def change_of_error(
    first: tuple[Real, NDArray[np.bool_], NDArray[np.float64]],
    second: tuple[Real, NDArray[np.bool_], NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    num: int = 4000,
) -> tuple[float, float, float]:
    """Calibration error of the second model minus that of the first on the same examples, with a 95 % interval.

    Over examples: gaps of all bins are drawn from the normal distribution that they tend to, with their covariance
    between the two models, and the deviations of the change from its mean are taken from the estimate. The interval
    is for what the plug-in change is expected to be with as many examples: biases of the two sides, alike in size,
    cancel.

    Parameters
    ----------
    first, second
        Confidence, correctness and edges of the bins of a model, the first two of shape (example,).
    """
    (p1, a1, edges1), (p2, a2, edges2) = first, second
    n, num1, num2 = len(p1), len(edges1) - 1, len(edges2) - 1
    b1, b2 = place(p1, edges1), num1 + place(p2, edges2)
    d1, d2 = a1 - np.asarray(p1, np.float64), a2 - np.asarray(p2, np.float64)
    size = num1 + num2
    mean = (np.bincount(b1, d1, size) + np.bincount(b2, d2, size)) / n
    second_moments = np.diag(np.bincount(b1, d1**2, size) + np.bincount(b2, d2**2, size))
    both = np.bincount(b1 * size + b2, d1 * d2, size * size).reshape(size, size)
    covariance = ((second_moments + both + both.T) / n - np.outer(mean, mean)) / n
    variances, directions = np.linalg.eigh(covariance)
    draws = mean + rng.standard_normal((num, size)) @ (directions * np.sqrt(np.maximum(variances, 0))).T
    errors = np.abs(draws)
    changes = errors[:, num1:].sum(axis=1) - errors[:, :num1].sum(axis=1)
    estimate = float(np.abs(mean[num1:]).sum() - np.abs(mean[:num1]).sum())
    low, high = np.quantile(changes - changes.mean(), [0.025, 0.975])
    return estimate, estimate + float(low), estimate + float(high)


@dataclass(frozen=True)
class Decomposition:
    """The mean of (confidence - 1 if right else 0)^2 in parts that say what it is made of."""

    reliability: float
    """Mean squared distance between accuracy and mean confidence of a bin: 0 is perfect calibration."""
    resolution: float
    """Variance of accuracy between bins: how well confidence tells right from wrong."""
    uncertainty: float
    """Variance of correctness, accuracy (1 - accuracy): the score of stating the accuracy every time."""
    within: float
    """Variance of confidence within bins minus twice its covariance with correctness there."""

    @property
    def score(self) -> float:
        """reliability - resolution + uncertainty + within."""
        return self.reliability - self.resolution + self.uncertainty + self.within


def decomposition(bins: Bins) -> Decomposition:
    """The Brier score of the confidence in reliability, resolution and uncertainty, and what varies within bins.

    References
    ----------
    murphy1973vector; stephenson2008two
    """
    keep = bins.number > 0
    number, right = bins.number[keep], bins.right[keep]
    n = bins.num_examples
    accuracy, confidence = right / number, bins.confidence[keep] / number
    overall = right.sum() / n
    variance = bins.squares[keep] - number * confidence**2
    covariance = bins.products[keep] - number * confidence * accuracy
    return Decomposition(
        reliability=float((number * (accuracy - confidence) ** 2).sum() / n),
        resolution=float((number * (accuracy - overall) ** 2).sum() / n),
        uncertainty=float(overall * (1 - overall)),
        within=float((variance - 2 * covariance).sum() / n),
    )


def class_gaps(logits: NDArray[np.floating], labels: NDArray[np.integer], num: int = 15) -> NDArray[np.float64]:
    """Sums of (1 if true else 0) - probability for each class and equal-width bin of it, shape (class, bin).

    Sums over blocks of examples add up; `classwise_calibration_error` makes the error of them.
    """
    p, edges = np.exp(log_softmax(logits)), equal_width(num)
    num_classes = p.shape[1]
    # Of many classes, most probabilities lie in the first bin: only the others are placed one by one.
    rows, columns = np.nonzero(p > edges[1])
    high = p[rows, columns]
    found = -np.bincount(num * columns + place(high, edges), weights=high, minlength=num * num_classes)
    found = found.reshape(num_classes, num).astype(np.float64)
    found[:, 0] -= p.sum(axis=0) - np.bincount(columns, weights=high, minlength=num_classes)
    true = num * labels + place(p[np.arange(len(p)), labels], edges)
    return found + np.bincount(true, minlength=num * num_classes).reshape(num_classes, num)


def classwise_calibration_error(gaps: NDArray[np.float64], num_examples: int) -> float:
    """Mean over classes of the calibration error of the probability of that class, from `class_gaps`.

    Unlike the expected calibration error it sees all probabilities, not the highest only. As biased as that one.

    References
    ----------
    kull2019beyond, definition of classwise-ECE
    """
    return float(np.abs(gaps).sum(axis=1).mean() / num_examples)


def _folded_mean(mean: NDArray, error: NDArray) -> NDArray[np.float64]:
    """Mean of |x| for normal x."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(error > 0, np.abs(mean) / error, np.inf)
    return error * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) + np.abs(mean) * (1 - 2 * ndtr(-z))
