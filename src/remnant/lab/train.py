"""The training loop: readable top to bottom."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.augment import augmented
from remnant.lab.data import Dataset, take
from remnant.trial import Recipe

Rng = Callable[[str], np.random.Generator]


class Hook(Protocol):
    """A compression method that takes part in training."""

    def before_step(self, step: int, num_steps: int) -> None:
        """Called before every optimizer step, which is number `step` (from 0) of `num_steps`."""
        ...

    def settled(self, step: int, num_steps: int) -> bool:
        """Whether the model has its final strength of compression before step number `step`."""
        ...

    def finish(self) -> None:
        """Called once at the end: what is left is an ordinary module."""
        ...


class Objective(Protocol):
    """What is minimised instead of the recipe's cross-entropy."""

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """The loss of a batch: a forward pass of `model` on normalized `inputs`, and what comes of it, scalar."""
        ...


@dataclass(frozen=True)
class CrossEntropy:
    """The objective of a plain training: cross-entropy to the labels of the data."""

    smoothing: float = 0.0
    """Probability spread evenly over all classes."""

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        return functional.cross_entropy(model(inputs).float(), labels, label_smoothing=self.smoothing)


class DivergedError(RuntimeError):
    """Training produced a loss that is NaN or infinite."""


def train(
    model: nn.Module,
    recipe: Recipe,
    dataset: Dataset,
    indices: np.ndarray,
    rng: Rng,
    *,
    hook: Hook | None = None,
    objective: Objective | None = None,
    span: tuple[int, int] | None = None,
    report: Callable[[int, int, float], None] | None = None,
) -> nn.Module:
    """Train `model` in place on the training examples `indices`, and return it in evaluation mode.

    Parameters
    ----------
    indices
        Training examples of the trial's subset, ascending.
    rng
        Named random streams ("order", "augmentation", "dropout", "validation"), as `Trial.rng`.
    hook
        A compression method that takes part in training.
    objective
        What is minimised; None for the cross-entropy with the recipe's label smoothing.
    span
        Steps of the recipe's course that are trained: from the first on, before the second; None for all. Learning
        rates are those of the whole course; batches start where the random streams start.
    report
        Called about once per epoch with (step, number of steps, training loss).

    Raises
    ------
    DivergedError
        If the loss becomes NaN or infinite.
    """
    held_out, indices = split_held_out(indices, recipe.validation, rng)
    batch_size = min(recipe.batch_size, len(indices))
    num_steps, steps_per_epoch = course(recipe, len(indices))
    first, last = span or (0, num_steps)
    changes = rng("augmentation")
    optimizer = make_optimizer(model, recipe)
    minimised = objective or CrossEntropy(recipe.label_smoothing)
    best = Best(recipe.checkpoint, dataset, held_out)
    device = next(model.parameters()).device
    low_precision = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")

    model.to(memory_format=torch.channels_last).train()
    with _own_random_state(rng("dropout")):
        for step, batch in enumerate(batches(indices, batch_size, last - first, rng("order")), first):
            if hook is not None:
                hook.before_step(step, num_steps)
            rate = learning_rate(recipe, step, num_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate

            images = augmented(dataset.train.images, batch, recipe.augmentation, changes).to(device)
            labels = dataset.train.labels[batch].to(device)
            with low_precision:
                loss = minimised.loss(model, normalize(dataset, images), labels, rate)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

            finished = step + 1
            if finished % steps_per_epoch == 0 or finished == last:
                check_finite(loss.item(), finished, num_steps, recipe)
                if report is not None:
                    report(finished, num_steps, loss.item())
                if hook is None or hook.settled(finished, num_steps) or finished == last:
                    best.consider(model)
    best.restore(model)
    if hook is not None:
        hook.finish()
    return model.eval()


def course(recipe: Recipe, num_examples: int) -> tuple[int, int]:
    """(optimizer steps of a training on `num_examples` examples, those of one epoch)."""
    steps_per_epoch = num_examples // min(recipe.batch_size, num_examples)
    return recipe.steps or max(1, round(recipe.epochs * steps_per_epoch)), steps_per_epoch


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """The learning rate of step number `step`, from 0.

    A linear rise over the first `warmup` share of all steps, then the schedule over the rest:
    "cosine" and "linear" fall to 0 at the end, "exponential" falls by the factor `decay` in equal ratios, "step"
    multiplies by `decay` at each milestone (shares of all steps).
    """
    warmup_steps = recipe.warmup * num_steps
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / (warmup_steps + 1)
    progress = (step - warmup_steps) / max(1.0, num_steps - warmup_steps)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - progress)
    if recipe.schedule == "exponential":
        return recipe.learning_rate * recipe.decay**progress
    if recipe.schedule == "step":
        passed = sum(step >= milestone * num_steps for milestone in recipe.milestones)
        return recipe.learning_rate * recipe.decay**passed
    return recipe.learning_rate


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters that are trained, and their weight decay: on weights of two and more dimensions only."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over `parameter_groups`."""
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov, fused=True)


