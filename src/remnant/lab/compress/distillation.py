"""Knowledge distillation: a student of another architecture."""

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab import models
from remnant.lab.compress.context import Context
from remnant.lab.compress.restoring import restore
from remnant.lab.compress.tuning import tuned
from remnant.schemes.distillation import Distillation

_SHAPE = "distillation_shape"
"""Name of the student's buffer with the shape of its inputs and the number of its classes: what it is built from."""


def distilled(scheme: Distillation, model: nn.Module, context: Context) -> nn.Module:
    """The student, trained from scratch on the answers of `model` (or of the context's reference).

    It is trained as the recipe says, for the scheme's epochs from the scheme's learning rate. Its buffer
    `distillation_shape` holds the shape of its inputs and the number of classes.

    Raises
    ------
    UnknownNameError, ValueError
        If there is no such architecture, or if it cannot take the inputs.
    """
    dataset = context.dataset
    shape = (*dataset.input_shape, dataset.num_classes)
    student = _built(scheme.architecture, shape, context.rng("distillation/init"))
    student.to(next(model.parameters()).device)
    teacher = model if context.reference is None else context.reference
    return tuned(student, scheme, teacher, context, stream="distillation").train(model.training)


@restore.register
def _restored(scheme: Distillation, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    shape = tuple(state[_SHAPE].tolist())
    student = _built(scheme.architecture, shape, np.random.default_rng(0))  # its weights are replaced
    student.load_state_dict(state)
    return student.train(parent.training)


def _built(architecture: str, shape: tuple[int, ...], rng: np.random.Generator) -> nn.Module:
    student = models.build(architecture, shape[:-1], shape[-1], rng)
    student.register_buffer(_SHAPE, torch.tensor(shape))
    return student
