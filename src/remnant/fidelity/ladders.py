"""The parameter of a codec that trades bytes for quality, and its values from coarse to fine."""

import re
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from remnant.codecs import CODECS, Codec, from_dict, parse
from remnant.fields import check
from remnant.registry import find, unknown

PARAMETERS: dict[str, str] = {
    "jpeg": "quality",
    "jpeg2000": "psnr",
    "webp": "quality",
    "jpegxl": "distance",
    "zfp-rate": "rate",
    "zfp-precision": "precision",
    "zfp-accuracy": "tolerance",
}
"""Codec to the parameter that is searched."""
_RATIO = 1.03
"""Neighbouring rates differ by at least this factor."""


@dataclass(frozen=True)
class Ladder:
    """Settings of one codec, the coarsest first: bytes rise along it, up to small steps back."""

    kind: str
    parameter: str
    codecs: tuple[Codec, ...]

    def __len__(self) -> int:
        return len(self.codecs)

    def value(self, place: int) -> Any:
        """The value of the searched parameter."""
        return getattr(self.codecs[place], self.parameter)


def ladder(text: str) -> Ladder:
    """The settings of a codec from its name and other parameters, such as "jpeg" or "zfp-rate(layout=volume)".

    Raises
    ------
    ValueError
        For an unknown codec, one without such a parameter, or a label that sets the parameter itself.
    """
    kind, opened, inner = text.strip().partition("(")
    kind = kind.strip()
    find("codec", kind, CODECS)
    if kind not in PARAMETERS:
        raise unknown("codec", kind, PARAMETERS)
    parameter = PARAMETERS[kind]
    if re.search(rf"(^|,)\s*{parameter}\s*=", inner):
        raise ValueError(f"Expected `codec` without {parameter!r}, which is searched for, but got {text!r}.")
    for fixed in ("lossless", "group"):
        check(f"{fixed}=true" not in inner.lower().replace(" ", ""), "codec", "with loss", text)
    rest = inner.removesuffix(")").strip()
    joined = ", ".join(part for part in (rest, f"{parameter}=8") if part)
    model = parse(f"{kind}({joined}" + (")" if not opened or inner.endswith(")") else ""))
    others = {field.name: getattr(model, field.name) for field in fields(model) if field.name != parameter}
    values = _values(kind, model)
    return Ladder(kind, parameter, tuple(from_dict({"kind": kind, **others, parameter: v}) for v in values))


def _values(kind: str, model: Codec) -> list[Any]:
    if kind in ("jpeg", "webp"):
        return list(range(1 if kind == "jpeg" else 0, 101))
    if kind == "zfp-precision":
        return list(range(1, 33))
    if kind == "zfp-accuracy":
        return [2.0**power for power in range(7, -4, -1)]
    if kind == "jpeg2000":
        return [float(value) for value in np.arange(10, 60.5, 0.5)]
    if kind == "jpegxl":
        return [round(float(value), 3) for value in np.geomspace(25, 0.1, 60)]
    return _rates(model.block, 9 if model.dtype == "float32" else 1)  # pyright: ignore[reportAttributeAccessIssue]


def _rates(block: int, least: int) -> list[float]:
    """Bits per value in whole bits per block, up to 16, thinned out where neighbours are nearly the same."""
    bits = [least]
    for candidate in range(least + 1, 16 * block + 1):
        if candidate >= bits[-1] * _RATIO:
            bits.append(candidate)
    return [count / block for count in bits]
