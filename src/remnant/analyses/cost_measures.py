"""What the flips of a pair of models cost, and what mistakes cost before and after."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import BLOCK
from remnant.stats.cost import costs, gamma_interval, severity_by_chance
from remnant.stats.rates import wilson
from remnant.stats.trial_intervals import mean_interval

Span = tuple[float, float] | None


@dataclass(frozen=True)
class Pairs:
    """Pairs of answers of two models on the same examples, with weights of the examples that add up to 1."""

    first: list[NDArray[np.integer]]
    """Answers of the first model of each pair, shape (example,)."""
    second: list[NDArray[np.integer]]
    label: NDArray[np.integer] | None
    weights: NDArray[np.float64]
    """Shape (example,)."""


@dataclass(frozen=True)
class Measure:
    """One quantity, pair by pair, with the 95 % interval of its mean."""

    values: NDArray[np.float64]
    """Shape (pair,); NaN where a pair has none."""
    interval: Span
    """Over pairs where there are several, else over examples or flips."""
    n: int
    unit: str

    @property
    def mean(self) -> float:
        """Over the pairs that have one; NaN if none has."""
        defined = self.values[np.isfinite(self.values)]
        return float(defined.mean()) if len(defined) else np.nan


@dataclass(frozen=True)
class Cost:
    """One distance on the pairs of one scheme."""

    cost: Measure
    """Misclassification cost: weighted mean over examples of the distance of the two answers."""
    severity: Measure
    """Mean distance of a flip: the cost over the weight of the flips."""
    severity_by_chance: NDArray[np.float64]
    """Mean distance of a flip if destinations were dealt anew, shape (pair,)."""
    before: NDArray[np.float64] | None
    """Cost of the mistakes of the first model of each pair against the true classes; None without labels."""
    after: NDArray[np.float64] | None
    change: Measure | None
    """Of the cost of mistakes."""


def measure(pairs: Pairs, distance: NDArray[np.float64]) -> Cost:
    """The cost of the flips under a distance, and that of mistakes against the truth."""
    parts = [_one(first, second, pairs, distance) for first, second in zip(pairs.first, pairs.second, strict=True)]
    num = len(pairs.weights)
    single = parts[0] if len(parts) == 1 else None
    cost = np.array([part["cost"] for part in parts])
    severity = np.array([part["cost"] / part["flipped"] if part["flipped"] > 0 else np.nan for part in parts])
    chance = np.array([part["chance"] for part in parts])
    before = after = change = None
    if pairs.label is not None:
        before, after = (np.array([part[name] for part in parts]) for name in ("before", "after"))
        over = _weighted_interval(single["moved"], pairs.weights) if single else None
        change = _measured(after - before, over, num, "example")
    weights = pairs.weights
    spans: list[Span] = [None, None]
    flips = 0
    if single:
        # Flips are rare events with costs of their own: an interval that also holds for none.
        spans[0] = gamma_interval(single["values"], float(distance.max() * weights.max()))
        flips = len(single["distances"])
        spans[1] = _weighted_interval(single["distances"], single["flip_weights"]) if flips > 1 else None
    return Cost(
        _measured(cost, spans[0], num, "example"),
        _measured(severity, spans[1], flips, "example"),
        chance,
        before,
        after,
        change,
    )


def share_across(pairs: Pairs, group: NDArray[np.integer]) -> tuple[Measure, NDArray[np.float64]]:
    """Share of flips that lead from one superclass to another, and the share by chance, shape (pair,).

    Flips count alike, whatever the weights of their examples.
    """
    across = (group[:, None] != group).astype(np.float64)
    found, chance, counts = [], [], []
    for first, second in zip(pairs.first, pairs.second, strict=True):
        flip = first != second
        ends = costs(second[flip], first[flip], across)
        counts.append((int(ends.sum()), len(ends)))
        found.append(ends.mean() if len(ends) else np.nan)
        chance.append(severity_by_chance(second[flip], first[flip], across))
    span, (successes, total) = None, counts[0]
    if len(found) == 1 and total:
        low, high = wilson(successes, total)
        span = (float(low), float(high))
    return _measured(np.array(found), span, total, "example"), np.array(chance)


def _one(
    first: NDArray[np.integer], second: NDArray[np.integer], pairs: Pairs, distance: NDArray[np.float64]
) -> dict[str, Any]:
    """Sums over the examples of one pair, in blocks; the values of the flips."""
    rows = np.flatnonzero(first != second)
    one, two = first[rows], second[rows]
    distances, flip_weights = costs(two, one, distance), pairs.weights[rows]
    found: dict[str, Any] = {
        "cost": float(distances @ flip_weights),
        "flipped": float(flip_weights.sum()),
        "values": distances * flip_weights,
        "distances": distances,
        "flip_weights": flip_weights,
        "chance": severity_by_chance(two, one, distance),
    }
    if pairs.label is not None:
        before, moved = 0.0, np.zeros(len(first))
        for start in range(0, len(first), BLOCK):
            part = slice(start, start + BLOCK)
            own = costs(first[part], pairs.label[part], distance)
            moved[part] = costs(second[part], pairs.label[part], distance) - own
            before += float(own @ pairs.weights[part])
        found |= {"before": before, "after": before + float(moved @ pairs.weights), "moved": moved}
    return found


def _measured(values: NDArray[np.float64], over: Span, n: int, unit: str) -> Measure:
    if len(values) == 1:
        return Measure(values, over, n, unit)
    defined = values[np.isfinite(values)]
    span = None
    # A spread of rounding errors alone is none.
    if len(defined) > 1 and np.ptp(defined) > 1e-12 * np.abs(defined).max():
        found = mean_interval(defined)
        span = (float(found.low), float(found.high))
    return Measure(values, span, len(defined), "pair")


def _weighted_interval(values: NDArray[np.float64], weights: NDArray[np.float64]) -> Span:
    """Normal interval of a weighted mean over examples; None if nothing varies."""
    total = weights.sum()
    if len(values) < 2 or total <= 0 or np.ptp(values) <= 1e-12 * np.abs(values).max():
        return None
    mean = float(values @ weights / total)
    error = float(np.sqrt(((weights / total) ** 2 * (values - mean) ** 2).sum() * len(values) / (len(values) - 1)))
    return mean - 1.96 * error, mean + 1.96 * error
