"""Answers under attack, pair by pair: who withstands which budget, what transfers, and whether gradients are masked."""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from remnant.finding import NotApplicable
from remnant.population import reference_of, whole
from remnant.probes.adversarial import ABSENT, GRADIENTS
from remnant.stats.paired import mcnemar_exact

STRONGEST = "strongest"
"""Name of all attacks together: an example withstands it if it withstands each of them."""
BLACK_BOX = ("square", "transfer")
"""Attacks that need no gradients of the model."""
GRADIENT = ("fgsm", "pgd")
"""Attacks that follow gradients alone; `ensemble` ends in a black-box attack."""
LEVEL = 0.05

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """What probed models of one scheme answer under attack, trials in order of their seeds."""

    scheme: str
    seeds: NDArray[np.int64]
    prediction: NDArray[np.integer]
    """(trial, example, attack, budget), -1 where there is none."""
    on_reference: NDArray[np.integer]
    gradient: NDArray[np.integer]
    """(trial, attack): a place in `GRADIENTS`."""
    label: NDArray[np.integer]
    attacks: tuple[str, ...]
    budgets: tuple[float, ...]
    """In 1/255 of the range of a pixel; the first is 0."""

    @property
    def valid(self) -> Bools:
        """(trial, attack): the attack was made, and not on gradients that are masked."""
        made = (self.prediction != ABSENT).all(axis=(1, 3))
        return made & (self.gradient != GRADIENTS.index("masked"))

    def right(self, attack: str) -> Bools:
        """(trial, example, budget): still right under an attack."""
        return self.prediction[:, :, self.attacks.index(attack)] == self.label[:, None]

    def reference_right(self, attack: str) -> Bools:
        """(trial, example, budget): the reference is still right on what the attack found."""
        return self.on_reference[:, :, self.attacks.index(attack)] == self.label[:, None]

    def has(self, attack: str) -> bool:
        """Whether an attack was made on all models, with gradients that can be believed."""
        return attack in self.attacks and bool(self.valid[:, self.attacks.index(attack)].all())

    def rows(self, index: NDArray[np.intp]) -> "Side":
        """Some of the trials."""
        own = {name: getattr(self, name)[index] for name in ("seeds", "prediction", "on_reference", "gradient")}
        return replace(self, **own)


@dataclass(frozen=True)
class Check:
    """Whether attacks along gradients do worse than they must: a sign that the gradients are masked."""

    followed: tuple[str, ...]
    """Gradients that attacks on some model followed, of `GRADIENTS`, without "not used"."""
    gradients_only: NDArray[np.int64]
    """Examples of all models that attacks along gradients break and black-box attacks do not, by budget."""
    black_box_only: NDArray[np.int64]
    """The other way round."""
    p: NDArray[np.float64]
    """McNemar's exact test of the two, by budget; NaN without any."""

    @property
    def substituted(self) -> bool:
        """Whether the models' own gradients could not be followed."""
        return any(name not in ("own", "not used") for name in self.followed)

    @property
    def outdone(self) -> Bools:
        """(budget,): black-box attacks break more, beyond chance (Bonferroni over budgets)."""
        tests = max(1, int(np.isfinite(self.p).sum()))
        return (self.black_box_only > self.gradients_only) & (np.nan_to_num(self.p, nan=1.0) <= LEVEL / tests)

    @property
    def masked(self) -> bool:
        """Whether robustness must not be concluded from gradients."""
        return self.substituted or bool(self.outdone.any())


@dataclass(frozen=True)
class Pairs:
    """Compressed models of a scheme beside the reference models of their seeds."""

    reference: Side
    compressed: Side
    check: Check
    left_out: int
    """Probed models of the scheme without a probed reference of their seed."""

    @property
    def scheme(self) -> str:
        return self.compressed.scheme

    @property
    def exchanged(self) -> bool:
        """Whether both models of a pair were shown what PGD made on the other one."""
        side = self.compressed
        if not (side.has("transfer") and side.has("pgd")):
            return False
        return bool((side.on_reference[:, :, side.attacks.index("pgd")] != ABSENT).all())

    @property
    def attacks(self) -> list[str]:
        """Attacks on both sides that can be believed; `transfer` is PGD on the other model of the pair."""
        both = [name for name in self.compressed.attacks if self.compressed.has(name) and self.reference.has(name)]
        return [*(name for name in both if name != "transfer"), *(["transfer"] if self.exchanged else [])]

    def right(self, attack: str = STRONGEST) -> tuple[Bools, Bools]:
        """(pair, example, budget): reference and compressed models still right under an attack.

        The two sides are always attacked in the same ways: what is attacked more often looks weaker.
        """
        if attack == STRONGEST:
            first, second = zip(*(self.right(name) for name in self.attacks), strict=True)
            return np.logical_and.reduce(first), np.logical_and.reduce(second)
        if attack == "transfer":
            return self.compressed.reference_right("pgd"), self.compressed.right("transfer")
        return self.reference.right(attack), self.compressed.right(attack)


