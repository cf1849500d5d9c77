"""Exact counts behind influences: a sum over trials, so that shards, stores and machines add up.

For training example i and test example j the 2 x 2 table of trials (i in the subset or not, j right or wrong) follows
from four integers: the trials that were both, c; the trials right on j, d; the trials with i, n1; all trials, t.
Influence, standard error and z follow from it, so counts of shards can be added and nothing else need be kept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.stats.influence import MOST_TRIALS, Estimate, estimate_of_counts
from remnant.stats.packed_bits import PackedBits


@dataclass(frozen=True)
class Counts:
    """Counts of trials for some test and some training examples; `a + b` are the counts of both shards together."""

    both: NDArray[np.int64]
    """c: trials with the training example that are right on the test example, shape (example, train_example)."""
    right: NDArray[np.int64]
    """d: trials that are right on each test example."""
    included: NDArray[np.int64]
    """n1: trials with each training example."""
    num_trials: int
    """t."""

    def __add__(self, other: "Counts") -> "Counts":
        if self.both.shape != other.both.shape:
            raise ValueError(
                f"Expected counts of the same examples, but got shapes {self.both.shape} and {other.both.shape}. "
                "Count the same `examples` and `train_examples` in each shard."
            )
        return Counts(
            self.both + other.both,
            self.right + other.right,
            self.included + other.included,
            self.num_trials + other.num_trials,
        )

    def tables(self) -> NDArray[np.int64]:
        """The 2 x 2 table of each pair, shape (example, train_example, 2, 2): [with, without] x [right, wrong]."""
        without = self.right[:, None] - self.both
        wrong = self.included - self.both
        rest = self.num_trials - self.included - without
        return np.stack([np.stack([self.both, wrong], -1), np.stack([without, rest], -1)], -2)

    def estimate(self) -> Estimate:
        """Influence, standard error and z of each pair: those of `remnant.stats.influence.influence`."""
        if self.num_trials < 2:
            raise ValueError(
                f"Expected counts of 2 or more trials, but got {self.num_trials}. Add those of other shards."
            )
        return estimate_of_counts(self.both, self.right[:, None], self.included, self.num_trials)


def count(
    correct: PackedBits,
    included: PackedBits,
    *,
    examples: NDArray[np.integer] | None = None,
    train_examples: NDArray[np.integer] | None = None,
) -> Counts:
    """Counts of some test examples and some training examples, of all where none are given.

    Raises
    ------
    ValueError
        If the two do not have the same number of trials, from 1 on.
    """
    check_packed(correct, included, least=1)
    right = correct.chosen(_all(correct.num_examples) if examples is None else examples)
    member = included.chosen(_all(included.num_examples) if train_examples is None else train_examples)
    both = right.astype(np.float32).T @ member.astype(np.float32)  # exact: sums stay below 2^24
    total, num_in = right.sum(axis=0, dtype=np.int64), member.sum(axis=0, dtype=np.int64)
    return Counts(both.astype(np.int64), total, num_in, len(correct))


def memorization(correct: PackedBits, included: PackedBits) -> Estimate:
    """Effect of each training example on itself: `remnant.stats.influence.memorization` of packed bits.

    Parameters
    ----------
    correct
        Whether each trial is right on each training example.
    """
    check_packed(correct, included)
    if correct.num_examples != included.num_examples:
        raise ValueError(
            f"Expected `correct` and `included` of the same training examples, but got {correct.num_examples} and "
            f"{included.num_examples}."
        )
    both = (correct & included).totals()
    return estimate_of_counts(both, correct.totals(), included.totals(), len(correct))


def check_packed(correct: PackedBits, included: PackedBits, *, least: int = 2) -> None:
    """Refuse outcomes and subsets that do not belong together."""
    if len(correct) != len(included):
        raise ValueError(f"Expected one row of outcomes for each of {len(included)} subsets, but got {len(correct)}.")
    if not least <= len(included) < MOST_TRIALS:
        raise ValueError(f"Expected from {least} to {MOST_TRIALS - 1} trials, but got {len(included)}.")


def _all(num_examples: int) -> NDArray[np.int64]:
    return np.arange(num_examples)
