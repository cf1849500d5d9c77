"""L-C: training and another compression scheme in turn, as an augmented Lagrangian."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from remnant.lab.compress.context import Context
from remnant.lab.compress.decompressed import Weights, decompressed_weights
from remnant.lab.compress.layers import check_finite, named_layers
from remnant.lab.compress.restoring import restore
from remnant.lab.compress.tuning import tuned, with_modes_of
from remnant.lab.data import Dataset, take
from remnant.lab.train import normalize, split_held_out
from remnant.schemes import Scheme
from remnant.schemes.learning_compression import LearningCompression
from remnant.trial import Recipe

Penalty = Callable[[], Tensor]


def learning_compression(scheme: LearningCompression, model: nn.Module, context: Context) -> nn.Module:
    """A copy compressed by `scheme.scheme`, after training and compression in turn.

    See `remnant.schemes.learning_compression.LearningCompression`. Biases, norms and layers that the C-step leaves as
    they are train without a penalty; the compressed model takes them as they are after the L-step. As in the published
    code, the running statistics of its norms are those of the weights before their compression.

    Raises
    ------
    ValueError
        If compressed layers do not stand for weights of the same shapes, as after physical removal of filters; if a
        weight is parametrized, NaN or infinite.
    """
    check_finite(model)
    _check_plain(model)
    held_out, place = _held_out(scheme, context)
    reference = model if context.reference is None else context.reference
    learned = copy.deepcopy(model)
    best = _Best(context.dataset, held_out)
    penalties = penalty_weights(scheme) if scheme.epochs > 0 else ()
    batches = batches_per_step(scheme, _num_batches(scheme, context))

    def learn(number: int, penalty: Penalty) -> None:
        recipe = step_recipe(scheme, context.recipe, mu=penalties[number - 1], batches=batches[number - 1])
        tuned(learned, scheme, reference, place, penalty=penalty, recipe=recipe, stream=f"l-step-{number}")

    def project(values: Weights) -> Weights:
        carrier = with_modes_of(_carrying(learned, values), model)
        # The first C-step lists what it skips; the others would only repeat it.
        candidate = _compressed(scheme.scheme, carrier, place if best.model is None else replace(place, skipped=[]))
        best.consider(candidate)
        return decompressed_weights(carrier, candidate, place)

    weights = {name: layer.weight for name, layer in named_layers(learned).items()}
    alternated(weights, learn, project, penalties, multipliers=scheme.method == "augmented-lagrangian")
    assert best.model is not None
    return best.model


def alternated(
    weights: Weights,
    learn: Callable[[int, Penalty], None],
    project: Callable[[Weights], Weights],
    penalties: tuple[float, ...],
    *,
    multipliers: bool = True,
) -> Weights:
    """Delta(theta) after the last C-step; `weights` are changed in place by `learn`.

    Step 0 is theta = Pi(w). Then for each mu of `penalties`: w <- argmin L(w) + mu/2 ||w - theta - lambda/mu||^2 (from
    where it is, by `learn`), theta <- Pi(w - lambda/mu), lambda <- lambda - mu (w - theta).

    Parameters
    ----------
    weights
        Leaf tensors w that `learn` trains.
    learn
        Called as learn(number from 1, penalty): trains on the loss plus what the penalty returns.
    project
        Delta(Pi(.)): the values that the compressed weights stand for. Weights that it returns unchanged get no
        penalty in the next step.
    multipliers
        False leaves lambda at 0: the quadratic penalty method.

    References
    ----------
    carreira2018learning
    """
    found = project(_values(weights))
    changed = {name: not torch.equal(found[name], weights[name]) for name in weights}
    multiplier = {name: torch.zeros_like(value) for name, value in _values(weights).items()}
    for number, mu in enumerate(penalties, 1):
        targets = {name: found[name] + multiplier[name] / mu for name in weights if changed[name]}
        learn(number, _quadratic(weights, targets, mu))
        shifted = {name: value - multiplier[name] / mu for name, value in _values(weights).items()}
        found = project(shifted)
        changed = {name: not torch.equal(found[name], shifted[name]) for name in weights}
        if multipliers:
            multiplier = {
                name: multiplier[name] - mu * (value - found[name]) for name, value in _values(weights).items()
            }
    return found


def penalty_weights(scheme: LearningCompression) -> tuple[float, ...]:
    """mu of each L-step: `mu_init`, then times `mu_multiplier` each, never above `mu_cap`."""
    mus = [scheme.mu_init]
    while len(mus) < scheme.steps - 1:
        mus.append(min(mus[-1] * scheme.mu_multiplier, scheme.mu_cap))
    return tuple(mus)


def batches_per_step(scheme: LearningCompression, total: int) -> tuple[int, ...]:
    """Batches of each L-step: the share `first`, then equal parts of the rest; at least 1 each, else `total` in all."""
    others = scheme.steps - 2
    ends = [0, round(total * scheme.first) if others else total]
    ends += [round(ends[1] + (total - ends[1]) * part / others) for part in range(1, others + 1)]
    return tuple(max(1, end - start) for start, end in pairwise(ends))


def step_recipe(scheme: LearningCompression, recipe: Recipe, *, mu: float, batches: int) -> Recipe:
    """How an L-step trains: as the recipe says, with a rate that falls exponentially from min(learning_rate, 1/mu).

    Gradient descent on the penalty alone diverges above 2/mu. The last weights are kept: a choice among epochs would
    be one of uncompressed weights.
    """
    return replace(
        recipe,
        steps=batches,
        learning_rate=min(scheme.learning_rate, 1 / mu),
        schedule="exponential",
        decay=scheme.decay,
        warmup=0.0,
        checkpoint="last",
    )


def _check_plain(model: nn.Module) -> None:
    for name, layer in named_layers(model).items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(
                f"Expected plain weights, but the weight of layer {name!r} is parametrized (weight norm? pruning?). "
                "Remove it first with torch.nn.utils.parametrize.remove_parametrizations."
            )


def _quadratic(weights: Weights, targets: Weights, mu: float) -> Penalty:
    def penalty() -> Tensor:
        terms = [(weights[name] - target).square().sum() for name, target in targets.items()]
        return mu / 2 * torch.stack(terms).sum() if terms else torch.zeros(())

    return penalty


def _values(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


def _carrying(model: nn.Module, values: Weights) -> nn.Module:
    """A copy of the model with other weights in its layers."""
    carrier = copy.deepcopy(model)
    with torch.no_grad():
        for name, layer in named_layers(carrier).items():
            layer.weight.copy_(values[name])
    return carrier


def _compressed(scheme: Scheme, model: nn.Module, context: Context) -> nn.Module:
    from remnant.lab.compress import compress  # which this module is registered with

    return compress(scheme, model, context)


def _num_batches(scheme: LearningCompression, context: Context) -> int:
    """Optimizer steps of the scheme's epochs over all training examples, whatever L-C holds out of them."""
    recipe = context.recipe
    size = len(context.indices) - round(recipe.validation * len(context.indices))
    return max(1, round(scheme.epochs * (size // min(recipe.batch_size, size))))


def _held_out(scheme: LearningCompression, context: Context) -> tuple[np.ndarray, Context]:
    """(examples to choose theta on, context in which training does not see them)."""
    if context.recipe.validation > 0:
        # `train` holds the same ones out again.
        return split_held_out(context.indices, context.recipe.validation, context.rng)[0], context

    def rng(name: str) -> np.random.Generator:
        return context.rng(f"learning-compression/{name}")

    held_out, indices = split_held_out(context.indices, scheme.validation, rng)
    return held_out, replace(context, indices=indices)


@dataclass
class _Best:
    """The compressed model with the lowest cross-entropy on held-out training examples; of equal ones the first."""

    dataset: Dataset
    held_out: np.ndarray
    model: nn.Module | None = None
    loss: float = float("inf")

    def consider(self, candidate: nn.Module) -> None:
        loss = cross_entropy(candidate, self.dataset, self.held_out)
        if self.model is None or loss < self.loss:
            self.model, self.loss = candidate, loss


@torch.no_grad()
def cross_entropy(model: nn.Module, dataset: Dataset, indices: np.ndarray) -> float:
    """Mean cross-entropy of a model, in evaluation mode, on training examples without augmentation."""
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    total = 0.0
    for batch in torch.from_numpy(indices).split(1000):
        images = normalize(dataset, take(dataset.train.images, batch).to(device))
        labels = dataset.train.labels[batch].to(device)
        total += functional.cross_entropy(model(images).float(), labels, reduction="sum").item()
    for module, training in modes:
        module.training = training
    return total / len(indices)


@restore.register
def _restored(scheme: LearningCompression, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    return restore(scheme.scheme, parent, state)  # the architecture is that of the C-step
