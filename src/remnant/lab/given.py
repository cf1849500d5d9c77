"""Models that were trained elsewhere, as recipes; and what a scheme would do to them, before hours of work."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from remnant.lab import models
from remnant.lab.compress import Context, compress
from remnant.lab.compress.layers import other_weights
from remnant.lab.dataset import Dataset, take
from remnant.lab.export import Normalization
from remnant.lab.foreign.model import state_hash
from remnant.lab.foreign.preprocessing import Preprocessing, parse_preprocessing
from remnant.lab.run import data_of
from remnant.schemes import Compose, Distillation, Float16, Scheme, TunedScheme
from remnant.trial import Recipe, Trial

_A_STEP = 1e-6
"""Epochs that are a single step: a student cannot be made without training."""

_SAMPLE = 256
"""Training examples that a rehearsal uses."""


def given_recipe(
    model: str, dataset: str, *, preprocessing: str = "dataset", root: str | None = None, **settings: Any
) -> Recipe:
    """The recipe of a model that was trained elsewhere, opened once to know its weights.

    Parameters
    ----------
    model
        As in `remnant.references.FORMS`; its layers must be those of torch.
    dataset
        As `Recipe.dataset`; the examples must have the size that the model takes.
    preprocessing
        How the model wants its inputs: "dataset", "imagenet", "none" or "mean=...,std=...".
    settings
        Further fields of the recipe, for fine-tuning: batch_size, augmentation, precision, ...

    Raises
    ------
    ValueError, OSError
        If the model cannot be opened, does not fit the data, or is asked to resize pictures.
    """
    recipe = Recipe(dataset, "given:" + model, weights="", **settings)
    data = data_of(recipe, root)
    opened = models.build(recipe.architecture, data.input_shape, data.num_classes, np.random.default_rng(0))
    recipe = replace(recipe, weights=state_hash(opened))
    steps = parse_preprocessing(preprocessing, dataset=Preprocessing())
    if preprocessing == "dataset":
        return recipe
    if (steps.resize or steps.crop) and preprocessing != "imagenet":
        raise ValueError(f"Expected `preprocessing` that keeps the size of pictures, but got {preprocessing!r}.")
    channels = len(data.mean)
    mean, std = (_each(value, channels, default) for value, default in ((steps.mean, 0.0), (steps.std, 1.0)))
    return replace(recipe, mean=mean, std=std)


def rehearse(trial: Trial, root: str | None = None) -> list[str]:
    """What the scheme of a trial will leave out of its dense model, as "layer: reason"; nothing is trained.

    Raises
    ------
    ValueError
        If the scheme cannot be applied to the model at all.
    """
    dataset = data_of(trial.recipe, root)
    model = models.build(trial.recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
    context = Context(trial.recipe, dataset, np.arange(min(_SAMPLE, len(dataset.train.labels))), trial.rng)
    compress(untrained(trial.scheme), copy.deepcopy(model).eval(), context)
    parts = trial.scheme.parts if isinstance(trial.scheme, Compose) else (trial.scheme,)
    whole = any(isinstance(part, Float16 | Distillation) for part in parts)
    return context.skipped + ([] if whole else other_weights(model))


def normalization(dataset: Dataset) -> Normalization:
    """What turns the stored numbers of a data set into what its networks see."""
    pixels = take(dataset.test.images, torch.zeros(1, dtype=torch.int64)).dtype == torch.uint8
    return Normalization(tuple(dataset.mean.tolist()), tuple(dataset.std.tolist()), 255.0 if pixels else 1.0)


def untrained(scheme: Scheme) -> Scheme:
    """The scheme without its fine-tuning."""
    if isinstance(scheme, Compose):
        return replace(scheme, parts=tuple(map(untrained, scheme.parts)))
    if isinstance(scheme, Distillation):
        return replace(scheme, epochs=_A_STEP)
    return replace(scheme, epochs=0.0) if isinstance(scheme, TunedScheme) else scheme


def _each(values: tuple[float, ...], channels: int, default: float) -> tuple[float, ...]:
    """One value for each channel."""
    values = values or (default,)
    return values * channels if len(values) == 1 else values
