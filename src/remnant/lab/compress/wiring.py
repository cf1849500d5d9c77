"""What reads the outputs of a model's layers, found in one forward pass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Wiring:
    """What reads the outputs of layers."""

    logits: frozenset[nn.Module]
    """Layers between which and the model's output there is no other layer."""
    norms: dict[nn.Module, tuple[nn.Module, ...]]
    """Layer to the batch norms whose input is its output."""
    uses: dict[Layer, int]
    """How often each weight of a layer is multiplied for one example."""


def wiring(model: nn.Module, examples: Tensor) -> Wiring:
    """How a model's layers are wired; it is set to evaluation mode.

    The model may compute whatever autograd can follow: it need not be traceable.
    """
    outputs: list[tuple[nn.Module, Tensor]] = []
    norms: dict[nn.Module, tuple[nn.Module, ...]] = {}
    uses: dict[Layer, int] = {}

    def leave(layer: Any, args: Any, output: Tensor) -> None:
        outputs.append((layer, output))
        uses[layer] = uses.get(layer, 0) + output.numel() // (len(examples) * layer.weight.shape[0])

    def enter(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        for layer, output in outputs:
            if output is args[0]:
                norms[layer] = (*norms.get(layer, ()), norm)

    handles = [m.register_forward_hook(leave) for m in model.modules() if isinstance(m, Layer)]
    handles += [m.register_forward_pre_hook(enter) for m in model.modules() if isinstance(m, BATCH_NORMS)]
    try:
        with torch.enable_grad():
            # Frozen weights have no graph of their own.
            logits = model.eval()(examples.clone().requires_grad_())
    finally:
        for handle in handles:
            handle.remove()
    return Wiring(_nearest(logits, outputs), norms, uses)


def examples_of(shape: tuple[int, ...], model: nn.Module, number: int = 2) -> Tensor:
    """Random inputs, always the same, on the device of the model."""
    generator = torch.Generator().manual_seed(0)
    first = next(model.parameters())
    return torch.randn(number, *shape, generator=generator).to(first.device)


def _nearest(logits: Tensor, outputs: list[tuple[nn.Module, Tensor]]) -> frozenset[nn.Module]:
    """The layers that one meets first on all ways back from the logits."""
    layers = {output.grad_fn: layer for layer, output in outputs}
    found, seen, ahead = set(), set(), [logits.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in layers:
            found.add(layers[node])
        else:
            ahead += [before for before, _ in node.next_functions]
    return frozenset(found)
