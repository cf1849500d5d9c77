"""The codec setting with the fewest bytes that keeps a model's accuracy, by bisection."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.decoding import change_interval
from remnant.codecs import Codec
from remnant.codecs.sizes import ACCOUNTINGS
from remnant.fidelity.bench import Bench, Evaluated
from remnant.fidelity.ladders import Ladder, ladder
from remnant.fields import check

Progress = Callable[[int, int, str], None]
AROUND = (-2, -3, 1, 2)
"""Steps from the edge that bisection found at which settings are tested as well: accuracy is not quite monotone."""


@dataclass(frozen=True)
class Fitted:
    """The setting with the fewest bytes whose fall of accuracy is within a limit."""

    drop: float
    """Fall of the accuracy that was allowed, as a difference of shares."""
    accounting: str
    """How bytes were counted in the search."""
    chosen: Evaluated | None
    """The setting; None if no tested one keeps the accuracy."""
    change: tuple[float, float, float]
    """Change of the accuracy with it and its 95 % interval, on the examples that the search did not read."""
    accuracy: tuple[float, float]
    """On these examples, raw and decoded; mean over models."""
    share_interval: tuple[float, float]
    """95 % interval of its share of the raw bytes: among tested settings, over bootstrap samples of the examples
    that chose. NaN where no setting is enough for too many of the samples."""
    examples: tuple[int, int]
    """Numbers of examples that chose, and that report."""
    tried: pd.DataFrame
    """Tested settings, fewest bytes first: the parameter, share_of_uint8, psnr, ssim, the change of accuracy in either
    half in points (change_low, change_high: its interval in the reporting half), is_enough."""

    @property
    def codec(self) -> Codec | None:
        """The codec with its parameter."""
        return None if self.chosen is None else self.chosen.codec


def fit(
    bench: Bench,
    codec: str = "jpeg",
    *,
    drop: float = 0.02,
    accounting: str = "headers shared",
    seed: int = 0,
    progress: Progress | None = None,
) -> Fitted:
    """The setting of one codec with the fewest bytes whose fall of accuracy is at most `drop`.

    A random half of the test examples of each class decides, the other half reports, so that the reported change is
    not flattered by the search. Bisection over the codec's parameter finds an edge; settings beside it are tested
    too; among all tested ones that fall by at most `drop` in the first half, that with the fewest bytes is chosen.
    With several models, their mean counts.

    Parameters
    ----------
    codec
        Name, with other parameters than the searched one: "jpeg(subsampling=4:4:4)"; see `PARAMETERS`.
    drop
        As a difference of shares: 0.02 is two points.
    accounting
        How bytes are counted; one of `remnant.codecs.sizes.ACCOUNTINGS` but "container".

    Raises
    ------
    ValueError
        For a codec that has no such parameter or cannot store the images, a `drop` outside [0, 1), or an accounting
        that is unknown.
    """
    check(isinstance(drop, int | float) and 0 <= drop < 1, "drop", "in [0, 1); two points of accuracy are 0.02", drop)
    known = [name for name in ACCOUNTINGS if name != "container"]
    check(accounting in known, "accounting", f"one of {known}", accounting)
    search = _Search(bench, ladder(codec), drop, accounting, halves(_labels(bench, codec), seed), progress)
    edge = _edge(len(search.steps), search.enough)
    for step in AROUND:
        search.test(edge + step)
    # The upper end of the interval is known once every bootstrap sample has a tested setting that is enough.
    reach = 2 * max(AROUND)
    while np.isnan(_share_interval(*search.changes(), drop, seed)[1]) and search.test(edge + reach):
        reach *= 2
    return search.found(seed)


def halves(labels: NDArray[np.integer], seed: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two random halves of the examples, each class split as evenly as can be, in rising order."""
    mixed = np.random.default_rng(seed).permutation(len(labels))
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    return np.sort(order[0::2]), np.sort(order[1::2])


