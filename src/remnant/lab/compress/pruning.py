"""Magnitude pruning: during training on a cubic schedule, or at once after it.

The weights of linear and convolution layers are pruned; biases and norms are not.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import Layer, check_finite, named_layers
from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.compress.tuning import tuned, with_modes_of
from remnant.schemes import MagnitudePruning, OneShotPruning


def cubic_sparsity(step: float, begin: float, end: float, final: float, initial: float = 0.0) -> float:
    """Sparsity at a step: `initial` before `begin`, `final` from `end` on, fast first and slow last between them.

    s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3 for t_0 < t < t_1. If t_0 = t_1 it jumps there.

    References
    ----------
    zhu2017prune, eq. 1
    """
    if step >= end:
        return final
    if step <= begin:
        return initial
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3


def num_kept(size: int, sparsity: float) -> int:
    """Number of weights of a tensor that stay: round(size (1 - sparsity)), at least 1."""
    return max(1, round(size * (1 - sparsity)))


def largest_magnitudes(weights: list[Tensor], sparsity: float) -> list[Tensor]:
    """Masks, True on the `num_kept` weights of largest magnitude of all tensors together.

    Of equal magnitudes at the threshold the first ones stay (order of the list, then row by row), so
    that exactly as many are kept as declared. Zhu & Gupta keep all ties, which misses the sparsity
    where many weights are equal, such as zeros of an earlier pruning.

    Raises
    ------
    ValueError
        If a weight is NaN.
    """
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    kept = num_kept(len(magnitudes), sparsity)
    if magnitudes.isnan().any():
        raise ValueError("Expected weights to prune, but some are NaN: the training diverged. Lower `learning_rate`.")
    if kept == len(magnitudes):
        return [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    threshold = magnitudes.kthvalue(len(magnitudes) - kept + 1).values
    mask = magnitudes > threshold
    ties = (magnitudes == threshold).nonzero().squeeze(1)
    mask[ties[: kept - int(mask.sum())]] = True
    parts = mask.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


@dataclass(frozen=True)
class Pruner:
    """Prunes layers while they train; see `magnitude`."""

    scheme: MagnitudePruning
    layers: dict[str, Layer]

    def before_step(self, step: int, num_steps: int) -> None:
        """Update the masks every `frequency` steps from `begin` on, and last at `end`."""
        begin, end = self._span(num_steps)
        if begin <= step <= end and ((step - begin) % self.scheme.frequency == 0 or step == end):
            self._prune(cubic_sparsity(step, begin, end, self.scheme.sparsity))

    def settled(self, step: int, num_steps: int) -> bool:
        """Whether the last update of the masks comes before step number `step`."""
        return step > self._span(num_steps)[1]

    def finish(self) -> None:
        """Leave ordinary layers with the declared sparsity. A second call changes nothing."""
        if not all(parametrize.is_parametrized(layer, "weight") for layer in self.layers.values()):
            return
        weights = [_raw(layer) for layer in self.layers.values()]
        kept = sum(int(_mask(layer).mask.sum()) for layer in self.layers.values())
        # Fewer steps than the schedule has, or a checkpoint from before its end, leave too many.
        if kept > sum(self._declared(part) for part in self._scopes(weights)):
            self._prune(self.scheme.sparsity)
        for layer in self.layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)

    def _span(self, num_steps: int) -> tuple[int, int]:
        """Steps of the first and the last update."""
        last = num_steps - 1
        return min(round(self.scheme.begin * num_steps), last), min(round(self.scheme.end * num_steps), last)

    def _scopes(self, weights: list[Tensor]) -> list[list[Tensor]]:
        """Groups of tensors that share a threshold."""
        return [weights] if self.scheme.scope == "global" else [[weight] for weight in weights]

    def _declared(self, weights: list[Tensor]) -> int:
        return num_kept(sum(weight.numel() for weight in weights), self.scheme.sparsity)

    def _prune(self, sparsity: float) -> None:
        """Set the masks from the magnitudes of the raw weights, pruned ones among them: they can come back."""
        layers = list(self.layers.values())
        weights = [_raw(layer) for layer in layers]
        masks = [mask for scope in self._scopes(weights) for mask in largest_magnitudes(scope, sparsity)]
        for layer, mask in zip(layers, masks, strict=True):
            _mask(layer).mask.copy_(mask)


def magnitude(scheme: MagnitudePruning, model: nn.Module) -> Pruner:
    """The hook that prunes `model` during its training.

    Layers get a parametrization weight = mask * raw weight until the hook's `finish`. Steps are
    rounded to begin * (number of steps) and end * (number of steps); masks are updated every
    `frequency` steps and at the last of them, always from the magnitudes of the raw weights.

    With gradient="masked" the raw weight behind a zero gets no gradient and moves by weight decay and
    momentum only (the published code of Hooker et al.); with "straight-through" it gets the gradient of
    the masked weight as if it were not masked ("removed weights continue to receive gradient updates").

    Raises
    ------
    ValueError
        If the model has no layer to prune, or its weights are parametrized already or quantized.

    References
    ----------
    zhu2017prune, section 3; hooker2019what, appendix B
    """
    layers = _prunable(model)
    for layer in layers.values():
        mask = _Mask(torch.ones_like(layer.weight, dtype=torch.bool), scheme.gradient)
        parametrize.register_parametrization(layer, "weight", mask)
    return Pruner(scheme, layers)


def copy_pruned(scheme: MagnitudePruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy of a model that was pruned in training.

    Raises
    ------
    ValueError
        If it has fewer zeros than the scheme declares.
    """
    weights = [layer.weight for layer in named_layers(model).values()]
    size, zeros = sum(w.numel() for w in weights), sum(int((w == 0).sum()) for w in weights)
    if zeros < size * scheme.sparsity - len(weights):  # each layer is exact within one weight
        raise ValueError(
            f"Expected a model trained with {scheme.label!r}, but only {zeros} of its {size} weights are 0. "
            "Pass the hook of `take_part` to `train`, or prune a trained model with OneShotPruning."
        )
    return copy.deepcopy(model)


