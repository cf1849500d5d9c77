"""Filter pruning and decomposition by one group-sparse factor behind each layer.

A layer W is written as W' and then a 1x1 layer A. A row of A's weight (outputs, ranks) that is zero is a filter that
can go, a column that is zero is a rank that can go. (In the paper, whose matrices are transposed, they are A's columns
and rows.) Filters go where all that reads them can shrink; elsewhere, as before the sums of residual connections, ranks
go and the layer's width stays.

The paper trains W' at a hundredth of A's rate; here W' is held while A becomes sparse. Its annealing of the rate and
its criterion to stop early are left out: the length of the phase is given. Reconstructed: the unit of the norms is
their mean before training, and the default factor of the penalty is ours.

References
----------
li2020group, sections 3 and 4
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from remnant.lab import footprint
from remnant.lab.compress.channels import Readers, removable_channels
from remnant.lab.compress.factors import (
    Extent,
    Norm,
    factorable,
    in_a_row,
    resized_norm,
    restored,
    with_modes_by_name,
)
from remnant.lab.compress.layers import Layer, replaced
from remnant.lab.compress.proximal import group_norms, length_to_zero, shrink_groups
from remnant.lab.compress.tuning import tuned, tuning_recipe
from remnant.lab.train import learning_rate
from remnant.schemes.group_sparsity import GroupSparsity
from remnant.trial import Recipe

if TYPE_CHECKING:
    from remnant.lab.compress.context import Context

FILTERS, RANKS = 0, 1
"""Dimension of A's weight along which its groups lie."""


def group_sparsity(scheme: GroupSparsity, model: nn.Module, context: "Context") -> nn.Module:
    """A copy with fewer filters and ranks, at most `flops` of the FLOPs, fine-tuned.

    Layers that cannot be compressed are listed in `context.skipped`; the last layer stays whole.

    Raises
    ------
    ValueError
        If no layer can be compressed, or `flops` cannot be reached while the `smallest` share of groups stays.
    """
    if scheme.flops == 1:
        smaller = copy.deepcopy(model)
    else:
        hinges, budget = _hinged(scheme, model, context)
        removed = budget.search(hinges, scheme)
        sparse = copy.deepcopy(model)
        sparse = replaced(sparse, {sparse.get_submodule(hinge.name): hinge.pair for hinge in hinges})
        phase = replace(scheme, epochs=scheme.epochs * scheme.sparsifying)
        steps = tuning_recipe(context.recipe, phase)
        hook = ProximalSteps(
            hinges, phase, steps, largest_of(hinges, removed), partial(budget.met_by_zeros, hinges, scheme)
        )
        sparse = tuned(sparse, phase, context.reference or model, context, hook=hook, stream="sparsify")
        removed = budget.search(hinges, scheme)
        smaller = _smaller(sparse, model, hinges, kept_groups(hinges, removed, scheme.smallest))
    rest = replace(scheme, epochs=scheme.epochs * (1 - scheme.sparsifying))
    return with_modes_by_name(tuned(smaller, rest, context.reference or model, context), model)


