"""Groups of weights that are pruned together: single weights, filters, neurons and tiles; and which of them stay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from remnant.lab.compress.layers import Layer, named_layers
from remnant.lab.compress.wiring import Wiring

Criterion = Literal["l1", "l2", "max", "min", "mean", "sum"]


@dataclass(frozen=True, eq=False)
class Member:
    """A tensor of a model, and the group that each of its elements is in."""

    module: nn.Module
    name: str
    """The tensor's attribute in the module: a parameter, or the running mean of a norm that has no parameters."""
    index: Tensor | None
    """int64, broadcast over the tensor: the group of each element, -1 for none. None: each element is a group."""
    dim: int | None = None
    """The dimension along which elements go; None for tiles and single weights."""
    scored: bool = False
    """Whether the size of a group depends on these elements."""

    @property
    def values(self) -> Tensor:
        """The tensor, without the mask that may lie over it."""
        if "parametrizations" in self.module._modules and self.name in self.module.parametrizations:  # pyright: ignore
            return self.module.parametrizations[self.name].original  # pyright: ignore
        return getattr(self.module, self.name)

    def mask(self, kept: Tensor) -> Tensor:
        """True on the elements that stay when the groups do that are True in `kept`, shaped like the tensor."""
        if self.index is None:
            return kept.view(self.values.shape)
        return on_elements(self.index, kept).expand(self.values.shape)


@dataclass(frozen=True, eq=False)
class Structure:
    """Groups that are alike: those of a layer, or of layers whose channels are tied to each other."""

    name: str
    """Of the layer, or the first of the layers."""
    size: int
    """Number of groups."""
    members: tuple[Member, ...]

    def sizes(self, criterion: Criterion) -> Tensor:
        """Size of each group, shape (size,): the sum over the scored tensors of the criterion of its magnitudes."""
        scored = [member for member in self.members if member.scored]
        if scored[0].index is None:
            return scored[0].values.detach().abs().flatten()
        return torch.stack([_aggregated(member, self.size, criterion) for member in scored]).sum(0)


@dataclass(frozen=True)
class Ranking:
    """The groups of a model, and how those that stay are chosen."""

    structures: tuple[Structure, ...]
    scope: Literal["layer", "global"] = "global"
    """Whether the declared share goes from each structure or from all together."""
    criterion: Criterion = "l2"
    in_each: bool = True
    """Whether every structure keeps a group, its largest."""
    uses: dict[Layer, int] | None = None
    """How often each weight of a layer is multiplied for an example, where shares are of FLOPs; None for groups."""

    def kept(self, share: float) -> list[Tensor]:
        """For each structure which groups stay, bool (size,): the largest, when `share` goes.

        Shares of FLOPs are reached with the fewest groups that suffice.

        Raises
        ------
        ValueError
            If a weight is NaN, or no pruning removes so many FLOPs.
        """
        sizes = [structure.sizes(self.criterion) for structure in self.structures]
        if self.uses is None or share == 0:
            return self._largest(sizes, share)
        most = self.flops_removed(self._largest(sizes, 1.0))
        if most < share:
            raise ValueError(
                f"Expected `sparsity` <= {math.floor(1000 * most) / 1000} with target='flops', but got {share!r}: "
                "one group of each layer and all logits stay."
            )
        low, high = 0.0, 1.0  # `high` always removes enough
        while high - low > 0.5 / sum(map(len, sizes)):
            middle = (low + high) / 2
            enough = self.flops_removed(self._largest(sizes, middle)) >= share
            low, high = (low, middle) if enough else (middle, high)
        return self._largest(sizes, high)

    def num_groups(self, share: float) -> int:
        """Number of all groups that stay when `share` of the groups goes."""
        sizes = [structure.size for structure in self.structures]
        if self.scope == "global":
            return max(len(sizes) if self.in_each else 1, num_kept(sum(sizes), share))
        return sum(num_kept(size, share) for size in sizes)

    def flops_removed(self, kept: Sequence[Tensor]) -> float:
        """Share of the FLOPs of all layers that goes with the other groups; 0 if none goes."""
        assert self.uses is not None
        masks = masks_of(self.structures, kept)
        total = sum(uses * layer.weight.numel() for layer, uses in self.uses.items())
        left = 0
        for layer, uses in self.uses.items():
            mask = masks.get((layer, "weight"))
            left += uses * (layer.weight.numel() if mask is None else int(mask.sum()))
        return 1 - left / total

    def _largest(self, sizes: list[Tensor], share: float) -> list[Tensor]:
        if self.scope == "global":
            return largest_magnitudes(sizes, share, in_each=self.in_each)
        return [largest_magnitudes([part], share)[0] for part in sizes]


