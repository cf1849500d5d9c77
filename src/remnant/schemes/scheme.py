"""What every compression scheme is: a frozen value with a kind, its strength and how it ends in training."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from remnant.fields import check, non_default
from remnant.schemes.alignment import Align


@dataclass(frozen=True)
class Scheme:
    """A compression method and its strength. Abstract: use one of its subclasses.

    `post_training` says whether the method starts from the stored dense weights of the same seed
    (then all such schemes of a seed compress the same weights) or takes part in training.
    """

    kind: ClassVar[str]
    post_training: ClassVar[bool] = True

    @property
    def compares(self) -> bool:
        """Whether applying the scheme looks at the dense model besides the one it is applied to."""
        return False

    @property
    def label(self) -> str:
        """The scheme as printed in populations and reports, such as "magnitude-pruning(sparsity=0.9)"."""
        inner = ", ".join(f"{name}={_printed(value)}" for name, value in _own_first(self).items())
        return f"{self.kind}({inner})" if inner else self.kind


@dataclass(frozen=True)
class TunedScheme(Scheme):
    """A scheme that compresses the trained model and then trains it further. Abstract.

    The training follows the recipe (batches, schedule, augmentation, held-out examples, ...) with random streams
    of its own.
    """

    epochs: float = field(default=1.0, kw_only=True)
    """Epochs of fine-tuning; 0 leaves the compressed weights as they are."""
    learning_rate: float = field(default=0.01, kw_only=True)
    """Highest learning rate of the fine-tuning."""
    align: Align | None = field(default=None, kw_only=True)
    """Terms of the loss that hold the model to the answers of its reference; None for the recipe's cross-entropy."""

    def __post_init__(self) -> None:
        check(self.epochs >= 0, "epochs", ">= 0", self.epochs)
        check(self.learning_rate > 0, "learning_rate", "> 0", self.learning_rate)

    @property
    def compares(self) -> bool:
        return self.align is not None


@dataclass(frozen=True)
class Dense(Scheme):
    """No compression: the reference."""

    kind: ClassVar[str] = "dense"
    post_training: ClassVar[bool] = False


def trains(scheme: Scheme) -> bool:
    """Whether applying the scheme takes training, so that its result is worth storing."""
    return not scheme.post_training or (isinstance(scheme, TunedScheme) and scheme.epochs > 0)


def check_share(value: float, name: str) -> None:
    """ValueError unless a strength such as a sparsity is in [0, 1)."""
    check(0 <= value < 1, name, "in [0, 1)", value)


def _own_first(scheme: Scheme) -> dict[str, Any]:
    """The fields that are not as by default, those of the scheme itself before those that all share."""
    given = non_default(scheme)
    last = {item.name for item in fields(scheme) if item.kw_only}
    return {name: given[name] for name in sorted(given, key=lambda name: name in last)}


def _printed(value: Any) -> Any:
    if isinstance(value, tuple):
        return "/".join(str(_printed(item)) for item in value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return f"({value.label})" if isinstance(value, Scheme) else value
