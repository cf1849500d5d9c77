"""Which labels are likely wrong: confident learning, from probabilities of models that did not train on the examples.

A class is confident on an example if its probability reaches the mean probability that examples with this label get.
The class that the example then seems to have is the likeliest of them; a label is an issue if this is another class.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOT_CONFIDENT = -1
"""Where no class reaches its threshold."""
_SLACK = 1e-6
"""Probabilities this much below a threshold reach it, as in cleanlab: rounding must not decide."""


@dataclass(frozen=True)
class LabelIssues:
    """Of each example, shape (example,)."""

    quality: NDArray[np.float64]
    """Probability of the given label, in [0, 1]: the lower, the likelier the label is wrong."""
    margin: NDArray[np.float64]
    """Probability of the given label minus the highest other one, in [-1, 1]."""
    suggested: NDArray[np.int64]
    """The class that the example seems to have; `NOT_CONFIDENT` where none reaches its threshold."""
    issue: NDArray[np.bool_]
    """Another class than the label is suggested."""


def label_issues(
    probabilities: NDArray[np.floating], label: NDArray[np.integer], thresholds: NDArray[np.floating] | None = None
) -> LabelIssues:
    """Label quality and issues of some examples.

    Parameters
    ----------
    probabilities
        Shape (example, class), of models that did not train on the examples.
    label
        Given classes, shape (example,).
    thresholds
        From `class_thresholds`, if the examples are a block of more; default those of these examples.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is no class, or a probability is outside of [0, 1].

    References
    ----------
    northcutt2021confident, section 3.1
    """
    probabilities, label = np.asarray(probabilities, np.float64), np.asarray(label)
    _check(probabilities, label)
    rows = np.arange(len(label))
    own = probabilities[rows, label]
    if thresholds is None:
        thresholds = class_thresholds(own, label, probabilities.shape[1])
    others = probabilities.copy()
    others[rows, label] = -np.inf
    reached = probabilities >= thresholds - _SLACK
    # Among several confident classes the likeliest one counts; it need not be confident itself, as in cleanlab.
    several = reached.sum(axis=1) > 1
    suggested = np.where(several, probabilities.argmax(axis=1), reached.argmax(axis=1))
    suggested = np.where(reached.any(axis=1), suggested, NOT_CONFIDENT)
    issue = (suggested != NOT_CONFIDENT) & (suggested != label)
    return LabelIssues(own, own - others.max(axis=1), suggested.astype(np.int64), issue)


def class_thresholds(own: NDArray[np.floating], label: NDArray[np.integer], num_classes: int) -> NDArray[np.float64]:
    """Mean probability of their label over the examples of each class; 1 for a class that no example has.

    Parameters
    ----------
    own
        Probability of the given label, shape (example,).
    """
    sizes = np.bincount(label, minlength=num_classes)
    sums = np.bincount(label, weights=own, minlength=num_classes)
    return np.divide(sums, sizes, out=np.ones(num_classes), where=sizes > 0)


def confident_joint(label: NDArray[np.integer], suggested: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Numbers of examples by label and suggested class, shape (label, suggested); those without one do not count."""
    known = suggested != NOT_CONFIDENT
    pairs = label[known].astype(np.int64) * num_classes + suggested[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def _check(probabilities: NDArray[np.float64], label: NDArray) -> None:
    if probabilities.ndim != 2 or label.shape != probabilities.shape[:1]:
        raise ValueError(
            f"Expected `probabilities` of shape (example, class) and one label for each example, but got "
            f"{probabilities.shape} and {label.shape}."
        )
    num_classes = probabilities.shape[1]
    if len(label) and not 0 <= label.min() <= label.max() < num_classes:
        raise ValueError(f"Expected labels in [0, {num_classes}), but got {label.min()} to {label.max()}.")
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (probabilities <= 1 + 1e-6).all()):
        raise ValueError("Expected `probabilities` in [0, 1], but some lie outside or are not finite.")
