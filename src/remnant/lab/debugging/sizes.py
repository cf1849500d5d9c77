"""Bytes of single layers, each in the smallest encoding that holds it exactly."""

from torch import nn

from remnant.lab.debugging.matching import MatchedLayer
from remnant.lab.footprint import parameter_bytes, stored_bytes


def layer_bytes(model: nn.Module, layer: MatchedLayer) -> int:
    """Bytes of a layer of one model of a matched pair; see `stored_bytes`."""
    distinct = dict.fromkeys(model.get_submodule(name) for name in layer.modules)
    if layer.output is None:
        return sum(parameter_bytes(parameter) for m in distinct for parameter in m.parameters(recurse=False))
    return sum(stored_bytes(module) for module in distinct)
