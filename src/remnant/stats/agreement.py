"""How far two models, or two populations of models, give the same answers on the same examples.

Logits may be of any precision. They are read in blocks of examples that fit into the cache, in double precision
there, so that no second copy of a large array is ever made.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

MISMATCHES = ("cie", "cie_u", "cie_c", "cie_w")
"""Kinds of mismatch; see `mismatches`."""

_VALUES = 2**16
"""Numbers in a block: 512 KiB in double precision."""
_FEW_CLASSES = 32
"""With fewer classes, blocks are laid out class by class: sums over a short last axis are slow."""


def top_class(logits: ArrayLike) -> NDArray[np.signedinteger]:
    """Class with the highest logit, shape (..., example), in the smallest signed integers that hold every class.

    The first class wins among equal logits.

    Parameters
    ----------
    logits
        Shape (..., example, class).
    """
    x = np.asarray(logits)
    num_classes = x.shape[-1]
    found = np.empty(x.shape[:-1], np.min_scalar_type(-num_classes))
    for index in np.ndindex(x.shape[:-2]):
        for block in _blocks(x.shape[-2], num_classes):
            found[(*index, block)] = _comparable(x[(*index, block)]).argmax(axis=-1)
    return found


def mismatches(
    reference: ArrayLike, compressed: ArrayLike, label: ArrayLike | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Which predictions differ between reference and compressed model, by kind.

    - "cie": compression identified exemplar: the two predict different classes;
    - "cie_u": the reference is right, so the compressed model is wrong (a harmful flip);
    - "cie_c": the compressed model is right, so the reference was wrong (a beneficial flip);
    - "cie_w": both are wrong, in different ways.

    "cie" is the disjoint union of the three others.

    Parameters
    ----------
    reference, compressed
        Predicted classes, shape (..., example).
    label
        True classes, shape (example,). Without them, only "cie" is known.

    References
    ----------
    dam2023understanding, section 2; hooker2019what, section 2.3
    """
    reference, compressed = np.asarray(reference), np.asarray(compressed)
    differ = reference != compressed
    if label is None:
        return {"cie": differ}
    label = np.asarray(label)
    harmful, beneficial = differ & (reference == label), differ & (compressed == label)
    return {"cie": differ, "cie_u": harmful, "cie_c": beneficial, "cie_w": differ & ~harmful & ~beneficial}


