"""Weights of the terms of a loss: fixed, learned, or by how fast each term falls.

References
----------
heydari2019softadapt; kendall2018multitask, equation 7
"""

import math
from collections import deque
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from remnant.schemes import Align

DIFFERENCES: dict[int, tuple[float, ...]] = {
    1: (-1, 1),
    2: (-3 / 2, 2, -1 / 2),
    3: (-11 / 6, 3, -3 / 2, 1 / 3),
    4: (-25 / 12, 4, -3, 4 / 3, -1 / 4),
    5: (-137 / 60, 5, -5, 10 / 3, -5 / 4, 1 / 5),
}
"""Order of accuracy to the coefficients of the forward difference, oldest value first."""

_REGRESSION = ("logits", "attribution", "features")
"""Terms that are squared differences: their learned variance enters with the factor 1/2."""


class Weighting(Protocol):
    """Decides how much each term counts at each step."""

    def next(self, values: list[float], learning_rate: float) -> list[float]:
        """The weights for a step whose terms have these values."""
        ...


def weighting(align: Align) -> Weighting:
    """The weighting that an alignment asks for, at its start."""
    number = len(align.terms)
    if align.weights == "uniform":
        return Constant([1 / number] * number)
    if align.weights == "fixed":
        return Constant(list(align.fixed))
    if align.weights == "uncertainty":
        return Uncertainty(align.terms)
    return SoftAdapt(align)


class Constant:
    """The same weights at every step."""

    def __init__(self, weights: list[float]) -> None:
        self.weights = weights

    def next(self, values: list[float], learning_rate: float) -> list[float]:
        return self.weights


class Uncertainty:
    """Weights c exp(-s) with a learned log variance s for each term, 0 at the start.

    The loss is sum_k c_k exp(-s_k) L_k + s_k / 2, with c = 1/2 for squared differences and 1 for likelihoods. Its
    gradient with respect to s_k is 1/2 - c_k exp(-s_k) L_k; s takes a plain gradient step with the learning rate
    of the model. Fixed values L_k lead to the weight 1 / (2 L_k).
    """

    def __init__(self, terms: tuple[str, ...]) -> None:
        self.factors = [0.5 if term in _REGRESSION else 1.0 for term in terms]
        self.log_variances = [0.0] * len(terms)

    def next(self, values: list[float], learning_rate: float) -> list[float]:
        weights = [c * math.exp(-s) for c, s in zip(self.factors, self.log_variances, strict=True)]
        for k, (weight, value) in enumerate(zip(weights, values, strict=True)):
            self.log_variances[k] -= learning_rate * (0.5 - weight * value)
        return weights


class SoftAdapt:
    """Weights from the slopes of the terms over the last windows of `update` steps; uniform until there are enough."""

    def __init__(self, align: Align) -> None:
        self.variant = align.weights.removeprefix("softadapt").removeprefix("-")
        self.beta, self.update = align.beta, align.update
        number = len(align.terms)
        self.weights = [1 / number] * number
        self.window = np.zeros(number)
        self.steps = 0
        self.history: deque[NDArray] = deque(maxlen=align.history)

    def next(self, values: list[float], learning_rate: float) -> list[float]:
        self.window += values
        self.steps += 1
        if self.steps == self.update:
            self.history.append(self.window / self.update)
            self.window, self.steps = np.zeros(len(values)), 0
            if len(self.history) == self.history.maxlen:
                self.weights = softadapt(np.stack(self.history, 1), self.beta, self.variant).tolist()
        return self.weights


def softadapt(losses: ArrayLike, beta: float = 0.1, variant: str = "") -> NDArray[np.float64]:
    """Weights of terms, shape (term,), from their last values, shape (term, n) with n in [2, 6], oldest first.

    With the slopes s by the forward difference of order n - 1:

    - "": exp(beta (s - max s)) / (sum + 1e-8);
    - "loss-weighted": the same, times the mean of the last values, normalised again;
    - "normalized": slopes divided by their l1 norm + 1e-8 first, which makes them free of the scale of the terms.
      (Dividing by their sum, as one published code does, turns the order around when all terms fall.)

    The term that falls slowest, or rises, gets the largest weight with beta > 0.

    References
    ----------
    heydari2019softadapt, section 3
    """
    losses = np.asarray(losses, float)
    slopes = losses @ np.array(DIFFERENCES[losses.shape[1] - 1])
    if variant == "normalized":
        slopes = slopes / (np.abs(slopes).sum() + 1e-8)
    weights = np.exp(beta * (slopes - slopes.max()))
    if variant == "loss-weighted":
        weights = weights * losses.mean(1)
    return weights / (weights.sum() + 1e-8)
