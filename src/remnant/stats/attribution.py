"""How alike two attribution maps are, and whether some examples' maps are less alike than others'.

Maps have shape (..., row, column); everything before the last two axes is vectorised over.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from remnant.stats.resampling import permutation_p

Part = Literal["positive", "absolute"]
"""Which part of a signed map counts: what speaks for the class, or all that moves it."""


def normalized(maps: ArrayLike, part: Part = "positive") -> NDArray[np.float64]:
    """Maps of numbers that are not negative and add up to 1.

    max(a, 0) for the "positive" part, |a| for "absolute", over their sum. A map without such a part stays 0 everywhere.

    Raises
    ------
    ValueError
        If `part` is unknown or a value is NaN or infinite.
    """
    if part not in get_args(Part):
        raise ValueError(f"Expected `part` to be one of {list(get_args(Part))}, but got {part!r}.")
    found = np.array(maps, np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"Expected finite `maps`, but {int((~np.isfinite(found)).sum())} values are not.")
    found = np.maximum(found, 0, out=found) if part == "positive" else np.abs(found, out=found)
    # Over the largest value first: sums of huge numbers would overflow, and tiny ones would lose their digits.
    for scale in (np.max, np.sum):
        whole = scale(found, axis=(-2, -1), keepdims=True)
        np.divide(found, whole, out=found, where=whole > 0)
    return found


def weighted_jaccard(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Weighted intersection over union of maps: sum of minima over sum of maxima, in [0, 1].

    1 for equal maps, 0 for maps without a common pixel, NaN where both are 0 everywhere. It depends on the scale of
    the maps: give `normalized` ones, for which it is (1 - d) / (1 + d) with half the sum of absolute differences d.

    Raises
    ------
    ValueError
        If the shapes differ or a value is negative, for which it is not defined.

    References
    ----------
    joseph2020correctness, section II.C
    """
    a, b = _alike(first, second)
    if (a < 0).any() or (b < 0).any():
        raise ValueError("Expected maps without negative values, but some are below 0. Normalize them first.")
    least, most = np.minimum(a, b).sum(axis=(-2, -1)), np.maximum(a, b).sum(axis=(-2, -1))
    return np.divide(least, most, out=np.full(most.shape, np.nan), where=most > 0)


def rank_correlation(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Spearman's correlation of two maps over their pixels, in [-1, 1].

    1 for the same order of pixels, 0 for unrelated ones; signs and scale of maps do not matter, only order. Equal
    values share the mean of their ranks. NaN where a map is constant.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    spearman1904proof
    """
    a, b = (_ranks(x) for x in _alike(first, second))
    product = (a * b).sum(axis=-1)
    size = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide(product, size, out=np.full(size.shape, np.nan), where=size > 0)


def top_overlap(first: ArrayLike, second: ArrayLike, *, share: float = 0.1) -> NDArray[np.float64]:
    """Intersection over union of the sets of the highest pixels of two maps, in [0, 1].

    The sets hold the `share` of all pixels (at least one) with the highest values, and no pixel that is not above 0;
    of equal values the first in reading order. 1 for equal sets, 0 for sets without a common pixel, NaN where both
    are empty. `chance_overlap` is what unrelated maps have.

    Raises
    ------
    ValueError
        If the shapes differ or `share` is not in (0, 1].
    """
    a, b = _alike(first, second)
    one, two = _top(a, share), _top(b, share)
    both, either = np.count_nonzero(one & two, axis=-1), np.count_nonzero(one | two, axis=-1)
    return np.divide(both, either, out=np.full(either.shape, np.nan), where=either > 0)


def chance_overlap(share: float, num_pixels: int) -> float:
    """What `top_overlap` is near for two maps whose pixels have nothing to do with each other.

    k / (2 n - k) for k of n pixels: the expected common pixels, k^2 / n, over the union that goes with them.
    """
    k = _count(share, num_pixels)
    return k / (2 * num_pixels - k)


def flagged_difference(values: ArrayLike, flags: ArrayLike) -> NDArray[np.float64]:
    """Mean of each pair of models over flagged examples minus that over the others, shape (pair,).

    Below 0: lower on flagged examples. Examples with NaN are left out; NaN where no example is left on one side.

    Parameters
    ----------
    values, flags
        Shape (pair, example).
    """
    x, flagged = np.asarray(values, np.float64), np.asarray(flags, bool)
    known = np.isfinite(x)
    x = np.where(known, x, 0)
    one, two = known & flagged, known & ~flagged
    means = []
    for side in (one, two):
        count = side.sum(axis=1)
        means.append(np.divide((x * side).sum(axis=1), count, out=np.full(len(x), np.nan), where=count > 0))
    return means[0] - means[1]


def flagged_difference_p(values: ArrayLike, flags: ArrayLike, *, rng: np.random.Generator, num: int = 999) -> float:
    """Two-sided p of the mean over pairs of `flagged_difference`, by rearranging the examples.

    If being flagged has nothing to do with the values, the examples' flags (those of all pairs together) could as well
    belong to other examples. Pairs stay together, so that examples that are flagged in many pairs count once. NaN
    where the difference is undefined in all pairs.

    Parameters
    ----------
    values, flags
        Shape (pair, example).
    num
        Number of random rearrangements.

    References
    ----------
    phipson2010permutation
    """
    x, flagged = np.asarray(values, np.float64), np.asarray(flags, bool)
    known = np.isfinite(x)
    filled = np.where(known, x, 0)
    totals, counts = filled.sum(axis=1), known.sum(axis=1)
    order = np.concatenate(
        [np.arange(x.shape[1])[None], rng.permuted(np.tile(np.arange(x.shape[1]), (num, 1)), axis=1)]
    )
    sums, defined = np.zeros(num + 1), np.zeros(num + 1)
    for row in range(len(x)):
        moved = flagged[row][order]
        n = moved @ known[row].astype(np.float64)
        inside = moved @ filled[row]
        ok = (n > 0) & (n < counts[row])
        apart = np.divide(inside, n, out=np.zeros(num + 1), where=ok)
        apart -= np.divide(totals[row] - inside, counts[row] - n, out=np.zeros(num + 1), where=ok)
        sums += apart * ok
        defined += ok
    if not defined[0]:
        return np.nan
    means = np.abs(np.divide(sums, defined, out=np.zeros(num + 1), where=defined > 0))
    # Sums of the same values in another order are the same difference.
    return float(permutation_p(means[0] - 1e-12, means[1:]))


def _alike(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim < 2:
        raise ValueError(f"Expected maps of one shape (..., row, column), but got {a.shape} and {b.shape}.")
    return a, b


def _flat(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    return maps.reshape(*maps.shape[:-2], -1)


def _ranks(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata  # takes long to import

    found = rankdata(_flat(maps), axis=-1)
    return found - found.mean(axis=-1, keepdims=True)


def _top(maps: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    flat = _flat(maps)
    order = np.argsort(-flat, axis=-1, kind="stable")[..., : _count(share, flat.shape[-1])]
    found = np.zeros(flat.shape, bool)
    np.put_along_axis(found, order, True, axis=-1)
    return found & (flat > 0)


def _count(share: float, num_pixels: int) -> int:
    if not 0 < share <= 1:
        raise ValueError(f"Expected `share` in (0, 1], but got {share!r}.")
    return max(1, round(share * num_pixels))