def disagreement(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Share of examples on which trial j of the first and k of the second differ, shape (trial, trial).

    Parameters
    ----------
    first, second
        Predicted classes, shape (trial, example).
    """
    a, b = np.asarray(first), np.asarray(second)
    if b.size and max(a.max(), b.max()) < 256 and min(a.min(), b.min()) >= 0:
        a, b = a.astype(np.uint8), b.astype(np.uint8)
    return np.array([np.count_nonzero(b != row, axis=1) for row in a]) / a.shape[1]


def log_softmax(logits: ArrayLike, log_partitions: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
    """Logarithms of the softmax probabilities over the last axis, in double precision.

    Quicker where `log_partitions`, from `log_partition`, are known.
    """
    x = _comparable(np.asarray(logits)).astype(np.float64)
    if log_partitions is not None:
        x -= log_partitions[..., None]
        return x
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_partition(logits: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the sum over classes of exp(logit), shape (..., example): what logits exceed log-probabilities by.

    In double precision. NaN where a logit is NaN or infinite.

    Parameters
    ----------
    logits
        Shape (..., example, class).
    """
    x = np.asarray(logits)
    found = np.empty(x.shape[:-1])
    (work,) = _workspace(1, *x.shape[-2:])
    for index in np.ndindex(x.shape[:-2]):
        for block in _blocks(*x.shape[-2:]):
            part = _filled(work, x[(*index, block)])
            highest = part.max(axis=-1)
            if not np.isfinite(part.min()) or not np.isfinite(highest).all():
                part[~np.isfinite(part).all(axis=-1)] = np.nan
            part -= np.where(np.isfinite(highest), highest, 0.0)[:, None]
            found[(*index, block)] = highest + np.log(np.exp(part, out=part).sum(axis=-1))
    return found


def kl_divergence(
    reference_logits: ArrayLike,
    compressed_logits: ArrayLike,
    log_partitions: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> NDArray[np.float64]:
    """KL(reference || compressed) of the softmax probabilities on each example, in nats.

    sum over classes of p_reference log(p_reference / p_compressed); >= 0, and 0 iff the probabilities
    are equal. It has no upper bound.

    Parameters
    ----------
    reference_logits, compressed_logits
        Shape (..., class).
    log_partitions
        Of both, from `log_partition`, of the shape of the result: halves the work where they are known.

    References
    ----------
    kullback1951information
    """
    a, b = np.broadcast_arrays(np.atleast_2d(reference_logits), np.atleast_2d(compressed_logits))
    shape = np.broadcast_shapes(np.shape(reference_logits), np.shape(compressed_logits))[:-1]
    known = (
        None
        if log_partitions is None
        else [np.broadcast_to(one, shape).reshape(a.shape[:-1]) for one in log_partitions]
    )
    found, works = np.empty(a.shape[:-1]), _workspace(3, *a.shape[-2:])
    for index in np.ndindex(a.shape[:-2]):
        for block in _blocks(*a.shape[-2:]):
            here = (*index, block)
            one, two = _filled(works[0], a[here]), _filled(works[1], b[here])
            if known is None:
                found[here] = _kl_of_block(one, two, works[2][: len(one)])
            else:
                found[here] = _known_kl_of_block(one, two, works[2][: len(one)], [one[here] for one in known])
    return found.reshape(shape)


def _kl_of_block(a: NDArray[np.float64], b: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL of two blocks of logits; all three are overwritten."""
    a -= a.max(axis=-1, keepdims=True)
    b -= b.max(axis=-1, keepdims=True)
    np.exp(a, out=p)
    total = p.sum(axis=-1)
    a -= b
    p *= a
    other = np.exp(b, out=b).sum(axis=-1)
    # Equal inputs give exactly 0; rounding below 0 is cut off.
    return np.maximum(p.sum(axis=-1) / total - (np.log(total) - np.log(other)), 0.0)


def _known_kl_of_block(
    a: NDArray[np.float64], b: NDArray[np.float64], p: NDArray[np.float64], known: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """The same where the log partitions are known: the mean of the difference of the log-probabilities."""
    a -= known[0][:, None]
    b -= known[1][:, None]
    np.exp(a, out=p)
    a -= b
    p *= a
    return np.maximum(p.sum(axis=-1), 0.0)


def class_probability(
    logits: ArrayLike,
    rows: NDArray[np.integer],
    classes: NDArray[np.integer],
    log_partitions: NDArray[np.floating] | None = None,
) -> NDArray[np.float64]:
    """Softmax probability of one class on each of some examples, shape (row,).

    Parameters
    ----------
    logits
        Shape (example, class).
    rows
        Examples to read, shape (row,).
    classes
        The class on each of them, shape (row,) or (row, slot); the result has that shape.
    log_partitions
        Of all examples, shape (example,), from `log_partition`: saves nearly all of the work where they are known.
    """
    x, classes = np.asarray(logits), np.asarray(classes)
    slots = classes if classes.ndim > 1 else classes[:, None]
    if log_partitions is not None:
        own = x[np.asarray(rows)[:, None], slots].astype(np.float64)
        return np.exp(own - log_partitions[rows, None]).reshape(classes.shape)
    found = np.empty(slots.shape)
    for block in _blocks(len(rows), x.shape[-1]):
        part = _block(x[rows[block]])
        part -= part.max(axis=-1, keepdims=True)
        own = np.exp(np.take_along_axis(part, slots[block], axis=-1))
        found[block] = own / np.exp(part, out=part).sum(axis=-1, keepdims=True)
    return found.reshape(classes.shape)


def mean_kl_divergences(log_probabilities: ArrayLike) -> NDArray[np.float64]:
    """Mean KL(j || k) over the examples, in nats, for all pairs of trials: shape (trial, trial).

    Parameters
    ----------
    log_probabilities
        Shape (trial, example, class), from `log_softmax`.
    """
    log_p = np.asarray(log_probabilities, np.float64)
    num_examples = log_p.shape[1]
    log_p = log_p.reshape(len(log_p), -1)
    # Unlike `@`, `dot` lets other threads run.
    cross = np.dot(np.exp(log_p), log_p.T) / num_examples
    return np.maximum(np.diag(cross)[:, None] - cross, 0.0)


def in_top_k(logits: ArrayLike, label: ArrayLike, k: int) -> NDArray[np.bool_]:
    """Whether the true class is among the k highest logits, shape (..., example).

    The first class wins among equal logits, so k = 1 agrees with argmax.

    Raises
    ------
    ValueError
        If `k` is not in [1, number of classes].
    """
    x, label = np.asarray(logits), np.asarray(label)
    num_classes = x.shape[-1]
    if not 1 <= k <= num_classes:
        raise ValueError(f"Expected `k` in [1, {num_classes}], but got {k!r}.")
    found = np.empty(x.shape[:-1], bool)
    for index in np.ndindex(x.shape[:-2]):
        for block in _blocks(x.shape[-2], num_classes):
            part, true = _comparable(x[(*index, block)]), label[block, None]
            own = np.take_along_axis(part, true, axis=-1)
            before = (part > own) | ((part == own) & (np.arange(num_classes) < true))
            found[(*index, block)] = before.sum(axis=-1) < k
    return found


def same_seed_p(disagreements: NDArray[np.float64], num_permutations: int, rng: np.random.Generator) -> float:
    """p of the hypothesis that trials of the same seed agree no more than trials of other seeds.

    One-sided permutation test over matchings of seeds; small when pairs of the same seed are alike.

    Parameters
    ----------
    disagreements
        Shape (seed, seed): from `disagreement`, both sides in the same order of seeds.
    num_permutations
        Number of random matchings.
    rng
        Source of the matchings.
    """
    num_seeds = len(disagreements)
    rows = np.arange(num_seeds)
    matchings = rng.random((num_permutations, num_seeds)).argsort(axis=1)
    other = disagreements[rows, matchings].mean(axis=1)
    observed = disagreements[rows, rows].mean()
    return float((1 + np.count_nonzero(other <= observed * (1 + 1e-12))) / (1 + num_permutations))


def prediction_distances(
    disagreements: NDArray[np.float64], in_first: NDArray[np.bool_], *, paired: bool = False
) -> NDArray[np.float64]:
    """Distance between the answers of two populations beyond the spread within them, shape (row,).

    Twice the mean disagreement between the populations, minus the mean disagreements within each: the
    energy distance for the metric "predicts another class". In expectation this is the mean over
    examples of the squared Euclidean distance between the two populations' class frequencies: 0 iff
    both predict every class of every example equally often. The estimate is unbiased, so it can be
    below 0. It needs no rule for ties.

    Parameters
    ----------
    disagreements
        Shape (trial, trial), of the pooled trials: from `disagreement`.
    in_first
        Shape (row, trial): the trials of the first population; the others are the second. At least 2 each.
    paired
        Trial k of the first half and of the second half of all trials are a pair, in different
        populations in every row: their disagreement does not count as one between populations.

    References
    ----------
    szekely2013energy
    """
    weights = in_first.astype(np.float64)
    n1 = weights.sum(axis=1)
    n2 = weights.shape[1] - n1
    reached = weights @ disagreements
    within_first = (reached * weights).sum(axis=1)
    between = reached.sum(axis=1) - within_first
    within_second = disagreements.sum() - within_first - 2 * between
    num_between = n1 * n2
    if paired:
        between = between - np.trace(disagreements, offset=weights.shape[1] // 2)
        num_between = num_between - n1
    return 2 * between / num_between - within_first / (n1 * (n1 - 1)) - within_second / (n2 * (n2 - 1))


def _blocks(num_rows: int, num_columns: int) -> Iterator[slice]:
    """Slices of rows of at most `_VALUES` numbers, and of at least one row."""
    size = _block_size(num_columns)
    return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))


def _block_size(num_columns: int) -> int:
    return max(1, _VALUES // num_columns)


def _comparable(block: NDArray[np.floating]) -> NDArray[np.floating]:
    """The block itself, or in single precision instead of half, which has no fast comparison."""
    return _single(block) if block.dtype == np.float16 else block


def _single(half: NDArray[np.float16]) -> NDArray[np.float32]:
    """Half precision in single precision, exactly; three times as fast as `astype`, which converts one by one.

    The 15 bits of exponent and fraction move to where single precision has them. That divides by 2^112, since its
    exponents are 112 higher.
    """
    bits = np.ascontiguousarray(half).view(np.int16)
    # NaN and infinite numbers are above all others: positive ones as signed, negative ones as unsigned integers.
    if bits.size and (bits.max() >= 0x7C00 or bits.view(np.uint16).max() >= 0xFC00):
        return half.astype(np.float32)
    wide = bits.astype(np.int32)
    wide <<= 13
    wide &= ~0x70001FFF
    return np.multiply(wide.view(np.float32), np.float32(2.0**112), out=wide.view(np.float32))


def _block(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """A copy in double precision, laid out for reductions over classes."""
    return _filled(_workspace(1, *logits.shape)[0], logits)


def _workspace(num: int, num_rows: int, num_columns: int) -> list[NDArray[np.float64]]:
    """Room for blocks in double precision, laid out for reductions over classes."""
    shape = (min(num_rows, _block_size(num_columns)), num_columns)
    return [np.empty(shape, order="F" if num_columns < _FEW_CLASSES else "C") for _ in range(num)]


def _filled(work: NDArray[np.float64], logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The logits in double precision, in the first rows of `work`."""
    found = work[: len(logits)]
    np.copyto(found, _comparable(logits))
    return found
