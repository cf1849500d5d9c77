"""What the analyses of a reference against compressed schemes share: the two sides, and what null joins them."""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.finding import Claim, NotApplicable
from remnant.population import groups, paired, predictions, schemes, whole
from remnant.stats.agreement import disagreement, same_seed_p
from remnant.stats.resampling import Rearrangements, relabelings, swaps
from remnant.stats.trial_intervals import mean_interval
from remnant.trial import SCHEMES

Null = Literal["auto", "free", "paired"]
"""Which rearrangements of trials the null hypothesis allows; see `exchange`."""

MOST_LEVELS = 100
"""Attributes with more distinct values than this are not groups but measurements."""


@dataclass(frozen=True)
class Comparison:
    """The trials of the reference and of one compressed scheme on the whole training set."""

    scheme: str
    reference: xr.Dataset
    compressed: xr.Dataset
    first: NDArray[np.int64]
    """Predictions of the reference, shape (trial, example)."""
    second: NDArray[np.int64]
    """Predictions of the compressed scheme, shape (trial, example)."""

    @property
    def same_seeds(self) -> bool:
        """Both sides have trials of the same seeds."""
        return self.reference["seed"].values.tolist() == self.compressed["seed"].values.tolist()

    @property
    def num_first(self) -> int:
        """Number of trials of the reference."""
        return len(self.first)

    @property
    def num_second(self) -> int:
        """Number of trials of the compressed scheme."""
        return len(self.second)


@dataclass(frozen=True)
class Exchange:
    """What is exchangeable if compression changed nothing."""

    kind: Literal["free", "paired"]
    """"free": all trials; "paired": the two of a pair."""
    reason: str
    """Why, as the end of a sentence."""

    @property
    def method(self) -> str:
        """How trials are rearranged, as reports say it."""
        return (
            "models exchanged within pairs of the same seed" if self.kind == "paired" else "labels of models permuted"
        )

    def rearrangements(self, comparison: Comparison, num: int, rng: np.random.Generator) -> Rearrangements:
        """`num` rearrangements of the trials, or all if there are no more."""
        if self.kind == "paired":
            return swaps(comparison.num_first, num, rng)
        return relabelings(comparison.num_first, comparison.num_second, num, rng)


@dataclass(frozen=True)
class Group:
    """An attribute of the test examples."""

    name: str
    levels: tuple[str, ...]
    index: NDArray[np.intp]
    """Shape (example,): the level of each example."""


def comparisons(population: xr.Dataset, reference: str, *, least: int = 1, pairs: bool = False) -> list[Comparison]:
    """The reference against each other scheme, trials in order of their seeds.

    Parameters
    ----------
    least
        Number of trials that either side needs.
    pairs
        Both sides must have trials of the same seeds.

    Raises
    ------
    NotApplicable
        If the reference or a compressed scheme is missing or has too few trials.
    SchemaError
        If `pairs` and the seeds differ.
    """
    found = schemes(whole(population))
    if reference not in found:
        raise NotApplicable(
            f"Expected trials of the reference {reference!r} on the whole training set, but the population has "
            f"{found or 'none'}. Train it too, or name another `reference`."
        )
    others = [label for label in found if label != reference]
    if not others:
        raise NotApplicable(
            f"Expected a compressed scheme beside {reference!r}, but the population has none. "
            "Add one to the study, such as {kind = 'magnitude-pruning', sparsity = 0.9}."
        )
    base = whole(population, reference)
    sides = [(label, whole(population, label)) for label in others]
    for label, side in ((reference, base), *sides):
        if side.sizes["trial"] < least:
            raise NotApplicable(
                f"Expected at least {least} models of each scheme, but {label!r} has {side.sizes['trial']}. "
                "A population is needed to tell compression from the noise of training: train more seeds."
            )
    first = predictions(base)
    if pairs:
        for _, side in sides:
            paired(base, side)
    return [Comparison(label, base, side, first, predictions(side)) for label, side in sides]


def exchange(comparison: Comparison, null: Null, rng: np.random.Generator) -> Exchange:
    """Which trials can take each other's place if compression changed nothing.

    With "auto": "paired" if the compressed models are made from the reference models of the same
    seed (post-training schemes, and schemes that remnant does not know), or if models of the same
    seed agree more than models of other seeds (p <= 0.05; schemes that share initial weights and
    batches do). Else "free". Pairs are always a valid null where seeds are shared; the free null has
    more rearrangements, but is conservative for pairs that are alike.

    Raises
    ------
    ValueError
        If `null` is unknown.
    SchemaError
        If pairs are needed and the seeds differ.
    """
    if null not in get_args(Null):
        raise ValueError(f"Expected `null` to be one of {list(get_args(Null))}, but got {null!r}.")
    if null == "free":
        return Exchange("free", "as asked for")
    derived = is_derived(comparison.scheme)
    if null == "paired" or derived:
        paired(comparison.reference, comparison.compressed)
        reason = "as asked for" if null == "paired" else "because each was made from the reference model of its seed"
        return Exchange("paired", reason)
    if not comparison.same_seeds:
        return Exchange("free", "because the two sides have other seeds")
    if derived is None:
        return Exchange("paired", "because it is not known how the scheme is made, and the seeds are the same")
    if same_seed_p(disagreement(comparison.first, comparison.second), 999, rng) <= 0.05:
        return Exchange("paired", "because models of the same seed agree more than models of other seeds")
    return Exchange("free", "because the scheme is trained on its own")


def is_derived(scheme: str) -> bool | None:
    """Whether models of a scheme, by its label, are made from the dense models of their seed.

    True for the schemes of `remnant.trial` that follow training, False for those that take part in
    it (alone or first in a chain), None for labels that remnant does not know.
    """
    kind = scheme.split(" + ")[0].split("(")[0].strip()
    return SCHEMES[kind].post_training if kind in SCHEMES else None


def stream(seed: int, *names: str) -> np.random.Generator:
    """A random stream of its own for each purpose and scheme, whatever else is analysed."""
    digest = hashlib.sha256("/".join(names).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], np.uint32).tolist()])


def class_names(population: xr.Dataset) -> list[str]:
    """Names of the classes; their numbers where the population has no names."""
    if "class" in population.coords:
        return [str(name) for name in population["class"].values]
    return [str(number) for number in range(population.sizes["class"])]


def attributes(population: xr.Dataset) -> list[Group]:
    """The attributes of the test examples with 2 to `MOST_LEVELS` levels."""
    found = []
    for name, values in groups(population).items():
        levels, index = np.unique(np.asarray(values).astype(str), return_inverse=True)
        if 2 <= len(levels) <= MOST_LEVELS:
            found.append(Group(name, tuple(levels.tolist()), index))
    return found


def mean_claim(
    quantity: str,
    subject: str,
    values: NDArray[np.floating],
    unit: str,
    *,
    method: str,
    citation: str = "",
    scale: str = "share",
) -> Claim:
    """The mean over trials or pairs as a claim, with its t interval where there are 2 or more that differ."""
    found = mean_interval(values)
    low = high = None
    if len(values) > 1 and float(np.ptp(values)) > 0:
        low, high = float(found.low), float(found.high)
        if scale == "share" and values.min() >= 0:
            low, high = max(low, 0.0), min(high, 1.0)
    method += f"; no interval: no spread between {unit}s" if low is None else f"; t interval over {unit}s"
    return Claim(quantity, subject, float(found.estimate), low, high, len(values), unit, method, citation, scale)
