"""Whether a model answers as its maker says, before anything is made of its answers."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from remnant.lab.foreign.preprocessing import IMAGENET, Preprocessing

SAMPLE = 500
"""Examples on which other preprocessings are tried."""


@dataclass(frozen=True)
class Expectation:
    """The share of right answers that the model's maker states, and how far from it is still the same."""

    share: float
    tolerance: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            hint = f" Write {self.share / 100:g}." if 1 < self.share <= 100 else ""
            raise ValueError(f"Expected `expect` as a share in (0, 1], but got {self.share}.{hint}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"Expected `tolerance` in [0, 1), but got {self.tolerance}.")

    def misses(self, share: float, *, sampled: int | None = None) -> bool:
        """Whether a share differs by more than the tolerance, and 4 standard errors where it is that of a sample."""
        slack = 0.0 if sampled is None else 4 * _standard_error(self.share, sampled)
        return abs(share - self.share) > self.tolerance + slack + 1e-9


@dataclass(frozen=True, eq=False)
class Evidence:
    """What there is to find out why a model is wrong."""

    name: str
    predictions: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    steps: Any
    """The preprocessing that was used."""
    normal: Preprocessing | None = None
    """The preset "dataset", where there is one."""
    retry: Callable[[Preprocessing], float] | None = None
    """The share of right answers on a sample with another preprocessing; None if there is nothing to try."""


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of right answers."""
    return float((predictions == labels).mean())


def refuse(expected: Expectation, evidence: Evidence) -> ValueError:
    """The error for a model that is not as good, or better, than was said, with the cause where it can be found."""
    found = accuracy(evidence.predictions, evidence.labels)
    why = _cause(expected, evidence, found)
    return ValueError(
        f"Expected {evidence.name} to be right on {_percent(expected.share)} (within {100 * expected.tolerance:g} "
        f"points) of the examples, but it is on {_percent(found)} of {len(evidence.labels):,}. {why} Nothing else was "
        "computed."
    )


def chance_note(evidence: Evidence) -> str | None:
    """A warning if the answers are no better than the most frequent class, else None."""
    number = len(evidence.labels)
    frequent = float(np.bincount(evidence.labels).max() / number)
    found = accuracy(evidence.predictions, evidence.labels)
    if found > frequent + 2.326 * _standard_error(frequent, number):  # one-sided, 1 %
        return None
    permuted = _permutation(evidence)
    hint = permuted or "Wrong preprocessing, an untrained model, or another order of classes?"
    return (
        f"{evidence.name} is right on {_percent(found)}, no better than always giving the most frequent class "
        f"({_percent(frequent)}). {hint} State `expect` to have the usual causes tried."
    )


def _cause(expected: Expectation, evidence: Evidence, found: float) -> str:
    if found < expected.share:
        permuted = _permutation(evidence)
        if permuted:
            return permuted
        if evidence.retry is not None and isinstance(evidence.steps, Preprocessing):
            tried = _other_preprocessing(expected, evidence, evidence.retry)
            if tried:
                return tried
        return (
            "Usual causes: other mean and std, BGR instead of RGB, another size or crop, another order of classes, "
            "other weights, or other examples (a training split, a subset)."
        )
    return "Is it another model, or are the examples easier (a training split)? Or correct `expect`."


def _other_preprocessing(expected: Expectation, evidence: Evidence, retry: Callable[[Preprocessing], float]) -> str:
    tried: dict[str, float] = {}
    for steps in variants(evidence.steps, evidence.normal):
        try:
            tried[str(steps)] = retry(steps)
        except ValueError:
            continue
    if not tried:
        return ""
    best = max(tried, key=lambda text: tried[text])
    size = min(SAMPLE, len(evidence.labels))
    here = accuracy(evidence.predictions, evidence.labels)
    explained = not expected.misses(tried[best], sampled=size)
    if explained or tried[best] > here + 8 * _standard_error(here, size):
        end = "use that." if explained else "nearer, but not yet what was expected."
        return (
            f"With preprocessing {best!r} instead of {str(evidence.steps)!r} it is right on {_percent(tried[best])} of "
            f"{size}: {end}"
        )
    return (
        f"Another mean and std or BGR are not the cause: of {len(tried)} usual preprocessings the best gives "
        f"{_percent(tried[best])} on {size} examples. Other causes: another size or crop, other weights, or "
        "other examples."
    )


def variants(steps: Preprocessing, normal: Preprocessing | None) -> list[Preprocessing]:
    """The usual other normalizations, each with both orders of colours."""
    normals = [Preprocessing(), IMAGENET, Preprocessing(mean=(0.5,), std=(0.5,)), Preprocessing(range="0..255")]
    normals += [] if normal is None else [normal]
    found = []
    for other in (steps, *normals):
        for channels in (steps.channels, "RGB" if steps.channels == "BGR" else "BGR"):
            made = replace(steps, mean=other.mean, std=other.std, range=other.range, channels=channels)
            if made != steps and made not in found:
                found.append(made)
    return found


def _permutation(evidence: Evidence) -> str:
    """A sentence if renaming the model's classes explains its answers, else "".

    The renaming that makes most answers right is found on every other example, and judged on the others.
    """
    number, classes = len(evidence.labels), evidence.classes
    if number < 10 * len(classes):
        return ""
    fit, rest = slice(0, None, 2), slice(1, None, 2)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (evidence.predictions[fit], evidence.labels[fit]), 1)
    renamed = linear_sum_assignment(confusion, maximize=True)[1]
    moved = [i for i in range(len(classes)) if renamed[i] != i and confusion[i].sum()]
    before = accuracy(evidence.predictions[rest], evidence.labels[rest])
    after = accuracy(renamed[evidence.predictions[rest]], evidence.labels[rest])
    chance = np.bincount(evidence.labels).max() / number
    size = number // 2
    if not moved or after < before + 6 * _standard_error(0.5, size) or after < chance + 6 * _standard_error(0.5, size):
        return ""
    shown = ", ".join(f"{i} is {classes[renamed[i]]!r}" for i in moved[:4])
    return (
        f"Its classes are in another order than those of the data: with {len(moved)} of {len(classes)} renamed (its "
        f"output {shown}{', ...' if len(moved) > 4 else ''}) it is right on {_percent(after)}. Reorder the "
        "data's classes or the model's outputs."
    )


def _standard_error(share: float, number: int) -> float:
    return math.sqrt(max(share * (1 - share), 1 / number) / number)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
