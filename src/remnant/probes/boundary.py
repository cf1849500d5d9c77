"""How far examples lie from the decision boundary of each model."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.probes.probe import Probe

NOT_FOUND, FOUND, NOT_MEASURED = 0, 1, 2
"""Values of `nearest_status` and `along_reference_status`. The distance is `limit` where it was not found, and 0 where
it was not measured."""


@dataclass(frozen=True)
class Boundary(Probe):
    """Distance from examples to the decision boundary, along random directions and in the worst case.

    The distance along a direction is that to the nearest point seen where the model gives another answer than on
    the example itself: right or wrong. It is the Euclidean norm of the change of the pixels, all channels together,
    on the scale [0, 1] before normalization; for inputs that are not 8-bit images, on the scale of the data.

    - `random`: along random directions, uniform on the sphere; the same ones for every model. `random_found` says
      where there is another answer within the limit; elsewhere the limit stands.
    - `nearest`: the smallest distance that was found, along a direction that gradients gave; an upper bound. Not
      measured on models whose gradients do not tell how their answers change.
    - `along_reference`: along the worst direction of the dense model of the same seed (of the model itself, if it
      is that one). It needs no gradients of the model.
    """

    kind: ClassVar[str] = "boundary"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "random": ("example", "direction"),
        "random_found": ("example", "direction"),
        "nearest": ("example",),
        "nearest_status": ("example",),
        "along_reference": ("example",),
        "along_reference_status": ("example",),
    }

    examples: int | None = 300
    """So many rows of the split, drawn at random, the same for every trial; None for all."""
    directions: int = 5
    """Number of random directions for each example."""
    limit: float = 2.0
    """How far to look: root mean square change of an input value, in standard deviations of the training data."""
    tolerance: float = 0.01
    """Largest part of a distance by which it may be too long."""
    clip: bool = False
    """Keep pixels within [0, 1]: straight lines are then bent at the edge. For 8-bit images only."""
    worst_case: Literal["deepfool", "none"] = "deepfool"
    """How the worst direction is found; "none" leaves `nearest` and `along_reference` out."""
    candidates: int = 3
    """Number of classes, the most likely ones first, whose boundaries compete for the nearest."""
    rounds: int = 2
    """Times that the worst direction is sought, each time from the foot of the perpendicular on the last boundary."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "worst_case")
        check(self.directions >= 1, "directions", ">= 1", self.directions)
        check(0 < self.limit < 1e6, "limit", "in (0, 1e6)", self.limit)
        check(1e-5 <= self.tolerance < 1, "tolerance", "in [1e-5, 1)", self.tolerance)
        check(self.candidates >= 1, "candidates", ">= 1", self.candidates)
        check(self.rounds >= 1, "rounds", ">= 1", self.rounds)

    def coords(self) -> dict[str, list[int]]:
        """Numbers of the directions."""
        return {"direction": list(range(self.directions))}
