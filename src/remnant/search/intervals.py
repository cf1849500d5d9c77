"""Measures of what models answer, with intervals over both examples and seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.search.measures import Examples, behaviour
from remnant.stats.agreement import mismatches
from remnant.stats.rates import newcombe_paired, wilson
from remnant.stats.trial_intervals import mean_interval
from remnant.stats.two_way import two_way_mean

_DRAWS = 500
"""Bootstrap samples for measures that are no means."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the ends are None where there is none."""

    estimate: float
    low: float | None = None
    high: float | None = None


def estimates(
    compressed: NDArray[np.integer], dense: NDArray[np.integer], given: Examples, *, seed: int = 0
) -> dict[str, Estimate]:
    """Each measure of `remnant.search.measures.behaviour` as the mean over seeds, with a 95 % interval.

    Shares of examples and the drop of accuracy: Wilson's and Newcombe's intervals for one seed; for several, Student's
    with the error over seeds and over examples. Worst classes and groups: percentiles of bootstrap samples of
    examples (within each class) and seeds. These do not undo that the largest of several noisy numbers is too large.

    Parameters
    ----------
    compressed, dense
        Predicted classes, shape (seed, example).
    seed
        Of the bootstrap.
    """
    found = {name: float(value.mean()) for name, value in behaviour(compressed, dense, given).items()}
    means = _means(compressed, dense, given)
    drawn = _bootstrap(compressed, dense, given, np.random.default_rng(seed))
    result = {}
    for name, value in found.items():
        low, high = means[name] if name in means else np.quantile(drawn[name], (0.025, 0.975))
        result[name] = Estimate(value, float(low), float(high))
    return result


def cost_estimates(measured: Mapping[str, NDArray[np.floating]]) -> dict[str, Estimate]:
    """Measures of shape (seed,) as means with Student's interval over seeds; no interval for one seed."""
    return {name: _over_first(np.asarray(value, float)) for name, value in measured.items()}


def iou_estimate(iou: NDArray[np.floating]) -> Estimate:
    """Mean of indices of shape (seed, example), NaN left out, with Student's interval over examples."""
    known = iou[:, np.isfinite(iou).all(axis=0)]
    if not known.size:
        return Estimate(float("nan"))
    return _over_first(known.mean(axis=0))


def _over_first(values: NDArray[np.float64]) -> Estimate:
    found = mean_interval(values)
    return Estimate(float(found.estimate), *(() if len(values) < 2 else (float(found.low), float(found.high))))


def _means(compressed: NDArray, dense: NDArray, given: Examples) -> dict[str, tuple[Any, Any]]:
    """Intervals of the measures that are means over examples."""
    right, base = compressed == given.label, dense == given.label
    kinds = mismatches(dense, compressed, given.label)
    flags = {"accuracy": right, "dense_accuracy": base, "cie": kinds["cie"], "cie_u": kinds["cie_u"]}
    num_seeds, num = right.shape
    found = {}
    for name, values in {**flags, "accuracy_drop": base.astype(int) - right}.items():
        values = values.astype(float)
        if num_seeds >= 2 and num >= 2 and np.ptp(values):
            squares, by_example = (values**2).sum(), (values.sum(axis=0) ** 2).sum()
            low, high = two_way_mean(values.sum(axis=1)[:, None], [squares], [by_example], [num]).interval()
            found[name] = low[0], high[0]
        elif name == "accuracy_drop":
            both, lost, gained = (int(part.sum()) for part in (base & right, base & ~right, right & ~base))
            total = num_seeds * num
            found[name] = newcombe_paired(*np.array([both, lost, gained, total - both - lost - gained]) / num_seeds)
        else:
            # All values alike: as certain as one model makes it, since seeds share their examples.
            found[name] = wilson(values[0].sum(), num)
    return found


def _bootstrap(
    compressed: NDArray, dense: NDArray, given: Examples, rng: np.random.Generator
) -> dict[str, NDArray[np.float64]]:
    order = np.argsort(given.label, kind="stable")
    label = given.label[order]
    first, sizes = np.searchsorted(label, label), np.bincount(label)[label]
    drawn: dict[str, list[float]] = {}
    for _ in range(_DRAWS):
        rows = order[first + (rng.random(len(label)) * sizes).astype(int)]
        seeds = rng.integers(len(dense), size=len(dense))
        sample = behaviour(compressed[seeds][:, rows], dense[seeds][:, rows], given.take(rows))
        for name, value in sample.items():
            drawn.setdefault(name, []).append(float(value.mean()))
    return {name: np.array(values) for name, values in drawn.items()}
