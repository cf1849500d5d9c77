"""Layers as products of smaller ones."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.schemes.scheme import TunedScheme


@dataclass(frozen=True)
class LowRank(TunedScheme):
    """Layers of the trained model as products of smaller layers (SVD, Tucker-2), then fine-tuning.

    Linear layers and 1x1 convolutions become two layers, larger convolutions two or three. Exactly one of `energy`
    and `share` sets the ranks. A layer whose factors would cost as much as itself stays whole.

    References
    ----------
    denton2014exploiting; kim2016compression
    """

    kind: ClassVar[str] = "low-rank"

    energy: float | None = None
    """Share of the squared singular values of each unfolding that is kept, in (0, 1]. 1 keeps all layers whole."""
    share: float | None = None
    """Share of the whole model's `cost` that is left, in (0, 1], with one threshold on the singular values of all
    layers, each layer's in units of their root of the sum of squares."""
    cost: Literal["parameters", "flops"] = "parameters"
    """What `share` counts, and what decides whether factors are cheaper than the layer."""
    method: Literal["tucker", "svd"] = "tucker"
    """Larger convolutions as 1x1, k x k, 1x1 (Tucker-2), or as k x k, 1x1 (SVD of the filters as rows)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "cost")
        check_choice(self, "method")
        if (self.energy is None) == (self.share is None):
            raise ValueError(
                "Expected exactly one of `energy` and `share`, "
                f"but got energy={self.energy!r} and share={self.share!r}."
            )
        for name in ("energy", "share"):
            value = getattr(self, name)
            check(value is None or 0 < value <= 1, name, "in (0, 1]", value)
