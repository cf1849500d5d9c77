"""High-influence pairs from fewer trials: what margins, memorization and similarity add to right and wrong answers.

Four sources beyond the 0/1 outcome of each trial, for the same estimand P(right | trained on i) - P(right | not):

- margins say how near an answer was to the other side: `shifted_influence`, `combined_influence`;
- other training examples' effects on the same outcome are noise that a regression takes off: `adjusted_influence`;
- few pairs have a large influence, and what is not memorized itself has little influence on others: a prior that is
  estimated from all pairs together, with a scale for each training example;
- where a training example matters, models tend to do well or badly on both examples together, whatever subset they
  saw (`margin_similarity`), and the two look alike: groups of pairs with a prior of their own.

`probability_above` brings them together: how likely it is that the true influence of a pair is above a threshold. It
ranks pairs; `combined_influence` is the number to report. Estimators and their combination are ours.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from remnant.stats.influence import Estimate, check_trials, influence
from remnant.stats.influence_adjustment import Adjustment, Effects, adjusted_effects

Real = NDArray[np.float64]

SCALES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.2)
"""Standard deviations of the prior's components, in units of the scale of the pair."""

GROUPS = (0.5, 0.8, 0.9, 0.95, 0.98)
"""Shares of the training examples at which `similarity_group` starts a new group."""

LEAST_SCALE = 0.02
"""Memorization below this counts as this much: no training example is ruled out."""

_FIT_ON = 40_000
"""So many pairs of a group are enough to estimate its prior."""

_ROUNDS = 100

_NULL_PAIRS = 10
"""So many pairs without any effect are added to each group when its prior is estimated, as Stephens does: what the
estimates do not decide is taken for none."""

_LEAST_DEVIATION = 1e-6
"""Margins that vary less are taken to vary so much."""


def shifted_influence(margin: NDArray[np.floating], included: NDArray[np.bool_]) -> Effects:
    """Influence if a training example shifts a normal margin, shape (example, train_example).

        Phi((m + (1 - p) d) / r) - Phi((m - p d) / r)

    with m the mean margin over trials, d the effect of the training example on it, r the standard deviation of what
    remains, p the share of trials with the training example. In [-1, 1], 0 = no effect. Less noise than the 0/1
    estimate (at an accuracy of one half by the factor pi / 2 in trials, further out by more), and a bias where
    margins are not normal or the example changes more than their mean. NaN for training examples in all or no trials.

    The standard error is that of a pair without effect, phi(m / s) sqrt(t / (n1 n0)) with s the margins' standard
    deviation, and |m / s| taken as at most 3.

    Parameters
    ----------
    margin
        Shape (trial, example); > 0 where the answer is right.
    included
        Shape (trial, train_example).
    """
    check_trials(margin, included)
    if len(margin) < 3:
        raise ValueError(f"Expected at least 3 trials, but got {len(margin)}.")
    effect = influence(margin, included)
    deviation = np.maximum(margin.std(axis=0, ddof=1, dtype=np.float64), _LEAST_DEVIATION)[:, None]
    error = deviation * _spread(effect)
    return _shifted(margin, Effects(effect.value, error), effect.num_in / len(margin))


def combined_influence(
    correct: NDArray[np.bool_], margin: NDArray[np.floating], included: NDArray[np.bool_]
) -> Effects:
    """The mean of the 0/1 estimate and `shifted_influence`, shape (example, train_example).

    Half the bias of the one and less noise than the other. The standard error is the mean of theirs, which is right
    if their noise is one and the same, and otherwise too large; that of the 0/1 estimate is of a pair without effect,
    sqrt(q (1 - q) t / (n1 n0)) with q = (d + 1/2) / (t + 1) for d right answers.
    """
    _check_shapes("correct", correct, "margin", margin)
    plain, shifted = influence(correct, included), shifted_influence(margin, included)
    error = _chance_deviation(correct)[:, None] * _spread(plain)
    return _mean(Effects(plain.value, error), shifted)


