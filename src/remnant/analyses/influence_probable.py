"""Pairs that probably have a high influence, by all that trials say: answers, margins, memorization, pictures alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.influence_tables import pair_columns
from remnant.analyses.subset_trials import SubsetTrials
from remnant.finding import Claim
from remnant.population import thumbnails
from remnant.stats.influence import influence_of_pairs
from remnant.stats.influence_adjustment import Effects, adjustment
from remnant.stats.influence_estimators import (
    adjusted_influence,
    margin_similarity,
    probability_above,
    similarity_group,
)
from remnant.stats.memorization_estimators import combined_memorization
from remnant.store import StoreError

CITATION = "stephens2017false, for the prior"

LEAST = 0.05
"""Pairs with a smaller probability are not listed."""

LIKELY = 0.5
"""Pairs with this probability are counted."""

MOST_PAIRS = 1_000_000
"""Where more pairs are of one class, the training examples with the largest memorization are compared."""

_TRIALS = 8
"""Fewer say too little for the noise of an effect to be known."""

Blocks = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Test and training examples of each class that has both."""


@dataclass(frozen=True)
class Ranked:
    """Pairs of one class by the probability of a high influence."""

    table: pd.DataFrame
    """Those with a probability >= LEAST, the most probable first."""
    num_compared: int
    """Training examples that were compared; the most memorized ones, if not all of them."""
    num_pairs: int
    """Of these with the test examples of their class."""
    alike: str
    """What pairs that share a prior have alike: "pictures" or "margins"."""

    @property
    def likely(self) -> pd.DataFrame:
        """More likely than not."""
        return self.table.loc[self.table["probability"] >= LIKELY]


def probable_pairs(data: SubsetTrials, threshold: float) -> Ranked | None:
    """Pairs of one class by the probability that their true influence is >= threshold.

    See `remnant.stats.influence_estimators.probability_above`. Pairs whose pictures look alike share a prior; where the
    store does not keep pictures, those whose margins go together. Effects of training examples that are not compared
    are not taken off. None if the population has no margins of training examples, fewer than 8 trials, or no pair of
    one class.
    """
    if "train_margin" not in data.trials or data.num_trials < _TRIALS:
        return None
    margin = data.trials["train_margin"].values
    own = combined_memorization(data.trials["train_correct"].values, margin, data.included).value
    kept = _compared(data, np.nan_to_num(own))
    labels = np.intersect1d(data.labels, data.train_labels[kept])
    blocks = [(np.flatnonzero(data.labels == c), np.flatnonzero(data.train_labels[kept] == c)) for c in labels]
    if not blocks:
        return None
    given = adjustment(data.included[:, kept], own[kept])
    effects = [adjusted_influence(data.correct[:, j], data.margin[:, j], given, i) for j, i in blocks]
    value, error = (
        np.concatenate([getattr(part, name).ravel() for part in effects]) for name in ("value", "standard_error")
    )
    row = np.concatenate([np.repeat(j, len(i)) for j, i in blocks])
    column = kept[np.concatenate([np.tile(i, len(j)) for j, i in blocks])]
    by_pictures = _alike(data, kept, blocks)
    group = _together(data, margin[:, kept], kept, blocks) if by_pictures is None else by_pictures
    found = probability_above(Effects(value, error), threshold, memorization=own[column], group=group)
    found = np.nan_to_num(found)
    order = np.lexsort((column, row, -found))
    order = order[found[order] >= LEAST]
    table = _table(data, row[order], column[order], found[order], value[order])
    return Ranked(table, len(kept), len(row), "margins" if by_pictures is None else "pictures")