def on_elements(index: Tensor, kept: Tensor) -> Tensor:
    """True on the elements whose group is True in `kept`, and on those of no group (-1), shaped like `index`."""
    return torch.cat([kept, kept.new_ones(1)])[index]


def masks_of(structures: Sequence[Structure], kept: Sequence[Tensor]) -> dict[tuple[nn.Module, str], Tensor]:
    """(module, name of its tensor) to the mask of the tensor, True on what stays in all structures that it is in."""
    masks: dict[tuple[nn.Module, str], Tensor] = {}
    for structure, stays in zip(structures, kept, strict=True):
        for member in structure.members:
            mask, key = member.mask(stays), (member.module, member.name)
            masks[key] = masks[key] & mask if key in masks else mask
    return masks


def num_kept(size: int, sparsity: float) -> int:
    """Number of groups that stay of `size`: round(size (1 - sparsity)), at least 1."""
    return max(1, round(size * (1 - sparsity)))


def largest_magnitudes(weights: list[Tensor], sparsity: float, *, in_each: bool = False) -> list[Tensor]:
    """Masks, True on the `num_kept` weights of largest magnitude of all tensors together.

    Of equal magnitudes at the threshold the first ones stay (order of the list, then row by row), so
    that exactly as many are kept as declared. Zhu & Gupta keep all ties, which misses the sparsity
    where many weights are equal, such as zeros of an earlier pruning. With `in_each` the largest of
    every tensor is among them: one threshold for all layers can cut a network in two.

    Raises
    ------
    ValueError
        If a weight is NaN.
    """
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    kept = max(len(weights) if in_each else 1, num_kept(len(magnitudes), sparsity))
    if magnitudes.isnan().any():
        raise ValueError("Expected weights to prune, but some are NaN: the training diverged. Lower `learning_rate`.")
    if kept == len(magnitudes):
        return [torch.ones_like(weight, dtype=torch.bool) for weight in weights]
    for part in magnitudes.split([weight.numel() for weight in weights]) if in_each else ():
        part[(part == part.max()).nonzero()[0]] = torch.inf
    threshold = magnitudes.kthvalue(len(magnitudes) - kept + 1).values
    mask = magnitudes > threshold
    ties = (magnitudes == threshold).nonzero().squeeze(1)
    mask[ties[: kept - int(mask.sum())]] = True
    parts = mask.split([weight.numel() for weight in weights])
    return [part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)]


def weights(layers: dict[str, Layer]) -> tuple[Structure, ...]:
    """Every weight of the layers as a group of its own."""
    return tuple(
        Structure(name, layer.weight.numel(), (Member(layer, "weight", None, scored=True),))
        for name, layer in layers.items()
    )


