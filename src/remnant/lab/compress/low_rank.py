"""Layers as products of smaller ones: truncated singular value decompositions and Tucker-2.

A weight is a tensor (outputs, inputs, kernel). A factor on the side of the outputs alone is the SVD of the matrix
(outputs, inputs x kernel), which is the best approximation of its rank; factors on both sides are Tucker-2.

References
----------
eckart1936approximation; kim2016compression, section 3; lathauwer2000best, section 4
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from remnant.lab import footprint
from remnant.lab.compress.factors import Extent, factorable, in_a_row, restored, with_modes_by_name
from remnant.lab.compress.layers import Layer, replaced
from remnant.lab.compress.tuning import tuned
from remnant.schemes.low_rank import LowRank

if TYPE_CHECKING:
    from remnant.lab.compress.context import Context

Ranks = tuple[int | None, int | None]
"""Ranks on the side of the outputs and of the inputs; None where there is no factor."""
WHOLE: Ranks = (None, None)
_SWEEPS = 5


def low_rank(scheme: LowRank, model: nn.Module, context: "Context") -> nn.Module:
    """A copy whose layers are products of smaller layers, fine-tuned for `epochs`.

    Each layer that is split becomes an `nn.Sequential` of ordinary layers; the last one has the bias. Layers that
    cannot be split are listed in `context.skipped`.

    Raises
    ------
    ValueError
        If no layer can be split, or rank 1 everywhere costs more than `share`.
    """
    layers, extents = factorable(model, context)
    spectra = {name: _spectrum(layer, extents[name], scheme) for name, layer in layers.items()}
    if scheme.share is not None:
        total = footprint.measure(model, context.dataset.input_shape, batch_size=1)
        operations = 2 if scheme.cost == "flops" else 1
        ranks = ranks_for_cost(list(spectra.values()), total[scheme.cost] // operations, scheme.share)
    else:
        ranks = [spectrum.cheapest(spectrum.ranks_for_energy(scheme.energy or 1.0)) for spectrum in spectra.values()]

    compressed = copy.deepcopy(model)
    replacements: dict[nn.Module, nn.Module] = {}
    for (name, layer), chosen in zip(layers.items(), ranks, strict=True):
        if chosen != WHOLE:
            weights = decomposed(layer.weight.detach(), chosen)
            replacements[compressed.get_submodule(name)] = in_a_row(layer, weights, layer.bias)
    compressed = replaced(compressed, replacements)
    return with_modes_by_name(tuned(compressed, scheme, context.reference or model, context), model)


def restore_low_rank(scheme: LowRank, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The model of a finished `low_rank` from its tensors; ranks are their shapes."""
    return restored(parent, state)


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a layer's unfoldings, and what factors of it cost."""

    sides: tuple[Tensor, ...]
    """Descending, in float64: of the unfolding along the outputs and, for Tucker-2, along the inputs."""
    extent: Extent

    def cost(self, ranks: Ranks) -> int:
        """Multiplications (or weights, if the extent has one position) of the factors."""
        outputs, inputs = ranks
        whole = self.extent
        total = whole.multiplications(inputs, outputs)
        total += 0 if inputs is None else whole.inputs * inputs * whole.read
        return total + (0 if outputs is None else outputs * whole.outputs * whole.written)

    def cheapest(self, ranks: Sequence[int]) -> Ranks:
        """At least these ranks at the lowest cost: a side without a factor has its full rank. Ties: fewer factors."""
        choices = product((None, ranks[0]), (None, ranks[1]) if len(ranks) > 1 else (None,))
        return min(choices, key=self.cost)

    def ranks_for_energy(self, energy: float) -> list[int]:
        """The smallest ranks that keep this share of the squared singular values on each side, at least 1."""
        return [_count(values.square(), energy) for values in self.sides]

    def ranks_above(self, threshold: float) -> list[int]:
        """Numbers of singular values of each side that are at least `threshold` times their l2 norm, at least 1."""
        return [max(1, int((values >= threshold).sum())) for values in self.relative]

    @property
    def relative(self) -> list[Tensor]:
        """Singular values over the root of the sum of their squares."""
        return [values / values.norm().clamp_min(torch.finfo(values.dtype).tiny) for values in self.sides]


