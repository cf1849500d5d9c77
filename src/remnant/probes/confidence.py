"""How sure a model is of every training example: what membership inference works on."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from remnant.fields import check_choice
from remnant.probes.probe import Probe


@dataclass(frozen=True)
class Confidence(Probe):
    """Logit-scaled confidence and loss of training examples, in and out of the training subset."""

    kind: ClassVar[str] = "confidence"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"confidence": ("example",), "loss": ("example",)}
    split: ClassVar[str] = "train"
    on_subsets: ClassVar[bool] = True

    examples: int | None = None
    """So many training examples, drawn at random, the same for every trial; None for all."""
    precision: Literal["float16", "float32"] = "float16"
    """Of the stored numbers. In float16 losses below 6e-8 become 0; confidences keep 3 digits at any size."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "precision")
