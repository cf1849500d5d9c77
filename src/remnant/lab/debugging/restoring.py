"""Layers given back until few enough answers are lost: mixed models of reference and compressed layers."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from remnant.fields import check
from remnant.lab import footprint
from remnant.lab.debugging.effects import answers, layer_effects
from remnant.lab.debugging.matching import MatchedLayer, MatchedPair, exchange, exchanged, matched
from remnant.lab.debugging.sizes import layer_bytes
from remnant.lab.footprint import stored_bytes
from remnant.stats.rates import wilson

Limit = Literal["cie_u", "cie"]
"""Right answers of the reference that are lost, or answers that change, as a share of all examples."""
_BATCH = 100


@dataclass(frozen=True)
class Cost:
    """What a model takes."""

    bytes: int
    """Of its parameters; see `remnant.lab.debugging.sizes.stored_bytes`."""
    flops: int
    """For one example; see `remnant.lab.footprint.measure`."""
    effective_flops: int
    """Without the multiplications by weights that are 0."""


@dataclass(frozen=True)
class Restoration:
    """A compressed model with layers of the reference."""

    model: nn.Module
    """In evaluation mode."""
    layers: tuple[str, ...]
    """The restored layers, in the order of the reference."""
    reached: bool
    """The limit holds on the examples of the selection."""
    before: float
    """Share of the examples of the selection that count for the limit, in the compressed model."""
    selected: float
    """The same in the mixed model: chosen to be low, so look at `held_out`."""
    held_out: float
    """The same on examples that played no part in the choice."""
    held_out_interval: tuple[float, float]
    """Its 95 % interval over examples (Wilson)."""
    held_out_before: float
    """Share of the held-out examples that count for the limit, in the compressed model."""
    steps: tuple[tuple[str, float], ...]
    """Each layer as it was restored, and the share on the selection with all up to it."""
    cost: Cost
    compressed_cost: Cost
    reference_cost: Cost
    unmatched: tuple[str, ...]
    """Layers that could not be restored, as "layer: reason"."""

    @property
    def dense_again(self) -> bool:
        """Whether the mixed model costs what the reference does: nothing is compressed any more."""
        return bool(self.layers) and self.cost == self.reference_cost


@torch.no_grad()
def restore_until(
    reference: nn.Module,
    compressed: nn.Module,
    inputs: Tensor,
    label: Tensor,
    *,
    limit: Limit = "cie_u",
    at_most: float = 0.005,
    held_out: float = 0.5,
    again: bool = True,
    rng: np.random.Generator | None = None,
) -> Restoration:
    """The compressed model with as many layers of the reference as it takes to keep to a limit. Greedy.

    The layer restored next is the one that lowers the share the most for each byte it adds; of equal ones that
    which does the most harm per byte when it alone is compressed, then the first. At last, restored layers
    are taken back one by one, those of most bytes first, if the limit holds without them. With `at_most=0` all
    examples of the selection must keep their answer; with all layers restored the model is the reference.

    Neither model is changed. 2 + 2 L passes over the selection to rank L layers, then at most L for each
    restored layer with `again`, one without, and one more to see whether it is needed.

    Parameters
    ----------
    inputs, label
        Examples as the models take them, and their true classes.
    limit
        What counts; see `Limit`.
    at_most
        Largest share of the examples of the selection that may count, in [0, 1].
    held_out
        Share of the examples, drawn at random, that is kept to judge the result, in (0, 1).
    again
        Rank the layers left anew after each that is restored; else keep to the first ranking, which misleads where
        the layers' harm does not add up.
    rng
        Draws the held-out examples.

    Raises
    ------
    ValueError
        If a setting is out of its range, or there are fewer than 2 examples.
    """
    check(limit in get_args(Limit), "limit", f"to be one of {list(get_args(Limit))}", limit)
    check(0 <= at_most <= 1, "at_most", "in [0, 1]", at_most)
    check(0 < held_out < 1, "held_out", "in (0, 1)", held_out)
    check(len(inputs) >= 2, "inputs", "to hold at least 2 examples", len(inputs))
    order = (rng or np.random.default_rng(0)).permutation(len(inputs))
    kept = min(max(round(len(inputs) * held_out), 1), len(inputs) - 1)
    judged, chosen = np.sort(order[:kept]), np.sort(order[kept:])
    pair = matched(reference, compressed, inputs[:8])
    share = _measure(pair, inputs, label, limit)
    before, before_judged = share(chosen), share(judged)
    layers = _ranked(pair, inputs[chosen], label[chosen].cpu().numpy(), limit) if before > at_most else []
    compressed_cost, reference_cost = (_cost(m, inputs) for m in (pair.compressed, pair.reference))
    restored, steps = _restored(pair, layers, lambda: share(chosen), before, at_most=at_most, again=again)
    found = share(judged)
    low, high = wilson(round(found * len(judged)), len(judged))
    return Restoration(
        model=copy.deepcopy(pair.compressed[0]),
        layers=tuple(layer.name for layer in pair.layers if layer in restored),
        reached=(after := share(chosen)) <= at_most,
        before=before,
        selected=after,
        held_out=found,
        held_out_interval=(float(low), float(high)),
        held_out_before=before_judged,
        steps=tuple(steps),
        cost=_cost(pair.compressed, inputs),
        compressed_cost=compressed_cost,
        reference_cost=reference_cost,
        unmatched=pair.unmatched,
    )


def _measure(pair: MatchedPair, inputs: Tensor, label: Tensor, limit: Limit) -> Callable[[NDArray[np.intp]], float]:
    """The share of some examples that counts, in the compressed side of the pair as it is when it is asked."""
    reference = answers(pair.reference, inputs.split(_BATCH))
    right = reference == label.cpu().numpy()

    def share(rows: NDArray[np.intp]) -> float:
        changed = answers(pair.compressed, inputs[rows].split(_BATCH)) != reference[rows]
        return float(np.mean(changed & right[rows] if limit == "cie_u" else changed))

    return share


def _ranked(pair: MatchedPair, inputs: Tensor, label: NDArray, limit: Limit) -> list[MatchedLayer]:
    """The layers that can be restored: most benefit per byte first."""
    counts = layer_effects(pair, inputs.split(_BATCH)).counts(label)
    restored, alone = getattr(counts, f"{limit}_restored"), getattr(counts, f"{limit}_alone")
    key = {}
    for place, layer in enumerate(pair.layers):
        added = _added_bytes(pair, layer)
        key[layer.name] = (restored[place] - getattr(counts, limit)) / added, -alone[place] / added, place
    return sorted((layer for layer in pair.layers if layer.is_exchangeable), key=lambda layer: key[layer.name])


def _restored(
    pair: MatchedPair,
    layers: Sequence[MatchedLayer],
    share: Callable[[], float],
    start: float,
    *,
    at_most: float,
    again: bool,
) -> tuple[list[MatchedLayer], list[tuple[str, float]]]:
    """Exchange layers of the pair for good until the limit holds, and take back what is not needed."""
    waiting, restored, now, steps = list(layers), [], start, []
    added = {layer.name: _added_bytes(pair, layer) for layer in layers}
    while waiting and now > at_most:
        if again and restored:
            found = {}
            for layer in waiting:
                with exchanged(pair, layer):
                    found[layer.name] = share()
            waiting.sort(key=lambda layer: (found[layer.name] - now) / added[layer.name])
        layer = waiting.pop(0)
        exchange(pair, layer)
        restored.append(layer)
        now = share()
        steps.append((layer.name, now))
    # The last one was needed.
    for layer in sorted(restored[:-1], key=lambda layer: -added[layer.name]) if now <= at_most else ():
        exchange(pair, layer)
        if share() <= at_most:
            restored.remove(layer)
        else:
            exchange(pair, layer)
    return restored, steps


def _added_bytes(pair: MatchedPair, layer: MatchedLayer) -> int:
    """What restoring a layer costs, at least 1: where it costs nothing, benefits alone decide."""
    if layer.obstacle:
        return 1
    return max(layer_bytes(pair.reference, layer) - layer_bytes(pair.compressed, layer), 1)


def _cost(model: nn.Module, inputs: Tensor) -> Cost:
    found = footprint.measure(model, tuple(inputs.shape[1:]), batch_size=1)
    return Cost(stored_bytes(model), found["flops"], found["effective_flops"])
