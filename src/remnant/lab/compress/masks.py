"""Masks that hold pruned weights at zero while a model trains."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from remnant.lab.compress.structures import Ranking, masks_of


@dataclass(frozen=True)
class Masks:
    """Masks over the tensors of a model, True on what stays. A hook that holds them while the model trains.

    Each tensor gets a parametrization tensor = mask * raw tensor until `finish`.
    """

    ranking: Ranking
    tensors: dict[tuple[nn.Module, str], "_Mask"]
    final: list[Tensor] = field(default_factory=list)
    """For each structure which groups stayed, from `finish` on."""

    def set(self, kept: list[Tensor]) -> None:
        """Change the masks to those of the groups that stay."""
        for (module, name), mask in masks_of(self.ranking.structures, kept).items():
            if (module, name) in self.tensors:
                self.tensors[module, name].mask.copy_(mask)
            else:  # a buffer
                getattr(module, name).mul_(mask)

    def kept(self) -> list[Tensor]:
        """For each structure which groups stay: those with an element that does."""
        found = []
        for structure in self.ranking.structures:
            first = structure.members[0]
            mask = self.tensors[first.module, first.name].mask
            if first.index is not None:
                groups = first.index.expand(mask.shape)[mask]
                mask = mask.new_zeros(structure.size + 1).index_fill(0, groups % (structure.size + 1), True)[:-1]
            found.append(mask.flatten())
        return found

    def before_step(self, step: int, num_steps: int) -> None:
        """Nothing: the masks stay as they are."""

    def settled(self, step: int, num_steps: int) -> bool:
        """Always: there is no later mask."""
        return True

    def finish(self) -> None:
        """Leave ordinary modules with zeros where the masks are False. A second call changes nothing."""
        if self.final:
            return
        self.final.extend(self.kept())
        for module, name in self.tensors:
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def masked(ranking: Ranking, gradient: Literal["masked", "straight-through"] = "masked") -> Masks:
    """Masks over all tensors of the groups, with nothing pruned yet; the model is prepared in place.

    A masked element gets no gradient with gradient="masked"; with "straight-through" it gets one as if it were not.
    """
    tensors: dict[tuple[nn.Module, str], _Mask] = {}
    for structure in ranking.structures:
        for member in structure.members:
            key = member.module, member.name
            if key not in tensors and isinstance(member.values, nn.Parameter):
                tensors[key] = _Mask(torch.ones_like(member.values, dtype=torch.bool), gradient)
                parametrize.register_parametrization(*key, tensors[key])
    return Masks(ranking, tensors)


class _Mask(nn.Module):
    """The parametrization tensor = raw tensor where the mask is True, else 0."""

    mask: Tensor

    def __init__(self, mask: Tensor, gradient: Literal["masked", "straight-through"]) -> None:
        super().__init__()
        self.gradient = gradient
        self.register_buffer("mask", mask)

    def forward(self, values: Tensor) -> Tensor:
        if self.gradient == "masked":
            return torch.where(self.mask, values, 0.0)
        # The difference is 0 and has the gradient of the raw tensor.
        return torch.where(self.mask, values, values - values.detach())