def probable_claims(data: SubsetTrials, ranked: Ranked | None, threshold: float) -> tuple[Claim, ...]:
    """How many pairs more likely than not have a high influence, and which share of these is expected not to."""
    if ranked is None:
        return ()
    likely = ranked.likely["probability"].to_numpy()
    what = f"of one class with a probability >= {LIKELY} of a true influence >= {threshold}, whatever the memorization"
    by = f"empirical Bayes from answers, margins, memorization and likeness of {ranked.alike}"
    count = (float(len(likely)), None, None, ranked.num_pairs, "pair", f"pairs {what}; {by}; no interval", CITATION)
    number = Claim("probable_pairs", data.label, *count)
    if not len(likely):
        return (number,)
    wrong = f"mean probability that the influence is smaller, over the pairs {what}"
    share = (float(1 - likely.mean()), None, None, len(likely), "pair", wrong, CITATION, "share")
    return number, Claim("probable_pairs_false_discovery", data.label, *share)


def probable_caveats(data: SubsetTrials, ranked: Ranked | None) -> tuple[str, ...]:
    """What the ranking leaves out."""
    if ranked is None:
        return (
            "Pairs are not ranked by probability: that needs margins of the training examples, "
            f"{_TRIALS} trials and examples of one class on both sides.",
        )
    num_train = len(data.train_labels)
    if ranked.num_compared == num_train:
        return ()
    return (
        f"Probable pairs are those of the {ranked.num_compared:,} most memorized of {num_train:,} training examples; "
        "the others were not compared.",
    )


def _compared(data: SubsetTrials, own: NDArray[np.float64]) -> NDArray[np.intp]:
    """Training examples of all pairs of one class, or as many of the most memorized ones as MOST_PAIRS allows."""
    labels, numbers = np.unique(data.labels, return_counts=True)
    tests = dict(zip(labels.tolist(), numbers.tolist(), strict=True))
    pairs = np.array([tests.get(label, 0) for label in data.train_labels.tolist()])
    order = np.argsort(-own, kind="stable")
    return np.sort(order[np.cumsum(pairs[order]) <= MOST_PAIRS])


def _alike(data: SubsetTrials, kept: NDArray[np.intp], blocks: Blocks) -> NDArray[np.intp] | None:
    """Group of each pair by how alike its pictures are (squared distance of pixels); None without pictures."""
    trials = data.trials
    if not {"store", "fingerprint"} <= set(trials.attrs):
        return None
    ids = {"test": trials["example"].values, "train": trials["train_example"].values[kept]}
    try:
        find = thumbnails(trials.attrs["store"], trials)
        test, train = (_stacked(find(split, names.tolist()), names.tolist()) for split, names in ids.items())
    except (StoreError, OSError):  # Pairs can be ranked without the pictures.
        return None
    if test is None or train is None or test.shape[1] != train.shape[1]:
        return None
    groups = []
    for j, i in blocks:
        left, right = (
            pictures[places].astype(np.float32) / np.float32(255) for pictures, places in ((test, j), (train, i))
        )
        groups.append(similarity_group(2 * left @ right.T - (right**2).sum(axis=1)).ravel())
    return np.concatenate(groups)


def _together(data: SubsetTrials, margin: NDArray, kept: NDArray[np.intp], blocks: Blocks) -> NDArray[np.intp]:
    """Group of each pair by how its margins go together."""
    included = data.included[:, kept]
    alike = [margin_similarity(data.margin[:, j], margin[:, i], included[:, i]) for j, i in blocks]
    return np.concatenate([similarity_group(part).ravel() for part in alike])


def _stacked(found: dict[str, NDArray[np.uint8]], ids: Sequence[str]) -> NDArray[np.uint8] | None:
    """Pixels of the pictures, shape (example, pixel); None if one is missing or has a size of its own."""
    if len(found) < len(ids) or len({picture.shape for picture in found.values()}) != 1:
        return None
    return np.stack([found[name].ravel() for name in ids])


def _table(
    data: SubsetTrials,
    row: NDArray[np.integer],
    column: NDArray[np.integer],
    probability: NDArray[np.float64],
    adjusted: NDArray[np.float64],
) -> pd.DataFrame:
    plain = influence_of_pairs(data.correct, data.included, row, column)
    return pd.DataFrame(
        {
            **pair_columns(data, row, column),
            "probability": probability,
            "adjusted_influence": adjusted,
            "influence": plain.value,
            "standard_error": plain.standard_error,
            "memorization": data.memorization.value[column],
        }
    )