def blocks(layers: dict[str, Layer], size: int) -> tuple[Structure, ...]:
    """Tiles of `size` x `size` of the matrix (outputs, inputs x kernel) of each layer, row by row of tiles."""
    found = []
    for name, layer in layers.items():
        rows, columns = layer.weight.shape[0], layer.weight[0].numel()
        device = layer.weight.device
        across = -(-columns // size)
        tiles = (torch.arange(rows, device=device) // size * across)[:, None] + torch.arange(
            columns, device=device
        ) // size
        member = Member(layer, "weight", tiles.view(layer.weight.shape), scored=True)
        found.append(Structure(name, int(tiles.max()) + 1, (member,)))
    return tuple(found)


def outputs(model: nn.Module, structure: str, wiring: Wiring) -> tuple[Structure, ...]:
    """Output channels of convolutions ("filter") or rows of linear layers ("neuron"), without those of the logits.

    With a channel go its bias and its scale and shift in a batch norm that reads the layer's output directly; where
    the norm has neither, its running mean. Norms that read a sum or a concatenation of layers are left as they are:
    there the channel still carries the norm's shift.

    Raises
    ------
    ValueError
        If the model has no such layer.
    """
    layers = named_layers(model)
    chosen = output_layers(layers, structure, wiring)
    found = []
    for name, layer in chosen.items():
        index = torch.arange(layer.weight.shape[0], device=layer.weight.device)
        members = [member_along(layer, "weight", 0, index, scored=True)]
        if layer.bias is not None:
            members.append(member_along(layer, "bias", 0, index))
        for norm in wiring.norms.get(layer, ()):
            members += norm_members(norm, index)
        found.append(Structure(name, len(index), tuple(members)))
    return tuple(found)


def output_layers(layers: dict[str, Layer], structure: str, wiring: Wiring) -> dict[str, Layer]:
    """The convolutions ("filter") or linear layers ("neuron") that do not give the logits, by name."""
    kinds = nn.Linear if structure == "neuron" else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    chosen = {name: layer for name, layer in layers.items() if isinstance(layer, kinds) and layer not in wiring.logits}
    if not chosen:
        what = "linear layers" if structure == "neuron" else "convolutions"
        raise ValueError(
            f"Expected {what} before the logits for structure={structure!r}, but the model has only the layers "
            f"{list(layers)}, of which {[name for name, layer in layers.items() if layer in wiring.logits]} give the "
            "logits. Take another `structure`."
        )
    return chosen


def norm_members(norm: nn.Module, index: Tensor) -> list[Member]:
    """Scale and shift of a norm over channels, or its running mean where it has neither."""
    if norm.weight is not None:
        return [member_along(norm, name, 0, index) for name in ("weight", "bias") if getattr(norm, name) is not None]
    return [member_along(norm, "running_mean", 0, index)] if norm.running_mean is not None else []


def member_along(module: nn.Module, name: str, dim: int, index: Tensor, *, scored: bool = False) -> Member:
    """The member whose element i along a dimension is in group index[i]."""
    shape = [1] * getattr(module, name).dim()
    shape[dim] = -1
    return Member(module, name, index.view(shape), dim % len(shape), scored)


def _aggregated(member: Member, size: int, criterion: Criterion) -> Tensor:
    """The criterion of the magnitudes of each group in one tensor, float64 (size,)."""
    assert member.index is not None
    values = member.values.detach().abs().double()
    index = member.index
    if criterion == "l2":
        values = values.square()
    reduce = {"max": "amax", "min": "amin"}.get(criterion, "sum")
    count = torch.ones((), dtype=values.dtype, device=values.device)
    if member.dim is not None:  # a slice is in one group: reduce it first, which is fast
        flat = values.movedim(member.dim, 0).flatten(1) if values.dim() > 1 else values[:, None]
        count = count * flat.shape[1]
        values, index = getattr(flat, reduce)(1), index.flatten()
    index = index.expand(values.shape).flatten() % (size + 1)  # the slot after the last is for no group
    start = values.new_full((size + 1,), torch.inf if criterion == "min" else 0.0)
    found = start.scatter_reduce(0, index, values.flatten(), reduce)[:size]
    if criterion == "mean":
        return found / (count * torch.bincount(index, minlength=size + 1)[:size])
    return found.sqrt() if criterion == "l2" else found
