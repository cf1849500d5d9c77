"""What each layer does to the answers: compressed alone, restored alone, and its signal-to-noise ratio."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from remnant.lab.debugging.calls import first_tensor
from remnant.lab.debugging.matching import MatchedLayer, MatchedPair, exchanged
from remnant.stats.layer_counts import LayerCounts, decibels, layer_counts

UNKNOWN = -1
"""Answer where a layer cannot be exchanged."""
_Values = NDArray[np.float64]
_Outputs = dict[str, list[Tensor]]


@dataclass(frozen=True)
class LayerEffects:
    """Answers with one layer exchanged, and powers of signal and noise. Arrays are (layer, example) or (example,)."""

    reference: NDArray[np.int64]
    """Answers of the reference, shape (example,)."""
    compressed: NDArray[np.int64]
    """Answers of the compressed model, shape (example,)."""
    alone: NDArray[np.int64]
    """Answers of the reference with that layer of the compressed model; -1 where it cannot be exchanged."""
    restored: NDArray[np.int64]
    """Answers of the compressed model with that layer of the reference; -1 where it cannot be exchanged."""
    signal: _Values
    """Power (sum of squares) of the layer's output in the reference; NaN where it is not known."""
    local_noise: _Values
    """Power of the difference that the compressed layer makes on the inputs of the reference."""
    accumulated_noise: _Values
    """Power of the difference in the compressed model, where all layers before are compressed too."""

    def counts(self, label: ArrayLike, rows: Any = slice(None)) -> LayerCounts:
        """Changed and lost answers by layer, on all examples or some of them (a mask or places)."""
        answers = self.reference[rows], self.compressed[rows], self.alone[:, rows], self.restored[:, rows]
        return layer_counts(np.asarray(label)[rows], *answers)

    def local_ratio(self, rows: Any = slice(None)) -> _Values:
        """Local signal-to-noise ratio of each layer in dB; +inf if it computes the same, NaN if not known."""
        return decibels(self.signal[:, rows].sum(axis=1), self.local_noise[:, rows].sum(axis=1))

    def accumulated_ratio(self, rows: Any = slice(None)) -> _Values:
        """Accumulated signal-to-noise ratio of each layer in dB; +inf if its outputs are the same, NaN if not known."""
        return decibels(self.signal[:, rows].sum(axis=1), self.accumulated_noise[:, rows].sum(axis=1))


@torch.inference_mode()
def layer_effects(pair: MatchedPair, batches: Iterable[Tensor]) -> LayerEffects:
    """Effects of every layer on the answers to all examples of the batches.

    2 + 2 L forward passes, L being the layers that differ; from the exchanged layer on only, because what comes before
    it is known: about half of each. The noise costs no pass of its own. Outputs of all layers of both models on one
    batch are held in memory: take smaller batches where they do not fit.

    An output is compared after the ReLU or ReLU6 where that alone reads it, because int8 layers include the
    activation. Of a layer that is called several times the powers add up, and from its second call on its inputs
    are those that its earlier calls left.
    """
    parts = [_of_batch(pair, batch) for batch in batches]
    if not parts:
        raise ValueError("Expected at least one batch of examples, but got none.")
    names = [field.name for field in fields(LayerEffects)]
    return LayerEffects(**{name: np.concatenate([part[name] for part in parts], axis=-1) for name in names})


@torch.inference_mode()
def answers(model: nn.Module, batches: Iterable[Tensor]) -> NDArray[np.int64]:
    """Predicted classes; of equal logits the first."""
    return np.concatenate([model(batch).argmax(1).cpu().numpy() for batch in batches])


