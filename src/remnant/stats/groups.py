"""Rates by group of several models, resampled over examples and models, and how predictions amplify a bias."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_LARGEST = 2**62
_DRAWS = 2**21
"""Numbers in a block of resampled counts: 16 MiB."""

RATES = ("error", "false_positive_rate", "false_negative_rate")
"""Shares of the examples of a group that are wrong; of its negatives that are called positive; of its positives that
are called negative."""


@dataclass(frozen=True)
class Cells:
    """The distinct examples, as far as groups, labels and predictions tell them apart."""

    counts: NDArray[np.int64]
    """Number of examples of each, shape (cell,)."""
    rows: NDArray[np.intp]
    """One example of each."""

    @property
    def num_examples(self) -> int:
        """Number of all examples."""
        return int(self.counts.sum())


def cells(columns: Sequence[NDArray[np.integer]]) -> Cells:
    """The distinct combinations of values of several columns, each of shape (example,) with values from 0 on."""
    key = np.zeros(len(columns[0]), np.int64)
    levels = 1
    for column in columns:
        size = int(column.max(initial=0)) + 1
        if levels > _LARGEST // size:
            found, key = np.unique(key, return_inverse=True)
            levels = len(found)
        key = key * size + column
        levels *= size
    _, rows, counts = np.unique(key, return_index=True, return_counts=True)
    return Cells(counts.astype(np.int64), rows.astype(np.intp))


def indicators(indices: Sequence[NDArray[np.integer]], sizes: Sequence[int]) -> sparse.csr_array:
    """Which cells belong to which group, shape (group, cell), for several partitions one after another.

    Parameters
    ----------
    indices
        For each partition the group of each cell, shape (cell,).
    sizes
        Number of groups of each partition.
    """
    num = len(indices[0])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.concatenate([index.astype(np.int64) + start for index, start in zip(indices, starts[:-1], strict=True)])
    columns = np.tile(np.arange(num), len(indices))
    return sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(int(starts[-1]), num))


@dataclass(frozen=True)
class Quantity:
    """What is averaged over the examples of a group."""

    values: NDArray[np.floating]
    """Shape (model, cell), such as 1 where a model is wrong; 0 where `eligible` is False."""
    eligible: NDArray[np.bool_]
    """Shape (cell,): the examples that count, such as the negatives for a false positive rate."""


def rate_quantities(
    predictions: NDArray[np.integer], label: NDArray[np.integer], positive: int | None
) -> dict[str, Quantity]:
    """`RATES` as quantities; of several classes without a `positive` one, the error only.

    Parameters
    ----------
    predictions
        Shape (model, cell).
    label
        Shape (cell,).
    positive
        Index of the class that is looked for; all others are negative.
    """
    every = np.ones(label.shape, bool)
    found = {"error": Quantity((predictions != label).astype(np.float32), every)}
    if positive is not None:
        is_positive, said = label == positive, predictions == positive
        found["false_positive_rate"] = Quantity((said & ~is_positive).astype(np.float32), ~is_positive)
        found["false_negative_rate"] = Quantity((~said & is_positive).astype(np.float32), is_positive)
    return found


def group_sizes(quantity: Quantity, found: Cells, groups: sparse.csr_array) -> NDArray[np.int64]:
    """Number of examples that count in each group."""
    return np.rint(groups @ (found.counts * quantity.eligible)).astype(np.int64)


def group_means(quantity: Quantity, found: Cells, groups: sparse.csr_array) -> NDArray[np.float64]:
    """Mean of a quantity over the examples of each group, shape (model, group); NaN for groups without examples."""
    sums = np.asarray(groups @ (quantity.values * found.counts).T.astype(np.float64)).T
    sizes = group_sizes(quantity, found, groups)
    return np.divide(sums, sizes, out=np.full(sums.shape, np.nan), where=sizes > 0)


def resampled_means(
    quantities: Sequence[Quantity],
    found: Cells,
    groups: sparse.csr_array,
    rng: np.random.Generator,
    *,
    num: int = 1000,
) -> NDArray[np.float64]:
    """Means over models of each quantity in each group in bootstrap samples, shape (quantity, num, group).

    Examples are drawn with replacement, and models on their own (Owen's pigeonhole bootstrap, whose intervals are
    somewhat wide, never narrow in the limit). All quantities share the drawn examples and models, so that differences
    are paired: model k of every quantity must be of the same pair. Of K models K - 1 are drawn, which makes the
    variance over models unbiased; one model is always drawn. NaN where no example of a group is drawn.

    References
    ----------
    owen2007pigeonhole
    """
    num_models = len(quantities[0].values)
    num_groups = len(group_sizes(quantities[0], found, groups))
    means = np.full((len(quantities), num, num_groups), np.nan)
    for block in _blocks(num, len(found.counts)):
        size = block.stop - block.start
        drawn = rng.multinomial(found.num_examples, found.counts / found.num_examples, size=size)
        weight = np.ascontiguousarray(drawn.T.astype(np.float32))
        models = _drawn_models(num_models, size, rng)
        sizes: dict[bytes, NDArray] = {}
        for place, quantity in enumerate(quantities):
            key = quantity.eligible.tobytes()
            if key not in sizes:
                sizes[key] = (groups @ (weight * quantity.eligible[:, None])).T
            sums = (groups @ ((quantity.values.T @ models) * weight)).T
            np.divide(sums, sizes[key], out=means[place, block], where=sizes[key] > 0)
    return means


def _drawn_models(num_models: int, size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Weights of the models in each sample, shape (model, sample)."""
    if num_models == 1:
        return np.ones((1, size), np.float32)
    drawn = rng.multinomial(num_models - 1, np.full(num_models, 1 / num_models), size=size)
    return np.ascontiguousarray(drawn.T).astype(np.float32) / np.float32(num_models - 1)


