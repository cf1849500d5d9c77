"""Trials, one or many at once: train or compress, probe, publish."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import nn

from remnant import plan
from remnant.engine import Cohort
from remnant.lab import data, models
from remnant.lab.cohort import rules
from remnant.lab.cohort.training import Member, train_together
from remnant.lab.compress import Context, compress, restore, take_part
from remnant.lab.foreign.model import state_hash
from remnant.lab.publishing import Made, publish
from remnant.lab.selection import load as load_selection
from remnant.lab.train import train
from remnant.schemes import Dense, trains
from remnant.store import Store
from remnant.trial import Recipe, Trial


def run_cohort(cohort: Cohort, *, store: str, root: str | None = None) -> None:
    """Finish every trial of the cohort that the store does not hold yet.

    A trial that fails costs no other: the first failure is raised when all have run.
    """
    shelf = Store(store)
    stacks: dict[Recipe, list[Trial]] = {}
    singles: list[Trial] = []
    for trial in [trial for trial in cohort if trial not in shelf]:
        (stacks.setdefault(trial.recipe, []) if _together(trial) else singles).append(trial)
    failures: list[Exception] = []
    with reproducible():
        for trials in stacks.values():
            if len(trials) > 1:
                failures += run_together(trials, shelf, root)
            else:
                singles += trials
        for trial in singles:
            try:
                run_trial(trial, shelf, root)
            except Exception as error:
                failures.append(error)
    if failures:
        raise failures[0]


def run_trial(trial: Trial, store: Store, root: str | None = None) -> None:
    """Train or compress one trial and publish it.

    The result depends on the trial (and the kind of machine) alone: not on the engine, the number
    of workers or what was computed before.
    """
    if _together(trial):
        failures = run_together([trial], store, root)
    else:
        dataset = data_of(trial.recipe, root)
        in_subset = _trained_on(trial, dataset, store)
        start = time.monotonic()
        if trial.parent is None:
            model = _trained(trial, dataset, np.flatnonzero(in_subset))
        else:
            model = _compressed(trial, store, root, dataset, np.flatnonzero(in_subset))
        failures = publish([Made(trial, model, in_subset, time.monotonic() - start)], dataset, store)
    if failures:
        raise failures[0]


def run_together(trials: list[Trial], store: Store, root: str | None = None) -> list[Exception]:
    """Train trials of one recipe at once and publish them: each as `run_trial` would; the errors of those that failed.

    `remnant.lab.cohort.rules` says for which trials.
    """
    dataset = data_of(trials[0].recipe, root)
    masks = [_trained_on(trial, dataset, store) for trial in trials]
    start = time.monotonic()
    members = [
        Member(_initial(trial, dataset), np.flatnonzero(mask), trial.rng)
        for trial, mask in zip(trials, masks, strict=True)
    ]
    errors = train_together(members, trials[0].recipe, dataset)
    seconds = (time.monotonic() - start) / len(trials)
    made = [
        Made(trial, member.model, mask, seconds)
        for trial, member, mask, error in zip(trials, members, masks, errors, strict=True)
        if error is None
    ]
    return [error for error in errors if error is not None] + publish(made, dataset, store)


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
    model = _initial(trial, dataset).to(_device())
    hook = take_part(trial.scheme, model)
    return train(model, trial.recipe, dataset, indices, trial.rng, hook=hook)


def _initial(trial: Trial, dataset: data.Dataset) -> nn.Module:
    return models.build(trial.recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))


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


def _together(trial: Trial) -> bool:
    return rules.together(trial) and _device().type == "cpu"


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@lru_cache(maxsize=1)
def cached_dataset(name: str, root: str | None) -> data.Dataset:
    """A data set, kept in memory until another one is asked for."""
    return data.load(name, root)


@contextmanager
def reproducible() -> Iterator[None]:
    """One thread (sums then have one order on any number of cores) and no dependence on global random state."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
