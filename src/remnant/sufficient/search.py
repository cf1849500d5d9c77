"""The smallest share of the training examples that keeps the accuracy, by bisection."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant import execute
from remnant.answers import predicted
from remnant.lab.selection import Selection
from remnant.schemes import Dense
from remnant.stats.selection import smallest_share_interval
from remnant.stats.trial_intervals import Interval, mean_interval
from remnant.store import Store
from remnant.sufficient.choice import Computing, choose, recipe_of
from remnant.trial import Recipe, Trial


@dataclass(frozen=True)
class Found:
    """The smallest share of the training examples that keeps the accuracy."""

    method: str
    drop: float
    """Fall of the accuracy that was allowed, as a difference of shares."""
    selection: Selection | None
    """The smallest tested choice of examples that kept the accuracy; None if all of them are needed."""
    share: Interval
    """Where the accuracy falls by exactly `drop`, between tested shares, with its interval over seeds."""
    at_limit: bool
    """The smallest share that was allowed is enough: the truth may be smaller."""
    change: Interval
    """Change of the accuracy with `selection`, over seeds, on the test examples that the search did not read."""
    tried: pd.DataFrame
    """Each tested share, largest first: share, train_examples, change on either half, low and high, is_enough."""


def search(
    store: str | Path | Store,
    method: str,
    *,
    drop: float = 0.02,
    seeds: Iterable[int] = range(5),
    recipe: Recipe | None = None,
    smallest: float = 0.01,
    resolution: float = 0.1,
    computing: Computing | None = None,
    **options: Any,
) -> Found:
    """The smallest share of the training examples, chosen by `method`, that costs at most `drop` of accuracy.

    Shares are halved until the accuracy falls by more, then the gap is bisected on the logarithm of the share. Each
    tested share is trained with all seeds, beside dense models of the same seeds; trials that the store holds are not
    repeated, so that an interrupted search goes on where it stopped. A random half of the test examples decides, the
    other half reports: the change of accuracy of the choice is not flattered by the search.

    Parameters
    ----------
    drop
        Allowed fall of the mean accuracy, as a difference of shares: 0.02 is two points.
    smallest
        Shares below this are not tried.
    resolution
        The search ends when the smallest share that is enough is at most this part above one that is not.
    options
        Of `choose`: balance, floor, cutoff, scored, draws, seed.

    Raises
    ------
    ValueError
        For a `drop`, `smallest` or `resolution` out of range, fewer than 2 seeds, and all that `choose` refuses.
    """
    seeds = list(seeds)
    _check(drop, smallest, resolution, seeds)
    store = Store.of(store)
    recipe, computing = recipe_of(store, recipe), computing or Computing()
    dense = [Trial(recipe, Dense(), seed) for seed in seeds]
    _train(store, dense, computing, "all data")
    halves = _halves(store, dense[0])
    base = _right(store, dense)
    tested: dict[float, tuple[Selection, NDArray[np.float64]]] = {}

    def enough(share: float) -> bool:
        chosen = choose(store, method, share, recipe=recipe, computing=computing, **options)
        trials = [Trial(recipe, chosen.scheme, seed) for seed in seeds]
        _train(store, trials, computing, f"{share:.1%} of the data")
        difference = _right(store, trials) - base
        tested[share] = chosen, np.stack([difference[:, half].mean(axis=1) for half in halves])
        return float(tested[share][1][0].mean()) >= -drop

    low, high = _bracket(enough, smallest)
    while low is not None and high / low > 1 + resolution:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return _found(method, drop, tested, at_limit=low is None)


def _bracket(enough: Any, smallest: float) -> tuple[float | None, float]:
    """A share that is not enough (None if the smallest is) and one that is, at most twice as large."""
    high = 1.0
    while high > smallest:
        share = max(high / 2, smallest)
        if not enough(share):
            return share, high
        high = share
    return None, high


def _found(
    method: str, drop: float, tested: dict[float, tuple[Selection, NDArray[np.float64]]], *, at_limit: bool
) -> Found:
    shares = sorted(tested)
    num_seeds = tested[shares[0]][1].shape[1]
    changes = np.stack([tested[share][1][0] for share in shares] + [np.zeros(num_seeds)], axis=1)
    share = smallest_share_interval([*shares, 1.0], changes, drop)
    kept = [s for s in shares if changes[:, shares.index(s)].mean() >= -drop]
    # Bisection leaves one boundary: everything that it found enough lies above what was not.
    best = tested[min(kept)] if kept else None
    nothing = np.zeros(num_seeds)
    return Found(
        method=method,
        drop=drop,
        selection=best[0] if best else None,
        share=share,
        at_limit=at_limit,
        change=mean_interval(best[1][1] if best else nothing),
        tried=pd.DataFrame([_row(s, *tested[s], drop=drop) for s in reversed(shares)]),
    )


def _row(share: float, chosen: Selection, change: NDArray[np.float64], *, drop: float) -> dict[str, Any]:
    reported = mean_interval(change[1])
    return {
        "share": share,
        "train_examples": round(np.mean([len(ids) for ids in chosen.lists])),
        "selection": chosen.key,
        "change_search_half": float(change[0].mean()),
        "change": float(reported.estimate),
        "low": float(reported.low),
        "high": float(reported.high),
        "is_enough": bool(change[0].mean() >= -drop),
    }


def _train(store: Store, trials: list[Trial], computing: Computing, what: str) -> None:
    def report(state: execute.Progress) -> None:
        assert computing.progress is not None
        computing.progress(state.finished, state.total, what)

    execute.run(
        trials,
        store,
        engine=computing.engine,
        workers=computing.workers,
        root=computing.root,
        progress=report if computing.progress else None,
    )


def _right(store: Store, trials: list[Trial]) -> NDArray[np.float64]:
    """Whether each trial is right on each test example, shape (trial, example), 0 or 1."""
    labels = store.dataset(store.manifest(trials[0])["dataset"])[1]["test_labels"]
    return np.stack([predicted(store.read(trial)) == labels for trial in trials]).astype(np.float64)


def _halves(store: Store, trial: Trial) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Test examples that decide, and those that report: each class is split as evenly as can be."""
    labels = store.dataset(store.manifest(trial)["dataset"])[1]["test_labels"]
    mixed = np.random.default_rng(0).permutation(len(labels))
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    return np.sort(order[0::2]), np.sort(order[1::2])


def _check(drop: float, smallest: float, resolution: float, seeds: list[int]) -> None:
    if not 0 <= drop < 1:
        raise ValueError(f"Expected `drop` in [0, 1), but got {drop!r}. Two points of accuracy are 0.02.")
    if not 0 < smallest < 1:
        raise ValueError(f"Expected `smallest` in (0, 1), but got {smallest!r}.")
    if not resolution > 0:
        raise ValueError(f"Expected `resolution` > 0, but got {resolution!r}.")
    if len(set(seeds)) < 2:
        raise ValueError(f"Expected at least 2 different `seeds`, but got {seeds}.")
