"""Modal labels of populations of models, and how many differ by chance.

A tally holds, for every model and example, the vote of the model as whole numbers, in such a way that
the sum over any set of models has its maximum at the modal label of that set, ties settled. So a
rearrangement of the models is one row of a matrix product, and the result does not depend on the order
of the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

TieRule = Literal["most-probable", "lowest", "highest"]
"""Which label wins among those with the most votes: the one with the highest mean softmax probability,
the lowest class index, or the highest (as the published code of Hooker et al. does)."""

TIE_RULES: tuple[TieRule, ...] = ("most-probable", "lowest", "highest")

_EXACT = 2**24
"""Whole numbers below this are exact in single precision, which halves the work."""
_BLOCK = 2**21
"""Numbers in a block of rearranged tallies; bounds the memory at 16 MiB for each array."""


@dataclass(frozen=True)
class Tally:
    """Votes of models on examples."""

    labels: NDArray[np.int64]
    """Shape (example, slot): the classes that any model predicts, in rising order, then -1."""
    slot: NDArray[np.intp]
    """Shape (trial, example): the place of the predicted class in `labels`."""
    tie_break: NDArray[np.floating]
    """Shape (trial, example, slot): whole numbers; their sum over models settles ties. Of a precision in
    which sums of votes and tie breaks over all models are exact, in any order."""
    vote: float
    """What a vote weighs: more than all tie breaks together."""

    @property
    def num_trials(self) -> int:
        """Number of models."""
        return len(self.slot)

    def weights(self, examples: NDArray[np.intp], kept: NDArray[np.bool_], num_slots: int) -> NDArray[np.floating]:
        """Votes plus tie breaks on some examples, for the kept slots only: shape (trial, slot, example).

        `kept` has shape (example, slot) and at most `num_slots` True per example; they keep their order.
        """
        place = np.where(kept, np.cumsum(kept, axis=1) - 1, num_slots)
        result = np.zeros((self.num_trials, num_slots + 1, len(examples)), self.tie_break.dtype)
        rows, columns = np.nonzero(kept)
        result[:, place[rows, columns], rows] = self.tie_break[:, examples[rows], columns]
        voted = place[np.arange(len(examples)), self.slot[:, examples]]
        result[np.arange(self.num_trials)[:, None], voted, np.arange(len(examples))] += self.vote
        return result[:, :num_slots]


@dataclass(frozen=True)
class Modal:
    """Modal labels of one population."""

    label: NDArray[np.int64]
    """Shape (example,): the class that most models predict."""
    votes: NDArray[np.int64]
    """Shape (example,): number of models that predict it."""
    tied: NDArray[np.bool_]
    """Shape (example,): another class has as many votes, so that the tie rule decided."""


def tally(predictions: ArrayLike) -> Tally:
    """Votes of all trials, ties to the lowest class; `settle` changes the rule.

    Parameters
    ----------
    predictions
        Predicted classes, shape (trial, example).
    """
    labels, slot = _slots(np.asarray(predictions))
    return settle(Tally(labels, slot, np.empty(0, np.float32), 1.0), "lowest")


def settle(votes: Tally, tie: TieRule, probability: ArrayLike | None = None) -> Tally:
    """The same votes with another rule for ties.

    Parameters
    ----------
    tie
        How ties are settled.
    probability
        Shape (trial, example, slot): each trial's softmax probability of each of `votes.labels`; for
        the rule "most-probable" only. Rounded to 1/1024 or finer, so that sums are exact; equal sums go to the
        lowest class.

    Raises
    ------
    ValueError
        If the tie rule is unknown, or `probability` is missing or of the wrong shape.
    """
    if tie not in TIE_RULES:
        raise ValueError(f"Expected `tie` to be one of {list(TIE_RULES)}, but got {tie!r}.")
    num_slots = votes.labels.shape[1]
    shape = (*votes.slot.shape, num_slots)
    if tie == "most-probable":
        if probability is None or np.shape(probability) != shape:
            got = None if probability is None else np.shape(probability)
            raise ValueError(f"Expected `probability` of shape {shape} with tie='most-probable', but got {got}.")
        largest, kind = _resolution(votes.num_trials)
        tie_break = np.rint(np.asarray(probability) * largest).astype(kind)
    else:
        largest, kind = num_slots, np.float32 if num_slots * (votes.num_trials + 1) ** 2 < _EXACT else np.float64
        towards = np.arange(num_slots) if tie == "highest" else np.zeros(num_slots)
        tie_break = np.broadcast_to(towards.astype(kind), shape)
    return Tally(votes.labels, votes.slot, tie_break, vote=float(largest * votes.num_trials + 1))


def _resolution(num_trials: int) -> tuple[int, type[np.floating]]:
    """Into how many parts probabilities are divided, and the precision in which all sums are exact."""
    parts = _EXACT // (num_trials + 1) ** 2
    return (2 ** int(np.log2(parts)), np.float32) if parts >= 2**10 else (2**20, np.float64)


def modal_labels(votes: Tally, members: NDArray[np.bool_] | None = None) -> Modal:
    """Modal labels of the trials in `members`, shape (trial,); of all trials if None."""
    members = np.ones(votes.num_trials, bool) if members is None else members
    counts = _counts(votes.slot[members], votes.labels.shape[1])
    scores = counts * votes.vote + votes.tie_break[members].sum(axis=0, dtype=np.float64)
    winner = scores.argmax(axis=1)
    most = counts.max(axis=1)
    label = np.take_along_axis(votes.labels, winner[:, None], axis=1)[:, 0]
    return Modal(label, most, (counts == most[:, None]).sum(axis=1) > 1)


def vote_distance(votes: Tally, in_first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Total variation distance between the votes of the trials in `in_first` and the others, shape (example,).

    Half the sum over classes of the absolute difference of the shares of votes: 0 if both populations
    predict every class equally often, 1 if they have no predicted class in common.
    """
    num_slots = votes.labels.shape[1]
    first, second = (_counts(votes.slot[side], num_slots) / side.sum() for side in (in_first, ~in_first))
    return np.abs(first - second).sum(axis=1) / 2


