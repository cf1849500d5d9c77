"""Which groups are over- or under-represented among the examples that compression changes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.comparison import Comparison
from remnant.analyses.exemplar_measures import measure as exemplars
from remnant.analyses.group_columns import Groups
from remnant.analyses.group_measures import Settings
from remnant.stats.agreement import mismatches
from remnant.stats.group_odds import Representation, representation, weighted_odds_ratio
from remnant.stats.groups import disagreement_by_example
from remnant.stats.multiplicity import benjamini_hochberg

KINDS = {
    "pie": "PIEs",
    "cie": "examples whose answer changes",
    "cie_u": "examples whose right answer is lost",
}


@dataclass(frozen=True)
class Chosen:
    """Examples that compression changes, and what chance changes."""

    kind: str
    """A key of `KINDS`."""
    flags: NDArray[np.bool_]
    """Shape (example,)."""
    weight_null: NDArray[np.float64] | None
    """Shape (example,): how often chance changes the example; None with one reference model."""
    chance: str
    """What that chance is."""


@dataclass(frozen=True)
class Represented:
    """One kind of changed examples of one compressed side, by group; arrays of shape (group,)."""

    scheme: str
    chosen: Chosen
    count: NDArray[np.int64]
    size: NDArray[np.int64]
    tested: NDArray[np.bool_]
    each: Representation
    """With 95 % intervals."""
    simultaneous: Representation
    """With intervals that hold for all tested groups together."""
    q: NDArray[np.float64]
    odds_ratio_null: NDArray[np.float64]
    """Odds ratio among the examples that chance changes; NaN with one reference model."""

    @property
    def over(self) -> NDArray[np.bool_]:
        """Over-represented at a false discovery rate of 5 %."""
        return (np.nan_to_num(self.q, nan=1) <= 0.05) & (self.each.odds_ratio > 1)

    @property
    def under(self) -> NDArray[np.bool_]:
        """Under-represented at a false discovery rate of 5 %."""
        return (np.nan_to_num(self.q, nan=1) <= 0.05) & (self.each.odds_ratio < 1)

    @property
    def strongest(self) -> int | None:
        """The tested group with the largest finite odds ratio."""
        ratio = np.where(self.tested & np.isfinite(self.each.odds_ratio), self.each.odds_ratio, -1.0)
        return int(ratio.argmax()) if ratio.max(initial=-1.0) > 0 else None


def changed_kinds(comparison: Comparison, label: NDArray[np.integer], settings: Settings) -> list[Chosen]:
    """PIEs where both sides are populations, and mismatches in at least half of the pairs."""
    found = []
    if min(comparison.num_first, comparison.num_second) >= 2:
        tie = "most-probable" if comparison.has_logits else "lowest"
        part = exemplars(comparison, tie, settings.null, settings.num_permutations, settings.seed)
        found.append(Chosen("pie", part.is_pie, part.null_share, f"PIEs of rearranged models ({part.exchange.method})"))
    one, two = (list(rows) for rows in zip(*comparison.pairs, strict=True))
    flags = mismatches(comparison.first[one], comparison.second[two], label)
    by_seed: dict[str, NDArray[np.float64] | None] = {"cie": None, "cie_u": None}
    num = comparison.num_first
    if num >= 2:
        right = (comparison.first == label).mean(axis=0)
        by_seed = {
            "cie": disagreement_by_example(comparison.first),
            "cie_u": right * (1 - right) * num / (num - 1),
        }
    for kind, weight in by_seed.items():
        usual = 2 * np.count_nonzero(flags[kind], axis=0) >= len(one)
        found.append(Chosen(kind, usual, weight, "changes between two models of the reference"))
    return found


def represented(scheme: str, chosen: Chosen, groups: Groups, least_examples: int) -> Represented:
    """Exact tests of every group, false discovery rates over the tested ones, and the odds ratios that chance gives."""
    total, num = len(chosen.flags), int(chosen.flags.sum())
    size = np.concatenate([np.bincount(s.index, minlength=len(s.levels)) for s in groups.slicings])
    count = np.concatenate([np.bincount(s.index[chosen.flags], minlength=len(s.levels)) for s in groups.slicings])
    tested = size >= least_examples
    level = 1 - 0.05 / max(int(tested.sum()), 1)
    each = representation(count, size, num_chosen=num, total=total)
    null = np.full(len(size), np.nan)
    if chosen.weight_null is not None:
        for place in np.flatnonzero(tested):
            null[place] = weighted_odds_ratio(chosen.weight_null, groups.members(int(place)))
    return Represented(
        scheme=scheme,
        chosen=chosen,
        count=count,
        size=size,
        tested=tested,
        each=each,
        simultaneous=representation(count, size, num_chosen=num, total=total, level=level),
        q=benjamini_hochberg(np.where(tested, each.p, np.nan)),
        odds_ratio_null=null,
    )
