"""Quantize-dequantize arithmetic, against integer arithmetic in NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from remnant.lab.compress import Context, compress
from remnant.lab.compress.grids import Grid, quantize_weight
from remnant.lab.compress.quantized_layers import DynamicLayer, StaticLayer
from remnant.schemes import Compose, Float16, StaticInt8
from tests.lab.toys import (
    INT8,
    QUANTIZATIONS,
    answers,
    built,
    calibration_images,
    context,
    evaluation_images,
    quantized_layers,
    sqnr,
    trained,
)


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module", params=["mlp", "residual"])
def model(request: pytest.FixtureRequest, place: Context) -> nn.Module:
    return trained(request.param, place)


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


# Grids and weights


def test_grid_has_the_values_worked_by_hand():
    # [-1, 3]: scale 4/255, zero point -128 + 63.75 -> -64
    assert Grid.over(-1.0, 3.0) == Grid(float(np.float32(4 / 255)), -64, 191)
    assert Grid.over(0.0, 2.55) == Grid(float(np.float32(0.01)), 0, 255)
    assert Grid.over(0.5, 2.55) == Grid.over(0.0, 2.55)  # widened to hold 0
    assert Grid.over(-2.55, -1.0) == Grid(float(np.float32(0.01)), -255, 0)
    assert Grid.over(0.0, 0.0) == Grid(1.0, 0, 0)


@settings(deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_grid_holds_zero_and_256_numbers_that_cover_the_range(a, b):
    low, high = min(a, b), max(a, b)
    grid = Grid.over(low, high)
    assert grid.low <= 0 <= grid.high
    if grid == Grid(1.0, 0, 0):
        assert high - low < 1e-30 or (low == high == 0)
        return
    assert grid.high - grid.low == 255
    assert -128 <= -128 - grid.low <= 127  # the zero point is an int8
    assert grid.low * grid.scale == pytest.approx(min(low, 0), abs=0.501 * grid.scale)
    assert grid.high * grid.scale == pytest.approx(max(high, 0), abs=0.501 * grid.scale)
    inside = torch.linspace(grid.low * grid.scale, grid.high * grid.scale, 99)
    assert (grid.codes(inside) * grid.scale - inside).abs().max() <= 0.501 * grid.scale


def test_grid_agrees_with_torch_fake_quantize():
    """Oracle: torch.fake_quantize_per_tensor_affine (torch 2.14)."""
    grid = Grid.over(-1.3, 2.9)
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    expected = torch.fake_quantize_per_tensor_affine(values, grid.scale, -128 - grid.low, -128, 127)
    torch.testing.assert_close(grid.codes(values) * grid.scale, expected, rtol=1e-6, atol=0)


def test_a_constant_activation_is_exact_and_zero_stays_zero():
    for constant in (3.7, -0.2):
        grid = Grid.over(constant, constant)
        assert grid.codes(torch.tensor([constant])).item() * grid.scale == pytest.approx(constant, rel=1e-6)
    assert Grid.over(0, 0).codes(torch.tensor([5.0, -5.0, 0.0])).tolist() == [0, 0, 0]
    assert Grid.over(0, 1).codes(torch.tensor([float("nan")])).isnan().all()


def test_weight_codes_have_the_values_worked_by_hand():
    weight = torch.tensor([[12.7, -6.35, 0.04], [0.0, 0.0, 0.0], [0.0, -1.27, 0.31]])
    codes, scale = quantize_weight(weight)
    assert codes.tolist() == [[127, -64, 0], [0, 0, 0], [0, -127, 31]]  # -63.5 to even
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.1, 0.01]))  # the dead channel takes the largest
    codes, scale = quantize_weight(weight, per_channel=False)
    assert codes.tolist() == [[127, -64, 0], [0, 0, 0], [0, -13, 3]]
    torch.testing.assert_close(scale, torch.tensor([0.1, 0.1, 0.1]))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(-30, 30), st.booleans())
def test_weights_are_within_half_a_step_of_their_codes(seed, exponent, per_channel):
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    codes, scale = quantize_weight(weight, per_channel)
    assert torch.equal(codes, codes.round())
    assert codes.abs().max() == 127
    assert ((codes * scale.view(-1, 1, 1, 1) - weight).abs() <= 0.501 * scale.view(-1, 1, 1, 1)).all()


@pytest.mark.parametrize("size", [0.0, 1e-45, 1e-38])
def test_dead_layers_have_codes_zero_and_a_usable_scale(size):
    codes, scale = quantize_weight(torch.full((2, 3), size))
    assert codes.count_nonzero() == 0
    assert scale.tolist() == [1.0, 1.0]


# Integer arithmetic


def integer_output(layer: Any, inputs: np.ndarray, input_scale: np.ndarray) -> np.ndarray:
    """Float output of a quantized layer by sums of int8 x int8 products in int32."""
    codes = layer.layer.weight.numpy().astype(np.int8).astype(np.int32)
    assert (codes == layer.layer.weight.numpy()).all()
    if inputs.ndim == 2:
        sums = inputs @ codes.T
        scale = input_scale * layer.weight_scale.numpy()
    else:
        groups, padding = layer.layer.groups, 1
        padded = np.pad(inputs, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
        n, c, h, w = windows.shape[:4]
        windows = windows.reshape(n, groups, c // groups, h, w, 3, 3)
        kernel = codes.reshape(groups, -1, *codes.shape[1:])
        sums = np.einsum("ngchwij,gocij->ngohw", windows, kernel, dtype=np.int32).reshape(n, -1, h, w)
        scale = input_scale * layer.weight_scale.numpy()[:, None, None]
    assert sums.dtype == np.int32
    if isinstance(layer, StaticLayer) and layer.layer.bias is not None:
        bias = layer.layer.get_parameter("bias").numpy().astype(np.int32)
        assert (bias == layer.layer.get_parameter("bias").numpy()).all()
        sums = sums + bias.reshape(-1, *[1] * (inputs.ndim - 2))
    return sums * scale.astype(np.float64)


LAYERS = {
    "linear": (lambda: nn.Linear(300, 7), (300,)),
    "linear without bias": (lambda: nn.Linear(300, 7, bias=False), (300,)),
    "conv": (lambda: nn.Conv2d(8, 6, 3, stride=2, padding=1), (8, 9, 9)),
    "grouped conv": (lambda: nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=4), (8, 9, 9)),
    "depthwise conv": (lambda: nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8, bias=False), (8, 9, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_layer_equals_integer_arithmetic(name, per_channel):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer, inputs = build().requires_grad_(False), torch.randn(5, *shape) * torch.rand(5, *[1] * len(shape))
    quantized = DynamicLayer(layer, per_channel)
    rows = inputs.flatten(1).numpy().astype(np.float64)
    low, high = np.minimum(rows.min(1), 0), np.maximum(rows.max(1), 0)
    scale = (high - low) / 255
    zero = np.round(-128 - low / scale)
    scale, zero = (a.reshape(-1, *[1] * len(shape)) for a in (scale, zero))
    codes = np.clip(np.round(inputs.numpy() / scale) + zero, -128, 127)
    expected = integer_output(quantized, (codes - zero).astype(np.int32), scale)
    if layer.bias is not None:
        expected = expected + layer.bias.numpy().reshape(-1, *[1] * (len(shape) - 1))
    np.testing.assert_allclose(quantized(inputs).numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("requantize", [True, False])
def test_static_layer_equals_integer_arithmetic(name, per_channel, requantize, place):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer, inputs = build().requires_grad_(False), torch.randn(5, *shape)
    given, made = Grid.over(-2.0, 2.5), Grid.over(-0.4, 0.5) if requantize else None
    quantized = StaticLayer(layer, per_channel, given, made)
    codes = np.clip(np.round(inputs.numpy() / np.float64(given.scale)), given.low, given.high)
    expected = integer_output(quantized, codes.astype(np.int32), np.array(given.scale))
    if made is not None:
        expected = np.round(expected / made.scale)
        assert (expected < made.low).any()
        assert (expected > made.high).any()
        expected = np.clip(expected, made.low, made.high) * made.scale
    np.testing.assert_allclose(quantized(inputs).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_bias_is_rounded_to_the_product_of_the_scales_in_static_int8():
    layer = nn.Linear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.27)
        layer.bias.fill_(0.0174)
    quantized = StaticLayer(layer, True, Grid(0.5, -128, 127), None)
    assert quantized.bias is not None
    assert quantized.bias.item() == pytest.approx(0.015)  # scales 0.5 and 0.01: step 0.005, code 3


@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 1e-8])
def test_bias_of_a_tiny_channel_survives(size):
    """Trap: bias / (input scale * weight scale) does not fit into int32 when norms fade a channel out."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0], [size, size]]))
        layer.bias.copy_(torch.tensor([0.3, 0.7]))
    quantized = StaticLayer(layer, True, Grid.over(-1, 1), None)
    torch.testing.assert_close(quantized(torch.zeros(1, 2)), layer(torch.zeros(1, 2)), rtol=0, atol=1e-4)
    assert quantized.bias is not None
    assert quantized.layer.get_parameter("bias").abs().max() <= 1.001 * 2**30


