"""Quantization-aware training, beside torch's fake quantization and the integer layers that it ends in."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress import Context, compress
from remnant.lab.compress.grids import Grid, largest_code, quantize_weight, weight_scale
from remnant.lab.compress.qat import (
    AVERAGING,
    FakeQuantizedLayer,
    Observation,
    fake_quantize,
    fake_quantize_weight,
    quantization_aware,
    restored,
)
from remnant.lab.compress.quantized_layers import StaticLayer
from remnant.schemes import Align, OneShotPruning, StaticInt8
from remnant.schemes.quantization import QuantizationAwareTraining
from tests.lab.toys import MODELS, answers, built, context, evaluation_images, quantized_layers, trained


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, place: Context) -> nn.Module:
    return trained(request.param, place)


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


# Rounding and its gradient


def test_activations_are_rounded_as_by_torch_with_its_gradient():
    """Oracle: torch.fake_quantize_per_tensor_affine (torch 2.14)."""
    grid = Grid.over(-1.3, 2.9)
    values = (torch.randn(20, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3).requires_grad_()
    upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(1))
    ours = fake_quantize(values, grid)
    theirs = torch.fake_quantize_per_tensor_affine(values, grid.scale, -128 - grid.low, -128, 127)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(found, values, upstream)[0] for found in (ours, theirs)]
    assert torch.equal(*gradients)
    assert 0.1 < (gradients[0] == 0).float().mean() < 0.9


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_are_rounded_as_by_torch_with_its_gradient(bits):
    """Oracle: torch.fake_quantize_per_channel_affine (torch 2.14). The largest weights keep their gradient."""
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scale, largest = weight_scale(weight, bits=bits), largest_code(bits)
    ours = fake_quantize_weight(weight, scale, bits)
    zeros = torch.zeros(6, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -largest, largest)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(ours.sum(), weight)
    assert torch.equal(gradient, torch.ones_like(weight))
    codes, same = quantize_weight(weight, bits=bits)
    assert torch.equal(codes * same.view(-1, 1, 1, 1), ours)


def test_rounding_can_be_differentiated_twice():
    values = torch.linspace(-3, 3, 7).requires_grad_()
    (first,) = torch.autograd.grad(fake_quantize(values, Grid.over(-2, 2)).square().sum(), values, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), values)
    assert second.tolist() == [0, 2, 2, 2, 2, 2, 0]


# Layers


def fake(bits: int = 8, *, bounds: Any = (0.0, float("inf")), per_channel: bool = True) -> FakeQuantizedLayer:
    torch.manual_seed(0)
    scheme = QuantizationAwareTraining(bits, per_channel)
    return FakeQuantizedLayer(nn.Conv2d(3, 6, 3, stride=2, padding=1), scheme, ((-2.0, 2.5), (-0.4, 1.5)), bounds)


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("bounds", [None, (0.0, float("inf")), (float("-inf"), float("inf"))])
@pytest.mark.parametrize("per_channel", [True, False])
def test_what_is_trained_is_what_is_deployed(bits, bounds, per_channel):
    layer = fake(bits, bounds=bounds, per_channel=per_channel).eval()
    inputs = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    deployed = layer.deployed()
    assert isinstance(deployed, StaticLayer)
    with torch.no_grad():
        expected, found = layer(inputs), deployed(inputs)
    step = 1e-3 if deployed.outputs is None else deployed.outputs.scale
    difference = (found - expected).abs() / step
    assert difference.max() < 1.01  # a tie may round the other way
    assert (difference < 0.01).float().mean() > 0.999
    torch.testing.assert_close(deployed.weight, layer.weight.detach())
    assert deployed.layer.weight.abs().max() == largest_code(bits)


def test_ranges_follow_a_moving_average_while_they_are_observed():
    layer = fake().train()
    inputs = torch.full((2, 3, 9, 9), 7.0)
    layer(inputs)
    assert layer.ranges == ((-2.0, 2.5), (-0.4, 1.5))
    layer.observing = True
    layer(inputs)
    assert layer.ranges is not None
    assert layer.ranges[0] == pytest.approx((-2.0 + 9 * AVERAGING, 2.5 + 4.5 * AVERAGING))
    assert layer.ranges[1] != (-0.4, 1.5)
    seen = layer.ranges
    layer.eval()(inputs)
    layer.train()(inputs * float("nan"))
    assert layer.ranges == seen


def test_ranges_are_observed_for_a_share_of_the_steps():
    layer = fake()
    hook = Observation([layer], 0.5)
    seen = []
    for step in range(10):
        hook.before_step(step, 10)
        seen.append(layer.observing)
        assert hook.settled(step, 10) == (step >= 5)
    assert seen == [True] * 5 + [False] * 5
    hook.before_step(0, 10)
    hook.finish()
    assert not layer.observing


# Whole models


def test_without_training_it_is_static_int8_bit_for_bit(model, place):
    for per_channel in (True, False):
        trained_none = quantization_aware(QuantizationAwareTraining(8, per_channel, epochs=0), model, place)
        static = compress(StaticInt8(per_channel=per_channel), model, place)
        assert {k: v.tolist() for k, v in trained_none.state_dict().items()} == {
            k: v.tolist() for k, v in static.state_dict().items()
        }


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_the_declared_bits_are_reached_and_the_model_comes_back_from_its_tensors(bits, model, place):
    scheme = QuantizationAwareTraining(bits)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = quantization_aware(scheme, model, place)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    layers: list[Any] = quantized_layers(found)
    assert len(layers) == sum(isinstance(module, nn.Linear | nn.Conv2d) for module in model.modules())
    for layer in layers:
        assert layer.bits == bits
        assert torch.equal(layer.layer.weight, layer.layer.weight.round())
        assert layer.layer.weight.abs().max() <= largest_code(bits)
    again = restored(scheme, model, {name: tensor.clone() for name, tensor in found.state_dict().items()})
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(again, images), answers(found, images))
    np.testing.assert_array_equal(answers(quantization_aware(scheme, model, place), images), answers(found, images))


def test_training_regains_what_few_bits_lose(residual, place):
    images = evaluation_images(place)
    labels = place.dataset.test.labels.numpy()
    right = [
        (
            answers(quantization_aware(QuantizationAwareTraining(2, epochs=e), residual, place), images).argmax(1)
            == labels
        )
        for e in (0, 3)
    ]
    assert right[1].mean() > right[0].mean() + 0.1


def test_weights_that_are_pruned_stay_zero(residual, place):
    pruned = compress(OneShotPruning(0.7, epochs=0), residual, place)
    found = quantization_aware(QuantizationAwareTraining(8, learning_rate=0.05), pruned, place)
    zeros = sum(int((layer.weight == 0).sum()) for layer in quantized_layers(found))
    assert zeros >= 0.7 * sum(layer.weight.numel() for layer in quantized_layers(found)) - 4
    unpruned = quantization_aware(QuantizationAwareTraining(8, learning_rate=0.05), residual, place)
    assert sum(int((layer.weight == 0).sum()) for layer in quantized_layers(unpruned)) < zeros / 2


@pytest.mark.parametrize("terms", [("distillation",), ("cross-entropy", "attribution", "features")])
def test_alignment_losses_plug_in(terms, residual, place):
    plain = quantization_aware(QuantizationAwareTraining(4), residual, place)
    aligned = quantization_aware(QuantizationAwareTraining(4, align=Align(terms=terms)), residual, place)
    images = evaluation_images(place)
    assert np.isfinite(answers(aligned, images)).all()
    assert not np.array_equal(answers(aligned, images), answers(plain, images))


def test_training_in_bfloat16_with_held_out_examples_works(residual, place):
    recipe = replace(place.recipe, precision="bfloat16", validation=0.2, checkpoint="validation")
    found = quantization_aware(QuantizationAwareTraining(4, epochs=2), residual, replace(place, recipe=recipe))
    images = evaluation_images(place)
    assert (answers(found, images).argmax(1) == answers(residual, images).argmax(1)).mean() > 0.8


def test_a_layer_that_is_never_called_has_quantized_weights_only(place):
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(192, 8), nn.Linear(8, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(nn.functional.linear(images.flatten(1), self.inner.weight, self.inner.bias))

    torch.manual_seed(0)
    place = replace(place, skipped=[])
    found: Any = quantization_aware(QuantizationAwareTraining(4, epochs=1), Reads(), place)
    assert found.inner.inputs is None
    assert found.head.inputs is not None
    assert place.skipped == ["inner: not called on the calibration examples, so that only its weights are quantized"]


def test_a_state_of_another_model_is_refused(residual, place):
    scheme = QuantizationAwareTraining(4, epochs=0)
    state = quantization_aware(scheme, residual, place).state_dict()
    with pytest.raises(ValueError, match=r"Expected the state of a quantized Sequential, but it has other layers"):
        restored(scheme, built("mlp"), state)
    narrow = {**state, "head.layer.weight": torch.zeros(4, 9)}
    with pytest.raises(ValueError, match=r"size mismatch for head.layer.weight.*Give the model that was compressed"):
        restored(scheme, copy.deepcopy(residual), narrow)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 1}, r"Expected `bits` in 2 to 8, but got 1"),
        ({"bits": 9}, r"Expected `bits` in 2 to 8, but got 9"),
        ({"calibration": 0}, r"Expected `calibration` >= 1, but got 0"),
        ({"observed": 1.5}, r"Expected `observed` in \[0, 1\], but got 1.5"),
        ({"epochs": -1}, r"Expected `epochs` >= 0, but got -1"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        QuantizationAwareTraining(**change)
