"""What influence estimates look like when training examples have no influence at all.

The null hypothesis: which trials saw a training example says nothing on their outcomes. Given how many trials saw
it (n1) and how many were right on the test example (d), the number that did both is then hypergeometric,
c ~ Hypergeometric(t, d, n1), for every pair and every design of subsets: outcomes of trials are exchangeable.
Expected numbers of pairs add up over pairs whatever their dependence, so they are exact. How much such a number
varies depends on the dependence between pairs, which permutations of the trials keep: all outcomes of a trial move
together.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtr

from remnant.stats.influence import weights
from remnant.stats.influence_tiles import TOLERANCE

_CELLS = 2**18
"""Entries of a block of permuted influence: 1 MB of float32, which stays in a core's cache."""


def pair_counts(
    num_right: NDArray[np.integer],
    num_in: NDArray[np.integer],
    num_trials: int,
    *,
    labels: NDArray[np.integer] | None = None,
    train_labels: NDArray[np.integer] | None = None,
) -> NDArray[np.float64]:
    """Number of pairs of a training example in n1 and a test example right in d trials, shape (t + 1, t + 1).

    Element [n1, d]. With `labels` and `train_labels`, pairs of the same class only.
    """
    length = num_trials + 1
    if labels is None or train_labels is None:
        return np.outer(np.bincount(num_in, minlength=length), np.bincount(num_right, minlength=length)).astype(float)
    found = np.zeros((length, length))
    for label in np.intersect1d(labels, train_labels):
        found += pair_counts(num_right[labels == label], num_in[train_labels == label], num_trials)
    return found


def own_counts(num_right: NDArray[np.integer], num_in: NDArray[np.integer], num_trials: int) -> NDArray[np.float64]:
    """Number of training examples that are in n1 and right in d trials, shape (t + 1, t + 1): for memorization."""
    found = np.zeros((num_trials + 1, num_trials + 1))
    np.add.at(found, (num_in, num_right), 1)
    return found


