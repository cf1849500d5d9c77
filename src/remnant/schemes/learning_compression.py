"""L-C: learning and compressing in turn until the two agree."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.schemes.composition import Compose
from remnant.schemes.scheme import Scheme, TunedScheme, trains


@dataclass(frozen=True)
class LearningCompression(TunedScheme):
    """Another scheme and training in turn (L-C), so that the weights move to where they can be compressed.

    min over w and theta of L(w) with w = Delta(theta): L is the loss (`align`), theta the compressed weights, Delta
    their values in the shape of w. Step 0 compresses the dense weights directly. Each later step trains w on
    L(w) + mu/2 ||w - theta - lambda/mu||^2 (L-step), compresses w - lambda/mu with `scheme` (C-step), sets
    lambda <- lambda - mu (w - theta) and multiplies mu. Of all steps the compressed model with the lowest
    cross-entropy on held-out training examples is kept: never chosen on test examples, and never worse there than
    direct compression.

    The held-out examples are those of the recipe where its `validation` is above 0, else the share `validation`, which
    the dense model has seen. The steps of the optimizer are those of `epochs` over all training examples; the
    momentum starts again in each L-step.

    The published code of Condensa runs 35 steps of 3,000 batches (30,000 in the first L-step) on CIFAR-10, with mu
    from 1e-3 times 1.1 each and momentum 0.95. The defaults here are for the hundredth part of that: fewer steps, and
    a mu so much larger that the weights come as close to theta.

    References
    ----------
    joseph2020programmable; carreira2018learning
    """

    kind: ClassVar[str] = "learning-compression"

    scheme: Scheme
    """What compresses, without training of its own: any post-training scheme, with `epochs` = 0 where it has them."""
    method: Literal["augmented-lagrangian", "quadratic-penalty"] = "augmented-lagrangian"
    """With multipliers lambda, or lambda = 0 throughout."""
    steps: int = 12
    """C-steps, the direct compression among them: one more than L-steps."""
    mu_init: float = 0.1
    """mu of the first L-step."""
    mu_multiplier: float = 1.5
    """Factor of mu from one L-step to the next."""
    mu_cap: float = 1e4
    """Largest mu. (Condensa's code may exceed it once.)"""
    first: float = 0.2
    """Share of the training that the first L-step takes; the others share the rest."""
    decay: float = 0.01
    """Last learning rate of an L-step over its first; it falls exponentially, and starts again in the next."""
    validation: float = 0.1
    """Share of the training examples that are held out if the recipe holds none out."""
    epochs: float = field(default=5.0, kw_only=True)
    """Epochs of all L-steps together; 0 leaves the direct compression."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for part in self.scheme.parts if isinstance(self.scheme, Compose) else (self.scheme,):
            if not part.post_training or isinstance(part, LearningCompression):
                raise ValueError(f"Expected `scheme` to compress a trained model in one go, but got {part.label!r}.")
            if trains(part):
                raise ValueError(
                    f"Expected `scheme` to compress without training, but got {part.label!r}. Set its `epochs` to 0: "
                    "the training is that of the L-steps."
                )
        check_choice(self, "method")
        check(self.steps >= 2, "steps", ">= 2", self.steps)
        check(self.mu_multiplier >= 1, "mu_multiplier", ">= 1", self.mu_multiplier)
        check(
            0 < self.mu_init <= self.mu_cap,
            "mu_init, mu_cap",
            "with 0 < mu_init <= mu_cap",
            (self.mu_init, self.mu_cap),
        )
        check(0 < self.first <= 1, "first", "in (0, 1]", self.first)
        check(0 < self.decay <= 1, "decay", "in (0, 1]", self.decay)
        check(0 < self.validation < 1, "validation", "in (0, 1)", self.validation)
