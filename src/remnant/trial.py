"""What is trained: recipes, compression schemes and trials, as frozen values without torch.

A trial is (recipe, scheme, seed, training subset). Its key hashes the fields that differ from
their defaults together with `NUMERICS`, so a new field with a do-nothing default never orphans
stored trials, and a change of code that changes numbers is a deliberate bump.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np

from remnant.fields import build, check, check_choice, non_default
from remnant.registry import find, unknown

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
    schedule: Literal["cosine", "step", "linear", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    warmup: float = 0.0
    """Share of all steps in which the learning rate rises linearly from 0."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of all steps at which the "step" schedule multiplies the rate by `decay`."""
    decay: float = 0.1
    """Factor of the "step" schedule at each milestone."""
    label_smoothing: float = 0.0
    """Probability spread evenly over all classes."""
    augmentation: tuple[Literal["crop", "flip", "cutout", "resized-crop"], ...] = ()
    """Random changes of a training batch, in this order."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the training step. Evaluation is always float32."""
    validation: float = 0.0
    """Share of the training subset that is held out to choose a checkpoint."""
    checkpoint: Literal["last", "validation", "test-selected"] = "last"
    """Which epoch's weights are kept. "test-selected" repeats a flaw of Dam et al. (2023) and says so in reports."""

    def __post_init__(self) -> None:
        for name in ("optimizer", "schedule", "precision", "checkpoint"):
            check_choice(self, name)
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
        if self.checkpoint == "validation" and self.validation == 0:
            raise ValueError("Expected `validation` > 0 with checkpoint='validation', but got 0.")


AUGMENTATIONS = ("crop", "flip", "cutout", "resized-crop")


@dataclass(frozen=True)
class Scheme:
    """A compression method and its strength. Abstract: use one of its subclasses.

    `post_training` says whether the method starts from the stored dense weights of the same seed
    (then all such schemes of a seed compress the same weights) or takes part in training.
    """

    kind: ClassVar[str]
    post_training: ClassVar[bool] = True

    @property
    def label(self) -> str:
        """The scheme as printed in populations and reports, such as "magnitude-pruning(sparsity=0.9)"."""
        inner = ", ".join(f"{name}={value}" for name, value in non_default(self).items())
        return f"{self.kind}({inner})" if inner else self.kind


@dataclass(frozen=True)
class Dense(Scheme):
    """No compression: the reference."""

    kind: ClassVar[str] = "dense"
    post_training: ClassVar[bool] = False


@dataclass(frozen=True)
class MagnitudePruning(Scheme):
    """Smallest weights to zero during training, on the cubic schedule of Zhu & Gupta (2017).

    The weights of all linear and convolution layers are pruned; biases and norms are not.
    """

    kind: ClassVar[str] = "magnitude-pruning"
    post_training: ClassVar[bool] = False

    sparsity: float
    """Share of weights that are zero at the end, in [0, 1)."""
    scope: Literal["layer", "global"] = "layer"
    """The same sparsity in every layer, or one threshold for all layers."""
    gradient: Literal["masked", "straight-through"] = "masked"
    """Gradient of a pruned weight: zero (the code of Hooker et al.), or as if it were not pruned (their text)."""
    begin: float = 0.2
    """Share of all steps at which pruning begins."""
    end: float = 0.75
    """Share of all steps at which the final sparsity is reached."""
    frequency: int = 10
    """Steps between two updates of the masks."""

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)
        check_choice(self, "scope")
        check_choice(self, "gradient")
        check(0 <= self.begin <= self.end <= 1, "begin, end", "with 0 <= begin <= end <= 1", (self.begin, self.end))
        check(self.frequency >= 1, "frequency", ">= 1", self.frequency)


@dataclass(frozen=True)
class OneShotPruning(Scheme):
    """Smallest weights of the trained model to zero at once, then fine-tuning with the masks held."""

    kind: ClassVar[str] = "one-shot-pruning"

    sparsity: float
    """Share of weights that are zero, in [0, 1)."""
    scope: Literal["layer", "global"] = "global"
    """The same sparsity in every layer, or one threshold for all layers."""
    epochs: float = 1.0
    """Epochs of fine-tuning; 0 leaves the pruned weights as they are."""
    learning_rate: float = 0.01
    """Highest learning rate of the fine-tuning."""

    def __post_init__(self) -> None:
        _check_sparsity(self.sparsity)
        check_choice(self, "scope")
        check(self.epochs >= 0, "epochs", ">= 0", self.epochs)
        check(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate)