def one_shot(scheme: OneShotPruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy with the smallest weights at zero, fine-tuned for `epochs` with the masks held.

    The fine-tuning follows the recipe of the training (schedule, augmentation, held-out examples, ...)
    from the scheme's learning rate, with random streams of its own.
    """
    check_finite(model)
    pruned = copy.deepcopy(model)
    at_once = MagnitudePruning(scheme.sparsity, scope=scheme.scope, begin=0.0, end=0.0)
    hook = magnitude(at_once, pruned)
    tuned(pruned, scheme, context.reference or model, context, hook=hook)
    return with_modes_of(pruned, model)


class _Mask(nn.Module):
    """The parametrization weight = raw weight where the mask is True, else 0."""

    mask: Tensor

    def __init__(self, mask: Tensor, gradient: Literal["masked", "straight-through"]) -> None:
        super().__init__()
        self.gradient = gradient
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        if self.gradient == "masked":
            return torch.where(self.mask, weight, 0.0)
        # The difference is 0 and has the gradient of the weight.
        return torch.where(self.mask, weight, weight - weight.detach())


def _prunable(model: nn.Module) -> dict[str, Layer]:
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError(
            "Expected a model that is not quantized, but it has quantized layers. Prune first, then quantize."
        )
    layers = named_layers(model)
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(
                f"Expected plain weights, but the weight of layer {name!r} is parametrized (weight norm? pruning?). "
                "Remove it first with torch.nn.utils.parametrize.remove_parametrizations."
            )
    return layers


def _mask(layer: Layer) -> _Mask:
    return layer.parametrizations["weight"][0]  # pyright: ignore


def _raw(layer: Layer) -> Tensor:
    return layer.parametrizations["weight"].original  # pyright: ignore
