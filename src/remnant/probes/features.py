"""The probe of features: what the last linear layer sees of each example."""

from dataclasses import dataclass
from typing import ClassVar

from remnant.probes.probe import Probe


@dataclass(frozen=True)
class Features(Probe):
    """Penultimate features: the input of the last linear layer.

    `features`, float16: as the layer gets them (an int8 layer: before it rounds them), averaged over the positions
    of a picture or text. Where the largest is beyond half precision or close to 0, all features of a model are scaled
    by one power of two.
    """

    kind: ClassVar[str] = "features"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {"features": ("example", "feature")}

    examples: int | None = 2000
    """So many test examples, drawn at random, the same for every trial; None for all."""
    layer: str = ""
    """Name of the module whose input is taken, such as "head"; "" for the last linear layer."""
