"""Quantize-dequantize arithmetic, against integer arithmetic in NumPy and int8 kernels of ONNX Runtime."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress import Context, compress
from remnant.lab.compress.layers import folded, fused_activations
from remnant.lab.compress.quantization import (
    DynamicLayer,
    Grid,
    QuantizedLayer,
    StaticLayer,
    quantize_weight,
)
from remnant.trial import Compose, DynamicInt8, Float16, Scheme, StaticInt8
from tests.lab.toys import built, calibration_images, context, evaluation_images, trained

QUANTIZATIONS: list[Scheme] = [
    Float16(),
    DynamicInt8(),
    DynamicInt8(per_channel=False),
    StaticInt8(),
    StaticInt8(per_channel=False),
]
INT8 = [scheme for scheme in QUANTIZATIONS if not isinstance(scheme, Float16)]


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module", params=["mlp", "residual"])
def model(request: pytest.FixtureRequest, place: Context) -> nn.Module:
    return trained(request.param, place)


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


@torch.inference_mode()
def answers(model: nn.Module, images: Tensor) -> np.ndarray:
    return model(images).numpy()


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    """Signal to quantization noise in decibels."""
    return 10 * np.log10((signal**2).sum() / ((signal - other) ** 2).sum())


def quantized_layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, QuantizedLayer)]


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


@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_huge_weights_do_not_hurt_other_channels_unless_they_share_a_scale(scheme, place):
    model = built("mlp").eval()
    with torch.no_grad():
        model[1].weight[0, 0] = 1e6  # pyright: ignore
        model[4].weight[:, 0] = 0  # pyright: ignore
    images = evaluation_images(place)
    error = sqnr(answers(model, images), answers(compress(scheme, model, place), images))
    if isinstance(scheme, DynamicInt8) and scheme.per_channel:
        # The huge hidden unit takes the whole range of the second layer's input.
        assert error < 10
    assert np.isfinite(error)


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


# Folding of batch norms


def test_batch_norms_that_follow_a_layer_are_folded(residual, place):
    images = evaluation_images(place)
    plain = folded(residual, images[:8])
    assert isinstance(plain.norm1, nn.Identity)
    assert isinstance(plain.norm2, nn.Identity)
    assert isinstance(plain.norm3, nn.BatchNorm2d)  # follows a ReLU6
    np.testing.assert_allclose(answers(plain, images), answers(residual.eval(), images), atol=1e-4)
    layer, norm = residual.conv, residual.norm2
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()  # pyright: ignore
    torch.testing.assert_close(plain.conv.weight, layer.weight * factor.view(-1, 1, 1, 1))  # pyright: ignore
    torch.testing.assert_close(plain.conv.bias, (layer.bias - norm.running_mean) * factor + norm.bias)  # pyright: ignore


def test_linear_layers_take_their_batch_norm_in_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())
    model(torch.randn(50, 5))
    inputs = torch.randn(9, 5)
    plain = folded(model, inputs)
    assert isinstance(plain[1], nn.Identity)  # pyright: ignore
    torch.testing.assert_close(plain(inputs), model.eval()(inputs))


class Branching(nn.Module):
    """Cannot be traced: control flow depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm(self.conv(images))
        hidden = functional.relu(hidden) if hidden.sum() > 0 else hidden
        return self.head(hidden.mean((2, 3)))


class Shared(nn.Module):
    """A convolution and its norm, another with two readers, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.norm1 = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)

    def forward(self, images: Tensor) -> Tensor:
        a = self.conv(self.norm1(self.first(images)))
        b = functional.relu(self.norm(a)) + a
        c = self.norm2(self.again(functional.relu(self.again(b))))
        return self.head(c.mean((2, 3)))


class Secretive(nn.Module):
    """Tells the tracer another story than it does on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv(images)
        mean = self.norm(hidden).mean((2, 3))
        return mean + hidden.mean((2, 3)) if isinstance(images, Tensor) else mean


