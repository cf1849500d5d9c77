"""Mean influence between groups of examples, without the matrix: outcomes of a group are added up per trial first.

Influence is linear in the outcomes and, for a training example, a weighted sum over trials. So the mean over a group of
test examples needs the number of them that each trial gets right, and the mean over a group of training examples a
weight for each trial. No tile of the matrix is computed.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from remnant.stats.influence import weights
from remnant.stats.influence_counts import check_packed
from remnant.stats.packed_bits import PackedBits

_COLUMNS = 4096


def mean_on_groups(correct: PackedBits, included: PackedBits, groups: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean influence of each training example over each group of test examples, shape (train_example, group).

    In [-1, 1]; > 0 means that training on the example helps the group. NaN for training examples that are in all or
    none of the subsets, and for an empty group. For examples that compression changed (CIE) and the others, give the
    two masks. Counts are exact integers.

    Parameters
    ----------
    groups
        Which test examples are in each group, shape (example, group).
    """
    check_packed(correct, included)
    _check_rows("groups", groups, correct.num_examples)
    num_trials = len(correct)
    right = _per_trial(correct, groups)
    total = right.sum(axis=0)
    found = np.empty((included.num_examples, groups.shape[1]))
    with np.errstate(invalid="ignore", divide="ignore"):
        size = groups.sum(axis=0).astype(np.float64)
        for start in range(0, included.num_examples, _COLUMNS):
            member = included.columns(start, start + _COLUMNS)
            num_in = member.sum(axis=0, dtype=np.int64)[:, None]
            both = member.T.astype(np.float64) @ right  # exact: integers below 2^53
            mean = (both / num_in - (total - both) / (num_trials - num_in)) / size
            found[start : start + member.shape[1]] = np.where(np.isfinite(mean), mean, np.nan)
    return found


def class_blocks(
    correct: PackedBits,
    included: PackedBits,
    labels: NDArray[np.integer],
    train_labels: NDArray[np.integer],
    num_classes: int,
) -> NDArray[np.float64]:
    """Mean influence of the training examples of a class on the test examples of a class, shape (class, train class).

    0 = none. With subsets of one size and every example in as many of them, rows weighted by class sizes add up to 0:
    what one class gives, others take. Training examples that are in all or none of the subsets are left out; NaN where
    a class has no examples.
    """
    check_packed(correct, included)
    groups = labels[:, None] == np.arange(num_classes)
    _check_rows("labels", groups, correct.num_examples)
    num_trials = len(correct)
    weight, size = np.zeros((num_classes, num_trials)), np.zeros(num_classes)
    for start in range(0, included.num_examples, _COLUMNS):
        member = included.columns(start, start + _COLUMNS).astype(bool)
        num_in = member.sum(axis=0)
        keep = np.flatnonzero((num_in > 0) & (num_in < num_trials))
        label = train_labels[start + keep]
        shape = (num_classes, len(keep))
        weight += csr_array((np.ones(len(keep)), (label, np.arange(len(keep)))), shape) @ weights(member[:, keep]).T
        size += np.bincount(label, minlength=num_classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = _per_trial(correct, groups) / groups.sum(axis=0)
        # Weights of a training example add up to 0 over trials; so does their rounding if outcomes are centred.
        return (accuracy - accuracy.mean(axis=0)).T @ (weight / size[:, None]).T


def _per_trial(correct: PackedBits, groups: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Number of right answers of each trial in each group, shape (trial, group)."""
    found = np.zeros((len(correct), groups.shape[1]))
    for start in range(0, correct.num_examples, _COLUMNS):
        part = correct.columns(start, start + _COLUMNS).astype(np.float32)
        found += part @ groups[start : start + part.shape[1]].astype(np.float32)  # exact: at most 4096 each
    return found


def _check_rows(name: str, groups: NDArray, num_examples: int) -> None:
    if len(groups) != num_examples:
        raise ValueError(f"Expected `{name}` with a row for each of {num_examples} test examples, got {len(groups)}.")