def expected_above(pairs: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Expected number of pairs with influence >= each of the ascending thresholds if nothing has any influence.

    The sum over pairs of the hypergeometric tail probability, shape (threshold,). For 0/1 outcomes.

    Parameters
    ----------
    pairs
        As from `pair_counts` (or `own_counts`: then of memorized examples).
    """
    length = len(thresholds) + 1
    found = np.zeros(length)
    for _, _, influence, expected in _cells(pairs):
        passed = np.searchsorted(thresholds, influence.ravel() + TOLERANCE, side="right")
        found += np.bincount(passed, weights=expected.ravel(), minlength=length)
    return found[::-1].cumsum()[::-1][1:]


def expected_z(pairs: NDArray[np.floating], edges: NDArray[np.floating]) -> NDArray[np.float64]:
    """Expected numbers of pairs by z if nothing has any influence, in the bins of `histogram_z`; 0/1 outcomes."""
    num_trials = len(pairs) - 1
    length = len(edges) - 1
    found = np.zeros(length)
    for num_in, num_right, influence, expected in _cells(pairs):
        variance = num_right * (num_trials - num_right) / (num_trials * (num_trials - 1))
        varies = variance > 0
        if not varies.any():
            continue
        scale = np.sqrt(num_in * (num_trials - num_in) / num_trials / variance[varies])
        z = influence[varies] * scale[:, None]
        place = np.clip((z - edges[0] + TOLERANCE) * length / (edges[-1] - edges[0]), 0, length - 1).astype(np.intp)
        found += np.bincount(place.ravel(), weights=expected[varies].ravel(), minlength=length)
    return found


def expected_z_real(num_pairs: int, edges: NDArray[np.floating], num_trials: int) -> NDArray[np.float64]:
    """As `expected_z` for real outcomes: z is sqrt(t - 1) times a correlation, Student's if outcomes are normal."""
    inner = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    return num_pairs * np.diff(-z_tail(inner, num_trials))


def z_tail(z: NDArray[np.floating], num_trials: int) -> NDArray[np.float64]:
    """P(z' >= z) for normal outcomes without influence: z = sqrt(t - 1) r with Pearson's correlation r."""
    correlation = np.clip(np.asarray(z) / np.sqrt(num_trials - 1), -1, 1)
    with np.errstate(divide="ignore"):
        statistic = correlation * np.sqrt((num_trials - 2) / (1 - correlation**2))
    return stdtr(num_trials - 2, -statistic)


def orders(rng: np.random.Generator, num_trials: int, num_permutations: int) -> NDArray[np.intp]:
    """Orders of the trials, shape (1 + permutation, trial): first as they are, then at random."""
    identity = np.arange(num_trials)
    return np.stack([identity, *(rng.permutation(num_trials) for _ in range(num_permutations))])


def permuted_influence(
    outcome: NDArray, included: NDArray[np.bool_], orders: NDArray[np.integer]
) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Influence after the outcomes' trials are put in other orders, block by block.

    Yields (slice of orders, slice of examples, influence of shape (order, example, train_example)). Expects
    training examples that are in and out at least once.
    """
    num_train, num_examples = included.shape[1], outcome.shape[1]
    if num_train == 0 or num_examples == 0:
        return
    right = weights(included).astype(np.float32)
    left = outcome.T.astype(np.float32)
    size = int(np.clip(_CELLS // num_train, 1, num_examples))
    many = max(1, _CELLS // (num_train * size))
    for start in range(0, num_examples, size):
        part = left[start : start + size]
        for first in range(0, len(orders), many):
            order = orders[first : first + many]
            shuffled = part[:, order].transpose(1, 0, 2).reshape(-1, part.shape[1])
            found = (shuffled @ right).reshape(len(order), len(part), num_train)
            yield slice(first, first + len(order)), slice(start, start + len(part)), found


def permuted_pair_counts(
    outcome: NDArray[np.bool_],
    included: NDArray[np.bool_],
    orders: NDArray[np.integer],
    *,
    labels: NDArray[np.integer],
    train_labels: NDArray[np.integer],
    threshold: float,
) -> NDArray[np.int64]:
    """Numbers of pairs of the same class with influence >= `threshold` for each order of the trials, shape (order,)."""
    found = np.zeros(len(orders), np.int64)
    num_in = included.sum(axis=0)
    defined = (num_in > 0) & (num_in < len(included))
    for label in np.intersect1d(labels, train_labels):
        blocks = permuted_influence(outcome[:, labels == label], included[:, (train_labels == label) & defined], orders)
        for order, _, block in blocks:
            found[order] += np.count_nonzero(block >= np.float32(threshold - TOLERANCE), axis=(1, 2))
    return found


def _cells(
    pairs: NDArray[np.floating],
) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]]:
    """For each n1: n1, the values of d, and the influence and expected number of pairs of each (d, c)."""
    num_trials = len(pairs) - 1
    log_factorial = gammaln(np.arange(num_trials + 1) + 1.0)
    for num_in in range(1, num_trials):
        num_right = np.flatnonzero(pairs[num_in])
        if len(num_right) == 0:
            continue
        num_out = num_trials - num_in
        deviation = np.sqrt(num_in * num_out * num_right * (num_trials - num_right) / num_trials**2 / (num_trials - 1))
        reach = int(np.ceil(12 * deviation.max())) + 3
        both = np.rint(num_right * num_in / num_trials).astype(np.intp)[:, None] + np.arange(-reach, reach + 1)
        possible = (both >= 0) & (both <= num_in) & (both <= num_right[:, None])
        possible &= num_right[:, None] - both <= num_out
        c = np.where(possible, both, np.maximum(0, num_right - num_out)[:, None])
        probability = _hypergeometric(log_factorial, c, num_right[:, None], num_in) * possible
        influence = (num_trials * c - num_right[:, None] * num_in) / (num_in * num_out)
        yield num_in, num_right, influence, probability * pairs[num_in, num_right, None]


def _hypergeometric(
    log_factorial: NDArray[np.float64], both: NDArray[np.intp], num_right: NDArray[np.intp], num_in: int
) -> NDArray[np.float64]:
    """P(c = both): of `num_right` trials drawn from t, `both` are among the `num_in`."""
    f = log_factorial
    num_trials = len(f) - 1
    num_out = num_trials - num_in
    without = num_right - both
    log_ways = f[num_in] - f[both] - f[num_in - both] + f[num_out] - f[without] - f[num_out - without]
    log_all = f[num_trials] - f[num_right] - f[num_trials - num_right]
    return np.exp(log_ways - log_all)
