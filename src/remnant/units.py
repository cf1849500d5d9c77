"""Amounts as people write them ("1%", "0.5pt", "20MB", "4x") to numbers and back."""

import math
import re
from decimal import Decimal
from typing import Literal

from remnant.fields import check

Unit = Literal["share", "count", "number", "bytes", "ratio", "seconds", "rate"]
"""What a limit counts in: a share of examples, whole things, nats, bytes, times, seconds, things in a second."""

_HUNDREDTHS = ("%", "percent", "pt", "pts", "pp", "point", "points", "percentage point", "percentage points")
_SIZES = {"": 1, "b": 1, "byte": 1, "bytes": 1} | {
    prefix + ending: (1024 if "i" in ending else 1000) ** (place + 1)
    for place, prefix in enumerate("kmgt")
    for ending in ("b", "ib")
}
_FACTORS: dict[Unit, dict[str, Decimal]] = {
    "share": {"": Decimal(1)} | dict.fromkeys(_HUNDREDTHS, Decimal("0.01")),
    "count": {"": Decimal(1)},
    "number": {"": Decimal(1), "nat": Decimal(1), "nats": Decimal(1)},
    "bytes": {name: Decimal(factor) for name, factor in _SIZES.items()},
    "ratio": {"": Decimal(1), "x": Decimal(1), "times": Decimal(1), "%": Decimal("0.01")},
    "seconds": {
        "": Decimal(1),
        "s": Decimal(1),
        "seconds": Decimal(1),
        "ms": Decimal("1e-3"),
        "us": Decimal("1e-6"),
    },
    "rate": {"": Decimal(1), "per second": Decimal(1)},
}
EXAMPLES: dict[Unit, str] = {
    "share": "'1%', '0.5pt', '3 points' or the share 0.01",
    "count": "a whole number such as 0",
    "number": "a number such as 0.01 or '0.01 nats'",
    "bytes": "'20MB', '20MiB' or a number of bytes",
    "ratio": "a number such as 4 or '4x'",
    "seconds": "'5ms', '200us' or a number of seconds",
    "rate": "a number in a second such as 1000",
}
"""How a limit of each unit can be written."""
_NUMBER = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?|\.[0-9]{1,18})(e-?[0-9]{1,2})?\s*(%|[a-z ]*)", re.ASCII)


def parse(value: object, unit: Unit, name: str) -> float:
    """The number behind a limit as people write it; "1%", "1pt" and 0.01 are the same share.

    MB is a million bytes, MiB is 2^20; upper and lower case are the same. A bare 1 is no share: it could
    mean 1 % or all.

    Raises
    ------
    ValueError
        If it is no number of this unit, is negative or is out of range; with how to write it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refused(value, unit, name)
    text = str(value).strip().lower().replace("_", "")
    match = _NUMBER.fullmatch(text)
    ending = match[3].strip() if match else ""
    if match is None or ending not in _FACTORS[unit]:
        raise _refused(value, unit, name)
    found = float(Decimal(match[1] + (match[2] or "")) * _FACTORS[unit][ending])
    if unit == "share" and not ending and found >= 1:
        raise ValueError(
            f"Expected `{name}` to be {EXAMPLES[unit]}, but got {value!r}: as a share that is everything. "
            f"Did you mean '{text}%'?"
        )
    return checked(found, unit, name)


def checked(value: float, unit: Unit, name: str) -> float:
    """`value` as a limit in this unit.

    Raises
    ------
    ValueError
        If it is not finite, negative, a share above 1 or a count that is not whole.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    check(number and math.isfinite(value) and value >= 0, name, f"to be {EXAMPLES[unit]}", value)
    if unit == "share":
        check(value <= 1, name, "to be a share in [0, 1]", value)
    if unit in ("count", "bytes"):
        check(float(value).is_integer(), name, "to be whole", value)
    return float(value)


def shown(value: float, unit: Unit, digits: int = 6) -> str:
    """The value as verdicts print it, such as "1 %", "20 MB" or "4x", to so many significant digits."""
    if unit == "share":
        return f"{float(f'{100 * value:.{digits}g}'):g} %"
    if unit == "bytes":
        for name, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
            if abs(value) >= factor:
                return f"{value / factor:.4g} {name}"
        return f"{value:,.0f} bytes"
    if unit == "seconds":
        name, factor = next((pair for pair in (("s", 1.0), ("ms", 1e-3)) if abs(value) >= pair[1]), ("us", 1e-6))
        return f"{value / factor:.{digits}g} {name}"
    if unit == "count":
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" + ("x" if unit == "ratio" else "")


def _refused(value: object, unit: Unit, name: str) -> ValueError:
    return ValueError(f"Expected `{name}` to be {EXAMPLES[unit]}, but got {value!r}.")
