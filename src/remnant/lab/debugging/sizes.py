"""Bytes of single layers, each in the smallest encoding that holds it exactly."""

from torch import nn

from remnant.lab.compress.quantized_layers import QuantizedLayer
from remnant.lab.debugging.matching import MatchedLayer
from remnant.lab.footprint import encodings

_LOSSLESS = ("float32", "float32 bitmask", "float32 csr")


def layer_bytes(model: nn.Module, layer: MatchedLayer) -> int:
    """Bytes of a layer of one model of a matched pair; see `stored_bytes`."""
    distinct = dict.fromkeys(model.get_submodule(name) for name in layer.modules)
    if layer.output is None:
        return sum(_parameter_bytes(parameter) for m in distinct for parameter in m.parameters(recurse=False))
    return sum(stored_bytes(module) for module in distinct)


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all parameters of a module, each in the smallest encoding of `footprint.encodings` that holds it.

    Codes of quantized layers: their bits, a scale per channel (or group) and biases in 4 bytes. Others: float32, or its
    non-zeros with a bit mask or in rows (CSR); float16 where no value is rounded by it. Buffers do not count, as in
    `footprint.measure`.
    """
    quantized = [m for m in module.modules() if isinstance(m, QuantizedLayer)]
    inner = {id(parameter) for layer in quantized for parameter in layer.parameters()}
    floats = [parameter for parameter in module.parameters() if id(parameter) not in inner]
    return sum(_quantized_bytes(layer) for layer in quantized) + sum(_parameter_bytes(p) for p in floats)


def _quantized_bytes(layer: QuantizedLayer) -> int:
    codes, bits = layer.layer.weight, layer.bits
    others = sum(parameter.numel() for parameter in layer.parameters()) - codes.numel()
    return (codes.numel() * bits + 7) // 8 + 4 * layer.weight_scale.numel() + 4 * others


def _parameter_bytes(parameter: nn.Parameter) -> int:
    sizes = encodings([parameter])
    choices = [sizes[name] for name in _LOSSLESS]
    if parameter.detach().half().float().equal(parameter.detach()):
        choices.append(sizes["float16"])
    return min(choices)
