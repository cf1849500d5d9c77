"""Soft decision trees: logistic filters decide at the inner nodes, each leaf has one distribution over the classes.

Inner nodes are numbered level by level, the root 0, the children of node i 2 i + 1 (left) and 2 i + 2 (right).

References
----------
frosst2017distilling
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_EDGE = 1e-6
"""Shares of examples that a node sends to one side are kept this far from 0 and 1."""
_BATCH = 1000


@dataclass(frozen=True)
class Settings:
    """How a tree is trained."""

    depth: int = 5
    inverse_temperature: float = 1.0
    """Beta: what a filter's response is multiplied with before the sigmoid."""
    penalty: float = 0.1
    """Lambda, for nodes that send most examples to one side; halved at each level."""
    weight_decay: float = 0.2
    """Share by which the filters shrink in a step, as a multiple of its learning rate."""
    steps: int = 800
    batch_size: int = 256
    learning_rate: float = 0.05
    """Of the first step, falling linearly to 0; divided by the root of the number of inputs for the filters."""


@dataclass(frozen=True)
class Tree:
    """A trained soft decision tree."""

    filters: Tensor
    """Shape (inner node, input)."""
    biases: Tensor
    """Shape (inner node,)."""
    leaves: Tensor
    """Logits of each leaf's distribution, shape (leaf, class)."""
    inverse_temperature: float = 1.0

    def responses(self, inputs: Tensor) -> Tensor:
        """beta (x w_i + b_i), shape (example, inner node): the logit of going right."""
        return self.inverse_temperature * (inputs @ self.filters.T + self.biases)

    def path_probabilities(self, inputs: Tensor) -> Tensor:
        """Probability of reaching each leaf, shape (example, leaf); rows sum to 1."""
        return reach(self.responses(inputs).sigmoid())[1]

    def distributions(self) -> Tensor:
        """Softmax of the leaves, shape (leaf, class)."""
        return self.leaves.softmax(1)

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Class, leaf and path probability of each example: those of the leaf with the highest path probability."""
        classes = self.distributions().argmax(1)
        found = [self.path_probabilities(batch).max(1) for batch in inputs.split(_BATCH)]
        leaf = torch.cat([part.indices for part in found])
        return classes[leaf].numpy(), leaf.numpy(), torch.cat([part.values for part in found]).numpy()


def reach(right: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities of reaching the inner nodes and the leaves, shapes (example, inner node) and (example, leaf).

    Parameters
    ----------
    right
        Probability of each inner node to send an example right, shape (example, inner node).
    """
    found = [torch.ones_like(right[:, :1])]
    while found[-1].shape[1] <= right.shape[1]:
        width, above = found[-1].shape[1], found[-1]
        to_right = above * right[:, width - 1 : 2 * width - 1]
        found.append(torch.stack([above - to_right, to_right], -1).flatten(1))
    return torch.cat(found[:-1], 1), found[-1]


def path_loss(reached: Tensor, leaves: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of sum_l P_l(x) (-sum_k T_k log Q_lk): cross-entropy of each leaf, weighted by its path.

    The logarithm that the paper puts around the sum is left out: it would be of a negative number.
    """
    return -((targets @ leaves.log_softmax(1).T) * reached).sum(1).mean()


class Balance:
    """The penalty -sum_i lambda_i / 2 (log a_i + log(1 - a_i)) on shares a_i of examples that nodes send right.

    a_i is weighted by the probability of reaching node i and is a running mean over about 2^d batches at depth d,
    where few examples come; lambda_i = lambda / 2^d. Gradients are those of the batch at hand.
    """

    def __init__(self, depth: int, penalty: float) -> None:
        # 1 for the root, then 1/2 twice, 1/4 four times, ...
        self._recent = torch.cat([torch.full((2**level,), 0.5**level) for level in range(depth)])
        self._strength = penalty / 2 * self._recent
        self._sums: Tensor | None = None

    def __call__(self, nodes: Tensor, right: Tensor) -> Tensor:
        sums = torch.stack([(nodes * right).sum(0), nodes.sum(0)])
        share = sums[0] / sums[1].clamp_min(_EDGE)
        with torch.no_grad():
            self._sums = sums if self._sums is None else torch.lerp(self._sums, sums, self._recent)
            running = self._sums[0] / self._sums[1].clamp_min(_EDGE)
        mean = (running + share - share.detach()).clamp(_EDGE, 1 - _EDGE)
        return -(self._strength * (mean * (1 - mean)).log()).sum()


def fit(inputs: Tensor, targets: Tensor, settings: Settings, rng: np.random.Generator) -> Tree:
    """A tree trained to give `targets` for `inputs`.

    Parameters
    ----------
    inputs
        float32, shape (example, input), of mean about 0 and standard deviation about 1.
    targets
        float32, shape (example, class): probabilities that sum to 1, of a model or of labels (one-hot).
    rng
        Of the first weights and the order of the examples: the same for trees that are to be compared.
    """
    tree = _first(inputs.shape[1], targets.shape[1], settings, rng)
    parameters = [tree.filters, tree.biases, tree.leaves]
    rates = [settings.learning_rate / inputs.shape[1] ** 0.5, settings.learning_rate, settings.learning_rate]
    groups = [{"params": [p.requires_grad_()], "lr": r} for p, r in zip(parameters, rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    optimizer.param_groups[0]["weight_decay"] = settings.weight_decay * inputs.shape[1] ** 0.5
    balance = Balance(settings.depth, settings.penalty)
    with torch.enable_grad():
        for step, batch in enumerate(_batches(len(inputs), settings, rng)):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / settings.steps)
            right = tree.responses(inputs[batch]).sigmoid()
            nodes, leaves = reach(right)
            loss = path_loss(leaves, tree.leaves, targets[batch]) + balance(nodes, right)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return Tree(tree.filters.detach(), tree.biases.detach(), tree.leaves.detach(), settings.inverse_temperature)


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels as probabilities, float32 (example, class)."""
    return functional.one_hot(labels, num_classes).float()


def _first(num_inputs: int, num_classes: int, settings: Settings, rng: np.random.Generator) -> Tree:
    """Small random filters and leaves."""

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.from_numpy(rng.normal(0, scale, shape).astype(np.float32))

    nodes = 2**settings.depth - 1
    return Tree(
        normal(nodes, num_inputs, scale=num_inputs**-0.5),
        torch.zeros(nodes),
        normal(nodes + 1, num_classes, scale=0.1),
        settings.inverse_temperature,
    )


def _batches(number: int, settings: Settings, rng: np.random.Generator) -> Iterator[Tensor]:
    """Batches of examples, each pass over all of them in a new order."""
    size = min(settings.batch_size, number)
    order, used = rng.permutation(number), 0
    for _ in range(settings.steps):
        if used + size > number:
            order, used = rng.permutation(number), 0
        yield torch.from_numpy(order[used : used + size])
        used += size
