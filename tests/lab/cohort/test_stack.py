import pytest
import torch
from torch import nn

from remnant.lab.cohort.stack import layers_of, stacked
from remnant.lab.models import mlp


def models(count: int, widths=(7, 5)) -> list[nn.Module]:
    torch.manual_seed(0)
    return [mlp((11,), 3, widths=widths) for _ in range(count)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [1, 3])
def test_gradients_are_those_of_autograd(count, smoothing):
    networks = models(count)
    labels = torch.randint(0, 3, (count, 20))
    inputs = torch.randn(count, 20, 11)
    expected, losses = [], []
    for network, batch, true in zip(networks, inputs, labels, strict=True):
        loss = nn.functional.cross_entropy(network(batch), true, label_smoothing=smoothing)
        expected += torch.autograd.grad(loss, list(network.parameters()))
        losses.append(loss.item())
    with torch.no_grad():
        stack = stacked(networks, 20)
        stack.inputs.copy_(inputs)
        stack.forward()
        stack.backward(labels, smoothing)
    parameters = [parameter for network in networks for parameter in network.parameters()]
    for parameter, other in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, other)
    assert stack.losses(labels, smoothing) == pytest.approx(losses, rel=1e-6)


def test_the_models_live_in_the_stack():
    networks = models(2)
    before = networks[1](torch.ones(1, 11))
    stack = stacked(networks, 4)
    assert torch.equal(networks[1](torch.ones(1, 11)), before)
    stack.biases[-1][1] += 1
    assert torch.allclose(networks[1](torch.ones(1, 11)), before + 1)
    assert [layer.out_features for layer in layers_of(networks[0])] == [7, 5, 3]
