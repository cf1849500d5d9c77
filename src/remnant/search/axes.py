"""The strength of a compression scheme as an axis, from the weakest to the strongest setting."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from remnant.registry import unknown
from remnant.schemes import Scheme

BOUNDS: dict[str, tuple[float, float]] = {
    "sparsity": (0.0, 1.0),
    "flops": (1.0, 0.0),
    "share": (1.0, 0.0),
    "energy": (1.0, 0.0),
    "bits": (8, 2),
}
"""Field of a scheme to its weakest and strongest value; 0 and 1 themselves are left out."""

_DECIMALS = 6
"""Values are rounded, so that a strength names one trial however it was computed."""


@dataclass(frozen=True)
class Axis:
    """The settings of one field of a scheme, weakest first."""

    template: Scheme
    field: str
    """Path to the field: "sparsity", "parts.0.sparsity", "scheme.sparsity"."""
    values: tuple[float, ...]

    @property
    def positions(self) -> NDArray[np.float64]:
        """The settings on an axis from 0 (weakest) to 1 (strongest)."""
        values = np.array(self.values, float)
        return np.abs(values - values[0]) / max(abs(float(values[-1] - values[0])), 1e-300)

    def scheme(self, index: int) -> Scheme:
        """The template with the setting number `index`."""
        return with_field(self.template, self.field, self.values[index])


def axis(template: Scheme, field: str, *, bounds: tuple[float, float] | None = None, resolution: float = 0.01) -> Axis:
    """The axis of a field.

    Parameters
    ----------
    bounds
        Weakest and strongest value, both included; default those of `BOUNDS` for known fields, ends of shares left
        out. More sparsity is stronger, fewer bits, FLOPs and less energy are: the order of the two says it.
    resolution
        Step between settings. Fields of whole numbers have a step of 1.

    Raises
    ------
    ValueError
        If there is no such field (with those that can be searched), it is no number, bounds are equal or the
        resolution is not above 0.
    """
    name = field.rpartition(".")[2]
    whole = _field_type(template, field) is int
    if bounds is None and name not in BOUNDS:
        raise ValueError(
            f"Expected `bounds` (weakest, strongest) for the field {field!r}: what is weak is known for "
            f"{sorted(BOUNDS)} only."
        )
    first, last = (float(end) for end in bounds or BOUNDS[name])
    step = 1.0 if whole else float(resolution)
    if not (math.isfinite(first) and math.isfinite(last)) or first == last:
        raise ValueError(f"Expected two different finite `bounds`, but got {(first, last)}.")
    if not 0 < step <= abs(last - first):
        raise ValueError(f"Expected `resolution` in (0, {abs(last - first):g}], but got {resolution!r}.")
    count = math.floor(abs(last - first) / step + 1e-9) + 1
    values = [round(first + math.copysign(step, last - first) * k, _DECIMALS) for k in range(count)]
    if bounds is None and not whole:
        values = [value for value in values if 0 < value < 1]
    found = Axis(template, field, tuple(int(value) if whole else value for value in values))
    for end in (0, len(values) - 1):
        found.scheme(end)  # a value that the scheme refuses is refused now
    return found


def with_field(scheme: Scheme, path: str, value: Any) -> Scheme:
    """The scheme with another value of a field, given by a path such as "parts.0.sparsity"."""
    return _replaced(scheme, path.split("."), value, path)


def _replaced(part: Any, steps: list[str], value: Any, path: str) -> Any:
    if not steps:
        return value
    first, rest = steps[0], steps[1:]
    if isinstance(part, tuple) and first.isdigit() and int(first) < len(part):
        changed = _replaced(part[int(first)], rest, value, path)
        return (*part[: int(first)], changed, *part[int(first) + 1 :])
    if is_dataclass(part) and not isinstance(part, type) and first in {one.name for one in fields(part)}:
        return replace(part, **{first: _replaced(getattr(part, first), rest, value, path)})
    raise _no_field(part, path)


def _field_type(scheme: Scheme, path: str) -> type:
    """int or float: the type of a field of numbers."""
    found = dict(_numbers(scheme, ""))
    if path not in found:
        raise unknown(f"field of {scheme.kind!r}", path, found)
    return found[path]


def _numbers(part: Any, prefix: str) -> Iterator[tuple[str, type]]:
    """Paths of the fields that are numbers, and their types."""
    if isinstance(part, tuple):
        for index, item in enumerate(part):
            yield from _numbers(item, f"{prefix}{index}.")
        return
    if not is_dataclass(part):
        return
    for one in fields(part):
        kinds = {one.type, *get_args(one.type)}
        if int in kinds or float in kinds:
            yield prefix + one.name, int if int in kinds else float
        else:
            yield from _numbers(getattr(part, one.name), f"{prefix}{one.name}.")


def _no_field(part: Any, path: str) -> ValueError:
    kind = part.kind if isinstance(part, Scheme) else type(part).__name__
    return ValueError(f"Expected `field` to lead to a number of the scheme, but {path!r} has no place in {kind!r}.")
