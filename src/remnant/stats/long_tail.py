"""Are compression-impacted exemplars (CIEs) unusually influenced by single training examples?

Two answers. Algorithm 1 of Dam et al. (2023) compares the mean influence over all training examples between CIEs
and other test examples with Student's t. That mean is (almost) 0 by design when subsets have one size, all test
examples share the noise of the same trials, and CIEs have accuracies near one half, where every influence
estimate is noisier: the naive test of a maximum rejects a true null every time.

The calibrated answer ranks the statistic of each test example among its own values after random orders of its
outcomes: columns with as many right trials against the same subsets. These percentiles are uniform without
influence, whatever the accuracy. CIEs and others are then compared by the probability that a CIE has the higher
percentile (the area under the ROC curve, AUC). The orders are common to all test examples, so the spread of the
AUC over orders holds the dependence between test examples that share trials.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr

from remnant.stats.influence import contrasts
from remnant.stats.influence_null import permuted_influence
from remnant.stats.influence_tiles import largest


@dataclass(frozen=True)
class Comparison:
    """A calibrated comparison of cases and controls."""

    auc: float
    """Probability that a case has a higher percentile than a control; ties count half; 0.5 = no difference."""
    low: float
    """Lower end of the 95 % interval of `auc`."""
    high: float
    """Upper end."""
    p: float
    """Two-sided, against the distribution over orders of the trials."""
    p_independent: float
    """Two-sided, as if test examples did not share trials: too small."""


def linear_statistic(
    outcome: NDArray[np.bool_], contrast: NDArray[np.floating], orders: NDArray[np.integer]
) -> NDArray[np.float64]:
    """A mean influence for each order of the trials, shape (order, example); `contrast` has shape (trial,)."""
    shuffled = np.empty(orders.shape)
    np.put_along_axis(shuffled, orders, np.broadcast_to(contrast, orders.shape), axis=1)
    return shuffled @ outcome.astype(np.float64)


def same_class_means(
    outcome: NDArray[np.bool_],
    included: NDArray[np.bool_],
    orders: NDArray[np.integer],
    *,
    labels: NDArray[np.integer],
    train_labels: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Mean influence of the training examples of its class on each test example, shape (order, example).

    NaN for test examples of a class without training examples. 0 up to rounding where subsets hold a fixed number
    of every class and every example is in as many subsets.
    """
    found = np.full((len(orders), outcome.shape[1]), np.nan)
    for label in np.intersect1d(labels, train_labels):
        rows = np.flatnonzero(labels == label)
        contrast = contrasts(included, (train_labels == label)[:, None])[:, 0]
        found[:, rows] = linear_statistic(outcome[:, rows], contrast, orders)
    return found


def same_class_tops(
    outcome: NDArray[np.bool_],
    included: NDArray[np.bool_],
    orders: NDArray[np.integer],
    *,
    labels: NDArray[np.integer],
    train_labels: NDArray[np.integer],
    memorized: NDArray[np.bool_],
    top: int = 5,
) -> dict[str, NDArray[np.float32]]:
    """The largest influences of the same class on each test example, for each order of the trials.

    Keys "max", "top", "memorized_max", "memorized_top", each of shape (order, example): the largest and the mean of
    the `top` largest (of all, where there are fewer), over all training examples of the class and over the
    memorized ones. NaN for test examples of a class without such training examples. Training examples that are
    never in or never out are left out.
    """
    names = ("max", "top", "memorized_max", "memorized_top")
    found = {name: np.full((len(orders), outcome.shape[1]), np.nan, np.float32) for name in names}
    num_in = included.sum(axis=0)
    defined = (num_in > 0) & (num_in < len(included))
    for label in np.intersect1d(labels, train_labels[defined]):
        rows = np.flatnonzero(labels == label)
        columns = np.flatnonzero((train_labels == label) & defined)
        # Memorized training examples first: a block of them is then a slice.
        columns = columns[np.argsort(~memorized[columns], kind="stable")]
        num_memorized = int(memorized[columns].sum())
        for order, part, block in permuted_influence(outcome[:, rows], included[:, columns], orders):
            for prefix, num in (("", len(columns)), ("memorized_", num_memorized)):
                if num:
                    highest = largest(block[..., :num], min(top, num))
                    found[f"{prefix}max"][order, rows[part]] = highest[..., 0]
                    found[f"{prefix}top"][order, rows[part]] = highest.mean(axis=-1)
    return found


def levels(statistic: NDArray[np.floating]) -> NDArray[np.intp]:
    """Rank of each value among those of its column, ties in the middle, as integers from 0 to 2 (rows - 1).

    Level / (2 (rows - 1)) is the percentile of a test example among its own values in all orders of the trials.
    """
    from scipy.stats import rankdata  # takes long to import

    return (2 * rankdata(statistic, axis=0, method="average")).astype(np.intp) - 2


