"""Magnitude pruning with a sparsity for each layer."""

from dataclasses import dataclass
from typing import ClassVar

from remnant.fields import check
from remnant.schemes.scheme import TunedScheme, check_share


@dataclass(frozen=True)
class LayerwisePruning(TunedScheme):
    """Smallest weights of each layer to zero at once, each layer with its own sparsity, then masked fine-tuning.

    `remnant.search.search_allocation` finds the sparsities.
    """

    kind: ClassVar[str] = "layerwise-pruning"

    sparsities: tuple[float, ...]
    """Share of weights that are zero in each linear or convolution layer, in [0, 1), in the model's order of layers.
    A single one stands for all layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(len(self.sparsities) > 0, "sparsities", "to hold a sparsity for each layer", self.sparsities)
        for number, sparsity in enumerate(self.sparsities):
            check_share(sparsity, f"sparsities[{number}]")
