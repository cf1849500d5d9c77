"""Gradients through rounding."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ROUNDING = frozenset({torch.round, torch.round_, Tensor.round, Tensor.round_})
_IN_PLACE = {Tensor.clamp_: Tensor.clamp, torch.clamp_: torch.clamp}
"""What quantized layers do in place to values that gradients still need, and the same with a copy."""
_CLIPPING = frozenset({torch.clamp, torch.clamp_, Tensor.clamp, Tensor.clamp_})


class StraightThrough(TorchFunctionMode):
    """While it is open, rounding to integers passes gradients on as if it were the identity.

    Values are rounded as always, so that a quantized model answers as it does without. Rounding and clipping make
    copies: a model that rounds in place and goes on with the old name would answer otherwise, so compare.

    References
    ----------
    bengio2013estimating; athalye2018obfuscated, section 4.1.2
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ROUNDING and len(args) == 1 and not kwargs and args[0].requires_grad:
            return _Rounded.apply(args[0])
        if func in _CLIPPING and len(args) == 3 and not kwargs and args[0].requires_grad:
            return _Clipped.apply(*args)
        func = _IN_PLACE.get(func, func)
        return func(*args, **(kwargs or {}))


class _Rounded(torch.autograd.Function):
    """round(x) with the gradient of x."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _Clipped(torch.autograd.Function):
    """Values clipped to two ends, with the gradient 1 at the ends too, which many rounded values meet exactly."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: Any, high: Any) -> Tensor:
        clipped = values.clamp(low, high)
        ctx.save_for_backward(clipped == values)
        return clipped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0] * ctx.saved_tensors[0], None, None
