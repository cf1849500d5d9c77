"""What attacks on membership find: signals of models on random subsets, scores, and summaries over target models."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.subset_trials import margins
from remnant.finding import NotApplicable
from remnant.population import subsets
from remnant.stats import membership
from remnant.stats.roc import Roc, roc

LEVELS = (0.001, 0.01)
"""False positive rates at which true positive rates are given."""
ATTACKS = ("lira_online", "lira_offline", "rmia", "loss")
HEADLINE = "lira_online"
OWN, REFERENCE = "own", "reference"
"""Whose shadow models: compressed like the target, or models of the reference."""
_LOGITS = 2**22
_POINTS = 41

Key = tuple[int, int, bytes]
"""Number, seed and content of a training subset."""


@dataclass(frozen=True)
class Signals:
    """How sure the subset models of one scheme are of the true class, on training and on test examples."""

    scheme: str
    keys: tuple[Key, ...]
    """The subset of each model."""
    kind: str
    """"confidence" (logit-scaled) or "margin"."""
    examples: NDArray[np.intp]
    """Rows of the training set that all arrays cover."""
    included: NDArray[np.bool_]
    """Shape (trial, training example)."""
    signal: NDArray[np.float32]
    """Shape (trial, training example)."""
    outside: NDArray[np.float32] | None
    """Shape (trial, test example); None where the answers on the test examples have no scores."""

    @property
    def num_trials(self) -> int:
        """Number of models."""
        return len(self.keys)

    def rows(self, keys: tuple[Key, ...]) -> "Signals":
        """Of the models with these subsets, in this order."""
        place = {key: row for row, key in enumerate(self.keys)}
        chosen = np.array([place[key] for key in keys], np.intp)
        outside = None if self.outside is None else self.outside[chosen]
        return Signals(self.scheme, keys, self.kind, self.examples, self.included[chosen], self.signal[chosen], outside)


@dataclass(frozen=True)
class Attack:
    """One attack on the models of a scheme, each in turn the target."""

    scheme: str
    shadows: str
    """`OWN` or `REFERENCE`."""
    name: str
    keys: tuple[Key, ...]
    used: NDArray[np.intp]
    """Models that are targets: those with scores of members and of others."""
    area: NDArray[np.float64]
    """Area under the ROC curve of each target."""
    advantage: NDArray[np.float64]
    found: NDArray[np.int64]
    """Members found at the false positive rates `LEVELS`, shape (target, level)."""
    false: NDArray[np.int64]
    """Others taken for members there."""
    num_members: NDArray[np.int64]
    num_others: NDArray[np.int64]
    calibrated: NDArray[np.float64]
    """True and false positive rates of the median threshold of the other targets, shape (target, level, 2)."""
    grid: NDArray[np.float64]
    """False positive rates of `curve`."""
    curve: NDArray[np.float64]
    """True positive rates of each target, shape (target, grid)."""
    called: NDArray[np.bool_]
    """Examples called members at the last of `LEVELS`, shape (target, training example)."""

    @property
    def rates(self) -> NDArray[np.float64]:
        """True positive rates at `LEVELS`, shape (target, level)."""
        return self.found / self.num_members[:, None]


def signals(population: xr.Dataset, scheme: str, *, probe: xr.Dataset | None) -> Signals:
    """Of the subset trials of a scheme: from the probe "confidence" if all were probed, else margins."""
    trials = subsets(population, scheme)
    included = trials["included"].values
    seeds, numbers = trials["seed"].values.tolist(), trials["subset"].values.tolist()
    keys = tuple((n, s, row.tobytes()) for n, s, row in zip(numbers, seeds, np.packbits(included, axis=1), strict=True))
    every = np.arange(included.shape[1])
    if probe is None:
        signal = trials["train_margin"].values.astype(np.float32)
        outside = margins(trials) if _has_scores(trials) else None
        return Signals(scheme, keys, "margin", every, included, signal, outside)
    place = {name: row for row, name in enumerate(population["train_example"].values.tolist())}
    examples = np.array([place[name] for name in probe["example"].values.tolist()])
    chosen = probe.sel(trial=trials["trial"].values)["confidence"].values
    outside = _outside(trials) if _has_scores(trials) else None
    return Signals(scheme, keys, "confidence", examples, included[:, examples], chosen.astype(np.float32), outside)


def usable_probe(population: xr.Dataset, schemes: list[str]) -> tuple[xr.Dataset | None, str]:
    """The probe "confidence", if it measured all subset trials of the schemes; else None and why, for a reader."""
    probes = population.attrs.get("probes") or {}
    if "confidence" not in probes:
        return None, "it was not measured"
    probe = probes["confidence"]
    known = set(probe["trial"].values.tolist())
    for scheme in schemes:
        trials = subsets(population, scheme)["trial"].values.tolist()
        if any(name not in known for name in trials):
            return None, f"it was not measured on all subset trials of {scheme}"
    return probe, ""


def attack(target: Signals, shadow: Signals, name: str, included: NDArray[np.bool_] | None = None) -> Attack:
    """Scores of every target model, summarized. `included` replaces the true membership (for the null).

    Raises
    ------
    NotApplicable
        If fewer than two targets have scores of members and of others.
    """
    member = target.included if included is None else included
    scores = _scores(target, shadow, name, member)
    defined = ~np.isnan(scores)
    used = np.flatnonzero((defined & member).any(axis=1) & (defined & ~member).any(axis=1))
    if len(used) < 2:
        raise NotApplicable(
            "Expected training examples both in and out of each subset and of the others, but too many are in all or "
            "in none. Train more subset trials, or choose another `fraction`."
        )
    curves = [roc(scores[row], member[row]) for row in used]
    points = np.array([curve.point(LEVELS) for curve in curves])
    thresholds = np.array([curve.threshold[p] for curve, p in zip(curves, points, strict=True)])
    grid = _grid(curves)
    return Attack(
        scheme=target.scheme,
        shadows=OWN if shadow.scheme == target.scheme else REFERENCE,
        name=name,
        keys=tuple(target.keys[row] for row in used),
        used=used,
        area=np.array([curve.area for curve in curves]),
        advantage=np.array([curve.advantage for curve in curves]),
        found=np.array([curve.true_positives[p] for curve, p in zip(curves, points, strict=True)]),
        false=np.array([curve.false_positives[p] for curve, p in zip(curves, points, strict=True)]),
        num_members=np.array([curve.num_members for curve in curves]),
        num_others=np.array([curve.num_others for curve in curves]),
        calibrated=_calibrated(curves, thresholds),
        grid=grid,
        curve=np.array([curve.true_positive_rate(grid) for curve in curves]),
        called=scores[used] >= thresholds[:, -1:],
    )


def can_run(name: str, target: Signals) -> bool:
    """Whether an attack has what it needs: RMIA compares with examples outside of every training set."""
    return name != "rmia" or target.outside is not None


def pair_up(target: Signals, shadow: Signals) -> tuple[Signals, Signals]:
    """Models of two schemes on the same subsets, in one order."""
    known = set(shadow.keys)
    keys = tuple(key for key in target.keys if key in known)
    return target.rows(keys), shadow.rows(keys)


def _scores(target: Signals, shadow: Signals, name: str, member: NDArray[np.bool_]) -> NDArray[np.float32]:
    if name == "loss":
        return target.signal
    if name == "rmia":
        if target.outside is None or shadow.outside is None:
            raise ValueError("Expected scores on test examples for RMIA, but the population has none.")
        return membership.rmia(target.signal, shadow.signal, member, (target.outside, shadow.outside))
    return membership.lira(target.signal, shadow.signal, member, online=name == "lira_online")


def _calibrated(curves: list[Roc], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.empty((len(curves), len(LEVELS), 2))
    for row, curve in enumerate(curves):
        threshold = np.median(np.delete(thresholds, row, axis=0), axis=0)
        # Thresholds fall: the last point whose threshold is still at least this one.
        point = np.searchsorted(-curve.threshold, -threshold, side="right") - 1
        found[row, :, 0] = curve.true_positives[point] / curve.num_members
        found[row, :, 1] = curve.false_positives[point] / curve.num_others
    return found


def _grid(curves: list[Roc]) -> NDArray[np.float64]:
    """False positive rates from one example on, evenly spaced in their logarithm."""
    least = 1 / min(curve.num_others for curve in curves)
    return np.unique(np.append(np.geomspace(least, 1, _POINTS), [rate for rate in LEVELS if rate >= least]))


def _has_scores(trials: xr.Dataset) -> bool:
    return "logits" in trials and "label" in trials and trials.sizes["example"] > 0


def _outside(trials: xr.Dataset) -> NDArray[np.float32]:
    label = trials["label"].values
    found = np.empty((trials.sizes["trial"], len(label)), np.float32)
    for rows in _blocks(trials):
        found[:, rows] = membership.logit_confidence(trials["logits"][:, rows].values, label[rows])
    return found


def _blocks(trials: xr.Dataset) -> Iterator[slice]:
    num_trials, num_examples, num_classes = trials["logits"].shape
    size = max(1, _LOGITS // (num_trials * num_classes))
    return (slice(start, min(start + size, num_examples)) for start in range(0, num_examples, size))
