"""What a probe is: a measurement on a trial beyond its logits, as a frozen value without torch."""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from remnant.fields import check, non_default


@dataclass(frozen=True)
class Probe:
    """What is measured on every trial besides its logits, and on which examples.

    The lab measures it (`remnant.lab.probes`), the store keeps it once for each trial and part, and analyses
    read it with `remnant.population.probed`.
    """

    kind: ClassVar[str]
    """Its name in studies and on the command line."""
    dims: ClassVar[dict[str, tuple[str, ...]]]
    """Variable to its dimensions for one trial; "example", the rows that are probed, comes first where it is one."""
    split: ClassVar[str] = "test"
    """"test" or "train": whose examples are probed."""
    joins: ClassVar[str | None] = None
    """The dimension along which `parts` are put together."""
    on_subsets: ClassVar[bool] = False
    """Whether trials on random training subsets are probed too."""
    numerics: ClassVar[int] = 1
    """Bumped when the code changes what the probe measures. Part of every key."""

    examples: int | None = 1000
    """So many rows of the split, drawn at random, the same for every trial; None for all."""

    def __post_init__(self) -> None:
        check(self.examples is None or self.examples >= 1, "examples", ">= 1", self.examples)

    @property
    def key(self) -> str:
        """16 hexadecimal digits that name the measurement in a store."""
        text = json.dumps({"numerics": self.numerics, **to_dict(self)}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def rows(self, number: int) -> NDArray[np.int64]:
        """Which of `number` rows are probed, ascending; a smaller draw is a part of a larger one."""
        order = np.random.default_rng(0).permutation(number)
        return np.sort(order[: self.examples])

    def rng(self, stream: str) -> np.random.Generator:
        """The random stream of that name: it depends on the kind of probe and the name alone, not on the trial."""
        digest = hashlib.sha256(f"{self.kind}/{stream}".encode()).digest()
        return np.random.default_rng(np.frombuffer(digest[:16], np.uint32).tolist())

    def coords(self) -> dict[str, list[Any]]:
        """Values of the probe's own dimensions."""
        return {}

    def parts(self) -> tuple["Probe", ...]:
        """What is measured and stored one by one, so that little is lost when a run is stopped."""
        return (self,)


def to_dict(probe: Probe) -> dict[str, Any]:
    """A probe as plain data: its kind and the fields that differ from their defaults."""
    return {"kind": probe.kind, **{name: _plain(value) for name, value in non_default(probe).items()}}


def settings(probe: Probe) -> dict[str, Any]:
    """All fields of a probe as plain data."""
    return {f.name: _plain(getattr(probe, f.name)) for f in fields(probe)}


def varying(probe: Probe) -> set[str]:
    """Names of the fields in which the parts of a probe of this kind differ."""
    parts = [settings(part) for part in type(probe)().parts()]
    return {name for name in parts[0] if any(part[name] != parts[0][name] for part in parts)}


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
