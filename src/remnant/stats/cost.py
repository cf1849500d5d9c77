"""What flips cost when some classes are farther apart than others: distances of classes, and cost with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special


def costs(
    compressed: NDArray[np.integer], reference: NDArray[np.integer], distance: NDArray[np.floating]
) -> NDArray[np.float64]:
    """d(compressed, reference) on every example: 0 where the two answer the same.

    The sum of these with the weights mu of the examples is the total misclassification cost Delta_{mu,d}.

    Parameters
    ----------
    compressed, reference
        Classes, of one shape.
    distance
        Shape (class, class); row: what is answered, column: what should have been.

    References
    ----------
    joseph2020correctness, section II.A
    """
    return np.asarray(distance, np.float64)[compressed, reference]


def checked_distance(distance: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """The distance of classes, after it was checked; it need be neither symmetric nor a metric.

    Raises
    ------
    ValueError
        If it is not of shape (class, class), not finite, negative, not 0 on the diagonal, or 0 everywhere.
    """
    found = np.asarray(distance, np.float64)
    if found.shape != (num_classes, num_classes):
        raise ValueError(f"Expected a distance of shape ({num_classes}, {num_classes}), but got {found.shape}.")
    if not np.isfinite(found).all() or found.min() < 0:
        raise ValueError("Expected finite distances >= 0, but some are negative, NaN or infinite.")
    if np.diagonal(found).any():
        wrong = int(np.flatnonzero(np.diagonal(found))[0])
        raise ValueError(f"Expected the distance of a class from itself to be 0, but class {wrong} has another.")
    if not found.any():
        raise ValueError("Expected some distance above 0, but all are 0: nothing would cost anything.")
    return found


def zero_one(num_classes: int) -> NDArray[np.float64]:
    """1 between any two classes: the cost is then the share of examples that flip."""
    return 1.0 - np.eye(num_classes)


def superclass_distance(superclass: ArrayLike) -> NDArray[np.float64]:
    """1/2 between classes of one superclass, 1 between classes of two.

    Parameters
    ----------
    superclass
        Index of the superclass of each class, shape (class,).
    """
    of = np.asarray(superclass)
    found = np.where(of[:, None] == of, 0.5, 1.0)
    np.fill_diagonal(found, 0)
    return found


def confusion_distance(confusion: ArrayLike) -> NDArray[np.float64]:
    """How well a model tells two classes apart: d(a, b) = 1 - 2 e(a, b), at least 0.

    e is the error rate between the two, with both as frequent: of the answers a or b on examples of the two classes,
    e = (p(b | a) + p(a | b)) / (p(a | a) + p(b | a) + p(a | b) + p(b | b)). 1: never taken for each other, or no such
    answer; 0: no better than a coin. Symmetric.

    Parameters
    ----------
    confusion
        Number of examples by true class (row) and answer (column).
    """
    counts = np.asarray(confusion, np.float64)
    rates = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    mixed = rates + rates.T
    own = np.diagonal(rates)
    total = own[:, None] + own + mixed
    error = np.divide(mixed, total, out=np.zeros_like(total), where=total > 0)
    found = np.maximum(1 - 2 * error, 0)
    np.fill_diagonal(found, 0)
    return found


def hierarchy_distance(parents: Mapping[str, Sequence[str]], classes: Sequence[str]) -> NDArray[np.float64]:
    """Height of the lowest common ancestor of two classes over the greatest such height, in (0, 1].

    The height of a node is the longest way down to one of the classes. Of several common ancestors the lowest counts;
    a node may have several parents. 1 for classes without a common ancestor.

    Parameters
    ----------
    parents
        Node to its parents; roots have none or are left out.
    classes
        Nodes that are classes.

    Raises
    ------
    ValueError
        If a class is not in the hierarchy, is an ancestor of another one, or the hierarchy has a cycle.

    References
    ----------
    deng2010what, section 5.1; bertinetto2020making, section 3
    """
    known = {*parents, *(parent for found in parents.values() for parent in found)}
    if missing := [name for name in classes if name not in known]:
        raise ValueError(
            f"Expected every class in the hierarchy, but {len(missing)} are not, such as {missing[:3]}. Classes are "
            "found by their names."
        )
    below: dict[str, set[int]] = {}
    height: dict[str, int] = {}
    for number, name in enumerate(classes):
        _climb(name, number, parents, below, height)
    if inner := [name for name in classes if len(below[name]) > 1]:
        raise ValueError(f"Expected classes to be leaves, but {inner[:3]} are above other classes.")
    found = np.full((len(classes), len(classes)), np.nan)
    for node in sorted(below, key=lambda name: (height[name], name)):
        members = np.fromiter(below[node], int)
        if len(members) > 1:
            square = np.ix_(members, members)
            found[square] = np.where(np.isnan(found[square]), height[node], found[square])
    highest = max(1, max(height.values()))
    np.fill_diagonal(found, 0)
    return np.where(np.isnan(found), 1.0, found / highest)


def _climb(
    name: str, number: int, parents: Mapping[str, Sequence[str]], below: dict[str, set[int]], height: dict[str, int]
) -> None:
    """Adds a class to all of its ancestors, with the longest way up to each."""
    level, here = 0, {name}
    while here:
        for node in here:
            below.setdefault(node, set()).add(number)
            height[node] = max(height.get(node, 0), level)
        here = {parent for node in here for parent in parents.get(node, ())}
        level += 1
        if level > len(parents) + 1:
            raise ValueError(f"Expected a hierarchy without cycles, but {name!r} is above itself or below a cycle.")


def is_metric(distance: NDArray[np.floating]) -> bool:
    """Whether the distance is symmetric, above 0 between classes, and no detour is shorter."""
    if not np.allclose(distance, distance.T) or (distance[~np.eye(len(distance), dtype=bool)] <= 0).any():
        return False
    return all((distance <= distance[:, [via]] + distance[[via]] + 1e-12).all() for via in range(len(distance)))


def gamma_interval(values: NDArray[np.floating], largest: float, *, level: float = 0.95) -> tuple[float, float]:
    """Interval for a weighted sum of rare events from the weights of those that happened.

    For the total cost of flips, each of which has the cost `values`; also where nothing flipped. Flips are taken as
    Poisson events, which is exact where they are rare and too wide else.

    Parameters
    ----------
    values
        Weight of each event, zeros left out or not.
    largest
        The largest weight that an event can have.

    References
    ----------
    fay1997confidence, equations for the gamma interval
    """
    total, variance = float(np.sum(values)), float(np.sum(np.square(values)))
    tail = (1 - level) / 2
    low = 0.0 if total <= 0 else variance / total * special.gammaincinv(total**2 / variance, tail)
    total, variance = total + largest, variance + largest**2
    return float(low), float(variance / total * special.gammaincinv(total**2 / variance, 1 - tail))


def severity_by_chance(
    compressed: NDArray[np.integer], reference: NDArray[np.integer], distance: NDArray[np.floating]
) -> float:
    """Mean distance of flips if each went to another flip's destination at random; NaN without flips.

    Destinations are dealt anew to the flips, those that lead to where they came from left out. A mean distance of the
    flips below this says that they go to near classes more than their starts and ends alone would make them.

    Parameters
    ----------
    compressed, reference
        The two answers on the examples where they differ.
    """
    num = len(distance)
    ends = np.bincount(compressed, minlength=num)[:, None] * np.bincount(reference, minlength=num).astype(float)
    np.fill_diagonal(ends, 0)
    return float((ends * distance).sum() / ends.sum()) if ends.any() else float("nan")