@pytest.mark.parametrize("build", [Branching, Shared, Secretive])
def test_batch_norms_stay_where_folding_would_be_wrong(build, place):
    torch.manual_seed(0)
    model = build()
    images = evaluation_images(place)
    model.train()(images * 2 + 1)
    plain = folded(model, images[:8])
    assert sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) >= 1
    assert isinstance(plain.norm, nn.BatchNorm2d)
    np.testing.assert_allclose(answers(plain, images), answers(model.eval(), images), atol=1e-5)
    for scheme in INT8:
        assert sqnr(answers(model, images), answers(compress(scheme, model, place), images)) > 20


def test_other_batch_norms_are_folded_beside_those_that_stay(place):
    torch.manual_seed(0)
    model = Shared()
    images = evaluation_images(place)
    model.train()(images * 2 + 1)
    kinds = [type(module) for module in folded(model, images[:8]).modules() if "Conv" not in type(module).__name__]
    assert kinds == [Shared, nn.Identity, nn.BatchNorm2d, nn.BatchNorm2d, nn.Linear]


def test_models_that_do_not_trace_quantize_inputs_alone(place):
    quantized: Any = compress(StaticInt8(), Branching(), place)
    assert quantized.conv.inputs is not None
    assert quantized.conv.outputs is None
    assert fused_activations(Branching()) == {}


def test_a_layer_that_is_called_twice_has_one_range_for_both(place):
    assert fused_activations(Shared())["again"] == (float("-inf"), float("inf"))
    torch.manual_seed(0)
    model = Shared().eval()
    quantized: Any = compress(StaticInt8(), model, place)
    low, high = [], []

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        low.append(args[0].min())
        high.append(args[0].max())

    model.again.register_forward_pre_hook(record)
    answers(model, calibration_images(place))
    expected = Grid.over(float(min(low)), float(max(high)))
    assert quantized.again.inputs.scale == pytest.approx(expected.scale, rel=1e-4)


def test_shared_modules_stay_shared(place):
    layer = nn.Linear(192, 192)
    model = nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer)
    quantized: Any = compress(DynamicInt8(), model, place)
    assert isinstance(quantized[1], DynamicLayer)
    assert quantized[1] is quantized[3]


@pytest.mark.parametrize("scheme", QUANTIZATIONS, ids=lambda scheme: scheme.label)
def test_a_model_that_is_one_layer_is_quantized(scheme, place):
    layer = nn.Conv2d(3, 4, 8)
    images = evaluation_images(place)
    assert sqnr(answers(layer, images), answers(compress(scheme, layer, place), images)) > 30


@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_layers_whose_weight_is_read_without_a_call_have_quantized_weights(scheme, place):
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(24, 2, batch_first=True)
            self.head = nn.Linear(24, 4)

        def forward(self, images: Tensor) -> Tensor:
            tokens = images.flatten(2).reshape(len(images), 8, 24)
            return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))

    torch.manual_seed(0)
    model = Attention().eval()
    images = evaluation_images(place)
    quantized: Any = compress(scheme, model, place)
    assert isinstance(quantized.attention.out_proj, QuantizedLayer)
    assert sqnr(answers(model, images), answers(quantized, images)) > 20


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("scheme", INT8, ids=lambda scheme: scheme.label)
def test_convolutions_of_other_dimensions_are_quantized(scheme, dimensions, place):
    kind, shape = {1: (nn.Conv1d, (3, 64)), 3: (nn.Conv3d, (3, 4, 4, 4))}[dimensions]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Unflatten(1, (3, 1)), nn.Flatten(1), nn.Unflatten(1, shape), kind(3, 4, 3), nn.Flatten())
    images = evaluation_images(place)
    assert sqnr(answers(model, images), answers(compress(scheme, model, place), images)) > 30


# ONNX Runtime


