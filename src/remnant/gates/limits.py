"""Limits on what compression may cost, from flags or a TOML file."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from remnant.gates.units import Unit, checked, parse
from remnant.registry import unknown

Direction = Literal["at most", "at least", "drop", "margin"]
"""How a quantity is held against its limit: "drop" is its decrease, "margin" its change either way."""


@dataclass(frozen=True)
class Kind:
    """What a limit of one name is set on."""

    quantity: str
    """The claim that is held against it."""
    analysis: str
    """The analysis that makes the claim."""
    unit: Unit
    words: str
    """The quantity in words."""
    direction: Direction = "at most"
    exact: bool = False
    """Whether the value may be compared directly where it has no interval: sizes and counts."""
    sampled: bool = False
    """Whether a value without an interval is an estimate all the same, so that the verdict says so."""
    increase: bool = False
    """Whether the limit is on the increase since an earlier report."""
    other: str = ""
    """The claim that stands for it in reports on a store."""


KINDS: dict[str, Kind] = {
    "max_harmful_flips": Kind("cie_u_rate", "mismatches", "share", "harmful flips"),
    "max_flips": Kind("cie_rate", "mismatches", "share", "flips"),
    "max_accuracy_drop": Kind("net_accuracy_change", "mismatches", "share", "drop of accuracy", "drop"),
    "equivalence_margin": Kind(
        "smallest_equivalence_margin", "equivalence", "share", "change of accuracy either way", "margin"
    ),
    "max_worst_class_drop": Kind("worst_class_net_change", "slices", "share", "drop of the worst class", "drop"),
    "max_worst_group_drop": Kind("worst_group_net_change", "slices", "share", "drop of the worst group", "drop"),
    "max_harmed_classes": Kind("harmed_classes_q", "slices", "count", "harmed classes", exact=True),
    "max_harmed_groups": Kind("harmed_groups_q", "slices", "count", "harmed groups", exact=True),
    "max_kl": Kind("kl_mean", "mismatches", "number", "mean KL divergence in nats"),
    "max_kl_p99": Kind(
        "kl_p99", "mismatches", "number", "99th percentile of the KL divergence in nats", exact=True, sampled=True
    ),
    "max_size": Kind("size_bytes", "league", "bytes", "size", exact=True, other="bytes"),
    "min_size_ratio": Kind("size_ratio", "league", "ratio", "times smaller than the reference", "at least", True),
    "min_speedup": Kind(
        "latency_ratio", "league", "ratio", "speed-up over the reference", "at least", exact=True, sampled=True
    ),
    "max_increase_harmful_flips": Kind("cie_u_rate", "mismatches", "share", "more harmful flips", increase=True),
    "max_increase_flips": Kind("cie_rate", "mismatches", "share", "more flips", increase=True),
    "max_increase_accuracy_drop": Kind(
        "net_accuracy_change", "mismatches", "share", "further drop of accuracy", "drop", increase=True
    ),
    "max_increase_kl": Kind("kl_mean", "mismatches", "number", "more mean KL divergence in nats", increase=True),
    "max_increase_size": Kind("size_bytes", "league", "bytes", "more size", exact=True, increase=True, other="bytes"),
}
"""Name of a limit to what it is set on, in the order of verdicts."""


@dataclass(frozen=True)
class Limits:
    """The most that compression may cost; None where there is no limit.

    Shares are in [0, 1]. Limits named `max_increase_...` hold against an earlier report.
    """

    max_harmful_flips: float | None = None
    """Share of examples on which the reference is right and the compressed model wrong."""
    max_flips: float | None = None
    """Share of examples on which the two predict different classes."""
    max_accuracy_drop: float | None = None
    """Accuracy of the reference minus that of the compressed model (non-inferiority)."""
    equivalence_margin: float | None = None
    """Difference of the accuracies in either direction (equivalence, two one-sided tests)."""
    max_worst_class_drop: float | None = None
    """Drop of accuracy within the class that loses most."""
    max_worst_group_drop: float | None = None
    """Drop of accuracy within the group that loses most."""
    max_harmed_classes: float | None = None
    """Number of classes that lose accuracy at a false-discovery rate of 5 %."""
    max_harmed_groups: float | None = None
    """Number of groups that lose accuracy at a false-discovery rate of 5 %."""
    max_kl: float | None = None
    """Mean KL divergence of the compressed model's probabilities from the reference's, nats."""
    max_kl_p99: float | None = None
    """99th percentile of the KL divergence over examples, nats."""
    max_size: float | None = None
    """Bytes."""
    min_size_ratio: float | None = None
    """Size of the reference over that of the compressed model."""
    min_speedup: float | None = None
    """Latency of the reference over that of the compressed model."""
    max_increase_harmful_flips: float | None = None
    """`max_harmful_flips`, as an increase since the earlier report."""
    max_increase_flips: float | None = None
    """`max_flips`, as an increase since the earlier report."""
    max_increase_accuracy_drop: float | None = None
    """`max_accuracy_drop`, as an increase since the earlier report."""
    max_increase_kl: float | None = None
    """`max_kl`, as an increase since the earlier report."""
    max_increase_size: float | None = None
    """Bytes more than in the earlier report."""

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            checked(value, KINDS[name].unit, name)

    def given(self) -> dict[str, float]:
        """The limits that are set, by name."""
        values = {name: getattr(self, name) for name in KINDS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Rules:
    """Limits for all compressed models and, where they differ, for some of them."""

    limits: Limits = Limits()
    sides: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    """Name of a compressed side to the limits that replace the common ones there; None lifts a limit."""
    path: str | None = None
    """The file that they were read from."""
    lines: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Side ("" for all) and limit to the line of the file that sets it."""

    def of(self, side: str) -> Limits:
        """The limits that hold for one compressed side."""
        return Limits(**(self.limits.given() | dict(self.sides.get(side, {}))))

    def line(self, side: str, limit: str) -> int:
        """Line of the file that sets the limit; 1 where it is not known."""
        return self.lines.get((side, limit)) or self.lines.get(("", limit)) or 1


