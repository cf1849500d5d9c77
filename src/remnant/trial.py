"""What is trained: recipes and trials, as frozen values without torch.

A trial is (recipe, scheme, seed, training subset). Its key hashes the fields that differ from
their defaults together with `NUMERICS`, so a new field with a do-nothing default never orphans
stored trials, and a change of code that changes numbers is a deliberate bump.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from remnant.fields import build, check, check_choice, non_default
from remnant.registry import unknown
from remnant.schemes import Compose, Dense, Scheme, SelectedData, scheme_from_dict, trains

NUMERICS = 1
"""Bumped when the code changes what a trial computes. Part of every key."""


@dataclass(frozen=True)
class Recipe:
    """All that decides how a dense model is trained."""

    dataset: str
    """"digits", "fashion-mnist", "cifar10", "cifar100", "celeba", "imagenet", "arrays:FILE.npz", "imagefolder:DIR"."""
    architecture: str
    """"mlp", "cnn", "resnet20", "wide-resnet-28-10", ..., "torchvision:NAME" or "package.module:function"."""
    epochs: float = 10.0
    """Passes over the training subset."""
    steps: int | None = None
    """Optimizer steps; replaces `epochs` when given."""
    batch_size: int = 128
    """Examples in an optimizer step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW (decoupled weight decay)."""
    learning_rate: float = 0.1
    """Highest learning rate of the schedule."""
    momentum: float = 0.9
    """SGD momentum, or the first beta of AdamW."""
    nesterov: bool = True
    """Nesterov's form of the SGD momentum."""
    weight_decay: float = 5e-4
    """On weights of two and more dimensions; never on norms and biases."""
    schedule: Literal["cosine", "step", "linear", "exponential", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises linearly from 0."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of all steps at which the "step" schedule multiplies the rate by `decay`."""
    decay: float = 0.1
    """Factor of the "step" schedule at each milestone, and of the "exponential" one over all steps."""
    label_smoothing: float = 0.0
    """Probability spread evenly over all classes."""
    augmentation: tuple[Literal["crop", "flip", "cutout", "resized-crop"], ...] = ()
    """Random changes of a training batch, in this order."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the training step. Evaluation is always float32."""
    validation: float = 0.0
    """Share of the training subset that is held out to choose a checkpoint."""
    weights: str | None = None
    """Hash of the weights of a model trained elsewhere ("given:MODEL" as `architecture`), which is taken as it is."""
    mean: tuple[float, ...] = ()
    """Mean of each channel, for inputs in [0, 1]; empty for that of the data set."""
    std: tuple[float, ...] = ()
    """Standard deviation of each channel, likewise."""
    checkpoint: Literal["last", "validation", "test-selected"] = "last"
    """Which epoch's weights are kept. "test-selected" repeats a flaw of Dam et al. (2023) and says so in reports."""

    def __post_init__(self) -> None:
        for name in ("optimizer", "schedule", "precision", "checkpoint"):
            check_choice(self, name)
        check(self.decay > 0, "decay", "> 0", self.decay)
        for change in self.augmentation:
            if change not in AUGMENTATIONS:
                raise unknown("augmentation", change, AUGMENTATIONS)
        check(self.epochs > 0, "epochs", "> 0", self.epochs)
        check(self.steps is None or self.steps >= 1, "steps", ">= 1", self.steps)
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
        check(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate)
        check(0 <= self.momentum < 1, "momentum", "in [0, 1)", self.momentum)
        check(self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay)
        check(0 <= self.warmup < 1, "warmup", "in [0, 1)", self.warmup)
        check(0 <= self.label_smoothing < 1, "label_smoothing", "in [0, 1)", self.label_smoothing)
        check(0 <= self.validation < 1, "validation", "in [0, 1)", self.validation)
        check(len(self.mean) == len(self.std), "mean, std", "to be given together", (self.mean, self.std))
        check(all(value > 0 for value in self.std), "std", "> 0", self.std)
        given = self.architecture.startswith("given:")
        check(given == (self.weights is not None), "weights", "with an architecture 'given:MODEL' only", self.weights)
        if self.checkpoint == "validation" and self.validation == 0:
            raise ValueError("Expected `validation` > 0 with checkpoint='validation', but got 0.")


AUGMENTATIONS = ("crop", "flip", "cutout", "resized-crop")


@dataclass(frozen=True)
class Subset:
    """One row of a design of random training subsets; `remnant.plan.included` makes its mask."""

    index: int
    """Row of the design, from 0."""
    design: Literal["fixed", "bernoulli", "stratified", "pairs", "balanced", "doubly-balanced"] = "fixed"
    """How examples are drawn; see `remnant.plan.included`."""
    fraction: float = 0.7
    """Expected share of training examples that are in the subset."""
    seed: int = 0
    """Seed of the whole design."""
    count: int | None = None
    """Number of rows of a "balanced" design. Rows of the others do not depend on it: trials can be added later."""

    def __post_init__(self) -> None:
        check_choice(self, "design")
        check(0 < self.fraction < 1, "fraction", "in (0, 1)", self.fraction)
        check(self.index >= 0, "index", ">= 0", self.index)
        if self.design == "pairs" and self.fraction != 0.5:
            raise ValueError(f"Expected `fraction` = 0.5 with design='pairs', but got {self.fraction!r}.")
        if self.design != "balanced":
            check(self.count is None, "count", "to be None with a design that is not 'balanced'", self.count)
        elif self.count is None or self.index >= self.count:
            raise ValueError(f"Expected `count` above the index {self.index} with 'balanced', but got {self.count!r}.")


@dataclass(frozen=True)
class Trial:
    """One training or compression whose result is stored once."""

    recipe: Recipe
    scheme: Scheme = field(default_factory=Dense)
    seed: int = 0
    subset: Subset | None = None

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name the trial in a store."""
        text = json.dumps({"numerics": NUMERICS, **to_dict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def parent(self) -> "Trial | None":
        """The trial whose model this one starts from; None if it trains from scratch.

        A composition in which something trains starts from the trial of its parts but the last.
        """
        if not isinstance(self.scheme, Compose):
            return replace(self, scheme=Dense()) if self.scheme.post_training else None
        earlier = any(trains(part) for part in self.scheme.parts)
        return replace(self, scheme=self.scheme.before_last if earlier else Dense())

    @property
    def reference(self) -> "Trial | None":
        """The dense trial whose model the scheme compares its own with; None if it looks at its parent alone."""
        dense = replace(self, scheme=Dense())
        return dense if self.step.compares and self.parent not in (None, dense) else None

    @property
    def step(self) -> Scheme:
        """What is applied to the parent's model: the whole scheme, or its last part."""
        composed = isinstance(self.scheme, Compose) and self.parent == replace(self, scheme=self.scheme.before_last)
        return self.scheme.parts[-1] if composed else self.scheme  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def selected(self) -> SelectedData | None:
        """The choice of training examples that the trial, or what it starts from, was trained on; None for all."""
        first = self.scheme.parts[0] if isinstance(self.scheme, Compose) else self.scheme
        return first if isinstance(first, SelectedData) else None

    def rng(self, stream: str) -> np.random.Generator:
        """The random stream named `stream` ("init", "order", "augmentation", ...).

        Streams depend on the seed and the name alone: dense and pruned trials of a seed start
        from the same weights and see the same batches.
        """
        digest = hashlib.sha256(stream.encode()).digest()
        return np.random.default_rng([self.seed, *np.frombuffer(digest[:16], np.uint32).tolist()])


def to_dict(value: Any) -> dict[str, Any]:
    """A recipe, scheme, subset or trial as plain data, without the fields that have their default."""
    data = {name: _plain(item) for name, item in non_default(value).items()}
    return {"kind": value.kind, **data} if isinstance(value, Scheme) else data


def trial_from_dict(data: dict[str, Any]) -> Trial:
    """The inverse of `to_dict` for a trial."""
    return Trial(
        recipe=build(Recipe, data["recipe"], "recipe"),
        scheme=scheme_from_dict(data["scheme"], "scheme") if "scheme" in data else Dense(),
        seed=data.get("seed", 0),
        subset=build(Subset, data["subset"], "subset") if data.get("subset") else None,
    )


def _plain(item: Any) -> Any:
    if dataclasses.is_dataclass(item):
        return to_dict(item)
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    return item