def _of_batch(pair: MatchedPair, batch: Tensor) -> dict[str, NDArray]:
    shape = (len(pair.layers), len(batch))
    alone, restored = np.full((2, *shape), UNKNOWN, np.int64)
    powers = np.full((3, *shape), np.nan)
    reference, first = _with_outputs(pair.reference, pair, batch)
    compressed, second = _with_outputs(pair.compressed, pair, batch)
    for place, layer in enumerate(pair.layers):
        if layer.obstacle:
            continue
        own, others = (outputs.get(str(layer.output), []) for outputs in (first, second))
        if own:
            powers[0, place] = sum(_power(_bounded(values, layer), len(batch)) for values in own)
            powers[1, place], powers[2, place] = 0, _noise(own, others, layer, len(batch))
        alone[place], restored[place] = reference, compressed
        if layer.differs:
            with exchanged(pair, layer):
                with (
                    _replayed(pair, pair.reference, layer, first),
                    _outputs_of(pair, pair.reference, [layer.output]) as made,
                ):
                    alone[place] = answers(pair.reference, [batch])
                with _replayed(pair, pair.compressed, layer, second):
                    restored[place] = answers(pair.compressed, [batch])
            if own:
                powers[1, place] = _noise(own, made[str(layer.output)], layer, len(batch))
    signal, local, accumulated = powers
    return {
        "reference": reference, "compressed": compressed, "alone": alone, "restored": restored,
        "signal": signal, "local_noise": local, "accumulated_noise": accumulated,
    }  # fmt: skip


def _with_outputs(model: nn.Module, pair: MatchedPair, batch: Tensor) -> tuple[NDArray[np.int64], _Outputs]:
    """Answers, and what the modules of all layers gave in each of their calls."""
    names = {name for layer in pair.layers for name in (*layer.before, layer.output) if not layer.obstacle}
    with _outputs_of(pair, model, names) as found:
        return answers(model, [batch]), found


@contextmanager
def _outputs_of(pair: MatchedPair, model: nn.Module, names: Iterable[str | None]) -> Iterator[_Outputs]:
    """While the context is open, what modules give is added; None names no module."""
    found: _Outputs = {}

    def recorder(name: str) -> Any:
        return lambda module, args, output: found.setdefault(name, []).append(_kept(pair, name, first_tensor(output)))

    named = [(name, model.get_submodule(name)) for name in names if name is not None]
    handles = [module.register_forward_hook(recorder(name)) for name, module in named]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _replayed(pair: MatchedPair, model: nn.Module, layer: MatchedLayer, outputs: _Outputs) -> Iterator[None]:
    """While the context is open, modules that are called before the layer give what they gave, without computing."""

    def repeat(name: str) -> Any:
        return lambda *args, **kwargs: _kept(pair, name, outputs[name][0])

    modules = [model.get_submodule(name) for name in layer.before]
    kept = [module.__dict__.get("forward") for module in modules]
    for module, name in zip(modules, layer.before, strict=True):
        module.forward = repeat(name)
    try:
        yield
    finally:
        for module, forward in zip(modules, kept, strict=True):
            del module.forward
            if forward is not None:
                module.forward = forward


def _kept(pair: MatchedPair, name: str, values: Tensor) -> Tensor:
    """What a module gave, safe from activations that work in place."""
    return values.clone() if name in pair.overwritten else values


def _noise(expected: list[Tensor], found: list[Tensor], layer: MatchedLayer, num_examples: int) -> _Values:
    """Power of the difference, summed over the calls of a layer."""
    differences = [_bounded(b, layer) - _bounded(a, layer) for a, b in zip(expected, found, strict=True)]
    return np.sum([_power(difference, num_examples) for difference in differences], axis=0)


def _bounded(values: Tensor, layer: MatchedLayer) -> Tensor:
    return values.float().clamp(*layer.bounds)


def _power(values: Tensor, num_examples: int) -> _Values:
    """Sum of squares for each example; shared evenly where the first dimension is not that of the examples."""
    if len(values) % num_examples:
        return np.full(num_examples, values.double().square().sum().item() / num_examples)
    of_rows = values.square().sum(tuple(range(1, values.dim())))
    return of_rows.double().view(num_examples, -1).sum(1).cpu().numpy()
