"""Sizes and operations, against SciPy, torch's FLOP counter and numbers worked by hand."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from remnant.lab.compress import compress
from remnant.lab.footprint import encodings, measure, nonzero_bytes
from remnant.schemes import Dense, DynamicInt8, Float16, OneShotPruning, StaticInt8, WeightOnly
from tests.lab.toys import MODELS, SHAPE, ResidualNet, built, context, mlp


def test_mlp_has_the_footprint_worked_by_hand():
    model = nn.Sequential(nn.Linear(10, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        model[0].weight[:, :5] = 0  # pyright: ignore
        model[2].bias[:] = 0  # pyright: ignore
    found = measure(model, (10,))
    assert found["parameters"] == 40 + 4 + 12 + 3
    assert found["nonzeros"] == 20 + 4 + 12 + 0
    assert found["bytes"] == {
        "float32": 4 * 59,
        "float16": 2 * 59,
        "int8": 52 + 4 * (4 + 3) + 4 * 7,
        "float32 bitmask": 4 * 32 + 5 + 2 + 4 * 7,
        "float32 csr": 8 * 32 + 4 * (5 + 4) + 4 * 7,
    }
    assert found["flops"] == 2 * 52
    assert found["effective_flops"] == 2 * 32


def test_non_zeros_take_the_bits_of_their_own_tensor():
    """A layer of 4-bit codes beside one in float32 and its bias: by hand."""
    dense = nn.Sequential(nn.Linear(6, 4, bias=False), nn.Linear(4, 3))
    with torch.no_grad():
        dense[0].weight[:, 0] = 0  # pyright: ignore
    found = compress(WeightOnly(4), dense, context())
    codes = found[0].layer.weight  # pyright: ignore
    found[1] = dense[1]  # pyright: ignore
    assert codes[:, 0].count_nonzero() == 0
    assert nonzero_bytes(found) == math.ceil((4 * int(codes.count_nonzero()) + 32 * (12 + 3)) / 8)
    assert nonzero_bytes(dense) == 4 * (20 + 12 + 3)
    assert nonzero_bytes(compress(Float16(), dense, context())) == 2 * (20 + 12 + 3)


def test_codes_of_few_bits_take_their_bits():
    """mlp(): 4 bits for each weight, rounded up to bytes in each layer; a scale for each channel; biases of 4 bytes."""
    compressed = compress(WeightOnly(4), built("mlp"), context())
    layers = [module for module in mlp().modules() if isinstance(module, nn.Linear)]
    expected = sum((layer.weight.numel() + 1) // 2 + 8 * layer.out_features for layer in layers)
    assert measure(compressed, SHAPE)["bytes"]["own"] == expected


@pytest.mark.parametrize(
    ("scheme", "same"),
    [(Float16(), "float16"), (DynamicInt8(), "int8"), (StaticInt8(), "int8"), (WeightOnly(8), "int8")],
)
def test_models_of_one_number_format_have_its_size(scheme, same):
    found = measure(compress(scheme, built("mlp"), context()), SHAPE)["bytes"]
    assert found["own"] == found[same]


def test_models_of_float32_have_no_size_of_their_own():
    for scheme in (Dense(), OneShotPruning(0.5, epochs=0)):
        assert "own" not in measure(compress(scheme, built("mlp"), context()), SHAPE)["bytes"]


@pytest.mark.parametrize("scheme", [Float16(), DynamicInt8()])
def test_a_layer_that_was_not_rounded_takes_float32(scheme):
    model = built("mlp")
    compressed = compress(scheme, model, context())
    place, layer = next((name, module) for name, module in model.named_children() if isinstance(module, nn.Linear))
    setattr(compressed, place, layer)
    found = measure(compressed, SHAPE)["bytes"]
    assert found["int8"] < found["own"] < found["float32"]


def test_csr_is_what_scipy_stores():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(30, 50)).astype(np.float32) * (rng.random((30, 50)) < 0.2)
    matrix = scipy.sparse.csr_array(weight)
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    expected = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
    assert encodings([nn.Parameter(torch.from_numpy(weight))])["float32 csr"] == expected


def test_bitmask_is_what_numpy_packs():
    weight = np.random.default_rng(0).integers(-1, 2, (7, 3, 3, 3)).astype(np.float32)
    expected = weight[weight != 0].nbytes + np.packbits(weight != 0).nbytes
    assert encodings([nn.Parameter(torch.from_numpy(weight))])["float32 bitmask"] == expected


@pytest.mark.parametrize("name", MODELS)
def test_flops_agree_with_torch(name):
    """Oracle: torch.utils.flop_counter of torch 2.14 (it counts 2 per multiply-accumulate too)."""
    model = built(name).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *SHAPE))
    assert measure(model, SHAPE)["flops"] == counter.get_total_flops()


def test_a_layer_that_is_called_twice_counts_twice_in_flops_and_once_in_size():
    layer = nn.Linear(6, 6)
    once, twice = measure(layer, (6,)), measure(nn.Sequential(layer, layer), (6,))
    assert twice["flops"] == 2 * once["flops"] == 144
    assert twice["parameters"] == once["parameters"]


def test_pruning_lowers_what_depends_on_zeros_and_nothing_else():
    model, place = built("residual"), context()
    found = [measure(compress(OneShotPruning(s, epochs=0), model, place), SHAPE) for s in (0.0, 0.5, 0.9)]
    for before, after in pairwise(found):
        for key in ("parameters", "flops"):
            assert after[key] == before[key]
        for key in ("nonzeros", "effective_flops"):
            assert after[key] < before[key]
        for key in ("float32", "float16", "int8"):
            assert after["bytes"][key] == before["bytes"][key]
        for key in ("float32 bitmask", "float32 csr"):
            assert after["bytes"][key] < before["bytes"][key]
    assert found[0]["effective_flops"] == found[0]["flops"]
    assert found[0]["bytes"]["float32 csr"] > found[0]["bytes"]["float32"]  # indices cost more than they save


@pytest.mark.parametrize("scheme", [Float16(), DynamicInt8(), StaticInt8()], ids=lambda scheme: scheme.kind)
def test_quantized_models_count_as_the_float_model(scheme):
    place, model = context(), mlp()
    pruned = compress(OneShotPruning(0.5, scope="layer", epochs=0), model, place)
    float_found, found = measure(pruned, SHAPE), measure(compress(scheme, pruned, place), SHAPE)
    assert found["parameters"] == float_found["parameters"]
    assert found["flops"] == float_found["flops"]
    for key in ("float32", "float16", "int8"):
        assert found["bytes"][key] == float_found["bytes"][key]
    assert found["nonzeros"] <= float_found["nonzeros"]  # small weights round to 0
    assert found["effective_flops"] <= float_found["effective_flops"] <= found["flops"] / 2 + 2


def test_the_model_is_untouched():
    model = ResidualNet().train()
    model.norm1.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    measure(model, SHAPE)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_hooks_and_modes_are_restored_if_the_model_fails():
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(4, 4)).train()
    with pytest.raises(RuntimeError, match="shapes"):
        measure(model, (5,))
    assert model[0].training
    assert not model[0]._forward_hooks


def test_latency_is_seconds_per_example():
    class Slow(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            time.sleep(0.002 * len(images))
            return images

    found = measure(Slow(), (3,), batch_size=4)
    assert 0.002 <= found["latency"] < 0.004
    assert found["latency_batch_size"] == 4


def test_measuring_a_small_model_is_quick():
    model = mlp()
    measure(model, SHAPE)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        measure(model, SHAPE)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05
