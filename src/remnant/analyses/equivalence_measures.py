"""The change of accuracy of one compressed side, with its tests and intervals."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.answer_pairs import outcome_blocks, pair_names, points, reference_right
from remnant.analyses.comparison import Comparison
from remnant.stats import equivalence
from remnant.stats.paired_bootstrap import Patterns, bca_interval, patterns, percentile_interval, resampled_means
from remnant.stats.rates import newcombe_paired
from remnant.stats.two_way import TwoWay, two_way_mean

Span = tuple[float, float]
"""Lower and upper end of an interval."""


@dataclass(frozen=True)
class Change:
    """What one compressed side changes in accuracy: pairs of models by examples, as counts."""

    scheme: str
    trials: tuple[str, ...]
    """The compressed model of each pair."""
    patterns: Patterns
    """Outcomes of the pairs (columns), see `remnant.analyses.answer_pairs.outcome_blocks`."""
    reference_right: NDArray[np.int64]
    """Examples on which the reference of each pair is right."""

    @property
    def num_examples(self) -> int:
        """Number of examples."""
        return self.patterns.num_examples

    @property
    def num_pairs(self) -> int:
        """Number of pairs of models."""
        return len(self.trials)

    @cached_property
    def lost(self) -> NDArray[np.int64]:
        """Examples on which only the reference of a pair is right, shape (pair,)."""
        return self.patterns.count(-1)

    @cached_property
    def gained(self) -> NDArray[np.int64]:
        """Examples on which only the compressed model of a pair is right, shape (pair,)."""
        return self.patterns.count(1)

    @property
    def estimate(self) -> float:
        """Mean change of accuracy over pairs."""
        return float((self.gained - self.lost).mean() / self.num_examples)

    @property
    def discordance(self) -> float:
        """Share of examples on which exactly one of the two is right, mean over pairs."""
        return float((self.gained + self.lost).mean() / self.num_examples)

    @cached_property
    def two_way(self) -> TwoWay | None:
        """The mean over pairs and examples; None where there is one pair, or nothing differs."""
        if self.num_pairs < 2 or self.num_examples < 2:
            return None
        values, counts = self.patterns.values.astype(np.float64), self.patterns.counts
        totals = (self.gained - self.lost)[:, None]
        squares = counts @ (values**2).sum(axis=1)
        example_squares = counts @ values.sum(axis=1) ** 2
        found = two_way_mean(totals, [squares], [example_squares], [self.num_examples])
        return None if np.isnan(found.degrees[0]) else found

    def interval(self, level: float) -> Span:
        """Of the change of accuracy: score interval of one pair, or t interval over pairs and examples."""
        if self.two_way is None:
            low, high = equivalence.tango_interval(self.lost[0], self.gained[0], self.num_examples, level=level)
            return float(low), float(high)
        low, high = self.two_way.interval(level=level)
        return max(float(low[0]), -1.0), min(float(high[0]), 1.0)

    def noninferiority_p(self, margin: float) -> float:
        """p of a fall of accuracy by `margin` or more."""
        if self.two_way is None:
            return float(equivalence.noninferiority_p(self.lost[0], self.gained[0], self.num_examples, margin))
        return float(1 - self.two_way.below_p(-margin)[0])

    def tost_p(self, margin: float) -> float:
        """p of a difference of accuracy, either way, by `margin` or more."""
        if self.two_way is None:
            return float(equivalence.tost_p(self.lost[0], self.gained[0], self.num_examples, margin))
        return max(self.noninferiority_p(margin), float(self.two_way.below_p(margin)[0]))

    def smallest_margins(self) -> Span:
        """Smallest margins at which not being worse, and being equivalent, would be shown at 5 %."""
        noninferiority, either = equivalence.smallest_margins(*self.interval(0.9))
        return float(noninferiority), float(either)

    def newcombe(self) -> Span:
        """Newcombe's interval of one pair."""
        both = self.reference_right[0] - self.lost[0]
        neither = self.num_examples - both - self.lost[0] - self.gained[0]
        low, high = newcombe_paired(both, self.gained[0], self.lost[0], neither)
        return float(low), float(high)


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of the change of accuracy from resampled examples."""

    percentile: Span
    bca: Span


def measure(side: Comparison) -> Change:
    """The counts of one compressed side."""
    found = patterns(outcome_blocks([side]))
    return change_of(side, found, reference_right(side))


def change_of(side: Comparison, found: Patterns, right: NDArray[np.int64]) -> Change:
    """The change of a side from the patterns of its pairs and the right answers of each reference model."""
    return Change(side.scheme, tuple(pair_names(side)), found, right[[i for i, _ in side.pairs]])


def bootstrap(change: Change, num: int, rng: np.random.Generator) -> Bootstrap:
    """The change of accuracy, mean over pairs, in bootstrap samples of the examples."""
    found = change.patterns
    resampled = resampled_means(found, rng, num=num).mean(axis=1)
    values = np.append(found.values.mean(axis=1), 0.0)
    counts = np.append(found.counts, found.num_examples - found.counts.sum())
    return Bootstrap(percentile_interval(resampled), bca_interval(resampled, values, counts))


def verdict(change: Change, margin: float) -> str:
    """What is shown at 5 %, in words."""
    within = points(margin)
    low, high = change.interval(0.9)
    if change.tost_p(margin) <= 0.05:
        return f"equivalent within {within}"
    if high < -margin:
        return f"worse by more than {within}"
    if low > margin:
        return f"better by more than {within}"
    if change.noninferiority_p(margin) <= 0.05:
        return f"not worse by {within} or more"
    return "not shown either way"
