"""What the trials of a study cost in time and disk."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from remnant.answers import bytes_of_answers
from remnant.schemes import trains
from remnant.store import Store
from remnant.trial import Trial


@dataclass(frozen=True)
class Sizes:
    """What decides the disk that a trial takes."""

    train: int
    test: int
    classes: int
    weights: int | None = None
    """Bytes of a model's state; None if not known."""


@dataclass(frozen=True)
class Cost:
    """Time and disk of the trials of one scheme."""

    scheme: str
    trials: int
    """Trials of the study, parents included."""
    finished: int
    """Of these, in the store."""
    seconds: float | None
    """Of one trial on one worker; None if not known."""
    bytes: float
    """Of one trial on disk."""
    measured: bool
    """Whether both are those of finished trials of this scheme; otherwise taken from the dense ones, or computed."""

    @property
    def seconds_left(self) -> float | None:
        """Of one worker, for what is not finished."""
        return None if self.seconds is None else self.seconds * (self.trials - self.finished)


def bytes_of_trial(sizes: Sizes) -> int:
    """Bytes of a trial's arrays: test logits, margins, answers, membership bits, the model's state.

    4 C per test example, or 2 C and the answer from 100 classes on; 2 for the margin, 1, 2 or 4
    for the answer and 1 bit for membership per training example.
    """
    answer = np.min_scalar_type(sizes.classes - 1).itemsize
    train = sizes.train * (2 + answer) + -(-sizes.train // 8)
    return bytes_of_answers(sizes.test, sizes.classes) + train + (sizes.weights or 0)


def costs(
    trials: Iterable[Trial], sizes: Sizes, *, store: Store | None = None, rate: float | None = None
) -> list[Cost]:
    """Time and disk of each scheme's trials.

    From what the store recorded of finished trials, where it has some. Otherwise a scheme is taken to last as long as
    a dense training (`rate` seconds, if none is finished), or as an evaluation of one if it does not train.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.scheme.label, []).append(trial)
    records = {label: _records(group, store) for label, group in groups.items()}
    dense = records.get("dense", [])
    training = _mean([_seconds(record) for record in dense]) or rate
    evaluation = _mean([record["seconds"]["evaluate"] for record in dense])
    found = []
    for label, group in groups.items():
        known = records[label]
        seconds = _mean([_seconds(record) for record in known])
        if seconds is None:
            short = group[0].parent is not None and not trains(group[0].scheme)
            seconds = evaluation if short and evaluation is not None else training
        size = _mean([float(sum(file["bytes"] for file in record["files"].values())) for record in known])
        bytes_each = float(bytes_of_trial(sizes)) if size is None else size
        found.append(Cost(label, len(group), len(known), seconds, bytes_each, bool(known)))
    return found


def _records(group: list[Trial], store: Store | None) -> list[dict[str, Any]]:
    if store is None:
        return []
    missing = set(store.missing(group))
    return [store.manifest(trial) for trial in group if trial not in missing]


def _seconds(record: dict[str, Any]) -> float:
    return record["seconds"]["train"] + record["seconds"]["evaluate"]


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
