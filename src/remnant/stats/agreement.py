"""How far two models, or two populations of models, give the same answers on the same examples."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISMATCHES = ("cie", "cie_u", "cie_c", "cie_w")
"""Kinds of mismatch; see `mismatches`."""


def mismatches(reference: ArrayLike, compressed: ArrayLike, label: ArrayLike) -> dict[str, NDArray[np.bool_]]:
    """Which predictions differ between reference and compressed model, by kind.

    - "cie": compression identified exemplar: the two predict different classes;
    - "cie_u": the reference is right, so the compressed model is wrong (a harmful flip);
    - "cie_c": the compressed model is right, so the reference was wrong (a beneficial flip);
    - "cie_w": both are wrong, in different ways.

    "cie" is the disjoint union of the three others.

    Parameters
    ----------
    reference, compressed
        Predicted classes, shape (..., example).
    label
        True classes, shape (example,).

    References
    ----------
    dam2023understanding, section 2; hooker2019what, section 2.3
    """
    reference, compressed, label = np.asarray(reference), np.asarray(compressed), np.asarray(label)
    differ = reference != compressed
    harmful, beneficial = differ & (reference == label), differ & (compressed == label)
    return {"cie": differ, "cie_u": harmful, "cie_c": beneficial, "cie_w": differ & ~harmful & ~beneficial}


def disagreement(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Share of examples on which trial j of the first and k of the second differ, shape (trial, trial).

    Parameters
    ----------
    first, second
        Predicted classes, shape (trial, example).
    """
    a, b = np.asarray(first), np.asarray(second)
    if b.size and max(a.max(), b.max()) < 256 and min(a.min(), b.min()) >= 0:
        a, b = a.astype(np.uint8), b.astype(np.uint8)
    return np.array([np.count_nonzero(b != row, axis=1) for row in a]) / a.shape[1]


def log_softmax(logits: ArrayLike) -> NDArray[np.float64]:
    """Logarithms of the softmax probabilities over the last axis, in double precision."""
    x = np.asarray(logits, np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def kl_divergence(reference_logits: ArrayLike, compressed_logits: ArrayLike) -> NDArray[np.float64]:
    """KL(reference || compressed) of the softmax probabilities on each example, in nats.

    sum over classes of p_reference log(p_reference / p_compressed); >= 0, and 0 iff the probabilities
    are equal. It has no upper bound.

    Parameters
    ----------
    reference_logits, compressed_logits
        Shape (..., class).

    References
    ----------
    kullback1951information
    """
    p, q = log_softmax(reference_logits), log_softmax(compressed_logits)
    # Equal inputs give exactly 0; rounding below 0 is cut off.
    return np.maximum(np.einsum("...c,...c->...", np.exp(p), p - q), 0.0)


def mean_kl_divergences(log_probabilities: ArrayLike) -> NDArray[np.float64]:
    """Mean KL(j || k) over the examples, in nats, for all pairs of trials: shape (trial, trial).

    Parameters
    ----------
    log_probabilities
        Shape (trial, example, class), from `log_softmax`.
    """
    log_p = np.asarray(log_probabilities, np.float64)
    num_examples = log_p.shape[1]
    log_p = log_p.reshape(len(log_p), -1)
    cross = np.exp(log_p) @ log_p.T / num_examples
    return np.maximum(np.diag(cross)[:, None] - cross, 0.0)


def in_top_k(logits: ArrayLike, label: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the k highest logits, shape (..., example).

    The first class wins among equal logits, so k = 1 agrees with argmax.

    Raises
    ------
    ValueError
        If `k` is not in [1, number of classes].
    """
    x, label = np.asarray(logits), np.asarray(label)
    num_classes = x.shape[-1]
    if not 1 <= k <= num_classes:
        raise ValueError(f"Expected `k` in [1, {num_classes}], but got {k!r}.")
    own = np.take_along_axis(x, np.broadcast_to(label[:, None], (*x.shape[:-1], 1)), axis=-1)
    before = (x > own) | ((x == own) & (np.arange(num_classes) < label[:, None]))
    return before.sum(axis=-1) < k


def same_seed_p(disagreements: NDArray[np.float64], num_permutations: int, rng: np.random.Generator) -> float:
    """p of the hypothesis that trials of the same seed agree no more than trials of other seeds.

    One-sided permutation test over matchings of seeds; small when pairs of the same seed are alike.

    Parameters
    ----------
    disagreements
        Shape (seed, seed): from `disagreement`, both sides in the same order of seeds.
    num_permutations
        Number of random matchings.
    rng
        Source of the matchings.
    """
    num_seeds = len(disagreements)
    rows = np.arange(num_seeds)
    matchings = rng.random((num_permutations, num_seeds)).argsort(axis=1)
    other = disagreements[rows, matchings].mean(axis=1)
    observed = disagreements[rows, rows].mean()
    return float((1 + np.count_nonzero(other <= observed * (1 + 1e-12))) / (1 + num_permutations))


def prediction_distances(
    disagreements: NDArray[np.float64], in_first: NDArray[np.bool_], *, paired: bool = False
) -> NDArray[np.float64]:
    """Distance between the answers of two populations beyond the spread within them, shape (row,).

    Twice the mean disagreement between the populations, minus the mean disagreements within each: the
    energy distance for the metric "predicts another class". In expectation this is the mean over
    examples of the squared Euclidean distance between the two populations' class frequencies: 0 iff
    both predict every class of every example equally often. The estimate is unbiased, so it can be
    below 0. It needs no rule for ties.

    Parameters
    ----------
    disagreements
        Shape (trial, trial), of the pooled trials: from `disagreement`.
    in_first
        Shape (row, trial): the trials of the first population; the others are the second. At least 2 each.
    paired
        Trial k of the first half and of the second half of all trials are a pair, in different
        populations in every row: their disagreement does not count as one between populations.

    References
    ----------
    szekely2013energy
    """
    weights = in_first.astype(np.float64)
    n1 = weights.sum(axis=1)
    n2 = weights.shape[1] - n1
    reached = weights @ disagreements
    within_first = (reached * weights).sum(axis=1)
    between = reached.sum(axis=1) - within_first
    within_second = disagreements.sum() - within_first - 2 * between
    num_between = n1 * n2
    if paired:
        between = between - np.trace(disagreements, offset=weights.shape[1] // 2)
        num_between = num_between - n1
    return 2 * between / num_between - within_first / (n1 * (n1 - 1)) - within_second / (n2 * (n2 - 1))
