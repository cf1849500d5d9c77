"""Answers of a compressed model and its reference with one layer exchanged at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from remnant.lab.debugging.effects import answers, layer_effects
from remnant.lab.debugging.matching import MatchedPair, matched
from remnant.lab.debugging.rounding import is_quantized, with_float_activations, with_float_weights
from remnant.lab.debugging.sizes import layer_bytes
from remnant.lab.probing import Subject
from remnant.probes.layers import ABSENT, EXCHANGE, Layers
from remnant.stored_array import pack_text

_BATCH = 100
"""Most examples whose outputs of all layers are held in memory."""
_VALUES = 2**19
"""Most input values of a batch: larger pictures come in smaller batches."""


def measure(probe: Layers, subject: Subject, prepared: Any = None) -> dict[str, np.ndarray]:
    """Answers with one layer exchanged, powers of signal and noise, and bytes of layers.

    2 + 2 L forward passes over the examples for L layers that differ, and 2 for a quantized model.

    Raises
    ------
    ValueError
        If the model is compressed and the store does not hold its reference.
    """
    reference = subject.model if subject.kind == "dense" else subject.reference
    if reference is None:
        raise ValueError(
            "Expected the dense model of the same seed in the store, to compare layers with, but it is not there. "
            "Add the scheme 'dense' to the study, and run it."
        )
    pair = matched(reference, subject.model, next(_batches(subject, 8)))
    effects = layer_effects(pair, _batches(subject))
    powers = ("signal", "local_noise", "accumulated_noise")
    return {
        "alone": effects.alone.T.astype(np.int16),
        "restored": effects.restored.T.astype(np.int16),
        **{name: np.nan_to_num(getattr(effects, name).T, nan=ABSENT).astype(np.float32) for name in powers},
        **_halves(subject, reference),
        "exchange": _exchange(pair),
        "reference_bytes": _bytes(pair, lambda pair: pair.reference),
        "compressed_bytes": _bytes(pair, lambda pair: pair.compressed),
        "names": pack_text(layer.name for layer in pair.layers),
    }


def _halves(subject: Subject, reference: nn.Module) -> dict[str, np.ndarray]:
    """Answers with rounded weights only, and with rounded activations only."""
    found = {name: np.full(len(subject.rows), ABSENT, np.int16) for name in ("weights_only", "activations_only")}
    if not is_quantized(subject.model):
        return found
    found["weights_only"] = answers(with_float_activations(subject.model), _batches(subject)).astype(np.int16)
    try:
        rounded = with_float_weights(subject.model, reference, next(_batches(subject, 8)))
    except ValueError:  # layers of other shapes: there is no such model
        return found
    found["activations_only"] = answers(rounded, _batches(subject)).astype(np.int16)
    return found


def _exchange(pair: MatchedPair) -> np.ndarray:
    states = [EXCHANGE[2] if layer.obstacle else EXCHANGE[int(layer.differs)] for layer in pair.layers]
    return np.array([EXCHANGE.index(state) for state in states], np.uint8)


def _bytes(pair: MatchedPair, side: Callable[[MatchedPair], nn.Module]) -> np.ndarray:
    """Bytes of each layer in one model; -1 where it is not there."""
    found = []
    for layer in pair.layers:
        try:
            found.append(layer_bytes(side(pair), layer))
        except AttributeError:
            found.append(ABSENT)
    return np.array(found, np.int64)


def _batches(subject: Subject, most: int = _BATCH) -> Iterator[Tensor]:
    size = max(1, min(most, _VALUES // int(np.prod(subject.dataset.input_shape))))
    device = next((p.device for p in subject.model.parameters()), torch.device("cpu"))
    for start in range(0, len(subject.rows), size):
        yield subject.inputs(subject.rows[start : start + size]).to(device)
