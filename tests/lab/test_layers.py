"""Which layers are compressed, and batch norms folded into them."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from remnant.lab.compress import Context, compress
from remnant.lab.compress.layers import folded, fused_activations
from remnant.lab.compress.quantization import DynamicLayer, Grid, QuantizedLayer
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab.toys import INT8, QUANTIZATIONS, answers, calibration_images, context, evaluation_images, sqnr, trained


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


@pytest.fixture(scope="module")
def residual(place: Context) -> nn.Module:
    return trained("residual", place)


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
