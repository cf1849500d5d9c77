"""Pairs that probably have a high influence, by all that trials say: answers, margins, memorization, pictures alike."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.subset_trials import SubsetTrials
from remnant.finding import Claim
from remnant.population import thumbnails
from remnant.stats.influence import influence_of_pairs
from remnant.stats.influence_adjustment import Effects, adjustment
from remnant.stats.influence_estimators import adjusted_influence, probability_above, similarity_group
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


def probable_pairs(data: SubsetTrials, threshold: float, rows: int) -> pd.DataFrame:
    """Pairs of one class by the probability that their true influence is >= threshold, the most probable first.

    See `remnant.stats.influence_estimators.probability_above`. Pairs whose pictures look alike share a prior, where the
    store keeps pictures. Empty if the population has no margins of training examples or fewer than 8 trials.
    """
    if "train_margin" not in data.trials or data.num_trials < _TRIALS:
        return _table(data, np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0))
    margin = data.trials["train_margin"].values
    own = combined_memorization(data.trials["train_correct"].values, margin, data.included).value
    kept = _compared(data, np.nan_to_num(own))
    blocks = [
        (np.flatnonzero(data.labels == label), np.flatnonzero(data.train_labels[kept] == label))
        for label in np.unique(data.labels)
    ]
    given = adjustment(data.included[:, kept], own[kept])
    effects = [adjusted_influence(data.correct[:, j], data.margin[:, j], given, i) for j, i in blocks]
    value, error = (
        np.concatenate([getattr(part, name).ravel() for part in effects]) for name in ("value", "standard_error")
    )
    row = np.concatenate([np.repeat(j, len(i)) for j, i in blocks])
    column = kept[np.concatenate([np.tile(i, len(j)) for j, i in blocks])]
    group = _alike(data.trials, [(j, kept[i]) for j, i in blocks])
    found = probability_above(Effects(value, error), threshold, memorization=own[column], group=group)
    found = np.nan_to_num(found)
    order = np.lexsort((column, row, -found))
    order = order[found[order] >= LEAST][:rows]
    return _table(data, row[order], column[order], found[order], value[order])


def probable_claims(data: SubsetTrials, probable: pd.DataFrame, threshold: float) -> tuple[Claim, ...]:
    """How many pairs more likely than not have a high influence, and which share of these is expected not to."""
    likely = probable.loc[probable["probability"] >= LIKELY, "probability"].to_numpy()
    what = f"of one class with a probability >= {LIKELY} of a true influence >= {threshold}"
    by = "empirical Bayes from answers, margins and memorization; no interval: see the share of false ones"
    number = Claim(
        "probable_pairs",
        data.label,
        float(len(likely)),
        None,
        None,
        data.num_trials,
        "trial",
        f"pairs {what}; {by}",
        CITATION,
    )
    if not len(likely):
        return (number,)
    wrong = f"mean probability that the influence is smaller, over the pairs {what}"
    share = float(1 - likely.mean())
    name = "probable_pairs_false_discovery"
    return number, Claim(name, data.label, share, None, None, len(likely), "pair", wrong, CITATION, "share")


def _compared(data: SubsetTrials, own: NDArray[np.float64]) -> NDArray[np.intp]:
    """Training examples of all pairs of one class, or as many of the most memorized ones as MOST_PAIRS allows."""
    labels, numbers = np.unique(data.labels, return_counts=True)
    tests = dict(zip(labels.tolist(), numbers.tolist(), strict=True))
    pairs = np.array([tests.get(label, 0) for label in data.train_labels.tolist()])
    order = np.argsort(-own, kind="stable")
    return np.sort(order[np.cumsum(pairs[order]) <= MOST_PAIRS])


def _alike(trials: xr.Dataset, blocks: Blocks) -> NDArray[np.intp] | None:
    """Group of each pair by how alike its pictures are (squared distance of pixels); None without pictures."""
    test, train = (
        _pictures(trials, split, trials[name].values.tolist())
        for split, name in (("test", "example"), ("train", "train_example"))
    )
    if test is None or train is None or test.shape[1:] != train.shape[1:]:
        return None
    groups = []
    for j, i in blocks:
        left, right = (_flat(pictures[places]) for pictures, places in ((test, j), (train, i)))
        groups.append(similarity_group(2 * left @ right.T - (right**2).sum(axis=1)).ravel())
    return np.concatenate(groups)


def _pictures(trials: xr.Dataset, split: str, ids: Sequence[str]) -> NDArray[np.uint8] | None:
    """All pictures of a split; None if the store does not keep each of them, in one size."""
    if not {"store", "fingerprint"} <= set(trials.attrs):
        return None
    try:
        found = thumbnails(trials.attrs["store"], trials)(split, ids)
    except (StoreError, OSError):  # Pairs can be ranked without the pictures.
        return None
    if len(found) < len(ids) or len({picture.shape for picture in found.values()}) != 1:
        return None
    return np.stack([found[name] for name in ids])


def _flat(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pictures.reshape(len(pictures), -1).astype(np.float32) / np.float32(255)


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
            "row": row,
            "column": column,
            "test_example": data.trials["example"].values[row],
            "train_example": data.trials["train_example"].values[column],
            "class": data.names[data.labels[row]],
            "probability": probability,
            "adjusted_influence": adjusted,
            "influence": plain.value,
            "standard_error": plain.standard_error,
            "memorization": data.memorization.value[column],
        }
    )