# Whole models


@pytest.mark.parametrize("scheme", QUANTIZATIONS, ids=lambda scheme: scheme.label)
def test_quantized_models_answer_nearly_as_the_float_model(scheme, model, place):
    images = evaluation_images(place)
    dense, quantized = answers(model.eval(), images), answers(compress(scheme, model, place), images)
    assert sqnr(dense, quantized) > (60 if isinstance(scheme, Float16) else 25)
    assert (dense.argmax(1) == quantized.argmax(1)).mean() > 0.95
    assert not np.array_equal(dense, quantized)


@pytest.mark.parametrize("scheme", QUANTIZATIONS, ids=lambda scheme: scheme.label)
def test_an_answer_does_not_depend_on_the_other_examples_of_the_batch(scheme, model, place):
    images = evaluation_images(place)
    quantized = compress(scheme, model, place)
    together = answers(quantized, images)
    loud = images.clone()
    loud[1:] *= 50
    np.testing.assert_array_equal(answers(quantized, loud)[0], together[0])
    np.testing.assert_array_equal(answers(quantized, images.flip(0)), together[::-1])
    if not isinstance(scheme, Float16):  # integer sums are exact, float sums differ with the batch size
        alone = np.concatenate([answers(quantized, image) for image in images.split(1)])
        np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_all_linear_and_convolution_layers_have_int8_weights(scheme, model, place):
    quantized = compress(scheme, model, place)
    layers = quantized_layers(quantized)
    assert len(layers) == sum(isinstance(module, nn.Linear | nn.Conv2d) for module in model.modules())
    for layer in layers:
        codes = layer.weight / layer.weight_scale.view(-1, *[1] * (layer.weight.dim() - 1))
        assert (codes - codes.round()).abs().max() < 1e-4
        assert codes.abs().max().round() == 127
        assert (len(layer.weight_scale.unique()) > 1) == scheme.per_channel