@dataclass(frozen=True, eq=False)
class _Search:
    """One search: what was tested, and how it is judged."""

    bench: Bench
    steps: Ladder
    drop: float
    accounting: str
    halves: tuple[NDArray[np.intp], NDArray[np.intp]]
    """Examples that choose, and that report."""
    progress: Progress | None
    tested: dict[int, Evaluated] = field(default_factory=dict)
    """By place on the ladder."""

    @cached_property
    def raw(self) -> NDArray[np.bool_]:
        """Which raw images each model gets right."""
        return self.bench.right(self.bench.raw)

    def test(self, place: int) -> bool:
        """Whether there is such a place, the last one at most, that was not tested before; it is tested now."""
        place = min(place, len(self.steps) - 1)
        if place < 0 or place in self.tested:
            return False
        self.enough(place)
        return True

    def enough(self, place: int) -> bool:
        """Whether the accuracy on the choosing half falls by at most the limit."""
        codec = self.steps.codecs[place]
        if self.progress is not None:
            self.progress(len(self.tested), len(self.steps).bit_length() + len(AROUND), codec.label)
        self.tested[place] = self.bench.evaluate(codec)
        return float(self._change(place).mean()) >= -self.drop

    def changes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Share of the raw bytes of each tested setting, rising, and its changes on the choosing half."""
        order = self._order()
        shares = [self.tested[place].size(self.accounting).uint8_share for place in order]
        return np.array(shares), np.stack([self._change(place) for place in order])

    def found(self, seed: int) -> Fitted:
        """The result."""
        order, (shares, changes) = self._order(), self.changes()
        kept = [place for place, change in zip(order, changes, strict=True) if float(change.mean()) >= -self.drop]
        chosen, reports = self.tested[kept[0]] if kept else None, self.halves[1]
        right = self.raw if chosen is None else self.bench.right(chosen.logits)
        return Fitted(
            drop=self.drop,
            accounting=self.accounting,
            chosen=chosen,
            change=(0.0, 0.0, 0.0) if chosen is None else _change(self.raw, right, reports),
            accuracy=(float(self.raw[:, reports].mean()), float(right[:, reports].mean())),
            share_interval=_share_interval(shares, changes, self.drop, seed),
            examples=(len(self.halves[0]), len(reports)),
            tried=pd.DataFrame([self._row(place) for place in order]),
        )

    def _order(self) -> list[int]:
        """Tested places, fewest bytes first."""
        return sorted(self.tested, key=lambda place: (self.tested[place].size(self.accounting).bytes, place))

    def _change(self, place: int) -> NDArray[np.float64]:
        """Mean over models of what changed for each example that chooses: 1 gained, -1 lost."""
        rows, now = self.halves[0], self.bench.right(self.tested[place].logits)
        return (now[:, rows].astype(np.int8) - self.raw[:, rows]).mean(axis=0, dtype=np.float64)

    def _row(self, place: int) -> dict[str, Any]:
        one, searched = self.tested[place], float(self._change(place).mean())
        estimate, low, high = _change(self.raw, self.bench.right(one.logits), self.halves[1])
        return {
            self.steps.parameter: self.steps.value(place),
            "share_of_uint8": one.size(self.accounting).uint8_share,
            "psnr": one.psnr,
            "ssim": one.ssim,
            "change_search_half_points": 100 * searched,
            "change_points": 100 * estimate,
            "change_low": 100 * low,
            "change_high": 100 * high,
            "is_enough": searched >= -self.drop,
        }


def _labels(bench: Bench, codec: str) -> NDArray[np.integer]:
    """Labels of the test examples, after it was checked that the codec can store their images."""
    bench.check(ladder(codec).codecs[:1])
    labels = bench.material.data.labels
    assert labels is not None  # data sets of remnant have them
    return labels


def _edge(number: int, enough: Callable[[int], bool]) -> int:
    """The first place that is enough, if all after it are; `number` if the search meets none."""
    below, above = -1, number
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if enough(middle) else (middle, above)
    return above


def _share_interval(
    shares: NDArray[np.float64], changes: NDArray[np.float64], drop: float, seed: int
) -> tuple[float, float]:
    """Percentiles of the smallest share that is enough, over 1,000 bootstrap samples of the examples.

    Parameters
    ----------
    shares
        Rising, of the tested settings.
    changes
        Shape (setting, example).
    """
    rng, num = np.random.default_rng(seed), changes.shape[1]
    found = []
    for _ in range(10):
        drawn = rng.multinomial(num, np.full(num, 1 / num), size=100)
        is_enough = drawn @ changes.T / num >= -drop
        found.append(np.where(is_enough.any(axis=1), shares[is_enough.argmax(axis=1)], np.inf))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975], method="nearest")
    return float(low) if np.isfinite(low) else np.nan, float(high) if np.isfinite(high) else np.nan


def _change(raw: NDArray, right: NDArray, rows: NDArray[np.intp]) -> tuple[float, float, float]:
    before, after = raw[:, rows], right[:, rows]
    return change_interval(before & ~after, after & ~before)