def adjusted_influence(
    correct: NDArray[np.bool_],
    margin: NDArray[np.floating],
    given: Adjustment,
    train_examples: NDArray[np.integer] | None = None,
) -> Effects:
    """As `combined_influence`, from effects with those of the other training examples taken off.

    The effect on the 0/1 outcome and the effect d on the margin come from `adjusted_effects`. Standard errors shrink
    as the scatter of the outcome does.

    Parameters
    ----------
    given
        From `remnant.stats.influence_adjustment.adjustment`, for all training examples.
    train_examples
        Those whose influence is wanted, the columns of the result; default all.
    """
    _check_shapes("correct", correct, "margin", margin)
    if len(margin) < 3:
        raise ValueError(f"Expected at least 3 trials, but got {len(margin)}.")
    wanted = slice(None) if train_examples is None else train_examples
    answers = adjusted_effects(correct, given, train_examples)
    shifted = _shifted(margin, adjusted_effects(margin, given, train_examples), given.share[wanted])
    seen, expected = correct.std(axis=0, ddof=1)[:, None], _chance_deviation(correct)[:, None]
    with np.errstate(divide="ignore"):
        spread = np.sqrt(1 / (len(correct) * given.share[wanted] * (1 - given.share[wanted])))
    relative = np.divide(answers.standard_error, seen, out=np.zeros_like(answers.value) + spread, where=seen > 0)
    return _mean(Effects(answers.value, relative * expected), shifted)


def margin_similarity(
    margin: NDArray[np.floating], train_margin: NDArray[np.floating], included: NDArray[np.bool_]
) -> Real:
    """How alike models do on a test and on a training example, shape (example, train_example).

    Pearson's correlation over trials of the two margins, after the training example's own effect on itself is taken
    off its margin. In [-1, 1], 0 where a margin does not vary. It needs no features or pictures: what two examples
    have in common shows in their margins.
    """
    check_trials(margin, included)
    check_trials(train_margin, included)
    _check_shapes("train_margin", train_margin, "included", included)
    inside = included.astype(np.float64)
    num_in = inside.sum(axis=0)
    left = train_margin.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_in = (left * inside).sum(axis=0) / num_in
        mean_out = (left * (1 - inside)).sum(axis=0) / (len(included) - num_in)
    left = left - np.where(included, mean_in, mean_out)
    return _unit(margin.astype(np.float64)).T @ _unit(left)


def similarity_group(similarity: NDArray[np.floating]) -> NDArray[np.intp]:
    """Group of each pair by how similar it is, shape (example, train_example): 0 for the less similar half.

    By the rank of the training example among all columns, for each test example: the groups start at the shares
    `GROUPS`, so that the last one holds the 2 % most similar ones. Earlier columns come lower among equals.
    """
    order = np.argsort(similarity, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(similarity.shape[1])[None, :], axis=1)
    return np.digitize(rank / similarity.shape[1], GROUPS)


def probability_above(
    effects: Effects,
    threshold: float,
    *,
    memorization: NDArray[np.floating] | None = None,
    group: NDArray[np.integer] | None = None,
    seed: int = 0,
) -> Real:
    """Probability that the influence of a pair is >= threshold, given all pairs; shape as of the effects.

    Empirical Bayes: the influence of pair (j, i) is s_i times a draw from a mixture of normals around 0 with the
    standard deviations `SCALES`, whose weights are estimated for each group of pairs by the EM algorithm on the
    estimates themselves, so that sparsity and strength are learned. An estimate is normal around the influence with
    its standard error. The more pairs in a call, the better the prior: pairs of one class, of all classes, one after
    the other (as vectors). NaN where the estimate is NaN.

    The probability is to rank pairs and to spend attention; it takes pairs as independent and margins as normal.

    Parameters
    ----------
    memorization
        s_i of each training example, or one for each pair; raised to `LEAST_SCALE`; default 1 for all.
    group
        Of each pair, for example `similarity_group`; default one group.
    seed
        Of the choice of the pairs that the prior is estimated on, where a group has more than 40,000.

    References
    ----------
    stephens2017false, for the mixture
    """
    if not 0 < threshold < 1:
        raise ValueError(f"Expected `threshold` in (0, 1), but got {threshold!r}.")
    shape = effects.value.shape
    scale = np.ones(1) if memorization is None else np.maximum(np.nan_to_num(memorization), LEAST_SCALE)
    groups = np.zeros(shape, np.intp) if group is None else np.asarray(group)
    if groups.shape != shape or scale.shape not in ((1,), shape[-1:], shape):
        raise ValueError(
            f"Expected `group` of shape {shape} and `memorization` of shape {shape[-1:]} or {shape}, but got "
            f"{groups.shape} and {scale.shape}."
        )
    scales = np.broadcast_to(scale, shape)
    found = np.full(shape, np.nan)
    rng = np.random.default_rng(seed)
    defined = np.isfinite(effects.value) & np.isfinite(effects.standard_error)
    for number in np.unique(groups):
        chosen = defined & (groups == number)
        value, error, unit = effects.value[chosen], effects.standard_error[chosen], scales[chosen]
        if len(value):
            weights = _fit(value / unit, (error / unit) ** 2, rng)
            found[chosen] = _tail(value, error, unit, weights, threshold)
    return found