def test_float16_weights_are_halves_and_float32_tensors(residual, place):
    half = compress(Float16(), residual, place)
    assert all(torch.equal(p, p.half().float()) for p in half.parameters())
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    head = half.get_parameter("head.weight")
    np.testing.assert_array_equal(head.detach().numpy(), residual.head.weight.detach().numpy().astype(np.float16))  # pyright: ignore


def test_float16_saturates_huge_weights(place):
    model = built("mlp")
    with torch.no_grad():
        model[4].weight[0, 0] = 1e9  # pyright: ignore
    assert compress(Float16(), model, place)[4].weight[0, 0] == 65504  # pyright: ignore


@pytest.mark.parametrize("scheme", QUANTIZATIONS, ids=lambda scheme: scheme.label)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(scheme, bad, place):
    model = built("residual")
    with torch.no_grad():
        model.conv.bias[2] = bad  # pyright: ignore
    with pytest.raises(ValueError, match=r"Expected finite weights, but `conv.bias` holds NaN or infinity"):
        compress(scheme, model, place)


def test_a_huge_weight_costs_the_channels_that_share_its_scale():
    torch.manual_seed(0)
    layer = nn.Linear(4, 3).requires_grad_(False)
    layer.weight[0, 0] = 1e30
    inputs = torch.randn(5, 4)
    alone, shared = (DynamicLayer(layer, per_channel)(inputs) for per_channel in (True, False))
    torch.testing.assert_close(alone[:, 1:], layer(inputs)[:, 1:], rtol=0, atol=0.03)
    torch.testing.assert_close(shared[:, 1:], layer.bias[1:].expand(5, 2))
    assert alone.isfinite().all()