def ranks_for_cost(spectra: list[Spectrum], total: int, share: float) -> list[Ranks]:
    """Ranks at the lowest threshold on relative singular values that leaves at most `share` of the `total` cost.

    The cost can only fall as the threshold rises, so that bisection over the singular values themselves finds the
    last one that fits: with one more of them the model would cost too much.

    Raises
    ------
    ValueError
        If rank 1 everywhere costs more.
    """
    fixed = total - sum(spectrum.cost(WHOLE) for spectrum in spectra)

    def at(threshold: float) -> tuple[int, list[Ranks]]:
        ranks = [spectrum.cheapest(spectrum.ranks_above(threshold)) for spectrum in spectra]
        return fixed + sum(s.cost(r) for s, r in zip(spectra, ranks, strict=True)), ranks

    values = torch.cat([side for spectrum in spectra for side in spectrum.relative]).unique().tolist()
    thresholds = [0.0, *values, float("inf")]
    low, high = 0, len(thresholds) - 1
    least = at(thresholds[high])[0]
    if least > share * total:
        raise ValueError(
            f"Expected `share` >= {least / total:.4f} (rank 1 in every layer that can be split), but got {share!r}."
        )
    while low < high:
        middle = (low + high) // 2
        if at(thresholds[middle])[0] <= share * total:
            high = middle
        else:
            low = middle + 1
    return at(thresholds[high])[1]


@torch.no_grad()
def decomposed(weight: Tensor, ranks: Ranks) -> list[Tensor]:
    """Weights whose product is the approximation of a layer's weight with these ranks, in the order of their layers.

    Shapes (inputs' rank, inputs, 1...), the core (outputs' rank, inputs' rank, kernel...), (outputs, outputs' rank,
    1...), without what has no factor. One side: truncated SVD. Both: truncated higher-order SVD, improved by
    alternating least squares (HOOI). A factor takes the square root of the norm of each slice of the core it meets, so
    that the two factors of an SVD have the same norm in each component.
    """
    tensor = weight.double().flatten(2) if weight.dim() > 2 else weight.double().unsqueeze(2)
    bases: list[Tensor | None] = [None if rank is None else _basis(tensor, side)[1] for side, rank in enumerate(ranks)]
    bases = [None if basis is None else basis[:, : ranks[side]] for side, basis in enumerate(bases)]
    if None not in ranks:
        for _ in range(_SWEEPS):
            for side in (0, 1):
                projected = _projected(tensor, [basis if other != side else None for other, basis in enumerate(bases)])
                bases[side] = _basis(projected, side)[1][:, : ranks[side]]
    core = _projected(tensor, bases)
    factors: list[Tensor | None] = [None, None]
    for side, basis in enumerate(bases):
        if basis is not None:
            core, factors[side] = _balanced(core, basis, side)
    outer = (1,) * (weight.dim() - 2)
    left, right = factors
    found = [] if right is None else [right.T.reshape(*right.T.shape, *outer)]
    found.append(core.reshape(*core.shape[:2], *weight.shape[2:]))
    if left is not None:
        found.append(left.reshape(*left.shape, *outer))
    return [part.to(weight.dtype) for part in found]


def _spectrum(layer: Layer, extent: Extent, scheme: LowRank) -> Spectrum:
    """Singular values of a layer; its extent has one position where parameters are counted."""
    if scheme.cost == "parameters":
        extent = Extent(extent.outputs, extent.inputs, extent.kernel, 1, 1)
    tensor = layer.weight.detach().double().flatten(1).view(extent.outputs, extent.inputs, extent.kernel)
    sides = (0, 1) if scheme.method == "tucker" and extent.kernel > 1 else (0,)
    return Spectrum(tuple(_basis(tensor, side)[0] for side in sides), extent)


def _basis(tensor: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Singular values (descending) and left singular vectors, as columns, of the unfolding along a side."""
    matrix = tensor.transpose(0, side).flatten(1)
    if matrix.shape[1] > matrix.shape[0]:  # the triangle of a QR decomposition has the same, and is smaller
        matrix = torch.linalg.qr(matrix.T, mode="r").R.T
    vectors, values, _ = torch.linalg.svd(matrix, full_matrices=False)
    return values, vectors


def _projected(tensor: Tensor, bases: Sequence[Tensor | None]) -> Tensor:
    """The tensor in the coordinates of the bases."""
    outputs, inputs = bases
    if outputs is not None:
        tensor = torch.einsum("nck,nr->rck", tensor, outputs)
    return tensor if inputs is None else torch.einsum("nck,cr->nrk", tensor, inputs)


def _balanced(core: Tensor, basis: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Core and basis with the norm of each slice of the core shared between the two as square roots."""
    slices = core.transpose(0, side).flatten(1).norm(dim=1)
    roots = torch.where(slices > 0, slices, 1.0).sqrt()
    shape = [1, 1, 1]
    shape[side] = -1
    return core / roots.view(shape), basis * roots


def _count(energies: Tensor, share: float) -> int:
    """Number of the first values that hold a share of the sum, at least 1."""
    sums = energies.cumsum(0)
    return min(len(energies), int((sums < share * sums[-1]).sum()) + 1)
