"""Which training examples to keep, from one score for each, and the smallest share that keeps the accuracy."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from remnant.stats.trial_intervals import Interval, mean_interval

Rule = Literal["hard", "easy", "hybrid", "stratified", "random"]
"""Which scores are kept; see `select`."""

Balance = Literal["none", "proportional", "equal"]
"""How many examples each class keeps; see `select`."""

STRATA = 50
"""Number of strata of Zheng et al. (2023)."""


def select(
    scores: ArrayLike | None,
    labels: ArrayLike,
    share: float,
    *,
    method: Rule = "hard",
    balance: Balance = "none",
    floor: int = 1,
    cutoff: float = 0.0,
    ids: ArrayLike | None = None,
    seed: int = 0,
) -> NDArray[np.intp]:
    """Indices of the training examples to keep, ascending: round(share n) of n.

    Depends on ids, scores, labels and options alone, never on the order of the examples. Of equal scores the
    lowest id comes first.

    Parameters
    ----------
    scores
        Shape (example,), finite, high = hard or important. Not read by "random".
    labels
        Class of each example.
    share
        In (0, 1].
    method
        - "hard": the highest scores (Toneva et al. 2019, Paul et al. 2021);
        - "easy": the lowest, better where little is kept (Sorscher et al. 2022). It removes the highest;
        - "hybrid": of the k examples kept, round(k share) are the hardest and the others the easiest, so that
          small budgets are mostly easy and large ones mostly hard, after the finding of Sorscher et al. (2022);
        - "stratified": the hardest `cutoff` is dropped, the range of the other scores is cut into 50 strata of one
          width, and each gives equally many random examples, or all that it has (Zheng et al. 2023);
        - "random": whatever the score.
    balance
        - "none": what the method gives;
        - "proportional": the method within each class, every class to the same share (largest remainders);
        - "equal": the method within each class, equally many of each class, or all that it has.
    floor
        Every class keeps at least so many examples; others give theirs up in proportion to what they have above it.
    cutoff
        Share dropped by "stratified", in [0, 1); never more than `share` allows.
    ids
        Distinct; default the positions.
    seed
        Of "random" and "stratified".

    Raises
    ------
    ValueError
        For scores that are NaN or infinite, lengths that differ, ids that repeat, a `share` out of (0, 1], a class
        with fewer examples than `floor`, floors above the number kept, or unknown names.

    References
    ----------
    toneva2019empirical; paul2021deep; sorscher2022beyond; zheng2023coverage
    """
    labels = np.asarray(labels)
    names = np.arange(len(labels)) if ids is None else np.asarray(ids)
    _check(share, floor, cutoff, method=method, balance=balance)
    order = _order(names, len(labels))
    # All work is done in the order of the ids: stable sorts then settle ties by id.
    _, members = np.unique(labels[order], return_inverse=True)
    noise = np.random.default_rng(seed).random(len(labels))
    score = noise if method == "random" else _scores(scores, names, order)
    rule: Rule = "hard" if method == "random" else method
    size = max(1, int(share * len(labels) + 0.5))
    counts = np.bincount(members)
    _check_floor(floor, counts, labels, size)
    everywhere = _pick(score, noise, size, rule, cutoff)
    quotas = _quotas(balance, size, counts, np.bincount(members[everywhere], minlength=len(counts)))
    raised = raise_to_floor(quotas, floor)
    if balance == "none" and np.array_equal(raised, quotas):
        return np.sort(order[everywhere])
    kept = []
    for place, quota in enumerate(raised):
        inside = np.flatnonzero(members == place)
        kept.append(inside[_pick(score[inside], noise[inside], int(quota), rule, cutoff)])
    return np.sort(order[np.concatenate(kept)])


def spread(total: int, capacity: ArrayLike) -> NDArray[np.int64]:
    """`total` dealt out as equally as capacities allow, smallest capacity first.

    Each place in turn gets min(its capacity, what is left // places left), so that remainders go to large places.

    References
    ----------
    zheng2023coverage
    """
    capacity = np.asarray(capacity, np.int64)
    dealt = np.zeros(len(capacity), np.int64)
    rest = int(total)
    for turn, place in enumerate(np.argsort(capacity, kind="stable")):
        dealt[place] = min(int(capacity[place]), rest // (len(capacity) - turn))
        rest -= int(dealt[place])
    return dealt


def apportion(total: int, weights: ArrayLike) -> NDArray[np.int64]:
    """Whole numbers in proportion to whole weights that sum to `total`, by largest remainders, ties to the first.

    Never above the weight while `total` is at most the sum of the weights.
    """
    weights = np.asarray(weights, np.int64)
    whole = max(1, int(weights.sum()))
    found, remainder = np.divmod(int(total) * weights, whole)
    missing = int(total) - int(found.sum()) if weights.any() else 0
    found[np.argsort(-remainder, kind="stable")[:missing]] += 1
    return found


def raise_to_floor(quotas: NDArray[np.int64], floor: int) -> NDArray[np.int64]:
    """The quotas with each at least `floor` and the same sum; surplus above the floor is given up in proportion."""
    lacking = np.maximum(floor - quotas, 0)
    surplus = np.maximum(quotas - floor, 0)
    return quotas + lacking - apportion(int(lacking.sum()), surplus)


def smallest_share(shares: ArrayLike, change: ArrayLike, drop: float) -> float:
    """The smallest share of the data at which accuracy falls by at most `drop`.

    The changes are first made to rise with the share (isotonic regression, equal weights), then joined by straight
    lines over the logarithm of the share; the result is where they reach -drop. The smallest of the shares if they
    never go below (then it is an upper bound), NaN if the largest lies below.

    Parameters
    ----------
    shares
        Ascending, in (0, 1].
    change
        Accuracy at each share minus that on all data, as `drop` in shares of examples.
    """
    logs, fit = np.log(np.asarray(shares, float)), isotonic(change)
    enough = np.flatnonzero(fit >= -drop - 1e-12)
    if not len(enough):
        return float("nan")
    first = int(enough[0])
    if first == 0:
        return float(np.exp(logs[0]))
    below, above = fit[first - 1], fit[first]
    part = (-drop - below) / (above - below)
    return float(np.exp(logs[first - 1] + min(part, 1.0) * (logs[first] - logs[first - 1])))


def smallest_share_interval(shares: ArrayLike, change: ArrayLike, drop: float) -> Interval:
    """`smallest_share` of the mean over seeds, with the jackknife interval over seeds on the logarithm of the share.

    The ends are kept in [smallest share, largest share]. NaN ends with fewer than 3 seeds, where the share is not
    known without some seed, and where the smallest share is enough: the truth may be smaller then.

    Parameters
    ----------
    change
        Shape (seed, share).

    References
    ----------
    tukey1958bias
    """
    shares, change = np.asarray(shares, float), np.asarray(change, float)
    estimate = smallest_share(shares, change.mean(axis=0), drop)
    unknown = np.asarray(np.nan)
    num = len(change)
    if num < 3 or not estimate > shares[0]:
        return Interval(np.asarray(estimate), unknown, unknown, unknown)
    left_out = [smallest_share(shares, np.delete(change, k, axis=0).mean(axis=0), drop) for k in range(num)]
    # Pseudo-values n * all - (n - 1) * without k, whose mean interval is the jackknife's.
    pseudo = num * np.log(estimate) - (num - 1) * np.log(left_out)
    spread_of_logs = mean_interval(pseudo)
    reach = spread_of_logs.high - spread_of_logs.estimate
    low, high = (np.clip(estimate * np.exp(sign * reach), shares[0], shares[-1]) for sign in (-1, 1))
    return Interval(np.asarray(estimate), spread_of_logs.standard_error * estimate, low, high)


def isotonic(values: ArrayLike) -> NDArray[np.float64]:
    """The rising sequence nearest to the values in squared distance (pool adjacent violators).

    References
    ----------
    barlow1972statistical
    """
    blocks: list[list[float]] = []
    for value in np.asarray(values, float):
        blocks.append([float(value), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            before, others = blocks[-1]
            blocks[-1] = [(mean * size + before * others) / (size + others), size + others]
    return np.repeat([mean for mean, _ in blocks], [int(size) for _, size in blocks])


def _pick(score: NDArray, noise: NDArray, size: int, rule: Rule, cutoff: float) -> NDArray[np.intp]:
    """Places of `size` examples by a rule, in any order."""
    hardest = np.argsort(-score, kind="stable")
    if rule == "hard":
        return hardest[:size]
    if rule == "easy":
        return np.argsort(score, kind="stable")[:size]
    if rule == "hybrid":
        num_hard = int(size * size / max(1, len(score)) + 0.5)
        rest = hardest[num_hard:]
        easiest = rest[np.argsort(score[rest], kind="stable")]
        return np.concatenate([hardest[:num_hard], easiest[: size - num_hard]])
    dropped = min(int(cutoff * len(score)), len(score) - size)
    return _stratified(np.sort(hardest[dropped:]), score, noise, size)


def _stratified(pool: NDArray[np.intp], score: NDArray, noise: NDArray, size: int) -> NDArray[np.intp]:
    low, high = score[pool].min(initial=np.inf), score[pool].max(initial=-np.inf)
    width = (high - low) / STRATA
    place = np.zeros(len(pool), np.intp)
    if width > 0:
        place = np.minimum(((score[pool] - low) / width).astype(np.intp), STRATA - 1)
    budget = spread(size, np.bincount(place, minlength=STRATA))
    order = np.lexsort((noise[pool], place))
    start = np.searchsorted(place[order], np.arange(STRATA))
    rank = np.arange(len(pool)) - start[place[order]]
    return pool[order[rank < budget[place[order]]]]


def _quotas(balance: Balance, size: int, counts: NDArray, found: NDArray) -> NDArray[np.int64]:
    if balance == "proportional":
        return apportion(size, counts)
    return spread(size, counts) if balance == "equal" else found


def _order(names: NDArray, number: int) -> NDArray[np.intp]:
    if len(names) != number:
        raise ValueError(f"Expected one id for each of {number} labels, but got {len(names)}.")
    if number == 0:
        raise ValueError("Expected at least 1 training example, but got none.")
    order = np.argsort(names, kind="stable")
    twice = names[order][1:][names[order][1:] == names[order][:-1]]
    if len(twice):
        raise ValueError(f"Expected distinct `ids`, but {str(twice[0])!r} comes more than once.")
    return order


def _scores(scores: ArrayLike | None, names: NDArray, order: NDArray[np.intp]) -> NDArray[np.float64]:
    if scores is None:
        raise ValueError("Expected `scores` for every method but 'random', but got None.")
    score = np.asarray(scores, np.float64)
    if score.shape != (len(order),):
        raise ValueError(f"Expected one score for each of {len(order)} labels, but got shape {score.shape}.")
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        raise ValueError(
            f"Expected finite `scores`, but {len(bad)} of {len(score)} are NaN or infinite (first: "
            f"{str(names[bad[0]])!r}). Memorization and influence are unknown for examples that are in all or none of "
            "the subsets: train on more subsets, or on a 'balanced' design."
        )
    return score[order]


def _check(share: float, floor: int, cutoff: float, *, method: str, balance: str) -> None:
    for name, value, choices in (("method", method, get_args(Rule)), ("balance", balance, get_args(Balance))):
        if value not in choices:
            raise ValueError(f"Expected `{name}` to be one of {list(choices)}, but got {value!r}.")
    if not 0 < share <= 1:
        raise ValueError(f"Expected `share` in (0, 1], but got {share!r}.")
    if floor < 0:
        raise ValueError(f"Expected `floor` >= 0, but got {floor!r}.")
    if not 0 <= cutoff < 1:
        raise ValueError(f"Expected `cutoff` in [0, 1), but got {cutoff!r}.")


def _check_floor(floor: int, counts: NDArray, labels: NDArray, size: int) -> None:
    small = np.flatnonzero(counts < floor)
    if len(small):
        name = np.unique(labels)[small[0]]
        raise ValueError(
            f"Expected at least `floor` = {floor} examples of every class, but class {name} has {counts[small[0]]}"
            + (f" and {len(small) - 1} others have too few as well" if len(small) > 1 else "")
            + ". Lower `floor`."
        )
    if floor * len(counts) > size:
        raise ValueError(
            f"Expected `share` to leave `floor` = {floor} examples for each of {len(counts)} classes, but it leaves "
            f"{size} in all. Raise `share` or lower `floor`."
        )
