"""Scores of training examples: how hard they are to learn, and how much they matter to others."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remnant.stats.influence import check_trials

ROWS = 64
"""Held-out examples in a block: bounds the memory at a few arrays of (ROWS, train_example)."""


def forgetting_events(correct: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How often each example was forgotten: right at one presentation, wrong at the next; shape (example,).

    An example that was never right counts as forgotten at every presentation, as in the published code, so that it
    comes before all that were learned. 0 = learned once and kept.

    Parameters
    ----------
    correct
        Shape (presentation, example): whether the model was right when the example was shown.

    References
    ----------
    toneva2019empirical
    """
    forgotten = (correct[:-1] & ~correct[1:]).sum(axis=0)
    return np.where(correct.any(axis=0), forgotten, len(correct))


def el2n(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Euclidean norm of softmax probabilities minus the one-hot label, shape (example,).

    In [0, sqrt(2)]: 0 = sure and right, sqrt(2) = sure and wrong. To be averaged over several trainings, early in
    each.

    Parameters
    ----------
    logits
        Shape (example, class).

    References
    ----------
    paul2021deep
    """
    z = logits.astype(np.float64)
    error = np.exp(z - z.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    return np.sqrt((error**2).sum(axis=1))


def held_out_influence(
    correct: NDArray[np.bool_],
    included: NDArray[np.bool_],
    validation: NDArray[np.integer],
    *,
    labels: NDArray[np.integer] | None = None,
    reduce: Literal["max", "mean"] = "max",
    least: int = 5,
) -> NDArray[np.float64]:
    """Effect of each training example on others that were left out of training, shape (train_example,).

    For each pair of a training example i and a validation example j, over the trials that did not train on j:
    P(right on j | trained on i) - P(right on j | not). Of each i the largest over j (does it decide any answer?), or
    the mean over j (does it raise accuracy?). j are training examples too, so that no test example is read. NaN
    where no pair of i has enough trials of both kinds.

    The largest of many noisy estimates is mostly noise: it takes a thousand trials and more.

    Parameters
    ----------
    correct, included
        Shape (trial, train_example).
    validation
        Places of the training examples whose answers count.
    labels
        Classes of the training examples: pairs of one class only. Default all pairs.
    least
        Trials of either kind that a pair needs.

    References
    ----------
    feldman2020what, section 2
    """
    check_trials(correct, included)
    if reduce not in ("max", "mean"):
        raise ValueError(f"Expected `reduce` to be 'max' or 'mean', but got {reduce!r}.")
    member = included.astype(np.float32)
    best = np.full(included.shape[1], -np.inf)
    total, number = np.zeros(included.shape[1]), np.zeros(included.shape[1], np.int64)
    for start in range(0, len(validation), ROWS):
        rows = validation[start : start + ROWS]
        out = ~included[:, rows]
        right = correct[:, rows] & out
        num_in = out.T.astype(np.float32) @ member
        right_in = right.T.astype(np.float32) @ member
        num_out = out.sum(axis=0, dtype=np.float32)[:, None] - num_in
        right_out = right.sum(axis=0, dtype=np.float32)[:, None] - right_in
        with np.errstate(invalid="ignore", divide="ignore"):
            effect = right_in / num_in - right_out / num_out
        known = (num_in >= max(least, 1)) & (num_out >= max(least, 1))
        if labels is not None:
            known &= labels[rows][:, None] == labels
        np.maximum(best, np.where(known, effect, -np.inf).max(axis=0), out=best)
        total += np.where(known, effect, 0).sum(axis=0, dtype=np.float64)
        number += known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, best if reduce == "max" else total / number, np.nan)
