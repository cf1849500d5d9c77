"""The numbers that objectives and budgets are about: their names, units and which way is better."""

from dataclasses import dataclass
from typing import Literal

from remnant.units import Unit


@dataclass(frozen=True)
class Quantity:
    """A number that is measured on compressed models."""

    unit: Unit
    better: Literal["higher", "lower"]
    words: str
    """What it is."""
    signed: bool = False
    """It may be below 0."""
    falls: bool = False
    """It never grows with the strength of a compression."""


QUANTITIES: dict[str, Quantity] = {
    "accuracy": Quantity("share", "higher", "share of examples whose label is predicted"),
    "accuracy_drop": Quantity("share", "lower", "accuracy of the dense model minus that of the compressed one", True),
    "cie": Quantity("share", "lower", "share of examples on which the two predict different classes"),
    "cie_u": Quantity("share", "lower", "share of examples on which the dense model is right, the compressed wrong"),
    "worst_class_recall": Quantity("share", "higher", "accuracy within the class where it is lowest"),
    "worst_class_drop": Quantity("share", "lower", "drop of accuracy within the class that loses most", True),
    "group_gap": Quantity("share", "lower", "largest minus smallest accuracy of the groups of an attribute"),
    "worst_group_drop": Quantity("share", "lower", "drop of accuracy within the group that loses most", True),
    "attribution_iou": Quantity("share", "higher", "weighted Jaccard index of attribution maps, dense to compressed"),
    "memory": Quantity("bytes", "lower", "bytes of the values that are not 0, without their places", falls=True),
    "memory_index": Quantity("bytes", "lower", "bytes of the smallest encoding, with places of non-zeros", falls=True),
    "parameters": Quantity("count", "lower", "values in all parameters", falls=True),
    "nonzeros": Quantity("count", "lower", "parameters that are not 0", falls=True),
    "sparsity": Quantity("share", "higher", "share of the dense model's parameters that are 0 or gone"),
    "flops": Quantity("count", "lower", "2 x multiply-accumulates of one example", falls=True),
    "effective_flops": Quantity("count", "lower", "the same without multiplications by 0", falls=True),
    "latency": Quantity("seconds", "lower", "measured seconds for one example"),
    "throughput": Quantity("rate", "higher", "examples in a second, 1 / latency"),
}
"""Name to what it is. Those of the dense model are `dense_accuracy`, `dense_memory`, ..."""

DENSE = "dense_"
"""Before a name: the same quantity of the dense models of the same seeds."""
OF_DENSE = ("accuracy", "worst_class_recall", "group_gap", "memory", "memory_index", "parameters", "nonzeros",
            "flops", "effective_flops", "latency", "throughput")  # fmt: skip
NAMES: tuple[str, ...] = (*QUANTITIES, *(DENSE + name for name in OF_DENSE))
"""All names that expressions may use."""
