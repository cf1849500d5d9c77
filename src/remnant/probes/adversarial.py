"""Answers under adversarial attacks, and attacks that are carried over between reference and compressed model."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from remnant.fields import check
from remnant.probes.probe import Probe
from remnant.registry import unknown

Attack = Literal["fgsm", "pgd", "transfer", "square", "ensemble"]
"""
- `fgsm`: one step along the sign of the gradient.
- `pgd`: many such steps from a random start and from the point of `fgsm`.
- `transfer`: the points of `pgd` on the reference of the same seed, shown to the compressed model.
- `square`: random search without gradients.
- `ensemble`: step sizes that adapt on two losses, then random search, each on what the one before left.
"""

ABSENT = -1
"""Answer where there is no reference: the model is the reference, or the store does not hold it."""

GRADIENTS = ("not used", "own", "straight-through", "reference", "masked")
"""What the values of `gradient` mean; see `Adversarial.dims`."""


@dataclass(frozen=True)
class Adversarial(Probe):
    """Answers under adversarial attacks of rising budgets, and on attacks made on the reference.

    Budgets are the most that a pixel may change, as a multiple of 1/255 of its range; every image stays in its range.
    The budget 0 is the unchanged image. An answer that was wrong at a budget stays so at larger ones, where an
    attacker could still use the same image.
    """

    kind: ClassVar[str] = "adversarial"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "prediction": ("example", "attack", "budget"),
        "on_reference": ("example", "attack", "budget"),
        "gradient": ("example", "attack"),
    }
    """`prediction` is the model's answer on what the attack found, `on_reference` that of the reference of the same
    seed on the same images (-1 without a reference; `transfer` then has -1 in both). `gradient` says which gradients
    the attack followed, as a place in `GRADIENTS`: "own" and "straight-through" are the model's, the latter with
    rounding taken as the identity; "reference" are those of the reference, where the model has none that agree with
    its answers; "masked" are its own although they do not, for want of a reference: nothing follows from such rows."""
    joins: ClassVar[str | None] = "attack"

    examples: int | None = 200
    """So many rows of the split, drawn at random, the same for every trial; None for all."""
    attacks: tuple[Attack, ...] = ("fgsm", "pgd", "transfer", "square", "ensemble")
    """Which attacks are made."""
    budgets: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    """The most that a pixel may change, as multiples of 1/255 of its range, rising."""
    steps: int = 5
    """Steps of `pgd` and `transfer` at each budget."""
    restarts: int = 1
    """Random starts of `pgd` and `transfer`; later ones only where the earlier ones failed."""
    adaptive_steps: int = 10
    """Steps of each adaptive run of `ensemble`; 100 in its paper."""
    targets: int = 2
    """Wrong classes, likeliest first, that the second loss of `ensemble` aims at one by one; 9 in its paper."""
    queries: int = 30
    """Images that `square` (and `ensemble` with it) tries at each budget; 5,000 in its paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for attack in self.attacks:
            if attack not in get_args(Attack):
                raise unknown("attacks", attack, get_args(Attack))
        distinct = 0 < len(self.attacks) == len(set(self.attacks))
        check(distinct, "attacks", "to name at least one attack, each once", self.attacks)
        rising = list(self.budgets) == sorted(set(self.budgets))
        within = all(0 < budget <= 255 for budget in self.budgets)
        check(bool(self.budgets) and rising and within, "budgets", "to rise within (0, 255]", self.budgets)
        for name in ("steps", "restarts", "adaptive_steps", "targets", "queries"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))

    def coords(self) -> dict[str, list[Any]]:
        """Names of the attacks, and the budgets with 0 before them."""
        return {"attack": list(self.attacks), "budget": [0.0, *map(float, self.budgets)]}

    def parts(self) -> tuple["Adversarial", ...]:
        """One part for each attack."""
        return tuple(replace(self, attacks=(attack,)) for attack in self.attacks)
