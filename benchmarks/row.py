"""One line of benchmarks/results.json."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A measurement of ours, beside a baseline measured in the same run or beside a limit."""

    name: str
    ours: float
    unit: str
    goal: str
    met: bool
    baseline: float | None = None
    ratio: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def cells(self) -> tuple[str, str, str, str, str]:
        """The row as a table prints it: ours, baseline, ratio, goal, met."""
        baseline = "" if self.baseline is None else f"{self.baseline:.3g} {self.unit}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"{self.ours:.3g} {self.unit}", baseline, ratio, self.goal, "yes" if self.met else "no"


PEAK_GIBIBYTES = "int(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0]) / 2**20"
"""Code for a fresh process that gives its peak memory; `ru_maxrss` would count what its parent had when it forked."""
