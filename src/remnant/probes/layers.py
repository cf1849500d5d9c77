"""Answers with one layer compressed or restored at a time, and the signal-to-noise ratio of each layer."""

from dataclasses import dataclass
from typing import ClassVar

from remnant.probes.probe import Probe

ABSENT = -1
"""Answer where a layer cannot be exchanged or the model is not quantized; power where it is not known."""

EXCHANGE = ("the same in both models", "exchanged", "cannot be exchanged")
"""What the values of `exchange` mean; see `Layers.dims`."""


@dataclass(frozen=True)
class Layers(Probe):
    """Answers with one layer compressed or restored at a time, and the signal-to-noise ratio of each layer.

    The reference is the dense model of the same seed. Layers are matched by name; a batch norm belongs to the layer
    before it. Dense models are compared with themselves.
    """

    kind: ClassVar[str] = "layers"
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "alone": ("example", "layer"),
        "restored": ("example", "layer"),
        "signal": ("example", "layer"),
        "local_noise": ("example", "layer"),
        "accumulated_noise": ("example", "layer"),
        "weights_only": ("example",),
        "activations_only": ("example",),
        "exchange": ("layer",),
        "reference_bytes": ("layer",),
        "compressed_bytes": ("layer",),
        "names": ("character",),
    }
    """`alone`: answer of the reference with that layer compressed. `restored`: answer of the compressed model with that
    layer of the reference. `signal`, `local_noise`, `accumulated_noise`: sums of squares of the layer's output in the
    reference, and of its difference with the reference's inputs and with those of the compressed model; -1 where not
    known. `weights_only`, `activations_only`: answers of a quantized model with only that half rounded; -1 for others.
    `exchange`: a place in `EXCHANGE`. `names`: of the layers, one byte a character, a zero byte between them."""
