"""The dense weights of an early step, remade, and the steps of a recipe that come after it."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from remnant.lab import models
from remnant.lab.compress.context import Context
from remnant.lab.train import course, train


def last_steps(epochs: float, context: Context) -> tuple[int, int]:
    """The steps of the last `epochs` of the recipe: from the first on, before the second.

    Raises
    ------
    ValueError
        If the recipe has fewer epochs.
    """
    number = len(context.indices) - round(context.recipe.validation * len(context.indices))
    num_steps, per_epoch = course(context.recipe, number)
    back = round(epochs * per_epoch)
    if back > num_steps:
        raise ValueError(
            f"Expected `epochs` <= {num_steps / per_epoch:g} with rewinding, which is all that the recipe trains, "
            f"but got {epochs!r}."
        )
    return num_steps - back, num_steps


def early_weights(model: nn.Module, step: int, context: Context) -> dict[str, Tensor]:
    """The state of the dense model before step number `step` of its training; of step 0 its first weights.

    The recipe is trained up to there once more, with the same random streams: the same weights bit for bit.
    `model` is the dense model, for the names and shapes of its tensors.

    Raises
    ------
    ValueError
        If the recipe's architecture is not that of the model.
    """
    recipe, dataset = replace(context.recipe, checkpoint="last"), context.dataset
    shape, num_classes = dataset.input_shape, dataset.num_classes
    early = models.build(recipe.architecture, shape, num_classes, context.rng("init"))
    given, built = _shapes(model), _shapes(early)
    if given != built:
        other = next(name for name in (*given, *built) if given.get(name) != built.get(name))
        raise ValueError(
            f"Expected a model of the recipe's architecture {recipe.architecture!r} for rewind='weights', but its "
            f"`{other}` has the shape {given.get(other)}, not {built.get(other)}. Take rewind='learning-rate'."
        )
    early.to(next(model.parameters()).device)
    return train(early, recipe, dataset, context.indices, context.rng, span=(0, step)).state_dict()


@torch.no_grad()
def rewind(model: nn.Module, early: dict[str, Tensor]) -> None:
    """Give a model the values of an earlier state, under its masks."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, values in early.items():
        owner, _, attribute = name.rpartition(".")
        masked = f"{owner}{'.' if owner else ''}parametrizations.{attribute}.original"
        tensors[masked if masked in tensors else name].copy_(values)


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
