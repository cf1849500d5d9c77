"""Quantization of weights and activations."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from remnant.fields import check, check_choice
from remnant.schemes.scheme import Scheme, TunedScheme


@dataclass(frozen=True)
class Float16(Scheme):
    """Weights rounded to IEEE half precision, arithmetic in float32 (TensorFlow Lite's float16)."""

    kind: ClassVar[str] = "float16"


@dataclass(frozen=True)
class DynamicInt8(Scheme):
    """Weights int8, inputs of linear and convolution layers int8 with the range of each batch row.

    TensorFlow Lite's dynamic range ("hybrid") quantization.
    """

    kind: ClassVar[str] = "dynamic-int8"

    per_channel: bool = True
    """One weight scale per output channel instead of one per layer."""


@dataclass(frozen=True)
class StaticInt8(Scheme):
    """Weights and activations int8, ranges from the first training examples (fixed-point int8)."""

    kind: ClassVar[str] = "static-int8"

    calibration: int = 100
    """Number of training examples, from the first on, that set the activation ranges."""
    per_channel: bool = True
    """One weight scale per output channel instead of one per layer."""

    def __post_init__(self) -> None:
        check(self.calibration >= 1, "calibration", ">= 1", self.calibration)


@dataclass(frozen=True)
class QuantizationAwareTraining(TunedScheme):
    """Training through rounding (straight-through gradients) that ends in the integers of static int8."""

    kind: ClassVar[str] = "quantization-aware-training"

    bits: int = 8
    """Bits of the weights, 2 to 8. Inputs and outputs of layers have 8."""
    per_channel: bool = True
    """One weight scale per output channel instead of one per layer."""
    calibration: int = 100
    """Number of training examples, from the first on, that set the activation ranges at the start."""
    observed: float = 0.5
    """Share of the training, from its start, in which activation ranges follow a moving average; then they stay."""
    learning_rate: float = field(default=0.001, kw_only=True)
    """Highest learning rate of the fine-tuning. Without the batch norms, which are folded, rates of 0.01 diverge."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bits(self.bits)
        check(self.calibration >= 1, "calibration", ">= 1", self.calibration)
        check(0 <= self.observed <= 1, "observed", "in [0, 1]", self.observed)


@dataclass(frozen=True)
class WeightOnly(Scheme):
    """Weights of few bits, rounded to nearest; activations and biases stay in float32."""

    kind: ClassVar[str] = "weight-only"

    bits: int = 4
    """Bits of the weights, 2 to 8."""
    granularity: Literal["channel", "layer", "group"] = "channel"
    """What shares a weight scale: an output channel, a layer, or `group_size` inputs of an output channel."""
    group_size: int | None = None
    """Consecutive inputs of an output channel that share a scale; with granularity="group" only, there 32 if None."""
    clipping: Literal["none", "least-squares"] = "none"
    """The largest weight sets the scale, or the scale is the one of least squared error and cuts larger weights off."""

    def __post_init__(self) -> None:
        _check_bits(self.bits)
        check_choice(self, "granularity")
        check_choice(self, "clipping")
        if self.granularity == "group":
            check(self.group_size is None or self.group_size >= 2, "group_size", ">= 2", self.group_size)
        else:
            check(self.group_size is None, "group_size", "to be None unless granularity='group'", self.group_size)


def _check_bits(bits: int) -> None:
    check(2 <= bits <= 8, "bits", "in 2 to 8", bits)