@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_quantized_models_are_refused(scheme, model, place):
    with pytest.raises(ValueError, match="Quantize once"):
        compress(Compose((scheme, StaticInt8())), model, place)


@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_constant_and_empty_inputs_give_the_bias(scheme, place):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Linear(6, 4))
    with torch.no_grad():
        model[1].weight.zero_()  # pyright: ignore
        model[1].bias.zero_()  # pyright: ignore
    quantized = compress(scheme, model, place)
    expected = model[2].bias.detach().expand(3, 4)  # pyright: ignore
    torch.testing.assert_close(quantized(torch.zeros(3, 3, 8, 8)), expected, rtol=0, atol=0.005)
    torch.testing.assert_close(quantized(torch.randn(3, 3, 8, 8)), expected, rtol=0, atol=0.005)


@pytest.mark.parametrize("low", [0.0, 1e-45, 1e-30])
def test_dynamic_rows_of_any_size_are_finite(low):
    layer = nn.Linear(4, 2).requires_grad_(False)
    quantized = DynamicLayer(layer, per_channel=True)
    inputs = torch.tensor([[low, 0, 0, low], [3e38, -3e38, 0, 1], [-1.0, -2.0, -3.0, -4.0]])
    outputs = quantized(inputs)
    assert outputs.isfinite().all()
    torch.testing.assert_close(outputs[0], layer.bias)
    torch.testing.assert_close(outputs[2], layer(inputs[2]), rtol=0.02, atol=0.02)
    assert quantized(torch.full((1, 4), float("nan"))).isnan().all()


def test_dynamic_codes_span_256_integers_also_when_both_ends_are_ties():
    """At a scale of 1, -1.5 and 253.5 would round to -2 and 254."""
    quantized = DynamicLayer(nn.Linear(2, 1).requires_grad_(False), per_channel=True)
    seen: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])

    quantized.layer.register_forward_pre_hook(record)
    low = -torch.arange(0, 255) - 0.5
    quantized(torch.stack([low, low + 255], 1))
    spans = seen[0][:, 1] - seen[0][:, 0]
    assert spans.max() == 255
    assert (spans >= 254).all()


def test_linear_layers_quantize_each_vector_of_a_sequence():
    torch.manual_seed(0)
    layer = nn.Linear(4, 2).requires_grad_(False)
    quantized = DynamicLayer(layer, per_channel=True)
    sequence = torch.randn(2, 5, 4) * torch.tensor([1.0, 1e3, 1, 1, 1])[:, None]
    torch.testing.assert_close(quantized(sequence).view(10, 2), quantized(sequence.view(10, 4)))


# Calibration


def test_ranges_come_from_the_first_examples_of_the_subset(residual, place):
    quantized = compress(StaticInt8(calibration=7), residual, place)
    first = calibration_images(place, 7)
    assert quantized.stem.inputs == Grid.over(float(first.min()), float(first.max()))  # pyright: ignore
    assert quantized.head.inputs != compress(StaticInt8(), residual, place).head.inputs  # pyright: ignore


def test_more_calibration_examples_than_there_are_means_all(residual, place):
    few = replace(place, indices=place.indices[:120])
    same = [compress(StaticInt8(calibration=number), residual, few) for number in (120, 5000)]
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(same[0], images), answers(same[1], images))


def test_outputs_are_quantized_after_the_activation_that_reads_them(residual, place):
    quantized: Any = compress(StaticInt8(), residual, place)
    assert quantized.stem.outputs.low == 0  # ReLU
    assert quantized.depthwise.outputs.low == 0  # ReLU6
    assert quantized.depthwise.outputs.high * quantized.depthwise.outputs.scale <= 6.0001
    assert quantized.conv.outputs.low < 0 < quantized.conv.outputs.high  # read by the sum
    assert quantized.head.outputs.low < 0
    logits = answers(quantized, evaluation_images(place)) / quantized.head.outputs.scale
    np.testing.assert_allclose(logits, np.round(logits), atol=1e-3)


def test_activations_that_are_not_finite_are_refused(place):
    model = built("mlp")
    with torch.no_grad():
        model[1].weight.fill_(3e38)  # pyright: ignore
    with pytest.raises(ValueError, match=r"Expected finite activations on the calibration examples.*layer '1'"):
        compress(StaticInt8(), model, place)
