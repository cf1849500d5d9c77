"""The training loop for many models at once, which gives each the bits that it gets alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.augment import augmented
from remnant.lab.cohort.stack import Stack, layers_of, stacked
from remnant.lab.cohort.update import Update
from remnant.lab.data import Dataset
from remnant.lab.dataset import take
from remnant.lab.train import (
    Best,
    DivergedError,
    Rng,
    batches,
    check_finite,
    course,
    learning_rate,
    normalize,
    split_held_out,
)
from remnant.trial import Recipe

CACHE = 2**23
"""Bytes that the models of a stack should fit in together, where at least `FEWEST` do."""

FEWEST, MOST = 4, 16
"""Models that a stack has at least and at most, if so many are to be trained."""


@dataclass(frozen=True)
class Member:
    """A model and what it is trained on."""

    model: nn.Module
    indices: np.ndarray
    """Training examples of the trial's subset, ascending."""
    rng: Rng
    """Named random streams, as `Trial.rng`."""


def train_together(members: Sequence[Member], recipe: Recipe, dataset: Dataset) -> list[Exception | None]:
    """Train models in place, as `lab.train.train` would one after another; what went wrong with each of them.

    Members with subsets of different sizes are trained in groups of as many steps and as large batches.

    Returns
    -------
    For each member None, and its model is trained and in evaluation mode; or its error: the loss became NaN or
    infinite, or there is nothing to train on. The others are trained all the same.
    """
    outcomes: list[Exception | None] = [None] * len(members)
    groups: dict[tuple[int, int, int], list[int]] = {}
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for number, member in enumerate(members):
        try:
            parts[number] = split_held_out(member.indices, recipe.validation, member.rng)
        except ValueError as error:
            outcomes[number] = error
            continue
        kept = len(parts[number][1])
        groups.setdefault((min(recipe.batch_size, kept), *course(recipe, kept)), []).append(number)
    rows = _Rows.of(dataset, recipe)
    for (batch_size, *_), group in groups.items():
        tile = tile_size(members[group[0]].model, batch_size)
        for start in range(0, len(group), tile):
            chosen = group[start : start + tile]
            found = _train([members[k] for k in chosen], [parts[k] for k in chosen], recipe, dataset, rows)
            for number, error in zip(chosen, found, strict=True):
                outcomes[number] = error
    return outcomes


def tile_size(model: nn.Module, batch_size: int) -> int:
    """Models like this one that are best stacked: many share the cost of a call, few fit in the cache."""
    layers = layers_of(model)
    numbers = sum(3 * layer.weight.numel() for layer in layers)
    numbers += 2 * batch_size * (layers[0].in_features + sum(layer.out_features for layer in layers))
    return min(max(CACHE // (4 * numbers), FEWEST), MOST)


@torch.no_grad()
def _train(
    members: Sequence[Member],
    parts: Sequence[tuple[np.ndarray, np.ndarray]],
    recipe: Recipe,
    dataset: Dataset,
    rows: "_Rows | None",
) -> list[Exception | None]:
    """Train members whose courses have the same steps; `parts` are their (held out, trained on) examples."""
    size = len(parts[0][1])
    batch_size = min(recipe.batch_size, size)
    num_steps, steps_per_epoch = course(recipe, size)
    models = [member.model.train() for member in members]
    stack = stacked(models, batch_size)
    update = Update.of(nn.ModuleList(models), recipe)
    best = [Best(recipe.checkpoint, dataset, held_out) for held_out, _ in parts]
    outcomes: list[Exception | None] = [None] * len(members)

    for step, labels in enumerate(_batches(stack, members, [kept for _, kept in parts], recipe, dataset, rows)):
        stack.forward()
        stack.backward(labels, recipe.label_smoothing)
        losses = stack.losses(labels, recipe.label_smoothing) if _ends(step + 1, num_steps, steps_per_epoch) else []
        update.step(learning_rate(recipe, step, num_steps))
        for number, loss in enumerate(losses):
            if outcomes[number] is None:
                outcomes[number] = _fault(loss, step + 1, num_steps, recipe)
                best[number].consider(models[number])
    for number, model in enumerate(models):
        best[number].restore(model.eval())
    return outcomes


def _ends(finished: int, num_steps: int, steps_per_epoch: int) -> bool:
    return finished % steps_per_epoch == 0 or finished == num_steps


def _fault(loss: float, finished: int, num_steps: int, recipe: Recipe) -> DivergedError | None:
    try:
        check_finite(loss, finished, num_steps, recipe)
    except DivergedError as error:
        return error
    return None


def _batches(
    stack: Stack,
    members: Sequence[Member],
    kept: Sequence[np.ndarray],
    recipe: Recipe,
    dataset: Dataset,
    rows: "_Rows | None",
) -> Iterator[Tensor]:
    """Fill the stack's inputs with the next batch of each member; its labels, (model, example), step by step."""
    number = course(recipe, len(kept[0]))[0]
    size = stack.inputs.shape[1]
    orders = [batches(part, size, number, member.rng("order")) for member, part in zip(members, kept, strict=True)]
    changes = [member.rng("augmentation") for member in members]
    images, labels = dataset.train.images, dataset.train.labels
    for chosen in zip(*orders, strict=True):
        if rows is not None:
            rows.fill(stack.inputs, torch.cat(chosen))
        else:
            for inputs, batch, change in zip(stack.inputs, chosen, changes, strict=True):
                changed = augmented(images, batch, recipe.augmentation, change)
                inputs.copy_(normalize(dataset, changed).flatten(1))
        yield labels[torch.stack(chosen)]


@dataclass(frozen=True)
class _Rows:
    """The training inputs in memory, flattened, and how they are normalized."""

    values: Tensor
    """(example, feature)."""
    scale: Tensor
    """For each feature, as `normalize` has it for each channel."""
    shift: Tensor

    @classmethod
    def of(cls, dataset: Dataset, recipe: Recipe) -> "_Rows | None":
        """None where inputs lie on disk or are changed at random: then each batch is made for itself."""
        images = dataset.train.images
        if not isinstance(images, Tensor) or recipe.augmentation:
            return None
        values = images.flatten(1)
        each = values.shape[1] // len(dataset.mean)
        std = 255 * dataset.std if values.dtype == torch.uint8 else dataset.std
        return cls(values, (1 / std).repeat_interleave(each), (-dataset.mean / dataset.std).repeat_interleave(each))

    def fill(self, inputs: Tensor, chosen: Tensor) -> None:
        """The examples `chosen`, normalized, into `inputs` (model, example, feature)."""
        flat = inputs.view(len(chosen), -1)
        flat.copy_(take(self.values, chosen)).mul_(self.scale).add_(self.shift)
