"""Probes at work: what is measured on a finished trial, published to the store."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from remnant.answers import predicted
from remnant.lab.dataset import Dataset, Split, take
from remnant.lab.run import data_of, dataset_of, model_of, reproducible
from remnant.lab.train import normalize
from remnant.probes import Probe, to_dict
from remnant.schemes import Dense
from remnant.store import Store, measurement_name
from remnant.trial import Recipe, Trial

_CHECKED = 100
"""Answers on so many examples are compared with the stored ones before a model is probed."""


@dataclass(frozen=True)
class Subject:
    """What a probe measures on: one model, beside the reference that it was compressed from."""

    model: nn.Module
    """In evaluation mode. Leave it as it is: weights, gradients, hooks and `requires_grad`."""
    reference: nn.Module | None
    """The dense model of the same seed, if the model is a compressed one and the store holds it."""
    dataset: Dataset
    rows: np.ndarray
    """Rows of the probe's split, int64, ascending."""
    logits: np.ndarray | None
    """The stored answers on `rows`, float32 (row, class); None for training examples."""
    kind: str
    """Kind of the trial's scheme, such as "dense" or "static-int8"."""
    probe: Probe

    @property
    def split(self) -> Split:
        """The examples that `rows` count in."""
        return self.dataset.train if self.probe.split == "train" else self.dataset.test

    def inputs(self, rows: np.ndarray) -> torch.Tensor:
        """What the model takes for some rows: normalized images."""
        return normalize(self.dataset, take(self.split.images, rows))

    def rng(self, stream: str) -> np.random.Generator:
        """A random stream that is the same for every trial."""
        return self.probe.rng(stream)


def run_measurements(pairs: tuple[tuple[Trial, Probe], ...], store: Store, root: str | None = None) -> None:
    """Measure what the store does not hold yet of parts of probes on finished trials, and publish each at once."""
    with reproducible():
        for trial, probe in pairs:
            if not store.has_item("probes", measurement_name(trial, probe)):
                _measure(trial, probe, store, root)


def measure(probe: Probe, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """The arrays of a probe on one model, checked against the probe's `dims`.

    Raises
    ------
    ValueError
        If the model or the data do not allow the probe; the message says why.
    """
    found = _implementation(probe.kind).measure(probe, subject, prepared)
    for name, array in found.items():
        expected = probe.dims.get(name, ())
        rows = len(array) if expected[:1] != ("example",) else len(subject.rows)
        if array.ndim != len(expected) or len(array) != rows:
            raise TypeError(f"Expected {probe.kind!r} to give {probe.dims} for its rows, but got {name} {array.shape}.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            raise ValueError(f"The probe {probe.kind!r} gave NaN or infinity for {bad} values of `{name}`.")
    return found


def prepare(probe: Probe, dataset: Dataset, rows: np.ndarray) -> Any:
    """What all trials share in a probe, such as corrupted images; None if nothing."""
    shared = getattr(_implementation(probe.kind), "prepare", None)
    return None if shared is None else shared(probe, dataset, rows)


def _measure(trial: Trial, probe: Probe, store: Store, root: str | None) -> None:
    start = time.monotonic()
    dataset = dataset_of(trial, store, root)
    split = dataset.train if probe.split == "train" else dataset.test
    rows = probe.rows(len(split))
    shared = _prepared(probe, trial.recipe, root, dataset.fingerprint)
    prepared = time.monotonic()
    model = model_of(trial, store, root)
    stored = store.read(trial) if probe.split == "test" else None
    logits = None if stored is None else stored["logits"][rows]
    subject = Subject(model, _reference(trial, store, root), dataset, rows, logits, trial.scheme.kind, probe)
    if stored is not None:
        _check_same(trial, subject, predicted(stored)[rows])
    arrays = measure(probe, subject, shared)
    record = {
        "probe": to_dict(probe),
        "trial": trial.key,
        "dataset": dataset.fingerprint,
        "seconds": {"prepare": prepared - start, "measure": time.monotonic() - prepared},
    }
    files = {"measured": {**arrays, "rows": rows.astype(np.int32)}}
    store.publish_item("probes", measurement_name(trial, probe), files, record)


@lru_cache(maxsize=1)
def _prepared(probe: Probe, recipe: Recipe, root: str | None, fingerprint: str) -> Any:
    dataset = data_of(recipe, root)
    split = dataset.train if probe.split == "train" else dataset.test
    return prepare(probe, dataset, probe.rows(len(split)))


def _reference(trial: Trial, store: Store, root: str | None) -> nn.Module | None:
    """The dense model of the same seed and subset; None for dense trials, and where the store has none."""
    dense = replace(trial, scheme=Dense())
    return None if dense == trial or dense not in store else model_of(dense, store, root)


@torch.inference_mode()
def _check_same(trial: Trial, subject: Subject, stored: np.ndarray) -> None:
    """Nothing, if the model answers as it did when its trial was stored."""
    rows = subject.rows[:_CHECKED]
    answers = torch.cat([subject.model(batch) for batch in _batches(subject, rows)]).argmax(1).cpu().numpy()
    differ = int((answers != stored[: len(rows)]).sum())
    if differ > 0.02 * len(rows):
        raise ValueError(
            f"Expected trial {trial.key} ({trial.scheme.label}) to answer as it did when it was stored, but "
            f"{differ} of {len(rows)} answers differ. Was the store made by other code or on another kind of machine? "
            "Run the study again in a new store."
        )


def _batches(subject: Subject, rows: np.ndarray) -> Iterator[torch.Tensor]:
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    for start in range(0, len(rows), 500):
        yield subject.inputs(rows[start : start + 500]).to(device)


def _implementation(kind: str) -> Any:
    """The module that measures a kind of probe: ours, or that which defines the class of another package."""
    from remnant.probes import PROBES, probe_type

    if kind in PROBES:
        return import_module(f"remnant.lab.probes.{kind.replace('-', '_')}")
    return import_module(probe_type(kind).__module__)
