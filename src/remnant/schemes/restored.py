"""Layers of a compressed model that are taken back from the reference."""

from dataclasses import dataclass
from typing import ClassVar

from remnant.fields import check
from remnant.schemes.scheme import Scheme


@dataclass(frozen=True)
class Restored(Scheme):
    """Some layers of the compressed model are those of the reference again. The last part of a composition.

    `Compose((StaticInt8(), Restored(("stem",))))` is an int8 model with one float layer. A batch norm that follows
    a layer is restored with it.
    """

    kind: ClassVar[str] = "restored"

    layers: tuple[str, ...] = ()
    """Names of the layers in the reference, such as "3.conv1"."""

    def __post_init__(self) -> None:
        distinct = len(set(self.layers)) == len(self.layers)
        check(distinct, "layers", "to name each layer once", self.layers)

    @property
    def compares(self) -> bool:
        return bool(self.layers)
