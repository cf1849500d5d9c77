"""Weights of few bits, beside torch's fake quantization, NumPy loops and the best quantizer of normal numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from remnant.lab.compress import Context, compress
from remnant.lab.compress.grids import largest_code, least_squares_scale, quantize_weight
from remnant.lab.compress.weight_only import GROUP_SIZE, restored, weight_only
from remnant.lab.footprint import measure
from remnant.schemes import StaticInt8
from remnant.schemes.quantization import WeightOnly
from tests.lab.toys import MODELS, SHAPE, answers, built, context, evaluation_images, quantized_layers, sqnr, trained

SCHEMES = [
    WeightOnly(),
    WeightOnly(8),
    WeightOnly(2, clipping="least-squares"),
    WeightOnly(3, granularity="layer"),
    WeightOnly(4, granularity="group", group_size=5),
    WeightOnly(4, granularity="group", clipping="least-squares"),
]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.label)


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, place: Context) -> nn.Module:
    return trained(request.param, place)


def only_layer(scheme: WeightOnly, layer: nn.Module, place: Context) -> Any:
    head = nn.Linear(layer(torch.zeros(1, *SHAPE)).numel(), 4)
    found: Any = weight_only(scheme, nn.Sequential(layer, nn.Flatten(), head), place)
    return found[0]


def test_the_largest_code_is_that_of_a_signed_number_without_its_lowest_end():
    assert [largest_code(bits) for bits in (8, 4, 3, 2)] == [127, 7, 3, 1]


def test_four_bits_have_the_values_worked_by_hand():
    weight = torch.tensor([[0.7, -0.34, 0.06, 0.04], [1.4, 0.3, -1.5, 0.0]])
    codes, scale = quantize_weight(weight, bits=4)
    torch.testing.assert_close(scale, torch.tensor([0.1, 1.5 / 7]))
    assert codes.tolist() == [[7, -3, 1, 0], [7, 1, -7, 0]]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("granularity", ["channel", "layer"])
def test_weights_are_rounded_as_by_torch(bits, granularity, place):
    """Oracle: torch.fake_quantize_per_channel_affine (torch 2.14)."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 6, 3)
    layer = only_layer(WeightOnly(bits, granularity), conv, place)
    weight, largest = conv.weight.detach(), largest_code(bits)
    scale = weight.abs().amax((1, 2, 3)) / largest
    scale = scale if granularity == "channel" else scale.max().expand(6).contiguous()
    zeros = torch.zeros(6, dtype=torch.int32)
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -largest, largest)
    torch.testing.assert_close(layer.weight, expected)
    images = evaluation_images(place)
    torch.testing.assert_close(layer(images), nn.functional.conv2d(images, expected, conv.bias))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 8), st.integers(2, 40))
def test_groups_equal_a_loop_in_numpy(seed, bits, size):
    generator = torch.Generator().manual_seed(seed)
    conv = nn.Conv2d(3, 4, 3)
    conv.weight = nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator))
    layer = only_layer(WeightOnly(bits, "group", size), conv, context())
    expected = conv.weight.detach().numpy().reshape(4, 27).copy()
    for row in expected:
        for first in range(0, 27, size):
            part = row[first : first + size]
            scale = np.float32(np.abs(part).max() / np.float32(2 ** (bits - 1) - 1))
            row[first : first + size] = np.round(part / scale) * scale
    np.testing.assert_allclose(layer.weight.detach().numpy().reshape(4, 27), expected, rtol=1e-5, atol=1e-6)
    assert layer.weight_scale.shape == (4, -(-27 // size))


def test_least_squares_finds_the_best_quantizer_of_normal_numbers():
    """max1960quantizing, table II: three evenly spaced levels for a standard normal are 1.224 apart, error 0.1902."""
    weight = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0))
    scale = least_squares_scale(weight, 2)
    torch.testing.assert_close(scale, torch.full((2,), 1.224), rtol=0, atol=0.04)
    rounded = (weight / scale[:, None]).round().clamp(-1, 1) * scale[:, None]
    assert (rounded - weight).square().mean().item() == pytest.approx(0.1902, abs=0.003)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.integers(2, 8))
