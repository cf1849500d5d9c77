"""Features and attribution maps taken while a model answers."""

import copy

import pytest
import torch
from torch import nn

from remnant.lab.alignment.answers import answers
from remnant.lab.alignment.terms import unit_maps


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    ).eval()


INPUTS = torch.randn(6, 1, 9, 9, generator=torch.Generator().manual_seed(1))


def test_sensitivity_maps_are_gradients_times_activations_by_hand():
    """The logit is linear in relu(F) / 25 here: its gradient at F is the weight of the channel where F > 0."""
    model = network()
    outputs = model[:3](INPUTS)
    classes = model(INPUTS).argmax(1)
    rows = model[6].weight[classes]  # pyright: ignore
    gradient = rows[:, :, None, None] * (outputs > 0) / 25
    expected = unit_maps((gradient.sum((2, 3), keepdim=True) * outputs).sum(1).relu())
    found = answers(model, INPUTS, maps="sensitivity").maps
    assert found is not None
    assert torch.allclose(found, expected, atol=1e-5)


def test_energy_maps_are_the_mean_squares_of_channels():
    model = network()
    found = answers(model, INPUTS, maps="energy").maps
    assert found is not None
    assert torch.allclose(found, unit_maps(model[:3](INPUTS).square().mean(1)), atol=1e-6)


def test_features_are_the_inputs_of_the_last_linear_layer():
    model = network()
    found = answers(model, INPUTS, features=True)
    assert torch.equal(found.features, model[:6](INPUTS))  # pyright: ignore
    assert torch.equal(found.logits, model(INPUTS))


def test_a_loss_of_sensitivity_maps_has_the_gradient_of_finite_differences():
    model = network().double()
    inputs, classes = INPUTS.double(), torch.zeros(6, dtype=torch.int64)

    def loss() -> torch.Tensor:
        found = answers(model, inputs, maps="sensitivity", classes=classes, differentiable=True).maps
        assert found is not None
        return found.square().sum(0).flatten()[::3].sum()

    weight: torch.Tensor = model[2].weight  # pyright: ignore
    (gradient,) = torch.autograd.grad(loss(), weight)
    step = 1e-4
    for index in ((0, 0, 1, 1), (2, 1, 0, 2)):
        weight.data[index] += step
        above = loss()
        weight.data[index] -= 2 * step
        below = loss()
        weight.data[index] += step
        assert gradient[index].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-2, abs=1e-4)


def test_a_frozen_reference_keeps_its_weights_modes_and_hooks():
    model = network().requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    found = answers(model, INPUTS, features=True, maps="sensitivity")
    assert found.maps is not None
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_models_without_what_a_term_needs_are_refused():
    with pytest.raises(ValueError, match="a convolution for 'attribution', but Sequential has none"):
        answers(nn.Sequential(nn.Flatten(), nn.Linear(81, 2)), INPUTS, maps="energy")
    with pytest.raises(ValueError, match="a linear layer for 'features'"):
        answers(nn.Sequential(nn.Conv2d(1, 2, 9), nn.Flatten()), INPUTS, features=True)
