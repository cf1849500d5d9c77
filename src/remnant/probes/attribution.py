"""Attribution maps: which parts of a picture a model's answer hangs on."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from remnant.fields import check
from remnant.probes.probe import Probe
from remnant.registry import unknown

Method = Literal["integrated-gradients", "saliency", "grad-cam", "occlusion", "smoothgrad"]
METHODS: tuple[str, ...] = ("integrated-gradients", "saliency", "grad-cam", "occlusion", "smoothgrad")
"""All methods, in the order in which analyses prefer them."""

ROUTES = ("gradients", "straight-through", "occlusion", "none")
"""How a map came about; the codes of the variable `route`.

- "gradients": of the model itself, checked against differences of its outputs.
- "straight-through": of a twin of an int8 model in which rounding has the gradient of the identity; the twin gives
  the same answers on every probed example.
- "occlusion": no gradients, only outputs.
- "none": the model has no usable gradients, or no pictures inside of it (Grad-CAM): the map is 0 everywhere.
"""


@dataclass(frozen=True)
class Attribution(Probe):
    """Maps of which pixels a model's answer hangs on, by several methods, for its own and its reference's answer.

    Variables: `attribution` explains the class that the model itself predicts (`target`), `same_class` the one that
    the dense model of its seed predicts (`reference_target`). A map is divided by its largest absolute value, which is
    `peak`, and summed over channels; values above 0 speak for the class. Pictures larger than `resolution` have
    maps averaged over blocks of pixels. `route` is a code of `ROUTES`.
    """

    kind: ClassVar[str] = "attribution"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "attribution": ("example", "method", "row", "column"),
        "same_class": ("example", "method", "row", "column"),
        "peak": ("example", "method"),
        "route": ("example", "method"),
        "target": ("example",),
        "reference_target": ("example",),
    }
    joins: ClassVar[str | None] = "method"

    examples: int | None = 200
    """So many rows of the split, drawn at random, the same for every trial; None for all."""
    methods: tuple[str, ...] = ("integrated-gradients", "saliency", "grad-cam", "occlusion")
    """"integrated-gradients", "saliency", "grad-cam", "occlusion" or "smoothgrad"; each is a part of its own."""
    steps: int = 16
    """Points on the way from the mean colour to the picture (integrated gradients)."""
    samples: int = 16
    """Noisy copies of a picture (SmoothGrad)."""
    noise: float = 0.15
    """Standard deviation of the noise as a share of the picture's range (SmoothGrad)."""
    square: float = 0.25
    """Side of the hiding square as a share of the picture's sides; it moves by half of that (occlusion)."""
    resolution: int = 32
    """Most rows and columns of a map."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in self.methods:
            if method not in METHODS:
                raise unknown("methods", method, METHODS)
        check(0 < len(self.methods) == len(set(self.methods)), "methods", "to be one or more, each once", self.methods)
        for name in ("steps", "samples", "resolution"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        check(self.noise > 0, "noise", "> 0", self.noise)
        check(0 < self.square <= 1, "square", "in (0, 1]", self.square)

    def coords(self) -> dict[str, list[Any]]:
        """The methods."""
        return {"method": list(self.methods)}

    def parts(self) -> tuple[Probe, ...]:
        """One part for each method."""
        return tuple(replace(self, methods=(method,)) for method in self.methods)