def test_least_squares_is_never_worse_than_rounding_to_the_largest(seed, bits):
    weight = torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))

    def error(scale: torch.Tensor) -> torch.Tensor:
        largest = largest_code(bits)
        codes = (weight / scale[:, None]).round().clamp(-largest, largest)
        return (codes * scale[:, None] - weight).square().sum(1)

    usual = weight.abs().amax(1) / largest_code(bits)
    found = least_squares_scale(weight, bits)
    assert (error(found) <= error(usual) * (1 + 1e-6)).all()
    assert (found <= usual).all()
    assert (found >= 0.199 * usual).all()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38])
def test_dead_weights_have_codes_zero_and_a_usable_scale(size, place):
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        conv.weight.fill_(size)
        conv.weight[0] = 1.0
    for scheme in SCHEMES:
        layer = only_layer(scheme, conv, place)
        assert layer.layer.weight[1:].count_nonzero() == 0
        assert layer.weight_scale.isfinite().all()
        assert (layer.weight_scale > 0).all()


@every_scheme
def test_the_declared_bits_are_reached_and_the_model_comes_back_from_its_tensors(scheme, model, place):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = weight_only(scheme, model, place)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    layers: list[Any] = quantized_layers(found)
    assert len(layers) == sum(isinstance(module, nn.Linear | nn.Conv2d) for module in model.modules())
    for layer in layers:
        assert layer.bits == scheme.bits
        assert torch.equal(layer.layer.weight, layer.layer.weight.round())
        assert layer.layer.weight.abs().max() == largest_code(scheme.bits)
        assert layer.weight.unique().numel() > 2
    again = restored(scheme, model, {name: tensor.clone() for name, tensor in found.state_dict().items()})
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(again, images), answers(found, images))


def test_more_bits_and_smaller_groups_are_nearer_to_the_float_model(model, place):
    images = evaluation_images(place)
    dense = answers(model, images)

    def nearness(**settings: Any) -> float:
        return sqnr(dense, answers(weight_only(WeightOnly(**settings), model, place), images))

    by_bits = [nearness(bits=bits) for bits in (2, 4, 6, 8)]
    assert by_bits == sorted(by_bits)
    assert by_bits[-1] > 40
    assert nearness(bits=4, granularity="group", group_size=4) > nearness(bits=4, granularity="layer")


def test_activations_stay_float(place):
    torch.manual_seed(0)
    layer = only_layer(WeightOnly(8), nn.Conv2d(3, 6, 3), place)
    tiny = 1e-6 * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    shift = layer(torch.zeros_like(tiny))
    torch.testing.assert_close(1e6 * (layer(tiny) - shift), layer(1e6 * tiny) - shift, rtol=0, atol=0.2)


def test_gradients_reach_the_inputs(place):
    layer = only_layer(WeightOnly(4), nn.Conv2d(3, 6, 3), place)
    images = torch.randn(2, *SHAPE).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(images).sum(), images)
    assert gradient.abs().sum() > 0


@every_scheme
def test_the_footprint_counts_as_that_of_the_float_model(scheme, place):
    model = built("mlp").eval()
    dense, found = measure(model, SHAPE), measure(weight_only(scheme, model, place), SHAPE)
    assert found["parameters"] == dense["parameters"]
    assert found["flops"] == dense["flops"]
    assert found["bytes"]["int8"] == dense["bytes"]["int8"]


def test_quantized_models_are_refused(model, place):
    for first in (WeightOnly(), WeightOnly(granularity="group")):
        with pytest.raises(ValueError, match="Quantize once"):
            compress(StaticInt8(), weight_only(first, model, place), place)
    with pytest.raises(ValueError, match="Quantize once"):
        weight_only(WeightOnly(), compress(StaticInt8(), model, place), place)


def test_the_default_size_of_groups_is_that_of_common_formats(place):
    layer = only_layer(WeightOnly(granularity="group"), nn.Conv2d(3, 6, 3), place)
    assert layer.group_size == GROUP_SIZE == 32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 1}, r"Expected `bits` in 2 to 8, but got 1"),
        ({"granularity": "row"}, r"granularity.*row"),
        ({"clipping": "max"}, r"clipping.*max"),
        ({"granularity": "group", "group_size": 1}, r"Expected `group_size` >= 2, but got 1"),
        ({"group_size": 16}, r"Expected `group_size` to be None unless granularity='group', but got 16"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        WeightOnly(**change)
