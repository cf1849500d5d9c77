import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remnant.lab.attribution.gradients import (
    change_ratios,
    differentiable,
    gradients_hold,
    input_gradients,
    same_answers,
)
from remnant.lab.attribution.straight_through import is_quantized, twin
from remnant.lab.compress import Context, compress
from remnant.lab.compress.quantization import DynamicLayer, Grid, StaticLayer
from remnant.schemes import Compose, Float16, OneShotPruning, StaticInt8
from tests.lab.toys import INT8, context, evaluation_images, trained


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module", params=["mlp", "residual"])
def model(request: pytest.FixtureRequest, place: Context) -> nn.Module:
    return trained(request.param, place)


@pytest.mark.parametrize("scheme", INT8, ids=lambda s: s.label)
def test_twin_computes_the_same_bits(model, place, scheme):
    images = evaluation_images(place)
    quantized = compress(scheme, model, place)
    other = twin(quantized)
    with torch.no_grad():
        assert torch.equal(other(images), quantized(images))
    assert other is not quantized
    assert is_quantized(quantized)


@pytest.mark.parametrize("scheme", INT8, ids=lambda s: s.label)
def test_gradients_of_rounded_models_are_refused_and_those_of_twins_resemble_the_reference(model, place, scheme):
    images = evaluation_images(place)
    quantized = compress(scheme, model, place)
    assert not gradients_hold(quantized, images[:32])
    found = differentiable(quantized, images)
    assert found.route == "straight-through"
    assert found.model is not None
    classes = images.new_zeros(len(images)).numpy().astype(int)
    one, two = (input_gradients(m, images, classes).flatten(1) for m in (found.model, model.eval()))
    assert nn.functional.cosine_similarity(one, two).median() > 0.9


def test_chains_that_end_in_int8_have_a_twin(place):
    model = trained("mlp", place)
    chain = compress(Compose((OneShotPruning(0.5, epochs=0), StaticInt8())), model, place)
    assert differentiable(chain, evaluation_images(place)).route == "straight-through"


@pytest.mark.parametrize("scheme", [None, Float16()])
def test_gradients_of_ordinary_models_are_their_own(model, place, scheme):
    images = evaluation_images(place)
    model = model.eval() if scheme is None else compress(scheme, model, place)
    found = differentiable(model, images)
    assert found.route == "gradients"
    assert found.model is model
    assert np.median(change_ratios(model, images[:32], step=1e-3)) == pytest.approx(1, abs=0.02)


class Rounded(nn.Module):
    """Rounds its hidden values; `leak` of them pass beside the rounding."""

    def __init__(self, inner: nn.Module, leak: float = 0.0, step: float = 0.25) -> None:
        super().__init__()
        self.inner, self.leak, self.step = inner, leak, step

    def forward(self, images: Tensor) -> Tensor:
        rounded = (images / self.step).round() * self.step
        return self.inner(rounded + self.leak * (images - rounded))


@pytest.mark.parametrize("leak", [0.0, 0.05])
def test_masked_gradients_of_unknown_models_are_not_used(place, leak):
    """All gradients are 0, or only what passes beside the rounding is left of them: neither is the model's."""
    rounded = Rounded(trained("residual", place).eval(), leak)
    found = differentiable(rounded, evaluation_images(place))
    assert found.model is None
    assert found.route == "none"


def test_models_without_any_gradient_are_not_used(place):
    class Detached(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images.detach()).detach()

    detached = Detached(trained("mlp", place).eval())
    assert not gradients_hold(detached, evaluation_images(place))
    assert differentiable(detached, evaluation_images(place)).route == "none"


def test_twins_that_answer_otherwise_are_not_used(place, monkeypatch):
    quantized = compress(StaticInt8(), trained("mlp", place), place)
    images = evaluation_images(place)

    def wrong(model: nn.Module) -> nn.Module:
        return nn.Sequential(twin(model), nn.Linear(4, 4))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        monkeypatch.setattr("remnant.lab.attribution.gradients.twin", wrong)
        assert not same_answers(quantized, wrong(quantized), images)
        assert differentiable(quantized, images).route == "none"


def test_the_gradient_of_rounding_is_one_inside_the_range_and_zero_beyond():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 127 * 0.01)  # code 127, scale 0.01
    values = torch.tensor([[-3.0], [0.13], [0.9], [7.0]], requires_grad=True)
    static = twin(nn.Sequential(StaticLayer(layer, True, Grid.over(-1, 1), None)))
    (found,) = torch.autograd.grad(static(values).sum(), values)
    np.testing.assert_allclose(found[:, 0], [0, 1.27, 1.27, 0], rtol=1e-6)
    dynamic = twin(nn.Sequential(DynamicLayer(layer, True)))
    (found,) = torch.autograd.grad(dynamic(values).sum(), values)
    np.testing.assert_allclose(found[:, 0], 1.27, rtol=1e-6)


def test_change_ratios_by_hand():
    """x^2 per pixel, summed: the central difference along the gradient is exact, whatever the step."""

    class Square(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([(images**2).sum((1, 2, 3)), torch.zeros(len(images))], 1)

    images = torch.rand(5, 1, 2, 2) + 0.5
    np.testing.assert_allclose(change_ratios(Square(), images, step=0.1), 1, rtol=1e-4)
    images[2] = 0
    assert change_ratios(Square(), images, step=0.1)[2] == 0


def test_nothing_of_the_model_changes(place):
    model = trained("residual", place).eval()
    model.zero_grad(set_to_none=True)
    before = copy.deepcopy(model.state_dict())
    flags = [p.requires_grad for p in model.parameters()]
    differentiable(model, evaluation_images(place))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert flags == [p.requires_grad for p in model.parameters()]
    assert all(p.grad is None for p in model.parameters())
