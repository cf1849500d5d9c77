"""How well soft trees imitate models, and how the trees of two models differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.feature_pairs import Ends, over_models, over_pairs
from remnant.stats.rates import newcombe, wilson
from remnant.stats.trial_intervals import mean_interval

Flags = NDArray[np.bool_]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Trees:
    """The distilled tree of each probed trial beside what the models answer."""

    measured: xr.Dataset
    """Of the probe of soft trees."""
    answers: NDArray[np.integer]
    """Predicted class of each model, shape (probed trial, probed example)."""

    @property
    def tree(self) -> NDArray[np.integer]:
        """Class that each distilled tree gives, shape (trial, example)."""
        return self.measured["prediction"].values

    @property
    def leaf(self) -> NDArray[np.integer]:
        """Most likely leaf of each distilled tree, shape (trial, example)."""
        return self.measured["leaf_reached"].values

    @property
    def labels_tree(self) -> NDArray[np.integer]:
        """Class that the tree trained on labels gives, shape (trial, example); the same for all trials."""
        return self.measured["label_prediction"].values

    @property
    def label(self) -> NDArray[np.integer]:
        """True class, shape (example,)."""
        return self.measured["label"].values

    def effective_depth(self, row: int) -> float:
        """Entropy in bits of the leaves that the test examples reach: the depth of an evenly used tree of that size.

        0: one leaf. The depth of the tree: all leaves alike.
        """
        count = np.bincount(self.leaf[row])
        share = count[count > 0] / count.sum()
        return float(max(0.0, -(share * np.log2(share)).sum()))


@dataclass(frozen=True)
class Estimate:
    """A mean over models or pairs of models with its 95 % interval."""

    value: float
    ends: Ends
    n: int
    unit: str
    how: str
    """How the interval was made, or why there is none."""


def estimate(values: Sequence[NDArray], unit: str, shared: Sequence[Pair] | None = None) -> Estimate | None:
    """The mean over models or pairs of the mean over their examples; None if there is none with examples.

    Parameters
    ----------
    values
        For each model or pair, a number or flag for each of its examples.
    unit
        "trial" or "pair".
    shared
        Rows of the two models of each pair, where models are in several pairs.
    """
    kept = [place for place, own in enumerate(values) if len(own)]
    if not kept:
        return None
    means = np.array([values[place].mean() for place in kept], float)
    value = float(means.mean())
    if shared is not None:
        ends = over_models([shared[place] for place in kept], means)
        return Estimate(value, ends, len(kept), unit, _how(ends, "jackknife over models", "fewer than 3 models"))
    if len(kept) > 1:
        return Estimate(value, over := over_pairs(means), len(kept), unit, _how(over, f"t interval over {unit}s"))
    own = np.asarray(values[kept[0]])
    if own.dtype == bool:
        low, high = wilson(np.count_nonzero(own), len(own))
        return Estimate(value, (float(low), float(high)), len(own), "example", "Wilson interval over examples")
    ends = None
    if len(own) > 1 and float(np.ptp(own)) > 0:
        found = mean_interval(own.astype(float))
        ends = float(found.low), float(found.high)
    return Estimate(value, ends, len(own), "example", _how(ends, "t interval over examples"))


def difference(
    first: Sequence[Flags], second: Sequence[Flags], shared: Sequence[Pair] | None = None
) -> Estimate | None:
    """Mean over pairs of a share in one part of the examples minus that in another; None if no pair has both."""
    kept = [k for k, (a, b) in enumerate(zip(first, second, strict=True)) if len(a) and len(b)]
    if len(kept) == 1 and shared is None:
        a, b = first[kept[0]], second[kept[0]]
        low, high = newcombe(np.count_nonzero(a), len(a), np.count_nonzero(b), len(b))
        value = float(a.mean() - b.mean())
        return Estimate(
            value, (float(low), float(high)), len(a) + len(b), "example", "Newcombe's interval over examples"
        )
    means = [np.array([first[k].mean() - second[k].mean()]) for k in kept]
    return estimate(means, "pair", None if shared is None else [shared[k] for k in kept])


@dataclass(frozen=True)
class TreePairs:
    """Pairs of models, and the answers of their trees. Lists over pairs, arrays over examples."""

    rows: list[Pair]
    shared: list[Pair] | None
    """`rows` where models are in several pairs (reference against reference), else None."""
    agree: list[Flags]
    """The two trees give the same class."""
    same_leaf: list[Flags]
    """The two trees choose the leaf of the same number."""
    differ: list[Flags]
    """The two models give different classes."""
    explained: list[Flags]
    """Each tree gives the class of its model."""

    @property
    def changes_on_differing(self) -> list[Flags]:
        """Whether the trees differ, of examples that the models answer differently."""
        return [~a[d] for a, d in zip(self.agree, self.differ, strict=True)]

    @property
    def changes_on_alike(self) -> list[Flags]:
        """Whether the trees differ, of examples that the models answer alike."""
        return [~a[~d] for a, d in zip(self.agree, self.differ, strict=True)]

    @property
    def reproduced(self) -> list[Flags]:
        """Whether the trees give the answers of both models, of examples that the models answer differently."""
        return [e[d] for e, d in zip(self.explained, self.differ, strict=True)]


def tree_pairs(trees: Trees, rows: list[Pair], *, shared: bool = False) -> TreePairs:
    """The trees of pairs of models."""
    right = trees.tree == trees.answers
    return TreePairs(
        rows,
        rows if shared else None,
        [trees.tree[a] == trees.tree[b] for a, b in rows],
        [trees.leaf[a] == trees.leaf[b] for a, b in rows],
        [trees.answers[a] != trees.answers[b] for a, b in rows],
        [right[a] & right[b] for a, b in rows],
    )


def changes(after: Sequence[NDArray], before: Sequence[NDArray]) -> list[NDArray[np.int8]]:
    """After minus before for each example of each pair."""
    return [a.astype(np.int8) - b.astype(np.int8) for a, b in zip(after, before, strict=True)]


def _how(ends: Ends, method: str, why: str = "one value") -> str:
    return method if ends is not None else f"no interval: {why}, or no spread"