def parse_limits(texts: Mapping[str, Any], where: str = "limits") -> dict[str, float | None]:
    """Limits by name from what people write; "none" becomes None.

    Raises
    ------
    ValueError
        If a name is not that of a limit (with the nearest one) or a value is not one of its unit.
    """
    found: dict[str, float | None] = {}
    for name, value in texts.items():
        if name not in KINDS:
            raise ValueError(f"In `{where}`: {unknown('limit', name, KINDS)}")
        if isinstance(value, str) and value.strip().lower() == "none":
            found[name] = None
            continue
        try:
            found[name] = parse(value, KINDS[name].unit, name)
        except ValueError as error:
            raise ValueError(f"In `{where}`: {error}") from error
    return found


def rules(path: str | PathLike[str] | None = None, **flags: str | float | None) -> Rules:
    """The limits of a TOML file, of flags, or of both; a flag replaces what the file says for every side.

        [limits]
        max_harmful_flips = "1%"
        max_accuracy_drop = "0.5pt"

        [limits."int8"]               # the compressed side of that name
        max_size = "20MB"
        max_harmful_flips = "none"    # no limit for this one

    Raises
    ------
    ValueError
        If no limit is set, or one is unknown, malformed or out of range.
    FileNotFoundError
        If there is no such file.
    """
    found = Rules() if path is None else read_rules(path)
    wanted = parse_limits({name: value for name, value in flags.items() if value is not None}, "flags")
    if wanted:
        common = Limits(**(found.limits.given() | wanted))
        sides = {
            side: {name: value for name, value in own.items() if name not in wanted}
            for side, own in found.sides.items()
        }
        lines = {place: line for place, line in found.lines.items() if place[1] not in wanted}
        found = Rules(common, sides, found.path, lines)
    own = (value for limits in found.sides.values() for value in limits.values())
    if not found.limits.given() and all(value is None for value in own):
        raise ValueError(
            "Expected at least one limit, such as `--max-harmful-flips 1%` or [limits] in a file for `--limits`, "
            "but got none."
        )
    return found


def read_rules(path: str | PathLike[str]) -> Rules:
    """The limits of a TOML file; see `rules`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"Expected a file with limits, but {str(path)!r} does not exist.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}.") from error
    try:
        common, sides = _tables(data)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    given = {name: value for name, value in common.items() if value is not None}
    return Rules(Limits(**given), sides, str(path), _lines(text))


def _tables(data: dict[str, Any]) -> tuple[dict[str, float | None], dict[str, dict[str, float | None]]]:
    """Common limits and those of single sides from the data of a TOML file."""
    for name in data:
        if name != "limits":
            raise ValueError(str(unknown("key", name, ["limits"])) + " Limits stand in the table [limits].")
    if not isinstance(data.get("limits"), dict):
        raise ValueError('Expected a table [limits], such as one with max_harmful_flips = "1%".')
    sides = {name: value for name, value in data["limits"].items() if isinstance(value, dict)}
    common = {name: value for name, value in data["limits"].items() if name not in sides}
    own = {side: parse_limits(texts, f'limits."{side}"') for side, texts in sides.items()}
    return parse_limits(common), own


def _lines(text: str) -> dict[tuple[str, str], int]:
    """Where each limit is set, for annotations; a guess by the look of the lines, not a parser."""
    found: dict[tuple[str, str], int] = {}
    side = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*limits\s*(?:\.\s*(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[\w-]+)\s*)?\]", line):
            side = _unquoted(header[1] or "")
        elif setting := re.match(r"\s*([\w]+)\s*=", line):
            found.setdefault((side, setting[1]), number)
    return found


def _unquoted(key: str) -> str:
    """A key of TOML without its quotes."""
    try:
        return next(iter(tomllib.loads(f"{key} = 0"))) if key else ""
    except tomllib.TOMLDecodeError:  # what looks like a header inside of a text of several lines
        return key
