"""How alike two representations of the same examples are, whatever the rotation, shift and scale of their features.

A representation has shape (example, feature). Two of them may have different numbers of features. What compares all
examples with all others works in blocks: n^2 numbers are never held.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_VALUES = 2**22
"""Numbers of a block held at a time: 32 MiB."""


def linear_hsic(first: ArrayLike, second: ArrayLike) -> float:
    """Unbiased estimate of the dependence of two representations: the Hilbert-Schmidt criterion with linear kernels.

    With K = X X', L = Y Y', their diagonals set to 0, and n examples::

        (tr(K L) + 1'K1 1'L1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1'K L1) / (n (n - 3))

    It estimates the squared Frobenius norm of the covariance of X and Y. Independent representations give 0 in
    expectation, so that about half of such estimates are negative. Rotations and shifts of the features change nothing.

    Raises
    ------
    ValueError
        If there are fewer than 4 examples, the numbers of examples differ, or a value is not finite.

    References
    ----------
    song2012feature
    """
    x, y = _pair(first, second, least=4)
    return _hsic(_centred(x), _centred(y))


def linear_cka(first: ArrayLike, second: ArrayLike) -> float:
    """Debiased centred kernel alignment of two representations: HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y)).

    1: the same up to rotation, shift and scale. 0 in expectation: independent, for any number of features; the biased
    form tends to 1 there as features become as many as examples. Estimates may lie a little outside [0, 1]. NaN where
    a representation does not vary.

    Raises
    ------
    ValueError
        As `linear_hsic`.

    References
    ----------
    kornblith2019similarity, section 3; song2012feature
    """
    x, y = _pair(first, second, least=4)
    x, y = _centred(x), _centred(y)
    own = _hsic(x, x), _hsic(y, y)
    return _hsic(x, y) / float(np.sqrt(own[0] * own[1])) if min(own) > 0 else float("nan")


def procrustes_distance(first: ArrayLike, second: ArrayLike) -> float:
    """What is left of one representation after the best rotation onto the other, both centred and of norm 1.

    min over orthogonal R of ||X R - Y||^2 = 2 - 2 * (sum of the singular values of X'Y), in [0, 2]. 0: the same up to
    rotation, shift and scale. The rotation is fitted to the same examples: with as many features as examples, even
    independent representations come close to each other. NaN where a representation does not vary.

    Raises
    ------
    ValueError
        If there are fewer than 2 examples, the numbers of examples differ, or a value is not finite.

    References
    ----------
    schonemann1966generalized; ding2021grounding
    """
    x, y = _pair(first, second, least=2)
    x, y = _centred(x), _centred(y)
    norms = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    if min(norms) == 0:
        return float("nan")
    common = np.linalg.svd(_compact(x).T @ _compact(y), compute_uv=False).sum()
    return float(max(0.0, 2 - 2 * common / (norms[0] * norms[1])))


def aligned_cosine(first: ArrayLike, second: ArrayLike, folds: ArrayLike) -> Array:
    """Cosine of the two representations of each example, after a rotation that was fitted to other examples.

    Shape (example,). For an example of fold f, with means and the rotation R (that of the Procrustes distance) from
    all other folds: (x - mean)' R (y - mean) / (|x - mean| |y - mean|), in [-1, 1]. 1: the example lies where the
    other examples let expect it. 0: in no relation, which is the expectation for independent representations, whatever
    their size: the example took no part in the fit. Directions in which the other examples do not vary are
    left out of R, so that what an example has there counts against it. NaN where an example equals the mean.

    Parameters
    ----------
    folds
        Shape (example,): the fold of each example, at least two different ones. Draw them at random.

    Raises
    ------
    ValueError
        If there are fewer than 2 folds, the numbers of examples differ, or a value is not finite.

    References
    ----------
    schonemann1966generalized
    """
    x, y = _pair(first, second, least=2)
    labels, fold = np.unique(np.asarray(folds), return_inverse=True)
    if len(fold) != len(x) or len(labels) < 2:
        raise ValueError(
            f"Expected `folds` to name one of at least 2 folds for each of {len(x)} examples, but got {len(fold)} "
            f"values of {len(labels)} folds."
        )
    # Close to the mean already, so that the sums below do not cancel; the right means follow.
    x, y = _centred(x), _centred(y)
    rows = [np.flatnonzero(fold == number) for number in range(len(labels))]
    products = [x[one].T @ y[one] for one in rows]
    total = np.sum(products, axis=0)
    cosine = np.empty(len(x))
    for one, product in zip(rows, products, strict=True):
        others = len(x) - len(one)
        means = [-v[one].sum(axis=0) / others for v in (x, y)]  # all examples sum to 0
        rotation = _rotation(total - product - others * np.outer(*means))
        a, b = x[one] - means[0], y[one] - means[1]
        norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        dot = np.einsum("ij,ij->i", a @ rotation, b)
        cosine[one] = np.divide(dot, norm, out=np.full(len(one), np.nan), where=norm > 0)
    return np.clip(cosine, -1, 1)


def nearest_neighbours(representation: ArrayLike, k: int) -> NDArray[np.int32]:
    """The `k` nearest other examples of each example by Euclidean distance, shape (example, k), in no order.

    Among equally near ones the choice is arbitrary, but the same for the same input.

    Raises
    ------
    ValueError
        If `k` is not in [1, number of examples - 1], or a value is not finite.
    """
    x = _matrix(representation, "representation")
    if not 1 <= k <= len(x) - 1:
        raise ValueError(f"Expected `k` in [1, {len(x) - 1}] for {len(x)} examples, but got {k}.")
    x = _centred(x)
    square = np.einsum("ij,ij->i", x, x)
    found = np.empty((len(x), k), np.int32)
    for block in _blocks(len(x), len(x)):
        distance = square - 2 * (x[block] @ x.T)  # and the square of the example itself, the same for all others
        distance[np.arange(len(distance)), np.arange(block.start, block.stop)] = np.inf
        found[block] = np.argpartition(distance, k - 1, axis=1)[:, :k]
    return found


def neighbour_overlap(first: NDArray[np.integer], second: NDArray[np.integer]) -> Array:
    """Share of the nearest neighbours of each example that two representations have in common, shape (example,).

    1: the same neighbours. Independent representations of n examples have k / (n - 1) in expectation. The Jaccard
    index of the two sets is s / (2 - s) for a share s.

    Parameters
    ----------
    first, second
        Of `nearest_neighbours`, with the same k.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"Expected neighbours of one shape (example, k), but got {a.shape} and {b.shape}.")
    # Neighbours of one representation differ from each other: what comes twice is common.
    both = np.sort(np.concatenate([a, b], axis=1), axis=1)
    return np.count_nonzero(both[:, 1:] == both[:, :-1], axis=1) / a.shape[1]


