"""What a search found: samples, the best of them, and what it does on examples that the search did not look at."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from remnant.schemes import Scheme
from remnant.search.intervals import Estimate
from remnant.search.objectives import Budget, Objective


@dataclass(frozen=True)
class Sample:
    """One candidate that was trained and measured."""

    scheme: Scheme
    value: float
    """The strength, or NaN where a candidate has several."""
    measures: Mapping[str, float]
    """Quantities on the validation examples, means over seeds; empty if the candidate was refused."""
    margin: float
    """How far inside the budget, see `Budget.margin`; >= 0 holds, -infinite if it was refused."""
    score: float
    """The objective, higher is better; NaN where it is not defined."""
    phase: str = ""
    """"budget" (looking for the strongest that holds) or "objective" (below that one)."""
    refused: str = ""
    """Why it could not be made: the scheme does not fit the model, or its training diverged."""

    @property
    def holds(self) -> bool:
        """Whether the budget holds on the validation examples."""
        return self.margin >= 0


@dataclass(frozen=True)
class SearchResult:
    """The outcome of `remnant.search.search_strength`."""

    budget: Budget
    objective: Objective
    path: str
    """The field that was searched."""
    samples: tuple[Sample, ...]
    """In the order in which they were tried."""
    best: Sample
    """Of those in the budget the one with the best objective; if none is, the nearest to it."""
    strongest: Sample | None
    """The strongest sample in the budget, s_acc; None if none is."""
    held_out: Mapping[str, Estimate] = field(default_factory=dict)
    """Quantities of the best on the examples that the search did not look at, with 95 % intervals."""
    reason: str = ""
    """What happened, in a sentence or two."""

    @property
    def reachable(self) -> bool:
        """Whether a sample is in the budget, on the examples that the search looks at."""
        return self.strongest is not None

    @property
    def confirmed(self) -> bool:
        """Whether the best is in the budget on the other examples too."""
        if not self.reachable or not self.held_out:
            return False
        return self.budget.holds({name: found.estimate for name, found in self.held_out.items()})

    def to_frame(self) -> pd.DataFrame:
        """One row for each sample: strength, phase, holds, margin, objective and all quantities."""
        rows = [
            {
                self.path: sample.value,
                "scheme": sample.scheme.label,
                "phase": sample.phase,
                "holds": sample.holds,
                "margin": sample.margin,
                "objective": sample.score if self.objective.maximize else -sample.score,
                "refused": sample.refused,
                **sample.measures,
            }
            for sample in self.samples
        ]
        return pd.DataFrame(rows)

    def held_out_frame(self) -> pd.DataFrame:
        """One row for each quantity of the best on the held-out examples: estimate, low and high."""
        rows = [
            {"quantity": name, "estimate": one.estimate, "low": one.low, "high": one.high}
            for name, one in self.held_out.items()
        ]
        return pd.DataFrame(rows, columns=["quantity", "estimate", "low", "high"])


def best_of(samples: Iterable[Sample]) -> Sample:
    """Of the samples in the budget the one with the highest score; if there is none, the nearest to the budget.

    At least one was not refused.
    """
    made = [sample for sample in samples if not sample.refused]
    inside = [sample for sample in made if sample.holds]
    if inside:
        return max(inside, key=lambda sample: -math.inf if math.isnan(sample.score) else sample.score)
    return max(made, key=lambda sample: sample.margin)