@dataclass(frozen=True)
class Float16(Scheme):
    """Weights rounded to IEEE half precision, arithmetic in float32 (TensorFlow Lite's float16)."""

    kind: ClassVar[str] = "float16"


@dataclass(frozen=True)
class DynamicInt8(Scheme):
    """Weights int8, inputs of linear and convolution layers int8 with the range of each batch row.

    TensorFlow Lite's dynamic range ("hybrid") quantization.
    """

    kind: ClassVar[str] = "dynamic-int8"

    per_channel: bool = True
    """One weight scale per output channel instead of one per layer."""


@dataclass(frozen=True)
class StaticInt8(Scheme):
    """Weights and activations int8, ranges from the first training examples (fixed-point int8)."""

    kind: ClassVar[str] = "static-int8"

    calibration: int = 100
    """Number of training examples, from the first on, that set the activation ranges."""
    per_channel: bool = True
    """One weight scale per output channel instead of one per layer."""

    def __post_init__(self) -> None:
        check(self.calibration >= 1, "calibration", ">= 1", self.calibration)


@dataclass(frozen=True)
class SelectedData(Scheme):
    """Training on a chosen part of the training examples only: a compressed data set, not a compressed model."""

    kind: ClassVar[str] = "selected-data"
    post_training: ClassVar[bool] = False

    method: str
    """How the examples were chosen, such as "forgetting-hard"."""
    share: float
    """Share of the training examples that are kept, in (0, 1]."""
    selection: str
    """Key of the list of their ids, which the store holds; see `remnant.lab.selection.Selection`."""

    def __post_init__(self) -> None:
        check(0 < self.share <= 1, "share", "in (0, 1]", self.share)
        for name, pattern in (("method", r"[A-Za-z0-9._-]+"), ("selection", r"[0-9a-f]{16}")):
            value = getattr(self, name)
            check(bool(re.fullmatch(pattern, value)), name, f"of the form {pattern}", value)


@dataclass(frozen=True)
class Compose(Scheme):
    """Schemes one after another. Only the first may take part in training."""

    kind: ClassVar[str] = "compose"

    parts: tuple[Scheme, ...]
    """The schemes, first applied first."""

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"Expected `parts` to hold at least 2 schemes, but got {len(self.parts)}.")
        for part in self.parts:
            if isinstance(part, Compose):
                raise ValueError(f"Expected `parts` to be plain schemes, but got the composition {part.label!r}.")
        for part in self.parts[1:]:
            if not part.post_training:
                raise ValueError(
                    f"Expected only the first of `parts` to take part in training, but got {part.label!r} later."
                )

    @property
    def label(self) -> str:
        return " + ".join(part.label for part in self.parts)


SCHEMES: dict[str, type[Scheme]] = {
    scheme.kind: scheme
    for scheme in (Dense, MagnitudePruning, OneShotPruning, Float16, DynamicInt8, StaticInt8, SelectedData, Compose)
}


@dataclass(frozen=True)
class Subset:
    """One row of a design of random training subsets; `remnant.plan.included` makes its mask."""

    index: int
    """Row of the design, from 0."""
    design: Literal["fixed", "bernoulli", "stratified", "pairs", "balanced"] = "fixed"
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
        """The trial whose stored weights this one starts from; None if it trains from scratch."""
        first = self.scheme.parts[0] if isinstance(self.scheme, Compose) else self.scheme
        if not first.post_training:
            return replace(self, scheme=first) if first is not self.scheme else None
        return replace(self, scheme=Dense())

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


def scheme_from_dict(data: Any, where: str = "scheme") -> Scheme:
    """A scheme from {"kind": name, field: value, ...} or from its bare name.

    Raises
    ------
    ValueError
        Naming the key (as `where`), what was expected and what came.
    """
    data = {"kind": data} if isinstance(data, str) else dict(data)
    if "kind" not in data:
        raise ValueError(f"Expected `{where}` to have a `kind`, but got {data!r}.")
    kind = data.pop("kind")
    cls = find("scheme", kind, SCHEMES)
    if cls is Compose:
        parts = data.pop("parts", ())
        data["parts"] = tuple(scheme_from_dict(part, f"{where}.parts") for part in parts)
    return build(cls, data, where)


def _check_sparsity(sparsity: float) -> None:
    check(0 <= sparsity < 1, "sparsity", "in [0, 1)", sparsity)


def _plain(item: Any) -> Any:
    if dataclasses.is_dataclass(item):
        return to_dict(item)
    if isinstance(item, tuple):
        return [_plain(part) for part in item]
    return item
