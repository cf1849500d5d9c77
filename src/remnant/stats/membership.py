"""Membership inference: scores that say whether a model was trained on an example, from shadow models.

Models on random training subsets are each other's shadow models. Row k of all arrays is one subset: each target model
is attacked with the shadow models of all other rows, never with that of its own. All arrays have the shape
(trial, example). Higher scores speak for membership. The signal is the logit-scaled confidence log(p / (1 - p)) of
the true class, which is close to normal over models; or the margin, where that is not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Variance = Literal["auto", "example", "global"]
"""Whose variance the normal distributions have; see `lira`."""

ENOUGH = 32
"""Shadow models with an example, and without it, from which on "auto" takes the variance of each example."""
_LEAST_VARIANCE = 1e-4
"""Of an example, as a share of the global one: equal confidences must not be infinitely sure."""
_VALUES = 2**17
"""Confidences held at a time in double precision: 1 MiB, which fits into the cache."""


def logit_confidence(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """log(p / (1 - p)) of the true class, shape (..., example), without cancellation near 1.

    Logit of the true class minus the log-sum-exp of the other logits. 0 if the true class is as likely as all
    others together; its negative soft-plus is the negative loss.

    Parameters
    ----------
    logits
        Shape (..., example, class).
    labels
        True classes, shape (example,).

    References
    ----------
    carlini2022membership, section V
    """
    others = np.array(logits, np.float64)
    place = np.broadcast_to(np.asarray(labels)[:, None], (*others.shape[:-1], 1))
    true = np.take_along_axis(others, place, axis=-1)[..., 0]
    np.put_along_axis(others, place, -np.inf, axis=-1)
    highest = others.max(axis=-1)
    return true - highest - np.log(np.exp(others - highest[..., None]).sum(axis=-1))


def loss(confidence: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cross-entropy in nats from the logit-scaled confidence: log(1 + exp(-confidence))."""
    return np.logaddexp(0.0, -np.asarray(confidence, np.float64))


def lira(
    target: NDArray[np.floating],
    shadow: NDArray[np.floating],
    included: NDArray[np.bool_],
    *,
    online: bool = True,
    variance: Variance = "auto",
) -> NDArray[np.float32]:
    """Likelihood-ratio scores of the target models; NaN where an example lacks shadow models.

    Online: log N(target; mean_in, var_in) - log N(target; mean_out, var_out), with the normal distributions of the
    confidence over shadow models that were trained on the example and that were not. Offline:
    (target - mean_out) / sd_out, which needs no shadow model that saw the example, and orders examples as the
    paper's one-sided test does.

    With few shadow models the variance of each example is too noisy, and one global variance is better, as the paper
    found. It is pooled within examples here (the authors' code takes the spread between examples in as well).
    "auto" takes the variance of each example if at least half of the examples have `ENOUGH` shadow models of either
    kind; not less than 1e-4 of the global one.

    Parameters
    ----------
    target
        Confidence of the target models.
    shadow
        Confidence of the shadow models; `target` itself, where the models of one population attack each other.
    included
        Which examples the models of a row were trained on.

    Raises
    ------
    ValueError
        If shapes differ, there are fewer than 3 rows, or `variance` is unknown.

    References
    ----------
    carlini2022membership, algorithm 1 and section VI
    """
    _check(target, shadow, included)
    if variance not in get_args(Variance):
        raise ValueError(f"Expected `variance` to be one of {list(get_args(Variance))}, but got {variance!r}.")
    kinds = (True, False) if online else (False,)
    pooled = {kind: _global_variance(shadow, included, kind) for kind in kinds}
    least = 2 if _per_example(included, variance) else 1
    scores = np.empty(target.shape, np.float32)
    for block in _blocks(*target.shape):
        values = target[:, block].astype(np.float64)
        found = {}
        for kind in kinds:
            rest = _others(shadow[:, block], included[:, block] == kind)
            spread = pooled[kind][:, None]
            if least == 2:
                spread = np.maximum(_divided(rest.squares, rest.number - 1), _LEAST_VARIANCE * spread)
            found[kind] = (np.where(rest.number >= least, rest.mean, np.nan), spread)
        scores[:, block] = _likelihood_ratio(values, found) if online else _standardized(values, *found[False])
    return scores


def rmia(
    target: NDArray[np.floating],
    shadow: NDArray[np.floating],
    included: NDArray[np.bool_],
    outside: tuple[NDArray[np.floating], NDArray[np.floating]],
    *,
    offline_a: float = 0.3,
    gamma: float = 1.0,
) -> NDArray[np.float32]:
    """Share of outside examples z that the target model favours less than x; NaN where x lacks shadow models.

    score(x) = share of z with ratio(x) / ratio(z) >= gamma, where ratio(x) = p_target(x) / p(x) and p(x), the
    probability under models with and without x, is taken from models without it:
    p(x) = ((1 + a) mean_out p_shadow(x) + (1 - a)) / 2. In [0, 1]. Examples that beat as many z are ordered by their
    ratio, within a step of 1 / (number of z + 1): else all that beat every z would tie at the top.

    Parameters
    ----------
    outside
        Confidence of the target and of the shadow models on examples that no model was trained on, each of shape
        (trial, outside example).
    offline_a
        a, in [0, 1]: how little training on an example raises its probability. The authors tune it on a second
        model; they use 0.3 on CIFAR-10.
    gamma
        By which factor x must be favoured more than z.

    References
    ----------
    zarifzadeh2024low, equations 3 and 10
    """
    _check(target, shadow, included)
    if not 0 <= offline_a <= 1 or gamma <= 0:
        raise ValueError(f"Expected `offline_a` in [0, 1] and `gamma` > 0, but got {offline_a!r} and {gamma!r}.")
    never = np.zeros(outside[0].shape, bool)
    population = np.sort(_log_ratios(*outside, never, offline_a), axis=1)
    scores = np.empty(target.shape, np.float32)
    for block in _blocks(*target.shape):
        ratios = _log_ratios(target[:, block], shadow[:, block], included[:, block], offline_a)
        for row, values in enumerate(ratios):
            below = np.searchsorted(population[row], values - np.log(gamma), side="right")
            # NaN stays NaN.
            scores[row, block] = (below + expit(values)) / (population.shape[1] + 1)
    return scores