def normalize(dataset: Dataset, images: Tensor) -> Tensor:
    """Images as the network sees them: (x / 255 - mean) / std per channel for uint8, (x - mean) / std for float.

    float32, channels-last for batches of pictures.
    """
    mean, std = dataset.mean.to(images.device), dataset.std.to(images.device)
    scale, shift = 1 / (255 * std if images.dtype == torch.uint8 else std), -mean / std
    shape = (1, -1) + (1,) * (images.ndim - 2)
    normal = images.float().mul_(scale.view(shape)).add_(shift.view(shape))
    return normal.contiguous(memory_format=torch.channels_last) if normal.ndim == 4 else normal


@torch.inference_mode()
def accuracy(model: nn.Module, dataset: Dataset, split: str, indices: np.ndarray | None = None) -> float:
    """Share of the examples of a split ("train" or "test") that the model classifies right."""
    part = dataset.train if split == "train" else dataset.test
    device = next(model.parameters()).device
    chosen = torch.arange(len(part.labels)) if indices is None else torch.from_numpy(indices)
    was_training = model.training
    model.eval()
    right = 0
    for batch in chosen.split(1000):
        images = normalize(dataset, take(part.images, batch).to(device))
        right += int((model(images).argmax(1).cpu() == part.labels[batch]).sum())
    model.train(was_training)
    return right / len(chosen)


def batches(indices: np.ndarray, size: int, number: int, order: np.random.Generator) -> Iterator[Tensor]:
    """`number` batches; each epoch has its own order and leaves out what does not fill a batch."""
    per_epoch = len(indices) // size
    for first in range(0, number, per_epoch):
        shuffled = torch.from_numpy(indices[order.permutation(len(indices))])
        for position in range(min(per_epoch, number - first)):
            yield shuffled[position * size : (position + 1) * size]


@contextmanager
def _own_random_state(rng: np.random.Generator) -> Iterator[None]:
    """Dropout draws from torch's global generator: it is seeded from `rng` inside, and as before after."""
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**63)))
        yield


def check_finite(loss: float, step: int, num_steps: int, recipe: Recipe) -> None:
    """Raise `DivergedError` if the training loss after `step` steps is NaN or infinite."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"The training loss is {loss} at step {step} of {num_steps}. "
            f"Lower `learning_rate` ({recipe.learning_rate}) or add `warmup` ({recipe.warmup})."
        )


class Best:
    """Keeps the weights of the best epoch, where the recipe asks for it."""

    def __init__(self, checkpoint: str, dataset: Dataset, held_out: np.ndarray) -> None:
        self.checkpoint = checkpoint
        self.dataset = dataset
        self.held_out = held_out
        self.score = -1.0
        self.state: dict[str, Tensor] | None = None

    def consider(self, model: nn.Module) -> None:
        if self.checkpoint == "last":
            return
        by_test = self.checkpoint == "test-selected"
        score = accuracy(model, self.dataset, "test" if by_test else "train", None if by_test else self.held_out)
        if score >= self.score:  # of equal epochs the later one
            self.score = score
            self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def restore(self, model: nn.Module) -> None:
        if self.state is not None:
            model.load_state_dict(self.state)


def split_held_out(indices: np.ndarray, share: float, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Training examples in two parts at random, both ascending: a `share` that is held out, and those to train on.

    Raises
    ------
    ValueError
        If there are no examples, or one of the parts would be empty.
    """
    if len(indices) == 0:
        raise ValueError("Expected at least 1 training example, but the training subset is empty.")
    if share == 0:
        return indices[:0], indices
    number = round(share * len(indices))
    if not 0 < number < len(indices):
        raise ValueError(f"Expected `validation` to split {len(indices)} training examples, but got {share!r}.")
    mixed = rng("validation").permutation(indices)
    return np.sort(mixed[:number]), np.sort(mixed[number:])
