"""Grids of trials, and the designs of random training subsets."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from remnant.schemes import Dense, Scheme
from remnant.trial import Recipe, Subset, Trial


def grid(recipe: Recipe, schemes: Iterable[Scheme], seeds: Iterable[int]) -> list[Trial]:
    """One trial on the whole training set for each scheme and seed.

    `Dense()` is added for each seed when it is missing: it is the reference of every comparison
    and the parent of every post-training scheme.
    """
    schemes = list(dict.fromkeys([Dense(), *schemes]))
    return [Trial(recipe, scheme, seed) for scheme in schemes for seed in _distinct(seeds, "seeds")]


def subsets(
    recipe: Recipe,
    num_trials: int,
    *,
    schemes: Iterable[Scheme] = (Dense(),),
    design: str = "fixed",
    fraction: float = 0.7,
    seed: int = 0,
) -> list[Trial]:
    """Trials on random training subsets, `num_trials` for each scheme.

    Row k of the design trains with seed k, so its dense and compressed trials are paired.
    """
    if num_trials < 2:
        raise ValueError(f"Expected `num_trials` >= 2 (examples must be in and out), but got {num_trials!r}.")
    made = rows(num_trials, design=design, fraction=fraction, seed=seed)
    return [Trial(recipe, scheme, row.index, row) for scheme in dict.fromkeys(schemes) for row in made]


def rows(count: int, *, design: str = "fixed", fraction: float = 0.7, seed: int = 0) -> list[Subset]:
    """The first `count` rows of a design; a "balanced" one is made for that number of rows."""
    whole = count if design == "balanced" else None
    return [Subset(k, design, fraction, seed, whole) for k in range(count)]  # pyright: ignore[reportArgumentType]


def waves(trials: Iterable[Trial]) -> list[list[Trial]]:
    """The trials in waves, parents added: those that train from scratch first, each later one made from earlier."""
    found: dict[Trial, int] = {}
    for trial in trials:
        line = [trial]
        while (parent := line[-1].parent) is not None:
            line.append(parent)
        for depth, ancestor in enumerate(reversed(line)):
            if ancestor.reference is not None:
                found.setdefault(ancestor.reference, 0)
            found.setdefault(ancestor, depth)
    return [
        [trial for trial, at in found.items() if at == depth] for depth in range(max(found.values(), default=-1) + 1)
    ]


def included(subset: Subset, labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which training examples are in the subset, shape (train_example,).

    Designs, all with `subset.fraction` of the examples in expectation:

    - "fixed": a fixed number of examples, drawn without replacement for each trial on its own
      (Feldman & Zhang 2020);
    - "bernoulli": each example on its own coin (Dam et al. 2023, Algorithm 1);
    - "stratified": a fixed number from every class;
    - "pairs": trials 2i and 2i+1 hold complementary halves (more noise of influence than "fixed", see
      docs/results/estimators.md);
    - "balanced": every example is in the same number of trials (up to one), so none is never in or
      never out (the design of LiRA's shadow models);
    - "doubly-balanced": a fixed number of examples in each trial, and every example in the same number of
      trials (up to one) among the first k, for every k: trials can be added later (ours).

    Raises
    ------
    ValueError
        If the subset is empty or leaves nothing out.
    """
    mask = _DESIGNS[subset.design](subset, np.asarray(labels))
    if not mask.any() or mask.all():
        raise ValueError(
            f"Expected a subset with examples in and out, but {subset} takes {mask.sum()} of {len(mask)}. "
            "Change `fraction` or use more training examples."
        )
    return mask


def _fixed(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    return _draw(_rng(subset, subset.index), len(labels), subset.fraction)


def _bernoulli(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    return _rng(subset, subset.index).random(len(labels)) < subset.fraction


def _stratified(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    rng = _rng(subset, subset.index)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        mask[members] = _draw(rng, len(members), subset.fraction)
    return mask


def _pairs(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    half = _draw(_rng(subset, subset.index // 2), len(labels), 0.5)
    return half if subset.index % 2 == 0 else ~half


def _balanced(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    # Rank the trials by a random number for each example: an example is in the trials of the
    # lowest ranks. Blocks of examples bound the memory; every trial remakes the same numbers.
    assert subset.count is not None
    rng = _rng(subset, 0)
    bound = subset.fraction * subset.count
    parts = []
    for start in range(0, len(labels), 4096):
        size = min(4096, len(labels) - start)
        scores = rng.random((subset.count, size))
        rank = (scores < scores[subset.index]).sum(axis=0)
        # A fractional bound is met on average by rounding each example's number up or down.
        number_in = np.floor(bound + rng.random(size))
        parts.append(rank < number_in)
    return np.concatenate(parts)


def _doubly_balanced(subset: Subset, labels: NDArray) -> NDArray[np.bool_]:
    # Random orders of all examples, one after the other, are cut into windows of one length, one for each trial:
    # what is left out (what is in, if that is less). After any number of windows no example was in one more often
    # than another by more than one.
    num = len(labels)
    size = round(subset.fraction * num)
    window = min(size, num - size)
    if window == 0:
        return np.full(num, size > 0)
    turn, offset = divmod(subset.index * window, num)
    chosen = _order(subset, turn, num, window)[offset : offset + window]
    if lacking := window - len(chosen):
        chosen = np.concatenate([chosen, _order(subset, turn + 1, num, window)[:lacking]])
    mask = np.zeros(num, bool)
    mask[chosen] = True
    return mask if window == size else ~mask


def _order(subset: Subset, turn: int, num: int, window: int) -> NDArray[np.intp]:
    """A random order of all examples that completes a window which the order before began, without repetition."""
    drawn = _rng(subset, turn).permutation(num)
    begun = turn * num % window
    if turn == 0 or begun == 0:
        return drawn
    before = np.zeros(num, bool)
    before[_rng(subset, turn - 1).permutation(num)[-begun:]] = True
    # The end stays as it was drawn: the order after this one needs no other than it.
    free, end = np.split(drawn, [num - (turn + 1) * num % window])
    first = np.flatnonzero(~before[free])[: window - begun]
    return np.concatenate([free[first], np.delete(free, first), end])


_DESIGNS = {
    "fixed": _fixed,
    "bernoulli": _bernoulli,
    "stratified": _stratified,
    "pairs": _pairs,
    "balanced": _balanced,
    "doubly-balanced": _doubly_balanced,
}


def _rng(subset: Subset, row: int) -> np.random.Generator:
    design = int.from_bytes(subset.design.encode()[:4], "little")
    return np.random.default_rng([subset.seed, design, row])


def _draw(rng: np.random.Generator, num: int, fraction: float) -> NDArray[np.bool_]:
    """`fraction` of `num` examples, rounded to the nearest whole number, without replacement."""
    mask = np.zeros(num, bool)
    mask[rng.permutation(num)[: round(fraction * num)]] = True
    return mask


def _distinct(values: Iterable[int], name: str) -> list[int]:
    values = list(values)
    if len(set(values)) != len(values):
        raise ValueError(f"Expected distinct `{name}`, but got {values}.")
    return values