def restore_group_sparsity(scheme: GroupSparsity, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model of a finished `group_sparsity` from its tensors; what went is seen in their shapes."""
    return restored(parent, state)


@dataclass(frozen=True)
class Hinge:
    """A layer as W' and then A, and which groups of A can go."""

    name: str
    layer: Layer
    """The layer itself, as it was."""
    pair: nn.Sequential
    dim: int
    """FILTERS or RANKS."""
    readers: Readers
    """What shrinks with the filters."""
    unit: float
    """Norm that counts as 1."""

    @property
    def matrix(self) -> Tensor:
        """The weight of A, shape (outputs, ranks)."""
        return self.pair[1].weight.detach().flatten(1)  # pyright: ignore

    @property
    def norms(self) -> Tensor:
        """Norms of the groups, in units."""
        return group_norms(self.matrix, self.dim) / self.unit


class ProximalSteps:
    """The hook that takes a proximal step after each optimizer step, as long as its learning rate.

    Once `enough` says that the groups at zero save what was asked for, no group shrinks any more: where norms are much
    alike, nearly all would reach zero within a few steps of each other.
    """

    def __init__(
        self, hinges: list[Hinge], scheme: GroupSparsity, recipe: Recipe, limit: float, enough: Callable[[], bool]
    ) -> None:
        self.hinges, self.scheme, self.recipe, self.limit, self.enough = hinges, scheme, recipe, limit, enough
        self.strength = self.rate = 0.0
        self.done = False

    def before_step(self, step: int, num_steps: int) -> None:
        """The proximal step that belongs to the optimizer step before this one."""
        if step == 0:
            self.strength = self._strength(num_steps)
        else:
            self._shrink()
        self.rate = learning_rate(self.recipe, step, num_steps)

    def settled(self, step: int, num_steps: int) -> bool:
        """Groups shrink until the end."""
        return False

    def finish(self) -> None:
        """The proximal step of the last optimizer step."""
        self._shrink()

    def _strength(self, num_steps: int) -> float:
        """The factor of the penalty; if none is given, all steps together take a group of norm `limit` to zero."""
        if self.scheme.regularization is not None:
            return self.scheme.regularization
        return length_to_zero(self.limit, self.scheme.regularizer) / sum(
            learning_rate(self.recipe, step, num_steps) for step in range(num_steps)
        )

    def _shrink(self) -> None:
        if self.done or self.rate * self.strength <= 0:
            return
        for hinge in self.hinges:
            step = self.rate * self.strength
            shrink_groups(hinge.matrix, hinge.dim, step, regularizer=self.scheme.regularizer, unit=hinge.unit)
        self.done = self.enough()


@dataclass(frozen=True)
class Budget:
    """Multiplications for one example: of the whole model, and of its layers."""

    total: int
    extents: dict[str, Extent]

    def cost(self, hinges: list[Hinge], kept: dict[str, Tensor]) -> int:
        """Multiplications when only the `kept` groups are left."""
        outputs = {h.name: int(kept[h.name].sum()) for h in hinges if h.dim == FILTERS}
        ranks = {h.name: int(kept[h.name].sum()) for h in hinges if h.dim == RANKS}
        inputs = {
            reader: self.extents[reader].inputs * outputs[hinge.name] // len(kept[hinge.name])
            for hinge in hinges
            for reader in hinge.readers.layers
        }
        found = self.total
        for name in {*outputs, *ranks, *inputs}:
            extent, read = self.extents[name], inputs.get(name)
            now = extent.multiplications(read, outputs.get(name))
            if name in ranks:
                now = min(now, _factored(extent, read or extent.inputs, ranks[name]))
            found -= extent.multiplications() - now
        return found

    def met_by_zeros(self, hinges: list[Hinge], scheme: GroupSparsity) -> bool:
        """Whether at most `flops` of the total is left without the groups that are zero."""
        zeros = sum(int((hinge.norms == 0).sum()) for hinge in hinges)
        return self.cost(hinges, kept_groups(hinges, zeros, scheme.smallest)) <= scheme.flops * self.total

    def search(self, hinges: list[Hinge], scheme: GroupSparsity) -> int:
        """How many groups of the smallest norm have to go so that at most `flops` of the total is left.

        Found by bisection: with one less it would be too much. Groups that are zero go in any case.

        Raises
        ------
        ValueError
            If it is too much with the `smallest` share of all groups.
        """

        def cost(removed: int) -> int:
            return self.cost(hinges, kept_groups(hinges, removed, scheme.smallest))

        norms = torch.cat([hinge.norms for hinge in hinges])
        low, high = int((norms == 0).sum()), len(norms)
        if (least := cost(high)) > scheme.flops * self.total:
            raise ValueError(
                f"Expected `flops` >= {least / self.total:.4f}, which is reached when all that can go is gone, "
                f"but got {scheme.flops!r}. Take a smaller `smallest` than {scheme.smallest!r}, or groups='hinge'."
            )
        while low < high:
            middle = (low + high) // 2
            if cost(middle) <= scheme.flops * self.total:
                high = middle
            else:
                low = middle + 1
        return high


def kept_groups(hinges: list[Hinge], removed: int, smallest: float) -> dict[str, Tensor]:
    """Masks by layer without the `removed` groups of smallest norm of all layers together.

    The `smallest` share of a layer's groups, those of largest norm, and at least one, stays nevertheless. Of equal
    norms the first ones go.
    """
    norms = [hinge.norms for hinge in hinges]
    mask = torch.ones(sum(len(part) for part in norms), dtype=torch.bool, device=norms[0].device)
    mask[torch.cat(norms).argsort(stable=True)[:removed]] = False
    found = {}
    for hinge, part, kept in zip(hinges, norms, mask.split([len(part) for part in norms]), strict=True):
        always = max(1, round(smallest * len(part)))
        kept[part.argsort(stable=True)[len(part) - always :]] = True
        found[hinge.name] = kept
    return found


def largest_of(hinges: list[Hinge], removed: int) -> float:
    """Norm of the largest of the `removed` groups of smallest norm; 0 if there is none."""
    norms = torch.cat([hinge.norms for hinge in hinges]).sort().values
    return float(norms[removed - 1]) if removed else 0.0


@torch.no_grad()
def split(layer: Layer, start: str) -> nn.Sequential:
    """A layer as W' without a bias and then the 1x1 layer A, which together answer as it does.

    "svd": with the singular value decomposition U S V' of the weight (outputs, inputs x kernel), W' is V' and A is U S,
    so that the norms of A's rows are those of the filters and the norms of its columns are the singular values.
    "identity": W' is the weight and A the identity.
    """
    matrix = layer.weight.double().flatten(1)
    if start == "identity":
        inner, outer = matrix, torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    else:
        left, values, inner = torch.linalg.svd(matrix, full_matrices=False)
        outer = left * values
    weights = [inner.view(-1, *layer.weight.shape[1:]), outer.view(*outer.shape, *(1,) * (layer.weight.dim() - 2))]
    pair = in_a_row(layer, weights, layer.bias)
    pair[0].requires_grad_(False)  # pyright: ignore
    return pair  # pyright: ignore


def _hinged(scheme: GroupSparsity, model: nn.Module, context: "Context") -> tuple[list[Hinge], Budget]:
    """All layers that can be compressed as hinges, and what the model costs."""
    layers, extents = factorable(model, context)
    removable = removable_channels(model)
    last = list(extents)[-1]
    nothing = Readers((), ())
    hinges = []
    for name, layer in layers.items():
        readers = removable.get(name) if scheme.groups != "factors" else None
        if name == last:
            continue
        if readers is None and scheme.groups == "filters":
            context.skipped.append(f"{name}: not all that reads its filters can shrink")
            continue
        pair = split(layer, scheme.start)
        dim = RANKS if readers is None else FILTERS
        hinge = Hinge(name, layer, pair, dim, readers or nothing, unit=1.0)
        mean = float(hinge.norms.mean())
        hinges.append(replace(hinge, unit=mean) if scheme.balanced and mean > 0 else hinge)
    if not hinges:
        raise ValueError(
            f"Expected a model with a layer whose {'filters' if scheme.groups == 'filters' else 'filters or ranks'} "
            f"can go, but {type(model).__name__} has none. Skipped: {'; '.join(context.skipped) or 'the last layer'}."
        )
    total = footprint.measure(model, context.dataset.input_shape, batch_size=1)["flops"] // 2
    return hinges, Budget(total, extents)


def _factored(extent: Extent, inputs: int, ranks: int) -> int:
    """Multiplications of a layer as two factors."""
    return extent.multiplications(inputs, ranks) + ranks * extent.outputs * extent.written


@torch.no_grad()
def _smaller(sparse: nn.Module, model: nn.Module, hinges: list[Hinge], kept: dict[str, Tensor]) -> nn.Module:
    """The sparse model with the groups that are not kept really gone, and factors merged where that is cheaper."""
    by_name = {hinge.name: hinge for hinge in hinges}
    inputs: dict[str, Tensor] = {}
    replacements: dict[nn.Module, nn.Module] = {}
    for hinge in hinges:
        for name in hinge.readers.layers:
            block = model.get_submodule(name).weight.shape[1] // len(kept[hinge.name])  # pyright: ignore
            inputs[name] = kept[hinge.name].repeat_interleave(block)
        for name in hinge.readers.norms:
            norm: Norm = sparse.get_submodule(name)  # pyright: ignore
            replacements[norm] = resized_norm(norm, kept[hinge.name].nonzero().squeeze(1))
    for name in {**inputs, **by_name}:
        given: Layer = model.get_submodule(name)  # pyright: ignore
        columns = inputs.get(name, torch.ones(given.weight.shape[1], dtype=torch.bool, device=given.weight.device))
        if name in by_name:
            weights, bias = _left(by_name[name], columns, kept[name])
        else:
            reader: Layer = sparse.get_submodule(name)  # pyright: ignore
            weights, bias = [reader.weight[:, columns]], reader.bias
        replacements[sparse.get_submodule(name)] = in_a_row(given, weights, bias)
    return replaced(sparse, replacements)


def _left(hinge: Hinge, columns: Tensor, kept: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """Weights of the layers in the place of a hinge that reads the chosen inputs, and the bias of the last one."""
    inner, outer, bias = hinge.pair[0].weight[:, columns], hinge.matrix, hinge.pair[1].bias  # pyright: ignore
    if hinge.dim == FILTERS:
        outer, bias = outer[kept], None if bias is None else bias[kept]  # pyright: ignore
    reads, ranks = inner[0].numel(), int(kept.sum()) if hinge.dim == RANKS else outer.shape[1]
    if ranks * (reads + len(outer)) >= reads * len(outer):  # merged with all ranks it costs no more
        merged = outer.double() @ inner.double().flatten(1)
        return [merged.view(-1, *inner.shape[1:])], bias  # pyright: ignore
    if hinge.dim == RANKS:
        inner, outer = inner[kept], outer[:, kept]
    return [inner, outer.reshape(*outer.shape, *(1,) * (inner.dim() - 2))], bias  # pyright: ignore
