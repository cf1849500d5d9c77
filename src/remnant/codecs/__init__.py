"""Codecs for data sets of images, their honest sizes, and the container that stores them."""

from typing import Any

from remnant.codecs.codec import Codec, Encoded, StreamError
from remnant.codecs.pictures import Jpeg, Jpeg2000, JpegXL, Png, WebP
from remnant.codecs.plain import Raw, Zstd
from remnant.codecs.zfp import ZfpAccuracy, ZfpPrecision, ZfpRate, ZfpReversible
from remnant.fields import build, non_default
from remnant.registry import find

__all__ = [
    "CODECS", "Codec", "Encoded", "Jpeg", "Jpeg2000", "JpegXL", "Png", "Raw", "StreamError", "WebP", "ZfpAccuracy",
    "ZfpPrecision", "ZfpRate", "ZfpReversible", "Zstd", "from_dict", "parse", "to_dict",
]  # fmt: skip

CODECS: dict[str, type[Codec]] = {
    codec.kind: codec
    for codec in (Raw, Png, Zstd, Jpeg, Jpeg2000, WebP, JpegXL, ZfpRate, ZfpPrecision, ZfpAccuracy, ZfpReversible)
}


def to_dict(codec: Codec) -> dict[str, Any]:
    """A codec as plain data, without the parameters that have their default."""
    return {"kind": codec.kind, **non_default(codec)}


def from_dict(data: Any, where: str = "codec") -> Codec:
    """A codec from {"kind": name, parameter: value, ...}, or from its bare name.

    Raises
    ------
    ValueError
        Naming the key (as `where`), what was expected and what came.
    """
    data = {"kind": data} if isinstance(data, str) else data
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ValueError(f"Expected `{where}` to be a name or to have a `kind`, but got {data!r}.")
    parameters = {name: value for name, value in data.items() if name != "kind"}
    return build(find("codec", data["kind"], CODECS), parameters, where)


def parse(text: str) -> Codec:
    """A codec from its label, such as "jpeg(quality=50)" or "zfp-rate(rate=4, layout=volume)".

    Raises
    ------
    UnknownNameError
        For an unknown codec or parameter, with the nearest name.
    ValueError
        For text that is not a label, and for values that a codec does not take.
    """
    kind, opened, rest = text.strip().partition("(")
    if opened and not rest.endswith(")"):
        raise ValueError(f"Expected `codec` to look like 'jpeg(quality=50)', but got {text!r}.")
    data: dict[str, Any] = {}
    for item in filter(None, (item.strip() for item in rest.removesuffix(")").split(","))):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or name in data or name == "kind":
            raise ValueError(f"Expected `codec` to look like 'jpeg(quality=50)', but got {text!r}.")
        data[name] = _value(value)
    return from_dict({"kind": kind.strip(), **data})


def _value(text: str) -> Any:
    """A number or truth value where `text` is one; else the text itself, with or without quotes."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text.strip("'\"")
