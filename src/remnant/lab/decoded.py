"""Trained models, asked about images that a codec decoded."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from remnant.lab.augment import augment
from remnant.lab.data import Dataset, Images, Split, load, take
from remnant.lab.foreign.asking import Question, ask, class_order, spread
from remnant.lab.foreign.evaluation_sets import EvaluationData, moments, of_dataset
from remnant.lab.foreign.model import array, evaluating, of_module
from remnant.lab.foreign.record import record
from remnant.lab.foreign.running import Answers, encoder
from remnant.lab.run import load_model
from remnant.store import Store
from remnant.trial import Trial

BATCH = 500
"""Examples that a model gets at a time."""
IN_MEMORY = 2**30
"""Bytes of raw images that are held at most."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A model as its owner names it."""

    name: str
    architecture: str
    model: Any
    """As of `remnant.lab.foreign.open_model`."""
    preprocessing: Any
    """As of `remnant.lab.foreign.predict`."""
    augmentation: tuple[str, ...] = ()
    """Random changes of its training images (`remnant.lab.augment`), where they are known."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model, and how it is asked about the raw test images."""

    name: str
    architecture: str
    question: Question
    augmentation: tuple[str, ...] = ()
    """Random changes of its training images, where they are known."""

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer normalizes with statistics that training collected, and can collect them again."""
        return bool(_norms(self.question.model.module))


@dataclass(frozen=True, eq=False)
class Material:
    """Models and the images that they are asked about, without any compression."""

    models: tuple[Trained, ...]
    data: EvaluationData
    """The chosen test examples: names, labels, classes, attributes."""
    images: np.ndarray
    """Of these examples, uint8 (example, height, width, channel)."""
    train_images: np.ndarray
    """Training images in random order, on which statistics are estimated again; maybe none."""


def of_store(store: str | Path, data: str | None = None, root: str | None = None) -> tuple[list[Subject], Dataset]:
    """Every dense model of a store, and the data they learned.

    Raises
    ------
    ValueError
        If no dense model was trained on all examples, models learned different data, or `data` are others.
    """
    shelf = Store(store)
    dense = [trial for trial in shelf.trials({}) if trial.scheme.label == "dense" and trial.subset is None]
    if not dense:
        raise ValueError(
            f"Expected dense models trained on all examples in the store {str(store)!r}, but it has none. "
            "Run a study with dense models first: `remnant run`."
        )
    names = sorted({trial.recipe.dataset for trial in dense} | ({data} if data else set()))
    if len(names) > 1:
        raise ValueError(f"Expected models of one data set, but got {names}. Audit them one after the other.")
    dataset = load(names[0], root)
    dense.sort(key=lambda trial: (trial.recipe.architecture, trial.seed, trial.key))
    called = _names(dense)
    steps = moments(dataset)
    models = [
        Subject(called[t], t.recipe.architecture, load_model(t, shelf, root), steps, t.recipe.augmentation)
        for t in dense
    ]
    return models, dataset


def material(
    models: Sequence[Subject], dataset: Dataset, *, limit: int | None = None, train_images: int = 0
) -> Material:
    """Models opened for a data set of pictures, and its images.

    Parameters
    ----------
    limit
        Take only so many test examples, evenly spaced.
    train_images
        Number of random training images, at most all.

    Raises
    ------
    ValueError, OSError
        If the data are no pictures of bytes or too many to hold, or a model cannot be opened.
    """
    whole = of_dataset(dataset)
    rows = np.arange(len(whole)) if limit is None or limit >= len(whole) else spread(len(whole), limit)
    some = np.random.default_rng(0).permutation(len(dataset.train))[:train_images]
    _check_pictures(dataset, len(rows) + len(some))
    data = whole.part(rows) if len(rows) < len(whole) else whole
    opened = [_opened(subject, data) for subject in models]
    for model in opened:
        with evaluating(model.question.model):
            model.question.on_sample(2).answers()  # says what is wrong with a model that does not fit the data
    return Material(tuple(opened), data, images(dataset.test, rows), images(dataset.train, some))


def images(split: Split, rows: np.ndarray) -> np.ndarray:
    """Images of a split, uint8 (example, height, width, channel)."""
    return np.ascontiguousarray(take(split.images, rows).permute(0, 2, 3, 1).numpy())


def logits(trained: Trained, shown: np.ndarray) -> np.ndarray:
    """What a model answers to images, uint8 (example, height, width, channel), in evaluation mode.

    Raises
    ------
    ValueError
        If an answer is NaN or infinite.
    """
    question = trained.question
    model, order = question.model, class_order(question.model, question.data)
    pictures = pictures_of(shown)
    encode = encoder(question.steps, as_data(pictures))
    size = model.fixed_batch or BATCH
    parts = []
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, len(pictures), size):
            rows = np.arange(start, min(start + size, len(pictures)))
            padded = np.pad(rows, (0, size - len(rows)), mode="edge") if model.fixed_batch else rows
            found = array(model.answer(encode(padded)))
            assert found is not None  # as `material` saw
            parts.append(found[: len(rows)])
    every = np.concatenate(parts)
    if bad := int((~np.isfinite(every).all(axis=1)).sum()):
        raise ValueError(f"Expected finite logits, but {trained.name} gives NaN or infinity on {bad} examples.")
    return every if order is None else every[:, order]


def provenance(trained: Trained) -> dict[str, Any]:
    """What is known of a model and its preprocessing, as plain values."""
    question = trained.question
    nothing = Answers(np.empty((0, 0)), 0.0, question.batch_size)
    found = record(question.model, question.data, question.steps, nothing, threads=torch.get_num_threads())
    found.pop("cost")
    return found | {"name": trained.name}


def reestimated(trained: Trained, shown: np.ndarray) -> Trained:
    """A copy of the model whose batch-norm means and variances are those of the images `shown`.

    The averages of the batches' means and unbiased variances, in evaluation mode elsewhere. Images are changed at
    random as in the model's training, where that is known: crops with black borders have other statistics than whole
    images, which can matter more than a codec. The model itself is left as it is.

    Raises
    ------
    ValueError
        If the model has no batch norm with such statistics, or there are fewer than 2 images.
    """
    if not trained.has_batch_norm:
        raise ValueError(f"Expected a model with batch norm, but {trained.name} has none.")
    if len(shown) < 2:
        raise ValueError(f"Expected at least 2 images to estimate statistics on, but got {len(shown)}.")
    model = trained.question.model
    twin = copy.deepcopy(model.module)
    assert twin is not None
    pictures = augment(pictures_of(shown), trained.augmentation, np.random.default_rng(0))
    encode = encoder(trained.question.steps, as_data(pictures))
    twin.eval()
    norms = _norms(twin)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
        norm.train()
    with torch.no_grad():
        for batch in np.array_split(np.arange(len(pictures)), max(1, -(-len(pictures) // BATCH))):
            twin(encode(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
    other = of_module(twin, name=model.name, kind=model.kind)
    return replace(trained, question=replace(trained.question, model=replace(model, module=twin, answer=other.answer)))


def _opened(subject: Subject, data: EvaluationData) -> Trained:
    threads = torch.get_num_threads()
    question = ask(subject.model, data, subject.preprocessing, batch_size=BATCH, threads=threads, device="cpu")
    return Trained(subject.name, subject.architecture, question, subject.augmentation)


def as_data(pictures: Images) -> EvaluationData:
    """Images alone, numbered."""
    return EvaluationData("images", pictures, np.arange(len(pictures)))


def pictures_of(shown: np.ndarray) -> torch.Tensor:
    """Images as a tensor (example, channel, height, width), without a copy."""
    return torch.from_numpy(shown).permute(0, 3, 1, 2)


def _norms(module: nn.Module | None) -> list[_BatchNorm]:
    parts = () if module is None else module.modules()
    return [part for part in parts if isinstance(part, _BatchNorm) and part.running_mean is not None]


def _names(trials: list[Trial]) -> dict[Trial, str]:
    """Architecture and seed; where recipes share these, the key too."""
    short = {trial: f"{trial.recipe.architecture.rpartition(':')[2]}, seed {trial.seed}" for trial in trials}
    every = list(short.values())
    return {t: name if every.count(name) == 1 else f"{name} ({t.key[:8]})" for t, name in short.items()}


def _check_pictures(dataset: Dataset, number: int) -> None:
    shape = dataset.input_shape
    kind = dataset.test.images[:1].dtype if isinstance(dataset.test.images, torch.Tensor) else torch.uint8
    if len(shape) != 3 or kind != torch.uint8:
        what = "features" if len(shape) != 3 else f"{str(kind).removeprefix('torch.')} arrays"
        raise ValueError(
            f"Expected pictures of bytes in {dataset.name!r}, but its inputs are {what} of shape {shape}: codecs store "
            "pictures."
        )
    if number * int(np.prod(shape)) > IN_MEMORY:
        raise ValueError(
            f"Expected at most {IN_MEMORY:,} bytes of images, but {number:,} of shape {shape} have "
            f"{number * int(np.prod(shape)):,}. Take fewer with `limit`."
        )
