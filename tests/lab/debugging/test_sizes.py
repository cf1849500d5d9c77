import copy

import pytest
import torch
from torch import nn

from remnant.lab.compress.grids import quantize_weight
from remnant.lab.compress.quantized_layers import DynamicLayer, WeightOnlyLayer
from remnant.lab.debugging.matching import matched
from remnant.lab.debugging.sizes import layer_bytes
from remnant.lab.footprint import stored_bytes
from tests.lab.debugging.networks import MAKERS, images, made


def linear(values=None):
    layer = nn.Linear(64, 10)
    if values is not None:
        with torch.no_grad():
            layer.weight.copy_(values)
            layer.bias.copy_(torch.full((10,), 1 / 3))
    return layer


def test_bytes_by_hand():
    torch.manual_seed(0)
    assert stored_bytes(linear()) == 4 * 650
    tenth = (torch.rand(10, 64) / 3) * (torch.arange(640).view(10, 64) % 10 == 0)
    assert stored_bytes(linear(tenth)) == 4 * 64 + 80 + 40  # non-zeros, a bit each, biases
    hundredth = (torch.rand(10, 64) / 3) * (torch.arange(640).view(10, 64) % 100 == 0)
    assert stored_bytes(linear(hundredth)) == 8 * 7 + 4 * 11 + 40  # rows
    assert stored_bytes(linear(torch.rand(10, 64).half().float())) == 2 * 640 + 40
    assert stored_bytes(DynamicLayer(linear(), True)) == 640 + 40 + 40
    layer = linear()
    codes, scale = quantize_weight(layer.weight, bits=4)
    assert stored_bytes(WeightOnlyLayer(layer, codes, scale, 4)) == 320 + 40 + 40


@pytest.mark.parametrize("name", list(MAKERS))
def test_layers_are_the_whole_model(name):
    pair = matched(made(name), copy.deepcopy(made(name)), images(8))
    assert sum(layer_bytes(pair.reference, layer) for layer in pair.layers) == stored_bytes(made(name))
