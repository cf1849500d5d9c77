"""The probe of explanations: a soft decision tree that imitates the model."""

from dataclasses import dataclass
from typing import Any, ClassVar

from remnant.fields import check
from remnant.probes.probe import Probe


@dataclass(frozen=True)
class SoftTree(Probe):
    """A soft decision tree distilled from the model, and one trained on the labels: answers, leaves and filters.

    Of each probed example: `prediction` (class), `leaf_reached` (the most likely one) and `path_probability` (of
    reaching it) of the distilled tree, and `label_prediction` and `label_leaf_reached` of the tree trained on labels,
    which is the same for all models. Of the distilled tree: `leaf_distribution`, `leaf_picture` (mean training image by
    path probability, 0 to 255) and `filter` of each inner node (root first, then level by level, left before right).

    References
    ----------
    frosst2017distilling
    """

    kind: ClassVar[str] = "soft-tree"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "prediction": ("example",),
        "leaf_reached": ("example",),
        "path_probability": ("example",),
        "label_prediction": ("example",),
        "label_leaf_reached": ("example",),
        "leaf_distribution": ("leaf", "class"),
        "leaf_picture": ("leaf", "channel", "height", "width"),
        "filter": ("node", "channel", "height", "width"),
    }

    examples: int | None = 10000
    """So many test examples, drawn at random, the same for every trial; None for all."""
    depth: int = 5
    """Decisions on the way to a leaf: 2^depth leaves."""
    training: int | None = 10000
    """So many training images, drawn at random, teach the tree; None for all."""
    size: int = 16
    """Larger images are averaged down to this height and width for the tree; the model sees them as they are."""
    temperature: float = 1.0
    """The tree learns the softmax of the model's logits divided by this."""
    inverse_temperature: float = 1.0
    """Beta of the paper: what a node's filter response is multiplied with before its sigmoid."""
    penalty: float = 0.1
    """Lambda of the paper, for nodes that send most examples to one side; halved at each level of the tree."""
    weight_decay: float = 0.2
    """Share by which the filters shrink in a step, as a multiple of its learning rate: trees that fit noise differ
    by chance."""
    steps: int = 800
    """Steps of Adam."""
    batch_size: int = 256
    """Training images in a step."""
    learning_rate: float = 0.05
    """Of the first step, falling linearly to 0; divided by the root of the number of pixels for the filters."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.depth <= 10, "depth", "in [1, 10]", self.depth)
        check(self.training is None or self.training >= 2, "training", ">= 2", self.training)
        for name in ("size", "steps", "batch_size"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("temperature", "inverse_temperature", "learning_rate"):
            check(getattr(self, name) > 0, name, "> 0", getattr(self, name))
        for name in ("penalty", "weight_decay"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))

    def coords(self) -> dict[str, list[Any]]:
        return {"leaf": list(range(2**self.depth)), "node": list(range(2**self.depth - 1))}