def _blocks(num: int, num_cells: int) -> Iterator[slice]:
    size = max(1, _DRAWS // max(num_cells, 1))
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


def change_moments(
    before: Quantity, after: Quantity, found: Cells, groups: sparse.csr_array
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of after minus before in each group: sums by model (model, group), of squares, and of squared sums over models.

    They are what `remnant.stats.two_way.two_way_mean` takes.
    """
    change = after.values.astype(np.float64) - before.values
    sums = (groups @ (change * found.counts).T).T
    return sums, groups @ ((change**2).sum(axis=0) * found.counts), groups @ (change.sum(axis=0) ** 2 * found.counts)


def amplification_signs(
    label: NDArray[np.integer], group: NDArray[np.integer], num_groups: int, num_classes: int
) -> NDArray[np.int8]:
    """1 where a class and a group come together more often than by chance, else -1: shape (group, class)."""
    joint = np.bincount(group.astype(np.int64) * num_classes + label, minlength=num_groups * num_classes)
    joint = joint.reshape(num_groups, num_classes).astype(np.float64)
    by_chance = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0) / max(joint.sum(), 1)
    # Rounding must not tell a product of counts from an equal count.
    return np.where(joint > by_chance * (1 + 1e-12), 1, -1).astype(np.int8)


def amplification_quantity(
    predictions: NDArray[np.integer], label: NDArray[np.integer], group: NDArray[np.integer], signs: NDArray[np.int8]
) -> Quantity:
    """sign(group, prediction) - sign(group, label) of each example: see `bias_amplification`; shape (model, cell)."""
    values = signs[group, predictions].astype(np.float32) - signs[group, label]
    return Quantity(values, np.ones(label.shape, bool))


def amplification(means: NDArray[np.floating], num_classes: int) -> NDArray[np.float64]:
    """Directional bias amplification from the means of `amplification_quantity` in the groups, on the last axis.

    Groups without examples (NaN) do not count.
    """
    known = ~np.isnan(means)
    return np.where(known, means, 0).sum(axis=-1) / (known.sum(axis=-1) * num_classes)


def bias_amplification(
    predictions: NDArray[np.integer],
    label: NDArray[np.integer],
    group: NDArray[np.integer],
    *,
    num_groups: int,
    num_classes: int,
) -> NDArray[np.float64]:
    """How much more the predicted class hangs together with the group than the true class does, shape (model,).

    The mean over groups a and classes t of s(a, t) (P(predicted t | a) - P(t | a)), with s = 1 where t is more
    frequent in a than by chance and -1 elsewhere: directional bias amplification from the attribute to the task. 0 for
    right answers; > 0 if what is frequent in a group is predicted still more often there, < 0 if less often.

    Parameters
    ----------
    predictions
        Shape (model, example).
    label, group
        Shape (example,).

    References
    ----------
    wang2021directional
    """
    signs = amplification_signs(label, group, num_groups, num_classes)
    quantity = amplification_quantity(predictions, label, group, signs)
    every = Cells(np.ones(len(label), np.int64), np.arange(len(label)))
    means = group_means(quantity, every, indicators([group], [num_groups]))
    return amplification(means, num_classes)


def disagreement_by_example(predictions: NDArray[np.integer]) -> NDArray[np.float64]:
    """Share of the pairs of different models that answer differently, shape (example,).

    An unbiased estimate of how often two models made in the same way disagree on the example; 0 where all agree.

    Parameters
    ----------
    predictions
        Shape (model, example), at least 2 models.
    """
    num = len(predictions)
    if num < 2:
        raise ValueError(f"Expected at least 2 models, but got {num}: one cannot disagree.")
    differ = np.zeros(predictions.shape[1])
    for place in range(1, num):
        differ += np.count_nonzero(predictions[:place] != predictions[place], axis=0)
    return differ / (num * (num - 1) / 2)
