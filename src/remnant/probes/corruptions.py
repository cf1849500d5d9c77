"""Answers on corrupted test images: which corruptions, how strong, with which constants."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.probes.probe import Probe
from remnant.registry import unknown

COMMON = (
    "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""The 15 corruptions of Hendrycks & Dietterich (2019), in their order."""
VALIDATION = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Their 4 further ones, meant for choosing methods."""
SEVERITIES = (1, 2, 3, 4, 5)
QUIRKS = ("glass-copy", "elastic-244", "truncation")
"""What the published code does and its paper does not say; see `Corruptions.quirks`."""


@dataclass(frozen=True)
class Corruptions(Probe):
    """Answers on corrupted images: the corruptions of ImageNet-C and CIFAR-10-C, each at five severities."""

    kind: ClassVar[str] = "corruptions"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "prediction": ("example", "corruption", "severity"),
        "rank": ("example", "corruption", "severity"),
    }
    joins: ClassVar[str | None] = "corruption"

    corruptions: tuple[str, ...] = COMMON
    """Names of corruptions, such as "fog"; the 15 common ones, and "speckle_noise", "gaussian_blur", "spatter",
    "saturate"."""
    severities: tuple[int, ...] = SEVERITIES
    """1 (weakest) to 5."""
    constants: Literal["nearest", "32", "64", "224"] = "nearest"
    """The published constants for images of 32 (CIFAR), 64 (Tiny ImageNet) or 224 pixels (ImageNet); "nearest" takes
    those for the size that is nearest to the images' as a ratio."""
    quirks: tuple[Literal["glass-copy", "elastic-244", "truncation"], ...] = QUIRKS
    """Peculiarities of the published code that are kept: "glass-copy" (glass blur copies a neighbour where it means
    to swap), "elastic-244" (ImageNet's elastic transform takes the side for 244 pixels, not 224), "truncation"
    (values are cut to whole grey levels, not rounded)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "constants")
        for name, known in (("corruptions", (*COMMON, *VALIDATION)), ("severities", SEVERITIES), ("quirks", QUIRKS)):
            values = getattr(self, name)
            check(name == "quirks" or len(values) > 0, name, "to hold at least 1 value", values)
            check(len(set(values)) == len(values), name, "to hold each value once", values)
            for value in values:
                if value not in known:
                    raise unknown(name, value, [str(item) for item in known])

    def coords(self) -> dict[str, list[Any]]:
        """Names of the corruptions and the severities."""
        return {"corruption": list(self.corruptions), "severity": list(self.severities)}

    def parts(self) -> tuple["Corruptions", ...]:
        """One for each corruption, with all severities."""
        return tuple(replace(self, corruptions=(name,)) for name in self.corruptions)
