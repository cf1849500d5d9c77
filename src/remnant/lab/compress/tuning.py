"""Further training of a compressed model: the same for every scheme."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from remnant.lab.alignment import objective
from remnant.lab.compress.context import Context
from remnant.lab.train import Hook, course, train
from remnant.schemes import TunedScheme
from remnant.trial import Recipe


def tuned(
    model: nn.Module,
    scheme: TunedScheme,
    reference: nn.Module,
    context: Context,
    *,
    hook: Hook | None = None,
    penalty: Callable[[], Tensor] | None = None,
    recipe: Recipe | None = None,
    span: tuple[int, int] | None = None,
    stream: str = "fine-tune",
) -> nn.Module:
    """`model`, trained in place for the scheme's epochs with its alignment losses, in evaluation mode.

    Parameters
    ----------
    reference
        The model whose answers the losses look at. It is copied where it is needed, never changed.
    hook
        Holds masks, takes proximal steps, ...; see `remnant.lab.train.Hook`. Its `finish` is called here, also
        where there is nothing to train.
    penalty
        Added to the loss of every step.
    recipe
        How to train, replacing `context.recipe` with the scheme's epochs and learning rate.
    span
        Steps of the recipe's course that are trained; see `remnant.lab.train.train`.
    stream
        First part of the names of the random streams; each training within a scheme takes its own.
    """
    settings = recipe or tuning_recipe(context.recipe, scheme)
    if scheme.epochs == 0:
        if hook is not None:
            hook.finish()
        return model.eval()

    def rng(name: str) -> np.random.Generator:
        # Examples held out of the training must stay held out.
        return context.rng(name if name == "validation" else f"{stream}/{name}")

    indices = replayed(scheme, context)
    if len(indices) > len(context.indices):
        settings = replace(settings, steps=course(settings, len(context.indices))[0])
    loss = None
    if scheme.align is not None or penalty is not None:
        teacher = copy.deepcopy(reference).eval().requires_grad_(False)
        loss = objective(scheme.align, teacher, settings, context.dataset, rng("alignment"), penalty=penalty)
    return train(model, settings, context.dataset, indices, rng, hook=hook, objective=loss, span=span)


def replayed(scheme: TunedScheme, context: Context) -> np.ndarray:
    """Training examples of a fine-tuning, ascending: those that the alignment selects come 1 + strength times.

    Raises
    ------
    ValueError
        If the selection is not stored or of other data, or examples are held out for validation: they would be seen.
    """
    align = scheme.align
    if align is None or align.focus != "selected":
        return context.indices
    if context.recipe.validation:
        raise ValueError(
            "Expected a recipe with `validation` = 0 for focus='selected', but got "
            f"{context.recipe.validation!r}: copies of held-out examples would be trained on."
        )
    if context.selection is None:
        raise ValueError("Expected a store that holds the selection of focus='selected', but there is none.")
    selected = context.selection(align.examples)[context.indices]
    return np.repeat(context.indices, np.where(selected, 1 + int(align.strength), 1))


def tuning_recipe(recipe: Recipe, scheme: TunedScheme) -> Recipe:
    """The recipe with the epochs and the learning rate of a scheme."""
    return replace(recipe, epochs=max(scheme.epochs, 1e-9), steps=None, learning_rate=scheme.learning_rate)


def with_modes_of(model: nn.Module, given: nn.Module) -> nn.Module:
    """`model`, each module in the mode (training or evaluation) of its counterpart in `given`."""
    for module, like in zip(model.modules(), given.modules(), strict=True):
        module.training = like.training
    return model