def sides(measured: xr.Dataset) -> dict[str, Side]:
    """Label of each probed scheme to its models on the whole training set."""
    found = {}
    for scheme in dict.fromkeys(measured["scheme"].values.tolist()):
        part = whole(measured, scheme)
        if part.sizes["trial"]:
            gradient = part["gradient"].transpose("trial", "example", "attack").values
            order = ("trial", "example", "attack", "budget")
            found[scheme] = Side(
                scheme,
                part["seed"].values,
                part["prediction"].transpose(*order).values,
                part["on_reference"].transpose(*order).values,
                gradient.max(axis=1),
                part["label"].values,
                tuple(str(name) for name in part["attack"].values),
                tuple(float(budget) for budget in part["budget"].values),
            )
    return found


def pairs(measured: xr.Dataset, population: xr.Dataset, reference: str | None = None) -> tuple[Side, list[Pairs]]:
    """All probed reference models, and the pairs of each compressed scheme.

    Raises
    ------
    NotApplicable
        If no model of the reference or of a compressed scheme was probed, they share no seed, or no attack but
        `transfer` was made on both.
    """
    reference = reference_of(population) if reference is None else reference
    by_scheme = sides(measured)
    base = by_scheme.pop(reference, None)
    if base is None or not by_scheme:
        raise NotApplicable(
            f"Expected probed models of the reference {reference!r} and of a compressed scheme, but the probe saw "
            f"{[*by_scheme, *([reference] if base else [])] or 'none'}. Run the study with both, and probe the store."
        )
    found = []
    for scheme, side in by_scheme.items():
        seeds, first, second = np.intersect1d(base.seeds, side.seeds, return_indices=True)
        if not len(seeds):
            raise NotApplicable(
                f"Expected {scheme!r} to have seeds of the reference, but its seeds are {side.seeds.tolist()} and "
                f"those of {reference!r} are {base.seeds.tolist()}. Train and probe the same seeds."
            )
        own = side.rows(second)
        pair = Pairs(base.rows(first), own, check(own), len(side.seeds) - len(seeds))
        if not pair.attacks:
            raise NotApplicable(
                f"Expected an attack on both {reference!r} and {scheme!r}, but the probe made {list(side.attacks)}. "
                "Probe with `attacks` that hold 'pgd' and 'square'."
            )
        found.append(pair)
    return base, found


def check(side: Side) -> Check:
    """Whether attacks along gradients find less on the models than attacks without."""
    followed = {GRADIENTS[code] for code in np.unique(side.gradient)} - {"not used"}
    along = [side.right(name) for name in GRADIENT if side.has(name)]
    without = [side.right(name) for name in BLACK_BOX if side.has(name)]
    if not along or not without:
        nothing = np.zeros(len(side.budgets), np.int64)
        return Check(tuple(sorted(followed)), nothing, nothing, np.full(len(side.budgets), np.nan))
    one, two = np.logical_and.reduce(along), np.logical_and.reduce(without)
    first, second = ((a & ~b).sum(axis=(0, 1)) for a, b in ((two, one), (one, two)))
    return Check(tuple(sorted(followed)), first, second, mcnemar_exact(first, second))


@dataclass(frozen=True)
class Transfer:
    """How often an attack on one model fools another, by budget."""

    eligible: NDArray[np.int64]
    """(pair, budget): examples that both models get right and the attack breaks on the model it is made on."""
    fooled: NDArray[np.int64]
    """(pair, budget): those of them that the other model gets wrong."""

    def rates(self, budget: int) -> NDArray[np.float64]:
        """Share of fooled among eligible examples of each pair that has some."""
        some = self.eligible[:, budget] > 0
        return self.fooled[some, budget] / self.eligible[some, budget]


def transfer(source: Bools, other: Bools) -> Transfer:
    """Counts of two arrays (pair, example, budget) of right answers: of the model attacked, and of the other."""
    both = source[:, :, :1] & other[:, :, :1]
    eligible = both & ~source
    return Transfer(eligible.sum(axis=1), (eligible & ~other).sum(axis=1))


def transfers(found: Pairs) -> dict[str, Transfer]:
    """Direction to what transfers: "from reference" and "to reference"."""
    side, result = found.compressed, {}
    if side.has("transfer"):
        result["from reference"] = transfer(side.reference_right("transfer"), side.right("transfer"))
    if side.has("pgd") and (side.on_reference[:, :, side.attacks.index("pgd")] != ABSENT).all():
        result["to reference"] = transfer(side.right("pgd"), side.reference_right("pgd"))
    return result


def between_seeds(base: Side) -> Transfer | None:
    """What transfers to reference models from those of another seed; None if that was not measured."""
    return transfer(base.reference_right("transfer"), base.right("transfer")) if base.has("transfer") else None


def strongest(side: Side) -> Bools:
    """(trial, example, budget): still right under each attack that was made on the models themselves."""
    made = [side.right(name) for name in side.attacks if name != "transfer" and side.has(name)]
    return np.logical_and.reduce(made) if made else side.prediction[:, :, 0] == side.label[:, None]


def headline(right: Bools) -> int:
    """Place of the budget at which reference models keep closest to half of their accuracy, (trial, example, budget).

    It is chosen on the reference alone; of equally close ones the smallest.
    """
    accuracy = right.mean(axis=(0, 1))
    return 1 + int(np.argmin(np.abs(accuracy[1:] - accuracy[0] / 2)))
