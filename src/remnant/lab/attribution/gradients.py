"""Whether the gradients of a model say how its outputs change, and what to use where they do not."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.attribution.straight_through import is_quantized, twin

CHECKED = 32
"""Examples on which gradients are held against differences of outputs."""
_SHORT, _LONG = 1e-3, 0.03
"""Steps for differences, as shares of the input's length: within a linear piece, and beyond a rounding step."""
_CLOSE = 0.25
"""Relative error up to which the gradient of an example agrees with the difference over a short step."""
_MOST = 2.0
"""Most that outputs may change over a long step, in units of what gradients say. Those of networks change less than
that (0.6 to 1.0 for small trained ones), because they saturate; only masked gradients promise too little."""


@dataclass(frozen=True)
class Differentiable:
    """What gradients are taken of."""

    model: nn.Module | None
    """None if no gradients can be trusted."""
    route: str
    """"gradients", "straight-through" or "none"; see `remnant.probes.attribution.ROUTES`."""


def differentiable(model: nn.Module, inputs: Tensor) -> Differentiable:
    """The model itself if its gradients hold, its straight-through twin if it is an int8 model, or nothing.

    The twin must give the same answer as the model on every one of `inputs`, and gradients that are not 0. Any other
    model must have gradients that hold: most examples change over a short step along the gradient as it says, and the
    median over a long one by no more than twice as much. Gradients that rounding has masked are 0, or belong to a
    part of the model only: they say nothing of what a step beyond the rounding changes.
    """
    if is_quantized(model):
        stand_in = twin(model)
        if same_answers(model, stand_in, inputs) and (input_gradients(stand_in, inputs[:CHECKED]) != 0).any():
            return Differentiable(stand_in, "straight-through")
        return Differentiable(None, "none")
    return (
        Differentiable(model, "gradients") if gradients_hold(model, inputs[:CHECKED]) else Differentiable(None, "none")
    )


def gradients_hold(model: nn.Module, inputs: Tensor) -> bool:
    """Whether differences of the model's outputs are what its gradients say; see `differentiable`."""
    try:
        short, long = (change_ratios(model, inputs, step=step) for step in (_SHORT, _LONG))
    except RuntimeError:  # nothing that is computed from the inputs has a gradient
        return False
    close = np.abs(short - 1) <= _CLOSE
    return bool(close.mean() >= 0.5 and 0 < np.median(long) <= _MOST)


def change_ratios(model: nn.Module, inputs: Tensor, *, step: float) -> np.ndarray:
    """Change of the predicted class's logit over a step along its gradient, over what the gradient says, (example,).

    The step goes to both sides and has `step` times the input's length. 1: as the gradient says. 0 where the gradient
    is 0.

    Raises
    ------
    RuntimeError
        If the outputs have no gradients at all.
    """
    gradients = input_gradients(model, inputs).double()
    size = gradients.flatten(1).norm(dim=1)
    length = step * inputs.flatten(1).double().norm(dim=1).clamp_min(1e-6)
    scale = (length / size.clamp_min(1e-30)).view(-1, *[1] * (inputs.ndim - 1))
    moved = (gradients * scale).to(inputs.dtype)
    chosen = answers(model, inputs)
    with torch.no_grad():
        change = _at(model(inputs + moved), chosen).double() - _at(model(inputs - moved), chosen).double()
    return torch.where(size > 0, change / (2 * length * size).clamp_min(1e-30), 0).cpu().numpy()


def input_gradients(model: nn.Module, inputs: Tensor, classes: np.ndarray | None = None) -> Tensor:
    """Gradient of the logit of one class per example (default: the predicted one) by the inputs, of their shape."""
    chosen = answers(model, inputs) if classes is None else classes
    with torch.enable_grad():
        at = inputs.detach().clone().requires_grad_()
        (found,) = torch.autograd.grad(_at(model(at), chosen).sum(), at)
    return found.detach()


@torch.no_grad()
def answers(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Predicted class of each input, the first among equals."""
    return model(inputs).float().cpu().numpy().argmax(axis=1)


def same_answers(first: nn.Module, second: nn.Module, inputs: Tensor, *, batch: int = 500) -> bool:
    """Whether two models predict the same class for every input."""
    return all(np.array_equal(answers(first, part), answers(second, part)) for part in inputs.split(batch))


def _at(logits: Tensor, classes: np.ndarray) -> Tensor:
    return logits.gather(1, torch.from_numpy(classes.astype(np.int64)).to(logits.device)[:, None])[:, 0]
