"""Optimizer steps for the models of a stack, as their optimizers would make them one after another."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from remnant.lab.train import make_optimizer, parameter_groups
from remnant.trial import Recipe


@dataclass
class Update:
    """The recipe's optimizer over the parameters of many models, whose gradients stay where they are.

    The parameters of a model are updated tensor by tensor: in one long tensor other elements would fall on the last,
    incomplete vector of a kernel, where the rounding can differ.
    """

    recipe: Recipe
    groups: list[dict[str, Any]]
    """As `parameter_groups` makes them."""
    optimizer: torch.optim.Optimizer | None
    """None for SGD, whose kernel is called as it is."""
    momenta: list[list[Tensor]] = field(default_factory=list)
    """For each group of parameters, of SGD; empty until the first step."""

    @classmethod
    def of(cls, models: nn.ModuleList, recipe: Recipe) -> "Update":
        """The update of the models, whose parameters already have their gradients beside them."""
        optimizer = None if recipe.optimizer == "sgd" else make_optimizer(models, recipe)
        return cls(recipe, parameter_groups(models, recipe), optimizer)

    def step(self, learning_rate: float) -> None:
        """Change all parameters by their gradients."""
        if self.optimizer is None:
            self._descend(learning_rate)
            return
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def _descend(self, learning_rate: float) -> None:
        """What SGD(fused=True).step() comes to, without its bookkeeping for each tensor in each step."""
        momentum, first = self.recipe.momentum, not self.momenta
        if first:
            self.momenta = [[torch.empty_like(p) for p in group["params"]] if momentum else [] for group in self.groups]
        for group, buffers in zip(self.groups, self.momenta, strict=True):
            torch._fused_sgd_(  # pyright: ignore[reportPrivateImportUsage]
                group["params"],
                [p.grad for p in group["params"]],
                buffers,
                weight_decay=group["weight_decay"],
                momentum=momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self.recipe.nesterov and momentum > 0,
                maximize=False,
                is_first_step=first,
            )
