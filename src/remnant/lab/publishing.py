"""What a model answers and costs, stored as a finished trial."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from torch import nn

from remnant import answers
from remnant.lab import data, footprint, probe
from remnant.lab.pictures import pictures
from remnant.store import Store
from remnant.stored_array import pack_text
from remnant.trial import NUMERICS, Trial


@dataclass(frozen=True)
class Made:
    """A trained or compressed model that is to be published."""

    trial: Trial
    model: nn.Module
    in_subset: np.ndarray
    """Which training examples it was trained on, bool (train_example,)."""
    seconds: float
    """Time that it took; of models that were trained together the share of one."""


def publish(made: Sequence[Made], dataset: data.Dataset, store: Store) -> list[Exception]:
    """Evaluate models of one recipe on all examples, in float32, and store each; the errors of those that failed."""
    if not made:
        return []
    if not store.has_dataset(dataset.fingerprint):
        store.publish_dataset(dataset.fingerprint, *_describe(dataset))
    start = time.monotonic()
    models = [one.model for one in made]
    found = [probe.logits_of_all(models, dataset, split) for split in (dataset.test, dataset.train)]
    evaluated = (time.monotonic() - start) / len(made)
    failures: list[Exception] = []
    for one, test_logits, train_logits in zip(made, *found, strict=True):
        try:
            cost = footprint.measure(one.model, dataset.input_shape)
            files, accuracy = _predictions(one, probe.checked(test_logits), probe.checked(train_logits), dataset)
            record = {
                "dataset": dataset.fingerprint,
                "numerics": NUMERICS,
                "accuracy": accuracy,
                "footprint": cost,
                "seconds": {"train": one.seconds, "evaluate": evaluated},
                "machine": {"host": platform.node(), "processor": platform.processor() or platform.machine()},
                "versions": {name: _version(name) for name in ("remnant", "torch", "numpy")},
            }
            store.publish(one.trial, {"predictions": files, "weights": _state(one.model)}, record)
        except Exception as error:
            failures.append(error)
    return failures


_LARGEST = float(np.finfo(np.float16).max)
"""Margins beyond it are stored as it: their sign and order to smaller ones stay."""


def _predictions(
    made: Made, test_logits: np.ndarray, train_logits: np.ndarray, dataset: data.Dataset
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """(arrays that are stored, accuracy by split)."""
    labels = dataset.train.labels.numpy()
    prediction = train_logits.argmax(axis=1)
    files = {
        **answers.stored(test_logits),
        "train_prediction": prediction.astype(np.min_scalar_type(dataset.num_classes - 1)),
        "train_margin": np.clip(probe.margins(train_logits, labels), -_LARGEST, _LARGEST).astype(np.float16),
        "included": np.packbits(made.in_subset),
    }
    accuracy = {
        "train": float((prediction == labels)[made.in_subset].mean()),
        "test": float((test_logits.argmax(axis=1) == dataset.test.labels.numpy()).mean()),
    }
    return files, accuracy


def _state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}


@cache
def _version(name: str) -> str:
    return version(name)


def _describe(dataset: data.Dataset) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Files and record of a data set for `Store.publish_dataset`."""
    examples: dict[str, np.ndarray] = {"classes": pack_text(dataset.classes)}
    files = {"examples": examples}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        examples[f"{name}_labels"] = split.labels.numpy()
        examples[f"{name}_ids"] = pack_text(split.ids.tolist())
        for column, values in split.groups.items():
            examples[f"{name}_group_{column}"] = pack_text(str(value) for value in values)
        if (small := pictures(split.images)) is not None:
            files[name] = {"pictures": small}
    return files, {"name": dataset.name}
