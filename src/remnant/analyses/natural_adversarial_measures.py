"""Which examples and classes make a set of natural adversarial images, and how often models are right on them."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison
from remnant.finding import NotApplicable
from remnant.population import groups
from remnant.registry import unknown
from remnant.stats.relative import Ratio, ratio

CONVENTIONS = ("class-subset", "all-classes")
TOPS = (1, 5)


@dataclass(frozen=True)
class Selection:
    """The set within the examples of a population."""

    rows: NDArray[np.intp]
    clean: NDArray[np.intp]
    """Other examples of the same classes; empty if there are none."""
    classes: NDArray[np.intp]
    """Classes that the labels of the set name, ascending."""


@dataclass(frozen=True)
class Part:
    """One scheme against the reference by one convention. Keys of dictionaries are 1 and 5: top-1, top-5."""

    comparison: Comparison
    convention: str
    unit: str
    """"pair" of models, or "example" of the only pair."""
    first: dict[int, NDArray[np.float64]]
    """Shape (unit,): share of right answers of the reference on the set."""
    second: dict[int, NDArray[np.float64]]
    """Of the compressed models."""
    clean: dict[int, Ratio]
    """Accuracy on the other examples over that of the reference; empty if there are none."""
    noise: float | None
    """Mean size of the relative difference in top-1 accuracy between two reference models; None with one."""

    def relative(self, k: int) -> Ratio:
        """Accuracy of the compressed models on the set over that of the reference."""
        return ratio(self.first[k], self.second[k])


def select(population: xr.Dataset, where: str | None) -> Selection:
    """The set that `where` ("COLUMN=VALUE") names, or all examples.

    Raises
    ------
    ValueError
        If there is no such column or value.
    NotApplicable
        If the labels of the set name all classes, or fewer than 2.
    """
    label = population["label"].values
    chosen = np.ones(len(label), bool) if where is None else _matching(population, where)
    classes, number = np.unique(label[chosen]), population.sizes.get("class", int(label.max(initial=0)) + 1)
    if len(classes) == number and where is None:
        raise NotApplicable(
            "The labels of the examples name all classes: this is an ordinary test set, not one like ImageNet-A, whose "
            "labels leave classes out. Name the examples with `where`, such as `where = 'source=imagenet-a'`."
        )
    if len(classes) < 2:
        raise NotApplicable(f"Expected labels of at least 2 classes in the set, but got {len(classes)}.")
    clean = np.flatnonzero(~chosen & np.isin(label, classes))
    return Selection(np.flatnonzero(chosen), clean, classes.astype(np.intp))


def measure(comparison: Comparison, chosen: Selection, convention: str) -> Part:
    """How often the true class comes first, and among the first five."""
    ranks = [_ranks(side, answers, chosen, convention) for side, answers in (
        (comparison.reference, comparison.first), (comparison.compressed, comparison.second))]  # fmt: skip
    candidates = len(chosen.classes) if convention == "class-subset" else comparison.reference.sizes.get("class", 0)
    tops = [k for k in TOPS if k == 1 or (comparison.has_logits and candidates > k)]
    number, pairs = len(chosen.rows), comparison.pairs
    first, second, clean = {}, {}, {}
    for k in tops:
        on_set, others = (
            [
                np.stack([(r[i] < k)[part] for i in kept])
                for r, kept in zip(ranks, zip(*pairs, strict=True), strict=True)
            ]
            for part in (slice(0, number), slice(number, None))
        )
        first[k], second[k] = (_by_unit(side) for side in on_set)
        if len(chosen.clean):
            clean[k] = ratio(*(_by_unit(side) for side in others))
    accuracy = (ranks[0][:, :number] == 0).mean(axis=1)
    noise = None
    if len(accuracy) > 1 and (accuracy > 0).all():
        apart = np.abs(accuracy[:, None] / accuracy - 1)
        noise = float(apart[~np.eye(len(accuracy), dtype=bool)].mean())
    return Part(comparison, convention, "pair" if len(pairs) > 1 else "example", first, second, clean, noise)


def _ranks(side: xr.Dataset, answers: NDArray, chosen: Selection, convention: str) -> NDArray[np.int64]:
    """Number of classes before the true one, shape (trial, row): rows of the set, then the clean ones.

    Without logits, 0 where the answer is right and 1 where it is not.
    """
    rows = np.concatenate([chosen.rows, chosen.clean])
    label = side["label"].values[rows]
    if "logits" not in side:
        return (answers[:, rows] != label).astype(np.int64)
    classes = chosen.classes if convention == "class-subset" else np.arange(side.sizes["class"])
    place = np.searchsorted(classes, label)[:, None]
    found = []
    for trial in range(side.sizes["trial"]):
        logits = np.asarray(side["logits"][trial].values)[rows][:, classes]
        true = np.take_along_axis(logits, place, axis=1)
        found.append(((logits > true) | ((logits == true) & (np.arange(len(classes)) < place))).sum(axis=1))
    return np.stack(found)


def _by_unit(right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Shares of pairs of models; of a single pair its examples."""
    return right[0].astype(float) if len(right) == 1 else right.mean(axis=1)


def _matching(population: xr.Dataset, where: str) -> NDArray[np.bool_]:
    columns = groups(population)
    name, _, value = where.partition("=")
    if name not in columns:
        raise unknown("where", name, columns)
    levels = columns[name].astype(str)
    chosen = levels == value
    if not chosen.any():
        raise unknown(f"where: {name}", value, np.unique(levels).tolist()[:20])
    return chosen
