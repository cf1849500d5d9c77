"""What a model costs: weights, bytes, operations, time."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer
from remnant.lab.compress.quantized_layers import QuantizedLayer

OWN = "own"
"""Name of the encoding in which each tensor has the number format of its own."""

_LOSSLESS = ("float32", "float32 bitmask", "float32 csr")

_SECONDS = 0.02
"""Time for the repetitions of the latency measurement; at least 3 are made."""


def measure(model: nn.Module, input_shape: tuple[int, ...], *, batch_size: int = 32) -> dict[str, Any]:
    """Size and cost of a model, whatever its scheme.

    The keys of the answer:

    - ``parameters``: values in all parameters; a shared one counts once. Buffers (running statistics
      of norms, quantization scales) do not count.
    - ``nonzeros``: those that are not 0, in weights, biases and norms.
    - ``bytes``: size of the parameters by encoding, see `encodings`; where weights were rounded,
      also as "own", see `stored_bytes`.
    - ``nonzero_bytes``: the non-zeros alone, each in the bits of its tensor's own number format (codes; half
      precision where no value is rounded by it; else float32).
    - ``flops``: 2 x multiply-accumulates of the linear and convolution layers for one example; biases,
      norms, activations, pooling and attention products do not count.
    - ``effective_flops``: the same, with the multiplications by weights that are 0 left out.
    - ``latency``: seconds per example, the median over batches of random numbers, in float32 on the model's
      device with as many threads as torch uses now. A quantized model's is that of its simulation,
      not of integer kernels; zeros are multiplied as well.
    - ``latency_batch_size``: examples in such a batch.

    The model is not changed.
    """
    with _evaluating(model), torch.inference_mode():
        flops, effective_flops = _flops(model, _inputs(model, 1, input_shape))
        latency = _latency(model, _inputs(model, batch_size, input_shape)) / batch_size
    parameters = list(model.parameters())
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "nonzeros": sum(_nonzeros(parameter) for parameter in parameters),
        "bytes": encodings(parameters) | ({OWN: stored_bytes(model)} if _rounded(model) else {}),
        "nonzero_bytes": nonzero_bytes(model),
        "flops": flops,
        "effective_flops": effective_flops,
        "latency": latency,
        "latency_batch_size": batch_size,
    }


def encodings(parameters: list[nn.Parameter]) -> dict[str, int]:
    """Bytes that parameters take in several encodings, whichever of them the model uses.

    A weight is a parameter of 2 or more dimensions, its first dimension the output channels; with n
    values, z of them not 0, and c channels it takes

    - ``float32``: 4 n
    - ``float16``: 2 n
    - ``int8``: n + 4 c, a byte per value and a float32 scale per channel
    - ``float32 bitmask``: 4 z + n / 8 (rounded up), the non-zeros and a bit per value
    - ``float32 csr``: 8 z + 4 (c + 1), the non-zeros, each with a 32-bit column, and row pointers

    Biases and norms are float32 everywhere except in ``float16``, where they take 2 bytes.
    """
    weights = [parameter for parameter in parameters if parameter.dim() >= 2]
    others = sum(parameter.numel() for parameter in parameters if parameter.dim() < 2)
    size = sum(weight.numel() for weight in weights)
    channels = sum(weight.shape[0] for weight in weights)
    nonzeros = sum(_nonzeros(weight) for weight in weights)
    return {
        "float32": 4 * (size + others),
        "float16": 2 * (size + others),
        "int8": size + 4 * channels + 4 * others,
        "float32 bitmask": 4 * nonzeros + sum((weight.numel() + 7) // 8 for weight in weights) + 4 * others,
        "float32 csr": 8 * nonzeros + 4 * (channels + len(weights)) + 4 * others,
    }


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all parameters of a module, each in the smallest encoding of `encodings` that holds it.

    Codes of quantized layers: their bits, a scale per channel (or group) and biases in 4 bytes. Others: float32, or its
    non-zeros with a bit mask or in rows (CSR); float16 where no value is rounded by it. Buffers do not count, as in
    `measure`.
    """
    quantized = [m for m in module.modules() if isinstance(m, QuantizedLayer)]
    inner = {id(parameter) for layer in quantized for parameter in layer.parameters()}
    floats = [parameter for parameter in module.parameters() if id(parameter) not in inner]
    return sum(_quantized_bytes(layer) for layer in quantized) + sum(parameter_bytes(p) for p in floats)


def nonzero_bytes(module: nn.Module) -> int:
    """Bytes of the parameters that are not 0, without their places, scales and zeros; see `measure`."""
    bits = {id(layer.layer.weight): layer.bits for layer in module.modules() if isinstance(layer, QuantizedLayer)}
    sizes = (_nonzeros(one) * (bits.get(id(one)) or (16 if _is_half(one) else 32)) for one in module.parameters())
    return (sum(sizes) + 7) // 8


def _is_half(parameter: Tensor) -> bool:
    values = parameter.detach()
    return type(values) in (Tensor, nn.Parameter) and values.half().float().equal(values.float())


def _quantized_bytes(layer: QuantizedLayer) -> int:
    codes, bits = layer.layer.weight, layer.bits
    others = sum(parameter.numel() for parameter in layer.parameters()) - codes.numel()
    return (codes.numel() * bits + 7) // 8 + 4 * layer.weight_scale.numel() + 4 * others


def parameter_bytes(parameter: nn.Parameter) -> int:
    """Bytes of values in the smallest encoding that holds them exactly."""
    sizes = encodings([parameter])
    choices = [sizes[name] for name in _LOSSLESS]
    if _is_half(parameter):
        choices.append(sizes["float16"])
    return min(choices)


def _rounded(model: nn.Module) -> bool:
    """Whether weights are codes, or numbers of half precision, in some layers at least."""
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        return True
    weights = [module.weight for module in model.modules() if isinstance(module, Layer)]
    return any(_is_half(weight) and bool(weight.any()) for weight in weights)


def _nonzeros(values: Tensor) -> int:
    plain = type(values) in (Tensor, nn.Parameter)  # others, such as torchao's, hold codes and scales
    return int((values if plain else values.dequantize()).count_nonzero())


def _inputs(model: nn.Module, number: int, input_shape: tuple[int, ...]) -> Tensor:
    first = next(model.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)  # the global random state is not ours to move
    inputs = torch.randn(number, *input_shape, generator=generator).to(first.device)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _flops(model: nn.Module, example: Tensor) -> tuple[int, int]:
    """(all, with zero weights left out) for a batch of one example."""
    counts = [0, 0]

    def count(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        weight: Tensor = layer.weight  # pyright: ignore[reportAssignmentType]
        uses = output.numel() // weight.shape[0]  # how often each weight is multiplied
        counts[0] += 2 * uses * weight.numel()
        counts[1] += 2 * uses * _nonzeros(weight)

    layers = [module for module in model.modules() if isinstance(module, Layer)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    try:
        model(example)
    finally:
        for handle in handles:
            handle.remove()
    return counts[0], counts[1]


def _latency(model: nn.Module, batch: Tensor) -> float:
    """Seconds for the batch: the median of repetitions after one that warms up."""
    seconds: list[float] = []
    _run(model, batch)
    while len(seconds) < 3 or sum(seconds) < _SECONDS:
        start = time.perf_counter()
        _run(model, batch)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _run(model: nn.Module, batch: Tensor) -> None:
    model(batch)
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each module's own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