def leading_components(representation: ArrayLike, most: int) -> Array:
    """A representation on its `most` principal components of the largest variance, centred; all of it if it has fewer.

    Raises
    ------
    ValueError
        If `most` is not positive, or a value is not finite.
    """
    x = _centred(_matrix(representation, "representation"))
    if most < 1:
        raise ValueError(f"Expected `most` >= 1, but got {most}.")
    if x.shape[1] <= most:
        return x
    if x.shape[1] <= len(x):
        return x @ np.linalg.eigh(x.T @ x)[1][:, -most:]
    return _compact(x)[:, -most:]


def _hsic(x: Array, y: Array) -> float:
    """`linear_hsic` of centred representations, in the space of features or of examples, whichever is smaller."""
    n = len(x)
    one, two = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    if x.shape[1] * y.shape[1] <= n * n:
        product = float(np.sum((x.T @ y) ** 2))
    else:
        product = sum(float(np.sum((x[rows] @ x.T) * (y[rows] @ y.T))) for rows in _blocks(n, n))
    # The rows of K and L with their diagonals sum to 0: without them, to minus the diagonals.
    total = product - n / (n - 2) * float(one @ two) + float(one.sum() * two.sum()) / ((n - 1) * (n - 2))
    return total / (n * (n - 3))


def _rotation(product: Array) -> Array:
    """The orthogonal matrix R with the largest trace of R' (X'Y), on the directions that both share."""
    left, size, right = np.linalg.svd(product, full_matrices=False)
    kept = size > size.max(initial=0.0) * max(product.shape) * np.finfo(float).eps
    return left[:, kept] @ right[kept]


def _compact(x: Array) -> Array:
    """A rotation of the features in which at most as many as there are examples differ from 0; only these."""
    if x.shape[1] <= len(x):
        return x
    size, directions = np.linalg.eigh(x @ x.T)
    return directions * np.sqrt(np.maximum(size, 0))


def _centred(x: Array) -> Array:
    return x - x.mean(axis=0)


def _blocks(num: int, width: int) -> Iterator[slice]:
    size = max(1, _VALUES // max(width, 1))
    return (slice(start, min(start + size, num)) for start in range(0, num, size))


def _pair(first: ArrayLike, second: ArrayLike, *, least: int) -> tuple[Array, Array]:
    x, y = _matrix(first, "first"), _matrix(second, "second")
    if len(x) != len(y):
        raise ValueError(f"Expected two representations of the same examples, but got {len(x)} and {len(y)} examples.")
    if len(x) < least:
        raise ValueError(f"Expected at least {least} examples, but got {len(x)}.")
    return x, y


def _matrix(values: ArrayLike, name: str) -> Array:
    x = np.asarray(values, np.float64)
    if x.ndim != 2:
        raise ValueError(f"Expected `{name}` to have the shape (example, feature), but got {x.shape}.")
    if not np.isfinite(x).all():
        raise ValueError(f"Expected finite features, but {np.count_nonzero(~np.isfinite(x))} in `{name}` are not.")
    return x
