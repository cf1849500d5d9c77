"""Knowledge distillation into another architecture."""

from dataclasses import dataclass, field
from typing import ClassVar

from remnant.fields import check
from remnant.schemes.alignment import Align
from remnant.schemes.scheme import TunedScheme


@dataclass(frozen=True)
class Distillation(TunedScheme):
    """Another, smaller architecture trained from scratch with the dense model as its teacher.

    Its first weights come from a random stream of their own; nothing but answers is taken from the teacher.

    References
    ----------
    hinton2015distilling, section 2
    """

    kind: ClassVar[str] = "distillation"

    architecture: str
    """Name of the student, as in a recipe: "resnet8-8", "cnn", "package.module:function", ..."""
    epochs: float = field(default=10.0, kw_only=True)
    """Epochs of training."""
    learning_rate: float = field(default=0.1, kw_only=True)
    """Highest learning rate of the training."""
    align: Align | None = field(default=Align(("cross-entropy", "distillation")), kw_only=True)
    """Terms of the loss; None trains the student on the labels alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.architecture), "architecture", "to name the student", self.architecture)
        check(self.epochs > 0, "epochs", "> 0", self.epochs)