@pytest.fixture(scope="module")
def exported(
    residual: nn.Module, place: Context, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """Networks as ONNX files: the trained one and two of a single layer."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    torch.manual_seed(0)
    models = {"residual": residual.eval(), **SINGLE}
    logging.disable(logging.WARNING)  # the exporter tells of optional packages
    found = {}
    for name, model in models.items():
        path = folder / f"{name}.onnx"
        example = evaluation_images(place)[:2].contiguous()
        batch = torch.export.Dim("batch")
        torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
        graph = onnx.load(path)
        del graph.graph.value_info[:]  # stale shapes that ONNX Runtime's quantizer stumbles over
        onnx.save(graph, path)
        found[name] = path
    yield found
    logging.disable(logging.NOTSET)


SINGLE = {
    "conv": nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()).eval(),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval(),
}


def onnx_answers(path: Path, batches: list[Tensor]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([np.asarray(session.run(None, {name: b.contiguous().numpy()})[0]) for b in batches])


def onnx_static(path: Path, place: Context) -> Path:
    """Static int8 by ONNX Runtime with our rules and our calibration images."""
    import onnx
    from onnxruntime import quantization

    images = calibration_images(place)
    name = onnx.load(path).graph.input[0].name

    class Reader(quantization.CalibrationDataReader):
        batches = iter([{name: images.contiguous().numpy()}])

        def get_next(self) -> Any:
            return next(self.batches, None)

    target = path.with_suffix(".static.onnx")
    int8 = quantization.QuantType.QInt8
    quantization.quantize_static(
        path,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=int8,
        weight_type=int8,
    )
    return target


def onnx_dynamic(path: Path, kind: str = "QUInt8") -> Path:
    from onnxruntime import quantization

    target = path.with_suffix(".dynamic.onnx")
    options = {"per_channel": kind == "QInt8", "weight_type": quantization.QuantType[kind]}
    quantization.quantize_dynamic(path, target, **options)
    return target


def test_static_layers_equal_onnx_runtime_within_one_step(exported, place):
    """Oracle: ONNX Runtime 1.31 QLinearConv / QGemm kernels, quantize_static QDQ per channel."""
    images = evaluation_images(place)
    for name, model in SINGLE.items():
        ours: Any = compress(StaticInt8(), model, place)
        layer = quantized_layers(ours)[0]
        difference = (
            answers(ours, images) - onnx_answers(onnx_static(exported[name], place), [images])
        ) / layer.outputs.scale
        assert abs(difference).max() < 1.01, name
        assert (abs(difference) < 0.01).mean() > 0.99, name


def test_dynamic_linear_layer_equals_onnx_runtime(exported, place):
    """Oracle: ONNX Runtime 1.31 DynamicQuantizeLinear and MatMulInteger, one example at a time."""
    inputs = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = onnx_answers(onnx_dynamic(exported["linear"], "QInt8"), list(inputs.split(1)))
    ours = answers(compress(DynamicInt8(), SINGLE["linear"], place), inputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [DynamicInt8(), StaticInt8()], ids=lambda scheme: scheme.label)
def test_networks_are_as_near_to_onnx_runtime_as_quantization_noise(scheme, exported, residual, place):
    images = evaluation_images(place)
    dense = answers(residual.eval(), images)
    ours = answers(compress(scheme, residual, place), images)
    if isinstance(scheme, StaticInt8):
        theirs = onnx_answers(onnx_static(exported["residual"], place), [images])
    else:
        theirs = onnx_answers(onnx_dynamic(exported["residual"]), list(images.split(1)))
    np.testing.assert_allclose(onnx_answers(exported["residual"], [images]), dense, atol=1e-4)
    noise = ((ours - dense) ** 2).sum() + ((theirs - dense) ** 2).sum()
    assert ((ours - theirs) ** 2).sum() <= 1.2 * noise
    assert sqnr(dense, ours) > sqnr(dense, theirs) - 1  # and no worse than theirs
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.95
