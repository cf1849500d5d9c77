import numpy as np
import pytest
import torch
from torch import Tensor, nn

from remnant.lab.attribution import methods
from remnant.lab.compress import compress
from remnant.schemes import StaticInt8
from tests.lab.toys import ResidualNet, context, evaluation_images, trained

PLACE = context()
CLASSES = np.arange(64) % 4


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained("residual", PLACE).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return evaluation_images(PLACE)


class Linear(nn.Module):
    """Logits are sums of weights times pixels: every attribution is known."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.flatten(1).T


@pytest.fixture(scope="module")
def linear() -> Linear:
    return Linear(torch.from_numpy(np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32)))


def test_linear_models_have_the_maps_worked_by_hand(linear, images):
    weight = linear.weight.detach()[torch.from_numpy(CLASSES)]
    torch.testing.assert_close(methods.saliency(linear, images, CLASSES), weight.abs().sum(1))
    product = (weight * images).sum(1)
    found = methods.integrated_gradients(linear, images, CLASSES, steps=3)
    torch.testing.assert_close(found, product, rtol=1e-4, atol=1e-4)
    # A square of one pixel: the logit falls by the pixel's own part of it.
    found = methods.occlusion(linear, images, CLASSES, square=0.125)
    torch.testing.assert_close(found, product, rtol=1e-3, atol=1e-3)
    noisy = methods.smoothgrad(
        linear, images, CLASSES, samples=2, noise=0.1, draw=lambda place: torch.full((2, 3, 8, 8), float(place))
    )
    torch.testing.assert_close(noisy, weight.abs().sum(1))


def test_occlusion_is_a_loop_over_squares(model, images):
    def logit(shown: Tensor) -> Tensor:
        with torch.no_grad():
            return model(shown)[torch.arange(64), torch.from_numpy(CLASSES)]

    falls, covered = torch.zeros(64, 8, 8), torch.zeros(8, 8)
    before = logit(images)
    for top in range(0, 5, 2):
        for left in range(0, 5, 2):
            hidden = images.clone()
            hidden[:, :, top : top + 4, left : left + 4] = 0
            falls[:, top : top + 4, left : left + 4] += (before - logit(hidden))[:, None, None]
            covered[top : top + 4, left : left + 4] += 1
    found = methods.occlusion(model, images, CLASSES, square=0.5)
    torch.testing.assert_close(found, falls / covered, rtol=1e-3, atol=1e-4)


def test_integrated_gradients_add_up_to_the_change_of_the_logit(model, images):
    with torch.no_grad():
        rows = torch.arange(64), torch.from_numpy(CLASSES)
        change = model(images)[rows] - model(torch.zeros_like(images))[rows]
    found = methods.integrated_gradients(model, images, CLASSES, steps=64).sum((1, 2))
    assert float((found - change).abs().median()) < 0.03 * float(change.abs().median())


def test_smoothgrad_without_noise_is_saliency_up_to_channels(model, images):
    found = methods.smoothgrad(
        model, images[:5], CLASSES[:5], samples=3, noise=1e-7, draw=lambda place: torch.zeros(3, 3, 8, 8)
    )
    torch.testing.assert_close(found, methods.saliency(model, images[:5], CLASSES[:5]), rtol=1e-4, atol=1e-5)


def test_grad_cam_by_its_equations(images):
    """Selvaraju et al. (2017), equations 1 and 2, on the activations before the mean over pixels."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
    head = nn.Linear(6, 4)
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    assert methods.last_pixels(model, images[:1]) is body
    found = methods.grad_cam(model, images, CLASSES)
    with torch.no_grad():
        activations = body(images)
        weights = head.weight[torch.from_numpy(CLASSES)] / 16  # d logit / d activation
        small = torch.relu((weights[:, :, None, None] * activations).sum(1))
        expected = nn.functional.interpolate(small[:, None], (8, 8), mode="bilinear")[:, 0]
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_layer_of_grad_cam_is_at_the_same_place_in_int8():
    images = evaluation_images(PLACE)
    model = trained("residual", PLACE).eval()
    assert methods.last_pixels(model, images[:1]) is model.get_submodule("norm3")
    quantized = compress(StaticInt8(), model, PLACE)
    assert methods.last_pixels(quantized, images[:1]) is quantized.get_submodule("norm3")


def test_models_without_pictures_inside_have_no_grad_cam():
    images = evaluation_images(PLACE)
    assert methods.grad_cam(trained("mlp", PLACE).eval(), images, CLASSES) is None


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "grad_cam", "occlusion"])
def test_maps_do_not_depend_on_the_other_examples(method, model, images):
    options = {"integrated_gradients": {"steps": 8}, "occlusion": {"square": 0.5}}.get(method, {})
    function = getattr(methods, method)
    whole, part = function(model, images, CLASSES, **options), function(model, images[7:12], CLASSES[7:12], **options)
    torch.testing.assert_close(whole[7:12], part, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "grad_cam", "occlusion"])
def test_no_hook_and_no_gradient_is_left_behind(method, images):
    model = ResidualNet().eval()
    options = {"integrated_gradients": {"steps": 2}, "occlusion": {"square": 0.5}}.get(method, {})
    getattr(methods, method)(model, images[:4], CLASSES[:4], **options)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert not images.requires_grad


def test_large_maps_are_averaged_over_blocks():
    maps = torch.arange(64.0).view(1, 8, 8)
    torch.testing.assert_close(methods.reduced(maps, 4)[0, 0, 0], torch.tensor((0 + 1 + 8 + 9) / 4))
    assert methods.reduced(maps, 8) is maps