def exemplar_counts(
    votes: Tally, first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many modal labels differ between two populations, for many choices of the populations.

    Labels with too few votes to be modal in any population of the given sizes are left out of the
    work, and with them the examples that cannot differ; the result is exact.

    Parameters
    ----------
    votes
        Votes of all trials.
    first, second
        Shape (row, trial): the two populations of each row; each side has the same size in all rows.

    Returns
    -------
    counts
        Shape (row,): number of examples whose modal labels differ.
    share
        Shape (example,): share of the rows in which the example is one of them.
    """
    kind = votes.tie_break.dtype
    one, two = first.astype(kind), second.astype(kind)
    possible = _possible_winners(votes, int(min(first[0].sum(), second[0].sum())))
    num_possible = possible.sum(axis=1)
    # Examples with few possible winners first: a block needs as many slots as its last example.
    examples = np.argsort(num_possible, kind="stable")
    examples = examples[num_possible[examples] > 1]
    counts, share = np.zeros(len(one), np.int64), np.zeros(len(possible))
    while len(examples):
        num_slots = int(num_possible[examples[min(256, len(examples)) - 1]])
        size = max(256, _BLOCK // (len(one) * num_slots))
        block = examples[:size]
        block = block[num_possible[block] <= num_slots]
        weights = votes.weights(block, possible[block], num_slots).reshape(votes.num_trials, -1)
        differ = _argmax(one @ weights, num_slots) != _argmax(two @ weights, num_slots)
        counts += differ.sum(axis=1)
        share[block] = differ.mean(axis=0)
        examples = examples[len(block) :]
    return counts, share


def half_sample_error(
    votes: Tally, in_first: NDArray[np.bool_], rng: np.random.Generator, *, paired: bool, num: int = 100
) -> float:
    """Standard error of the number of examples whose modal labels differ, over populations of this size.

    Each population is split into two disjoint halves at random (pairs together if `paired`), which
    gives two independent counts; half the mean squared difference of `num` such splits is the
    variance at half the size. The variance of the count is close to proportional to its mean, so it
    is scaled by the observed count over the mean count of the halves. (The jackknife and the bootstrap
    fail for modal labels: leaving out or doubling single models makes and breaks ties.)

    Parameters
    ----------
    in_first
        Shape (trial,): the trials of the first population; the others are the second.
    paired
        Trial k of the first and trial k of the second population are a pair.

    References
    ----------
    mccarthy1969pseudoreplication
    """
    first, second = np.flatnonzero(in_first), np.flatnonzero(~in_first)
    a1, a2 = _halves(len(first), len(first) // 2, num, rng)
    b1, b2 = (a1, a2) if paired else _halves(len(second), len(second) // 2, num, rng)
    one, two = (
        exemplar_counts(votes, _masks(first[a], votes.num_trials), _masks(second[b], votes.num_trials))[0]
        for a, b in ((a1, b1), (a2, b2))
    )
    whole = exemplar_counts(votes, in_first[None], ~in_first[None])[0][0]
    mean = np.mean(one + two) / 2
    variance = np.mean((one - two) ** 2.0) / 2
    return float(np.sqrt(variance * whole / mean)) if mean > 0 else 0.0


def exemplars_within(
    votes: Tally, members: NDArray[np.bool_], size: int, rng: np.random.Generator, *, num: int = 100
) -> float:
    """Mean number of examples whose modal labels differ between two disjoint populations of `size`.

    Both are drawn from the trials in `members`, `num` times. An unbiased estimate of how many differ
    between two populations of that size made in the same way.

    Raises
    ------
    ValueError
        If there are fewer than 2 * `size` trials.
    """
    trials = np.flatnonzero(members)
    if not 1 <= size <= len(trials) // 2:
        raise ValueError(f"Expected `size` in [1, {len(trials) // 2}], but got {size!r}.")
    one, two = (_masks(trials[half], votes.num_trials) for half in _halves(len(trials), size, num, rng))
    return float(exemplar_counts(votes, one, two)[0].mean())


def extrapolated_count(size: int, sizes: Sequence[int], counts: Sequence[float]) -> float:
    """Number of differing modal labels at a larger size, from the last two of rising smaller sizes by a power law.

    Where the margins of votes have a smooth density, the count falls as size^(-1/2) in the limit; the
    exponent here is the one seen between the two sizes. 0 if either count is 0.
    """
    if min(counts[-2:]) <= 0:
        return 0.0
    exponent = np.log(counts[-1] / counts[-2]) / np.log(sizes[-1] / sizes[-2])
    return float(counts[-1] * (size / sizes[-1]) ** exponent)


def _halves(total: int, size: int, num: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two disjoint random draws of `size` of `total`, each of shape (num, size)."""
    order = rng.random((num, total)).argsort(axis=1)
    return order[:, :size], order[:, size : 2 * size]


def _masks(members: NDArray[np.intp], num_trials: int) -> NDArray[np.bool_]:
    masks = np.zeros((len(members), num_trials), bool)
    np.put_along_axis(masks, members, True, axis=1)
    return masks


def _possible_winners(votes: Tally, size: int) -> NDArray[np.bool_]:
    """Slots that can be modal in a population of `size` or more trials, shape (example, slot).

    Let t of n votes go to the winner of all. Where slot j has v votes in all and wins a population of
    k, the winner of all has at most v votes there and the other slots n - t - v, so k <= v + n - t.
    """
    totals = _counts(votes.slot, votes.labels.shape[1])
    dissent = votes.num_trials - totals.max(axis=1, keepdims=True)
    return (totals >= size - dissent) & (totals > 0)


def _argmax(scores: NDArray[np.floating], num_slots: int) -> NDArray[np.unsignedinteger | np.bool_]:
    """First slot with the largest score, shape (row, example).

    Slot by slot over whole rows: about ten times as fast as `argmax` over a short axis.
    """
    scores = scores.reshape(len(scores), num_slots, -1)
    best, winner = scores[:, 0], scores[:, 1] > scores[:, 0]
    if num_slots > 2:
        winner = winner.astype(np.min_scalar_type(num_slots))
    for slot in range(2, num_slots):
        best = np.maximum(best, scores[:, slot - 1])
        higher = scores[:, slot] > best
        np.maximum(winner, higher * winner.dtype.type(slot), out=winner)
    return winner


def _slots(predictions: NDArray) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """`Tally.labels` and `Tally.slot`."""
    order = predictions.argsort(axis=0, kind="stable")
    ordered = np.take_along_axis(predictions, order, axis=0)
    place = np.zeros(predictions.shape, np.intp)
    np.cumsum(ordered[1:] != ordered[:-1], axis=0, out=place[1:])
    slot = np.empty_like(place)
    np.put_along_axis(slot, order, place, axis=0)
    labels = np.full((predictions.shape[1], int(place.max(initial=0)) + 1), -1, np.int64)
    labels[np.broadcast_to(np.arange(predictions.shape[1]), place.shape), place] = ordered
    return labels, slot


def _counts(slot: NDArray[np.intp], num_slots: int) -> NDArray[np.int64]:
    """Number of trials that predict each slot, shape (example, slot)."""
    num_examples = slot.shape[1]
    flat = (slot + num_slots * np.arange(num_examples)).ravel()
    return np.bincount(flat, minlength=num_examples * num_slots).reshape(num_examples, num_slots)
