"""The loss of a compressed model in training: weighted terms on focused examples, and a penalty."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.alignment.answers import answers
from remnant.lab.alignment.focus import Focus, focus
from remnant.lab.alignment.terms import FUNCTIONS, Answers, Pair
from remnant.lab.alignment.weights import Weighting, weighting
from remnant.lab.data import Dataset
from remnant.lab.train import CrossEntropy, Objective
from remnant.schemes import Align
from remnant.trial import Recipe


def objective(
    align: Align | None,
    reference: nn.Module,
    recipe: Recipe,
    dataset: Dataset,
    rng: np.random.Generator,
    *,
    penalty: Callable[[], Tensor] | None = None,
) -> Objective:
    """The loss for one training, at its start.

    Parameters
    ----------
    align
        Terms, weights and focus; None for the recipe's cross-entropy.
    reference
        In evaluation mode and without gradients; terms compare with its answers.
    rng
        Draws what is mixed.
    penalty
        Called at every step and added to the loss.
    """
    if align is None:
        plain: Objective = CrossEntropy(recipe.label_smoothing)
    else:
        chosen = weighting(align), focus(align, dataset.num_classes)
        plain = Aligned(align, reference, *chosen, dataset.num_classes, recipe.label_smoothing, rng)
    return plain if penalty is None else Penalised(plain, penalty)


@dataclass(frozen=True)
class Penalised:
    """Another objective and a penalty on the weights."""

    objective: Objective
    penalty: Callable[[], Tensor]

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        return self.objective.loss(model, inputs, labels, learning_rate) + self.penalty()


@dataclass
class Aligned:
    """The weighted sum of an alignment's terms; see `remnant.schemes.alignment.Align`."""

    align: Align
    reference: nn.Module
    weighting: Weighting
    focus: Focus | None
    num_classes: int
    smoothing: float
    rng: np.random.Generator
    last: dict[str, float] = field(default_factory=dict)
    """Values of the terms at the last step."""

    def loss(self, model: nn.Module, inputs: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        pair = self._pair(model, *self._inputs(inputs, labels))
        weights = None
        if self.focus is not None:
            own, reference = pair.own.logits.detach(), pair.reference.logits
            weights = self.focus.weights(own, reference, pair.targets.argmax(1))
        terms = [_mean(FUNCTIONS[name](pair), weights) for name in self.align.terms]
        values = [term.item() for term in terms] if self.align.weights not in ("uniform", "fixed") else []
        self.last = dict(zip(self.align.terms, values, strict=False))
        shares = self.weighting.next(values, learning_rate)
        return torch.stack([share * term for share, term in zip(shares, terms, strict=True)]).sum()

    def _inputs(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The batch and its target probabilities, pairs mixed where the alignment asks for it."""
        targets = functional.one_hot(labels, self.num_classes).float()
        targets = targets * (1 - self.smoothing) + self.smoothing / self.num_classes
        if not self.align.mix:
            return inputs, targets
        share = float(self.rng.beta(self.align.mix, self.align.mix))
        other = torch.from_numpy(self.rng.permutation(len(labels))).to(inputs.device)
        return inputs.lerp(inputs[other], share), targets.lerp(targets[other], share)

    def _pair(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Pair:
        terms = self.align.terms
        maps = self.align.attribution if "attribution" in terms else None
        features = "features" in terms
        if terms == ("cross-entropy",) and self.focus is None:
            own = answers(model, inputs)
            return Pair(own, own, targets, self.align)
        # Gradients of the frozen reference are taken for its maps only.
        with torch.set_grad_enabled(maps == "sensitivity"):
            found = answers(self.reference, inputs, features=features, maps=maps)
        reference = Answers(*(None if part is None else part.detach() for part in _parts(found)))  # pyright: ignore
        classes = reference.logits.argmax(1)
        own = answers(model, inputs, features=features, maps=maps, classes=classes, differentiable=True)
        return Pair(own, reference, targets, self.align)


def _parts(found: Answers) -> tuple[Tensor | None, ...]:
    return found.logits, found.features, found.maps


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (weights * values).mean()
