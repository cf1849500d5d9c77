"""One trial: train or compress, probe, publish."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import nn

from remnant import plan
from remnant.engine import Cohort
from remnant.lab import data, footprint, models, probe
from remnant.lab.compress import Context, compress, restore, take_part
from remnant.lab.foreign.model import state_hash
from remnant.lab.pictures import pictures
from remnant.lab.selection import load as load_selection
from remnant.lab.train import train
from remnant.schemes import Dense, trains
from remnant.store import Store, pack_text
from remnant.trial import NUMERICS, Recipe, Trial


def run_cohort(cohort: Cohort, *, store: str, root: str | None = None) -> None:
    """Finish every trial of the cohort that the store does not hold yet."""
    shelf = Store(store)
    with reproducible():
        for trial in shelf.missing(cohort):
            run_trial(trial, shelf, root)


def run_trial(trial: Trial, store: Store, root: str | None = None) -> None:
    """Train or compress one trial and publish it.

    The result depends on the trial (and the kind of machine) alone: not on the engine, the number
    of workers or what was computed before.
    """
    dataset = data_of(trial.recipe, root)
    labels = dataset.train.labels.numpy()
    in_subset = _trained_on(trial, dataset, store)
    indices = np.flatnonzero(in_subset)

    start = time.monotonic()
    if trial.parent is None:
        model = _trained(trial, dataset, indices)
    else:
        model = _compressed(trial, store, root, dataset, indices)
    trained = time.monotonic()

    test_logits = probe.logits(model, dataset, dataset.test)
    train_logits = probe.logits(model, dataset, dataset.train)
    prediction = train_logits.argmax(axis=1)
    predictions = {
        "logits": test_logits,
        "train_prediction": prediction.astype(np.min_scalar_type(dataset.num_classes - 1)),
        "train_margin": probe.margins(train_logits, labels).astype(np.float16),
        "included": np.packbits(in_subset),
    }
    record = {
        "dataset": dataset.fingerprint,
        "numerics": NUMERICS,
        "accuracy": {
            "train": float((prediction == labels)[in_subset].mean()),
            "test": float((test_logits.argmax(axis=1) == dataset.test.labels.numpy()).mean()),
        },
        "footprint": footprint.measure(model, dataset.input_shape),
        "seconds": {"train": trained - start, "evaluate": time.monotonic() - trained},
        "machine": {"host": platform.node(), "processor": platform.processor() or platform.machine()},
        "versions": {name: version(name) for name in ("remnant", "torch", "numpy")},
    }
    if not store.has_dataset(dataset.fingerprint):
        store.publish_dataset(dataset.fingerprint, *_describe(dataset))
    store.publish(trial, {"predictions": predictions, "weights": _state(model)}, record)


def load_model(trial: Trial, store: Store, root: str | None = None) -> nn.Module:
    """The model of a finished trial that trained from scratch, in evaluation mode."""
    dataset = dataset_of(trial, store, root)
    model = models.build(trial.recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    state = store.read(trial, "weights")
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return model.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def model_of(trial: Trial, store: Store, root: str | None = None) -> nn.Module:
    """The model of a finished trial, in evaluation mode.

    A scheme that takes no training is applied to the parent's model again: the same trial gives the same bits. Others
    are made from their stored weights.
    """
    if trial.parent is None:
        return load_model(trial, store, root)
    if not trains(trial.step):
        dataset = dataset_of(trial, store, root)
        return _compressed(trial, store, root, dataset, np.flatnonzero(_trained_on(trial, dataset, store))).eval()
    parent = model_of(trial.parent, store, root)
    state = {name: torch.from_numpy(array) for name, array in store.read(trial, "weights").items()}
    return restore(trial.step, parent, state).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def dataset_of(trial: Trial, store: Store, root: str | None = None) -> data.Dataset:
    """The data set of a finished trial, after it was checked that it is what the trial was trained on.

    Raises
    ------
    ValueError
        If the data changed since.
    """
    dataset = data_of(trial.recipe, root)
    trained_on = store.manifest(trial)["dataset"]
    if trained_on != dataset.fingerprint:
        raise ValueError(
            f"Trial {trial.key} was trained on data with fingerprint {trained_on}, but {trial.recipe.dataset!r} "
            f"now has {dataset.fingerprint}. Restore the data, or use a new store."
        )
    return dataset


def data_of(recipe: Recipe, root: str | None = None) -> data.Dataset:
    """The data set of a recipe, normalized as the recipe says."""
    dataset = cached_dataset(recipe.dataset, root)
    if not recipe.mean:
        return dataset
    mean, std = torch.tensor(recipe.mean), torch.tensor(recipe.std)
    if mean.shape != dataset.mean.shape:
        raise ValueError(
            f"Expected `mean` and `std` with {len(dataset.mean)} numbers, one for each channel of "
            f"{recipe.dataset!r}, but got {len(mean)}."
        )
    return replace(dataset, mean=mean, std=std)


def _trained_on(trial: Trial, dataset: data.Dataset, store: Store) -> np.ndarray:
    """Which training examples the trial, or what it starts from, is trained on, shape (train_example,)."""
    labels = dataset.train.labels.numpy()
    mask = np.ones(len(labels), bool) if trial.subset is None else plan.included(trial.subset, labels)
    if trial.selected is None:
        return mask
    return mask & _selected(trial, dataset, store, trial.selected.selection)


def _selected(trial: Trial, dataset: data.Dataset, store: Store, key: str) -> np.ndarray:
    """Which training examples a stored selection lists for the trial, shape (train_example,)."""
    return load_selection(store, key).mask(dataset.train.ids, dataset.fingerprint, trial.seed)


def _trained(trial: Trial, dataset: data.Dataset, indices: np.ndarray) -> nn.Module:
    if trial.recipe.weights is not None:
        return _as_given(trial, dataset).to(_device())
    model = models.build(trial.recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    model.to(_device())
    hook = take_part(trial.scheme, model)
    return train(model, trial.recipe, dataset, indices, trial.rng, hook=hook)


def _as_given(trial: Trial, dataset: data.Dataset) -> nn.Module:
    """The dense model that was trained elsewhere, checked to be the one that the trial names."""
    recipe = trial.recipe
    if not isinstance(trial.scheme, Dense):
        raise ValueError(
            f"Expected a scheme that starts from trained weights for {recipe.architecture!r}, but "
            f"{trial.scheme.label!r} takes part in the first training. Take another, such as 'gradual-pruning'."
        )
    model = models.build(recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    if (found := state_hash(model)) != recipe.weights:
        raise ValueError(
            f"Expected {recipe.architecture!r} to hold weights with the hash {recipe.weights}, but they now have "
            f"{found}: the file or function changed. Compress it anew, in a new folder."
        )
    return model.to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def _compressed(trial: Trial, store: Store, root: str | None, dataset: data.Dataset, indices: np.ndarray) -> nn.Module:
    assert trial.parent is not None
    parent = model_of(trial.parent, store, root)
    reference = parent if trial.reference is None else load_model(trial.reference, store, root)
    selection = partial(_selected, trial, dataset, store)
    context = Context(trial.recipe, dataset, indices, trial.rng, reference.to(_device()), selection)
    return compress(trial.step, parent.to(_device()), context)


def _state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def cached_dataset(name: str, root: str | None) -> data.Dataset:
    """A data set, kept in memory until another one is asked for."""
    return data.load(name, root)


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


@contextmanager
def reproducible() -> Iterator[None]:
    """One thread (sums then have one order on any number of cores) and no dependence on global random state."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
