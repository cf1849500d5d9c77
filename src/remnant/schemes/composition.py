"""Schemes one after another."""

from dataclasses import dataclass
from typing import ClassVar

from remnant.schemes.scheme import Scheme


@dataclass(frozen=True)
class Compose(Scheme):
    """Schemes one after another. Only the first may take part in training."""

    kind: ClassVar[str] = "compose"

    parts: tuple[Scheme, ...]
    """The schemes, first applied first."""

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise ValueError(f"Expected `parts` to hold at least 2 schemes, but got {len(self.parts)}.")
        for part in self.parts:
            if isinstance(part, Compose):
                raise ValueError(f"Expected `parts` to be plain schemes, but got the composition {part.label!r}.")
        for part in self.parts[1:]:
            if not part.post_training:
                raise ValueError(
                    f"Expected only the first of `parts` to take part in training, but got {part.label!r} later."
                )

    @property
    def compares(self) -> bool:
        return any(part.compares for part in self.parts)

    @property
    def before_last(self) -> Scheme:
        """All parts but the last: what the last one is applied to."""
        return self.parts[0] if len(self.parts) == 2 else Compose(self.parts[:-1])

    @property
    def label(self) -> str:
        return " + ".join(part.label for part in self.parts)
