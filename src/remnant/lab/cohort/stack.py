"""Fully connected networks of one shape side by side: each operation of a training step is made for all at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_log_softmax = torch.ops.aten._log_softmax.out
_log_softmax_backward = torch.ops.aten._log_softmax_backward_data.out
_TINY = 400
"""Multiplications below which torch's batched product is not the one that it makes of two matrices."""

_relu_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True)
class Stack:
    """Weights and gradients of many models, layer by layer, and room for a batch of each.

    A training step allocates nothing. The numbers of a model do not depend on the others, nor on how many there are:
    products are made model by model within one call, and all else is element by element or row by row.
    """

    weights: list[Tensor]
    """(model, output, input) for each layer."""
    biases: list[Tensor]
    """(model, output)."""
    weight_gradients: list[Tensor]
    bias_gradients: list[Tensor]
    values: list[Tensor]
    """Inputs, then what each layer gives, after its ReLU but for the last, (model, example, feature)."""
    gradients: list[Tensor]
    """Beside `values`; of the inputs none is computed."""
    log_probabilities: Tensor
    target_gradients: Tensor
    """Of the loss to the log probabilities, (model, example, class)."""

    @property
    def inputs(self) -> Tensor:
        """Where the next batch goes, (model, example, feature)."""
        return self.values[0]

    def forward(self) -> None:
        """From the inputs to log probabilities."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            found = self.values[layer + 1]
            _linear(self.values[layer], weight, bias, found)
            if layer < last:
                found.relu_()
        _log_softmax(self.values[-1], 2, False, out=self.log_probabilities)

    def backward(self, labels: Tensor, smoothing: float) -> None:
        """Gradients of each model's mean cross-entropy, after `forward`; `labels` are (model, example)."""
        num_examples, num_classes = self.log_probabilities.shape[1:]
        # As autograd rounds them: the bits are those of a model that is trained alone by `lab.train`.
        true = _single(-_single(1 - smoothing) / num_examples)
        if smoothing:
            other = _single(-_single(smoothing / num_classes) / num_examples)
            self.target_gradients.fill_(other)
            change = torch.full((1, 1, 1), true).expand(*labels.shape, 1)
            self.target_gradients.scatter_add_(2, labels.unsqueeze(2), change)
        else:
            self.target_gradients.zero_().scatter_(2, labels.unsqueeze(2), true)
        _log_softmax_backward(self.target_gradients, self.log_probabilities, 2, torch.float32, out=self.gradients[-1])
        for layer in reversed(range(len(self.weights))):
            above, below = self.gradients[layer + 1], self.values[layer]
            _product(above.transpose(1, 2), below, self.weight_gradients[layer])
            torch.sum(above, 1, out=self.bias_gradients[layer])
            if layer > 0:
                _product(above, self.weights[layer], self.gradients[layer])
                _relu_backward(self.gradients[layer], below, 0, grad_input=self.gradients[layer])

    def losses(self, labels: Tensor, smoothing: float) -> list[float]:
        """Mean cross-entropy of the batch of each model, after `forward`."""
        chosen = self.log_probabilities.gather(2, labels.unsqueeze(2)).mean((1, 2))
        spread = self.log_probabilities.mean((1, 2))
        return (-(1 - smoothing) * chosen - smoothing * spread).tolist()


def layers_of(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of a built-in fully connected network, from the input on."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def stacked(models: Sequence[nn.Module], batch_size: int) -> Stack:
    """The stack of models of one shape. From now on their parameters, and gradients, are parts of it.

    Parameters
    ----------
    batch_size
        Examples in the batch of each model.
    """
    columns = list(zip(*map(layers_of, models), strict=True))
    weights = [torch.stack([layer.weight.detach() for layer in column]) for column in columns]
    biases = [torch.stack([layer.bias.detach() for layer in column]) for column in columns]
    weight_gradients = [torch.empty_like(weight) for weight in weights]
    bias_gradients = [torch.empty_like(bias) for bias in biases]
    for layer, column in enumerate(columns):
        for number, module in enumerate(column):
            module.weight = _part(weights[layer], weight_gradients[layer], number)
            module.bias = _part(biases[layer], bias_gradients[layer], number)
    features = [weights[0].shape[2], *(weight.shape[1] for weight in weights)]
    values, gradients = ([torch.empty(len(models), batch_size, f) for f in features] for _ in range(2))
    return Stack(
        weights,
        biases,
        weight_gradients,
        bias_gradients,
        values,
        gradients,
        log_probabilities=torch.empty_like(values[-1]),
        target_gradients=torch.empty_like(values[-1]),
    )


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """inputs weight^T + bias of each model."""
    if inputs.shape[1] * weight[0].numel() >= _TINY:
        torch.baddbmm(bias.unsqueeze(1), inputs, weight.transpose(1, 2), out=out)
        return
    for one in range(len(inputs)):
        torch.addmm(bias[one], inputs[one], weight[one].t(), out=out[one])


def _product(left: Tensor, right: Tensor, out: Tensor) -> None:
    """left right of each model."""
    if left.shape[1] * right[0].numel() >= _TINY:
        torch.bmm(left, right, out=out)
        return
    for one in range(len(left)):
        torch.mm(left[one], right[one], out=out[one])


def _part(values: Tensor, gradients: Tensor, number: int) -> nn.Parameter:
    parameter = nn.Parameter(values[number])
    parameter.grad = gradients[number]
    return parameter


def _single(value: float) -> float:
    """The nearest number of single precision."""
    return float(np.float32(value))