def compare(levels: NDArray[np.integer], cases: NDArray, controls: NDArray) -> Comparison:
    """Whether cases have higher percentiles than controls, calibrated by the orders of the trials.

    Rows of `levels` are orders of the trials, the first one the true one. p compares the true AUC with a normal
    distribution of the mean and spread of the AUC in the other orders, by Student's quantiles for their number.
    The standard error behind the interval is that of independent test examples (DeLong) or the spread over
    orders, whichever is larger.

    Parameters
    ----------
    levels
        As from `levels`, shape (order, example).
    cases, controls
        Weights of the test examples, shape (example,): 0 or 1 for one pair of models, shares of pairs for several.

    Raises
    ------
    ValueError
        If fewer than 2 test examples have weight on a side, or there are fewer than 2 orders besides the true one.

    References
    ----------
    delong1988comparing
    """
    for name, weight in (("cases", cases), ("controls", controls)):
        if np.count_nonzero(weight) < 2:
            raise ValueError(f"Expected at least 2 test examples among `{name}`, but got {np.count_nonzero(weight)}.")
    if len(levels) < 3:
        raise ValueError(f"Expected at least 2 random orders of the trials, but got {len(levels) - 1}.")
    used = (cases > 0) | (controls > 0)
    levels, cases, controls = levels[:, used], cases[used].astype(float), controls[used].astype(float)
    found = _auc_by_row(levels, cases, controls)
    auc, other = float(found[0]), found[1:]
    spread = float(other.std(ddof=1))
    independent = auc_standard_error(levels[0], cases, controls)
    error = max(independent, spread)
    reach = float(ndtri(0.975)) * error
    expected = float(other.mean())
    return Comparison(
        auc=auc,
        low=max(0.0, auc - reach),
        high=min(1.0, auc + reach),
        p=_two_sided(auc - expected, spread * np.sqrt(1 + 1 / len(other)), len(other) - 1),
        p_independent=_two_sided(auc - 0.5, independent, np.inf),
    )


def auc(scores: NDArray, cases: NDArray, controls: NDArray) -> float:
    """Probability that a case scores higher than a control, ties half: the Mann-Whitney U over its largest value.

    sum_ij a_i b_j (1[s_i > s_j] + 1[s_i = s_j] / 2) / (sum a sum b) with the weights a of cases, b of controls.
    """
    _, level = np.unique(scores, return_inverse=True)
    return float(_auc_by_row(level[None], np.asarray(cases, float), np.asarray(controls, float))[0])


def auc_standard_error(scores: NDArray, cases: NDArray, controls: NDArray) -> float:
    """Standard error of `auc` for independent examples, by linearization (DeLong's for weights of 0 and 1).

    References
    ----------
    delong1988comparing
    """
    _, level = np.unique(scores, return_inverse=True)
    a, b = cases / cases.sum(), controls / controls.sum()
    case_mass, control_mass = np.bincount(level, weights=a), np.bincount(level, weights=b)
    below_case = control_mass.cumsum() - control_mass / 2
    above_control = 1 - case_mass.cumsum() + case_mass / 2
    centre = float((case_mass * below_case).sum())
    effect = a * (below_case[level] - centre) + b * (above_control[level] - centre)
    return float(np.sqrt((effect**2).sum()))


def student_t(
    values: NDArray[np.floating], cases: NDArray[np.bool_], controls: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Student's t (equal variances) of cases against controls and its two-sided p, for each row of `values`.

    > 0 where the cases have the higher mean. NaN where neither side varies.

    References
    ----------
    dam2023understanding, algorithm 1
    """
    case, control = values[:, cases], values[:, controls]
    n1, n0 = case.shape[1], control.shape[1]
    degrees = n1 + n0 - 2
    difference = case.mean(axis=1) - control.mean(axis=1)
    squares = n1 * case.var(axis=1) + n0 * control.var(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic = difference / np.sqrt(squares / degrees * (1 / n1 + 1 / n0))
    return statistic, 2 * stdtr(degrees, -np.abs(statistic))


def _auc_by_row(levels: NDArray[np.integer], cases: NDArray, controls: NDArray) -> NDArray[np.float64]:
    """AUC of each row of `levels`, by the masses of cases and controls at every level."""
    length = int(levels.max()) + 1
    place = (levels + length * np.arange(len(levels))[:, None]).ravel()
    case_mass, control_mass = (
        np.bincount(place, weights=np.tile(weight, len(levels)), minlength=length * len(levels)).reshape(-1, length)
        for weight in (cases / cases.sum(), controls / controls.sum())
    )
    return (case_mass * (control_mass.cumsum(axis=1) - control_mass / 2)).sum(axis=1)


def _two_sided(difference: float, error: float, degrees: float) -> float:
    """Two-sided p of a difference; 1 where nothing varies."""
    if error <= 1e-12:
        return 1.0
    return float(2 * stdtr(degrees, -abs(difference) / error))
