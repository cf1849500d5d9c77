"""What terms look at besides logits: features and attribution maps, taken while a model answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.alignment.terms import Answers, unit_maps


def last_linear(model: nn.Module) -> nn.Module | None:
    """The last linear layer of a model in the order of its modules; None if it has none."""
    return next((module for module in reversed(list(model.modules())) if _is_linear(module)), None)


def last_convolution(model: nn.Module) -> nn.Module | None:
    """The last two-dimensional convolution of a model in the order of its modules; None if it has none."""
    found = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return found[-1] if found else None


def answers(
    model: nn.Module,
    inputs: Tensor,
    *,
    features: bool = False,
    maps: str | None = None,
    classes: Tensor | None = None,
    differentiable: bool = False,
) -> Answers:
    """Logits of a batch, and what else is asked for.

    Parameters
    ----------
    features
        Whether to keep the inputs of the last linear layer.
    maps
        "sensitivity": ReLU(sum_c (sum_hw dz_t / dF_c) F_c) of the outputs F of the last convolution, where t are
        `classes` (Park et al.'s SWA); "energy": the mean over channels of F^2 (EWA); None: no maps.
    classes
        int64 (example,), the class whose logit "sensitivity" differentiates; None for the predicted one.
    differentiable
        Whether a loss of the maps can be differentiated once more.
    """
    with _kept(model, features, maps is not None, leaf=not differentiable) as kept:
        logits = model(inputs)
    found = _attribution(kept["maps"], logits, maps, classes, differentiable) if maps is not None else None
    flat = _full(kept["features"].flatten(1)) if features else None
    return Answers(_full(logits), flat, found)


def _attribution(outputs: Tensor, logits: Tensor, kind: str, classes: Tensor | None, differentiable: bool) -> Tensor:
    if kind == "energy":
        return unit_maps(_full(outputs).square().mean(1))
    target = logits.detach().argmax(1) if classes is None else classes
    chosen = logits.gather(1, target[:, None]).sum()
    (gradient,) = torch.autograd.grad(chosen, outputs, create_graph=differentiable)
    channel = _full(gradient).sum((2, 3), keepdim=True)
    return unit_maps((channel * _full(outputs)).sum(1).relu())


@contextmanager
def _kept(model: nn.Module, features: bool, maps: bool, *, leaf: bool) -> Iterator[dict[str, Any]]:
    """While the context is open, the tensors that a forward pass gives to the last linear layer, and to the maps."""
    kept: dict[str, Any] = {}
    handles = []
    if features:
        layer = last_linear(model)
        if layer is None:
            raise ValueError(
                f"Expected a model with a linear layer for 'features', but {type(model).__name__} has none."
            )
        handles.append(layer.register_forward_pre_hook(lambda _, args: kept.update(features=args[0])))
    if maps:
        layer = last_convolution(model)
        if layer is None:
            raise ValueError(
                f"Expected a model with a convolution for 'attribution', but {type(model).__name__} has none. "
                "Leave the term out."
            )

        def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            # A leaf of its own: the gradient of a frozen model's logits starts here.
            kept["maps"] = output.detach().requires_grad_() if leaf else output
            return kept["maps"]

        handles.append(layer.register_forward_hook(keep))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _full(values: Tensor) -> Tensor:
    """At least single precision: losses of half-precision answers lose their small differences."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)
