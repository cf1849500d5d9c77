"""Networks for pixels, adapted to coefficients."""

from collections.abc import Callable
from typing import Any

from torch import nn

from remnant.lab.cifar_networks import BasicBlock

HALVINGS = {16: 2, 48: 2, 64: 3, 192: 3}
"""Channels of 4x4 and of 8x8 blocks, grey and colour, to how often such a block halves a picture."""

Network = Callable[..., nn.Module]
"""Called as function(input_shape, num_classes, **numbers); returns a sequence of layers and blocks."""


def for_coefficients(function: Network) -> Network:
    """The same network for coefficients of blocks: what halves a picture first is left out.

    A block of 4x4 pixels stands for two halvings, one of 8x8 for three. So many strides become 1 or poolings
    nothing, first ones first; layers and widths stay. The last layers then have the resolution that they have
    on pixels, or a lower one where the network halves less often than the blocks.

    References
    ----------
    gueguen2018faster, section 4
    """

    def build(input_shape: tuple[int, ...], num_classes: int, **numbers: Any) -> nn.Module:
        if input_shape[0] not in HALVINGS:
            raise ValueError(
                f"Expected coefficients of 4x4 or 8x8 blocks, which have {list(HALVINGS)} channels, but the inputs "
                f"have the shape {tuple(input_shape)}. Take a data set such as coefficients:zfp-precision-6:cifar10."
            )
        model = function(input_shape, num_classes, **numbers)
        left = _undo(model, HALVINGS[input_shape[0]])
        if min(input_shape[1:]) < 2**left:
            raise ValueError(
                f"Expected at least {2**left}x{2**left} blocks for a network that halves them {left} times, but the "
                f"inputs have the shape {tuple(input_shape)}. Take another architecture, such as coefficient-resnet20."
            )
        return model

    return build


def _undo(model: nn.Module, number: int) -> int:
    """Leaves out the first `number` halvings of a sequence, in place; how many are left."""
    halving = [name for name, part in model.named_children() if _halves(part)]
    for name in halving[:number]:
        part = model.get_submodule(name)
        if isinstance(part, nn.MaxPool2d | nn.AvgPool2d):
            setattr(model, name, nn.Identity())
            continue
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
            elif isinstance(module, BasicBlock):
                module.stride = 1  # of its shortcut, which has no parameters
    return len(halving[number:])


def _halves(part: nn.Module) -> bool:
    if isinstance(part, nn.MaxPool2d | nn.AvgPool2d):
        return True
    return any(isinstance(module, nn.Conv2d) and module.stride == (2, 2) for module in part.modules())
