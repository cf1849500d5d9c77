"""What the analyses of a reference against compressed schemes share: the two sides, and what null joins them.

Their `run` functions have these parameters in common:

reference
    Label of the scheme to compare with; default that of the population (`remnant.population.reference_of`).
null
    What is exchangeable if compression changed nothing; see `exchange`.
num_permutations
    Number of random rearrangements of the models that make the null.
seed
    Of the random rearrangements.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.sides import answers, check_pairs, check_sides, rows_of_schemes, trials
from remnant.finding import Claim, NotApplicable
from remnant.population import groups, paired, reference_of
from remnant.schemes import SCHEMES
from remnant.stats.agreement import disagreement, same_seed_p
from remnant.stats.resampling import Rearrangements, relabelings, swaps
from remnant.stats.trial_intervals import mean_interval

Null = Literal["auto", "free", "paired"]
"""Which rearrangements of trials the null hypothesis allows; see `exchange`."""

MOST_LEVELS = 100
"""Attributes with more distinct values than this are not groups but measurements."""
_ROWS = 2**18
"""Values of an attribute that are read at a time."""


@dataclass(frozen=True)
class Comparison:
    """The trials of the reference and of one compressed scheme on the whole training set."""

    scheme: str
    reference: xr.Dataset
    compressed: xr.Dataset
    first: NDArray[np.integer]
    """Predictions of the reference, shape (trial, example). Often of 8 or 16 bits: widen before arithmetic."""
    second: NDArray[np.integer]
    """Predictions of the compressed scheme, shape (trial, example)."""
    files: bool = False
    """The models were made elsewhere: a seed is the number of a file within its side."""

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

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Rows of the reference and of the compressed scheme that make pairs.

        The same seeds; or the one reference model with every compressed one. For sides that
        `comparisons` gave with `pairs=True`.
        """
        return [(0 if self.num_first == 1 else k, k) for k in range(self.num_second)]

    @property
    def over_pairs(self) -> str:
        """How the pairs are made, as the end of a sentence; "" with one pair."""
        if self.num_second == 1:
            return ""
        if self.num_first == 1:
            return ", mean over compressed models, each against the one reference model"
        return f", mean over pairs of {'files of the same number' if self.files else 'the same seed'}"

    @property
    def reference_label(self) -> str:
        """Label of the reference."""
        return str(self.reference["scheme"].values[0])

    @property
    def label(self) -> NDArray[np.integer] | None:
        """True classes, shape (example,); None where they are not known."""
        return self.reference["label"].values if "label" in self.reference else None

    @property
    def has_logits(self) -> bool:
        """Whether more is known than the answers."""
        return "logits" in self.reference


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
        return "models exchanged within pairs" if self.kind == "paired" else "labels of models permuted"

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
    index: NDArray[np.integer]
    """Shape (example,): the level of each example. Widen before arithmetic."""


def comparisons(
    population: xr.Dataset, reference: str | None = None, *, least: int = 1, pairs: bool = False
) -> list[Comparison]:
    """The reference against each other scheme, trials in order of their seeds.

    Parameters
    ----------
    reference
        Label of the reference; default that of the population.
    least
        Number of trials that either side needs.
    pairs
        Both sides must have trials of the same seeds. One reference file makes a pair with every file of a side.

    Raises
    ------
    NotApplicable
        If the reference or a compressed scheme is missing or has too few trials, or no answers are known.
    SchemaError
        If `pairs` and the seeds differ.
    """
    if "logits" not in population and "prediction" not in population:
        raise NotApplicable(
            "The population has no `logits` and no `prediction`; keep the outputs on the test examples."
        )
    reference = reference_of(population) if reference is None else reference
    files = "reference" in population.attrs
    rows = rows_of_schemes(population)
    check_sides(rows, reference, least=least, files=files)
    base = trials(population, rows[reference])
    first = answers(base)
    found = []
    for label in rows:
        if label == reference:
            continue
        side = trials(population, rows[label])
        if pairs:
            check_pairs(base, side, files=files)
        found.append(Comparison(label, base, side, first, answers(side), files))
    return found


def exchange(comparison: Comparison, null: Null, rng: np.random.Generator) -> Exchange:
    """Which trials can take each other's place if compression changed nothing.

    With "auto": "paired" if the compressed models are made from the reference models of the same
    seed (post-training schemes, and schemes that remnant does not know), or if models of the same
    seed agree more than models of other seeds (p <= 0.05; schemes that share initial weights and
    batches do). Else "free". Pairs are always a valid null where seeds are shared; the free null has
    more rearrangements, but is conservative for pairs that are alike. Files of models made elsewhere are pairs
    if both sides have as many.

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
    # The name of a file says nothing on how its model was made.
    derived = None if comparison.files else is_derived(comparison.scheme)
    if null == "paired" or derived:
        paired(comparison.reference, comparison.compressed)
        reason = "as asked for" if null == "paired" else "because each was made from the reference model of its seed"
        return Exchange("paired", reason)
    if not comparison.same_seeds:
        reason = "because the two sides have other "
        return Exchange("free", reason + ("numbers of files" if comparison.files else "seeds"))
    if comparison.files:
        return Exchange("paired", "because files of the same number are taken as made from each other")
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
    """The attributes of the test examples with 2 to `MOST_LEVELS` levels, which are in order of their text."""
    found = []
    for name, values in groups(population).items():
        coded = _coded(values)
        if coded is None or len(coded[1]) < 2:
            continue
        order = np.argsort(coded[1])
        rank = np.empty(len(order), np.int8)
        rank[order] = np.arange(len(order))
        found.append(Group(name, tuple(np.array(coded[1])[order].tolist()), rank[coded[0]]))
    return found


def _coded(values: NDArray) -> tuple[NDArray[np.int8], list[str]] | None:
    """Place of each value among the texts of the distinct values; None if there are more than `MOST_LEVELS`.

    Works in blocks: most measurements are given up after the first one, and texts are never copied as a whole.
    """
    codes = np.empty(len(values), np.int8)
    place: dict[str, int] = {}
    for start in range(0, len(values), _ROWS):
        part = values[start : start + _ROWS]
        code, distinct = pd.factorize(part.astype(object) if part.dtype.kind in "US" else part, use_na_sentinel=False)
        if len(distinct) > MOST_LEVELS:
            return None
        texts = np.asarray(distinct).astype(str).tolist()
        slots = [place.setdefault(text, len(place)) for text in texts]
        if len(place) > MOST_LEVELS:
            return None
        codes[start : start + len(part)] = np.array(slots, np.int8)[code]
    return codes, list(place)


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