def _fit(value: Real, variance: Real, rng: np.random.Generator) -> Real:
    """Weights of the components, by EM from equal ones."""
    if len(value) > _FIT_ON:
        some = rng.choice(len(value), _FIT_ON, replace=False)
        value, variance = value[some], variance[some]
    likelihood = _likelihood(value, variance)
    weights = np.full(len(SCALES), 1 / len(SCALES))
    for _ in range(_ROUNDS):
        part = likelihood * weights
        number = (part / part.sum(axis=1, keepdims=True)).sum(axis=0)
        number[0] += _NULL_PAIRS
        weights = number / number.sum()
    return weights


def _likelihood(value: Real, variance: Real) -> Real:
    """Density of each value under each component, up to a factor for each value."""
    total = np.maximum(variance[:, None], 1e-12) + np.square(SCALES)
    log = -0.5 * (value[:, None] ** 2 / total + np.log(total))
    return np.exp(log - log.max(axis=1, keepdims=True))


def _tail(value: Real, error: Real, unit: Real, weights: Real, threshold: float) -> Real:
    """P(influence >= threshold) under the posterior, blocks of pairs at a time."""
    found = np.empty(len(value))
    for start in range(0, len(value), 2**17):
        part = slice(start, start + 2**17)
        variance = np.maximum((error[part] / unit[part]) ** 2, 1e-12)[:, None]
        share = _likelihood(value[part] / unit[part], variance[:, 0]) * weights
        share /= share.sum(axis=1, keepdims=True)
        kept = np.square(SCALES) / (variance + np.square(SCALES))
        mean = value[part][:, None] * kept
        deviation = np.sqrt(variance * kept) * unit[part][:, None]
        with np.errstate(divide="ignore"):
            found[part] = (share * ndtr((mean - threshold) / deviation)).sum(axis=1)
    return found


def _shifted(margin: NDArray[np.floating], effect: Effects, share: Real) -> Effects:
    """The influence that a shift of the margin by `effect` makes, for training examples in a `share` of the trials."""
    num_trials = len(margin)
    mean = margin.mean(axis=0, dtype=np.float64)[:, None]
    variance = np.maximum(margin.var(axis=0, ddof=1, dtype=np.float64), _LEAST_DEVIATION**2)[:, None]
    explained = effect.value**2 * share * (1 - share) * num_trials
    within = (variance * (num_trials - 1) - explained) / (num_trials - 2)
    rest = np.sqrt(np.maximum(within, 0.01 * variance))
    value = ndtr((mean + (1 - share) * effect.value) / rest) - ndtr((mean - share * effect.value) / rest)
    density = np.exp(-(np.clip(mean / np.sqrt(variance), -3, 3) ** 2) / 2) / np.sqrt(2 * np.pi * variance)
    return Effects(value, density * effect.standard_error)


def _check_shapes(name: str, values: NDArray, other: str, others: NDArray) -> None:
    if values.shape != others.shape:
        raise ValueError(f"Expected `{name}` and `{other}` of one shape, but got {values.shape} and {others.shape}.")


def _chance_deviation(correct: NDArray[np.bool_]) -> Real:
    """Standard deviation of right and wrong on each example, never 0."""
    accuracy = (correct.sum(axis=0) + 0.5) / (len(correct) + 1)
    return np.sqrt(accuracy * (1 - accuracy))


def _mean(one: Effects, other: Effects) -> Effects:
    return Effects((one.value + other.value) / 2, (one.standard_error + other.standard_error) / 2)


def _spread(estimate: Estimate) -> Real:
    """Standard deviation of a difference of means of outcomes with variance 1."""
    with np.errstate(divide="ignore"):
        return np.sqrt(1 / estimate.num_in + 1 / estimate.num_out)


def _unit(values: Real) -> Real:
    """Columns centred, of length 1; those that do not vary 0."""
    centred = values - values.mean(axis=0)
    length = np.sqrt((centred**2).sum(axis=0))
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
