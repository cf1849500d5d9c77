"""Ranges of what goes in and out of layers, on training examples."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import Layer
from remnant.lab.train import normalize, take

_BATCH = 100
"""Examples in a calibration batch."""

Range = tuple[float, float]


def examples(model: nn.Module, context: Context, number: int) -> Iterator[Tensor]:
    """The first training examples of the trial's subset in batches, as the model sees them."""
    device = next(model.parameters()).device
    for batch in torch.from_numpy(context.indices[:number]).split(_BATCH):
        yield normalize(context.dataset, take(context.dataset.train.images, batch).to(device))


@torch.inference_mode()
def calibrate(
    model: nn.Module, layers: dict[str, Layer], context: Context, number: int
) -> dict[str, tuple[Range, Range]]:
    """Smallest and largest input and output of every layer that is called, on the first examples.

    Raises
    ------
    ValueError
        If one is NaN or infinite.
    """
    found: dict[str, tuple[Range, Range]] = {}
    with _recorded(layers, found):
        for batch in examples(model, context, number):
            model(batch)
    return found


@contextmanager
def _recorded(layers: dict[str, Layer], found: dict[str, tuple[Range, Range]]) -> Iterator[None]:
    """While the context is open, ranges of inputs and outputs of layers go to `found`."""

    def recorder(name: str):
        def record(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            new = extremes(args[0]), extremes(output)
            if not all(math.isfinite(end) for ends in new for end in ends):
                raise ValueError(
                    f"Expected finite activations on the calibration examples, but input and output of layer {name!r} "
                    f"range over {new[0]} and {new[1]}. Are there NaN in the images, or did the training diverge?"
                )
            old = found.get(name, new)
            found[name] = _union(old[0], new[0]), _union(old[1], new[1])

        return record

    handles = [layer.register_forward_hook(recorder(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def extremes(values: Tensor) -> Range:
    """The smallest and the largest of all values."""
    low, high = values.aminmax()
    return low.item(), high.item()


def _union(a: Range, b: Range) -> Range:
    return min(a[0], b[0]), max(a[1], b[1])