def separation(confidence: NDArray[np.floating], included: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Probability that a model trained on an example is surer of it than one that was not, shape (example,).

    Ties count half. 1/2: its membership leaves no trace in the confidence; 1: it can always be told. NaN where
    all or none of the models saw the example.
    """
    from scipy.stats import rankdata  # takes long to import

    found = np.empty(confidence.shape[1])
    for block in _blocks(*confidence.shape):
        member = included[:, block]
        num_in = member.sum(axis=0)
        ranks = rankdata(confidence[:, block].astype(np.float64), axis=0)
        wins = (ranks * member).sum(axis=0) - num_in * (num_in + 1) / 2
        found[block] = _divided(wins, num_in * (len(confidence) - num_in))
    return found


def permuted(included: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Membership dealt anew to the models, for each example on its own: what holds if it leaves no trace."""
    return rng.permuted(included, axis=0)


@dataclass(frozen=True)
class _Others:
    """Of the shadow models of all other rows, of one kind: shape (trial, example)."""

    number: NDArray[np.int64]
    mean: NDArray[np.float64]
    """NaN where there are none."""
    squares: NDArray[np.float64]
    """Sum of squared deviations from the mean."""


def _others(shadow: NDArray[np.floating], kept: NDArray[np.bool_]) -> _Others:
    # Deviations from the mean of an example keep the differences of sums exact enough.
    centre = shadow.mean(axis=0, dtype=np.float64)
    values = np.where(kept, shadow - centre, 0.0)
    number = kept.sum(axis=0) - kept
    mean = _divided(values.sum(axis=0) - values, number)
    values *= values
    squares = values.sum(axis=0) - values - number * np.nan_to_num(mean) ** 2
    return _Others(number, mean + centre, np.maximum(squares, 0))


def _global_variance(shadow: NDArray[np.floating], included: NDArray[np.bool_], kind: bool) -> NDArray[np.float64]:
    """Variance within examples over the shadow models of one kind of all other rows, shape (trial,)."""
    squares, degrees = np.zeros(len(shadow)), np.zeros(len(shadow))
    for block in _blocks(*shadow.shape):
        rest = _others(shadow[:, block], included[:, block] == kind)
        squares += rest.squares.sum(axis=1)
        degrees += np.maximum(rest.number - 1, 0).sum(axis=1)
    # One shadow model of a kind for each example says nothing on its spread: any variance gives the same order.
    found = np.where(degrees > 0, squares / np.maximum(degrees, 1), 1.0)
    return np.maximum(found, np.finfo(np.float32).tiny)


def _per_example(included: NDArray[np.bool_], variance: Variance) -> bool:
    if variance != "auto":
        return variance == "example"
    num_in = included.sum(axis=0)
    return bool(np.median(np.minimum(num_in, len(included) - num_in)) > ENOUGH)


def _likelihood_ratio(values: NDArray, found: dict[bool, tuple[NDArray, NDArray]]) -> NDArray:
    one, two = (-((values - mean) ** 2) / (2 * spread) - np.log(spread) / 2 for mean, spread in found.values())
    return one - two


def _standardized(values: NDArray, mean: NDArray, spread: NDArray) -> NDArray:
    return (values - mean) / np.sqrt(spread)


def _log_ratios(target: NDArray, shadow: NDArray, included: NDArray[np.bool_], a: float) -> NDArray[np.float64]:
    probability = np.exp(-loss(shadow))
    number = (~included).sum(axis=0) - ~included
    probability[included] = 0
    mean_out = _divided(probability.sum(axis=0) - probability, number)
    return -loss(target) - np.log(((1 + a) * mean_out + (1 - a)) / 2)


def _divided(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    return np.divide(x, y, out=np.full(np.broadcast_shapes(x.shape, y.shape), np.nan), where=y > 0)


def _blocks(num_trials: int, num_examples: int) -> Iterator[slice]:
    size = max(1, _VALUES // max(1, num_trials))
    return (slice(start, min(start + size, num_examples)) for start in range(0, num_examples, size))


def _check(target: NDArray, shadow: NDArray, included: NDArray) -> None:
    if target.ndim != 2 or target.shape != shadow.shape or target.shape != included.shape or included.dtype != bool:
        raise ValueError(
            "Expected `target`, `shadow` and a boolean `included` of one shape (trial, example), but got "
            f"{target.shape}, {shadow.shape} and {included.dtype} {included.shape}."
        )
    if len(target) < 3:
        raise ValueError(f"Expected at least 3 models, the target and 2 shadow models, but got {len(target)}.")
