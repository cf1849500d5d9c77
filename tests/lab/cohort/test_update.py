from dataclasses import replace

import pytest
import torch
from torch import nn

from remnant.lab.cohort.update import Update
from remnant.lab.train import make_optimizer
from remnant.trial import Recipe

RECIPE = Recipe("digits", "mlp")


@pytest.mark.parametrize(
    "recipe",
    [RECIPE, replace(RECIPE, nesterov=False), replace(RECIPE, momentum=0.0), replace(RECIPE, optimizer="adamw")],
)
def test_many_models_are_updated_as_each_alone(recipe):
    torch.manual_seed(0)
    # Sizes that no vector divides: the last elements are rounded by other instructions.
    together = nn.ModuleList(nn.Linear(13, 10) for _ in range(3))
    alone = nn.ModuleList(nn.Linear(13, 10) for _ in range(3))
    alone.load_state_dict(together.state_dict())
    update, optimizers = Update.of(together, recipe), [make_optimizer(model, recipe) for model in alone]
    for rate in (0.1, 0.05, 0.01):
        for one, other in zip(together.parameters(), alone.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        update.step(rate)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)
