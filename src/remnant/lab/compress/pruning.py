"""Magnitude pruning: during training on a cubic schedule, or of a trained model at once, gradually or in rounds."""

import copy
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils import parametrize

from remnant.lab.compress import rewinding, structures, thinning
from remnant.lab.compress.context import Context
from remnant.lab.compress.layers import Layer, check_finite, named_layers
from remnant.lab.compress.masks import Masks, masked
from remnant.lab.compress.quantization import QuantizedLayer
from remnant.lab.compress.restoring import restore
from remnant.lab.compress.structures import Ranking
from remnant.lab.compress.tuning import tuned, with_modes_of
from remnant.lab.compress.wiring import examples_of, wiring
from remnant.schemes import MagnitudePruning, OneShotPruning
from remnant.schemes.pruning import GradualPruning, IterativePruning, PostTrainingPruning


def cubic_sparsity(step: float, begin: float, end: float, final: float, initial: float = 0.0) -> float:
    """Sparsity at a step: `initial` before `begin`, `final` from `end` on, fast first and slow last between them.

    s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (t_1 - t_0))^3 for t_0 < t < t_1. If t_0 = t_1 it jumps there.

    References
    ----------
    zhu2017prune, eq. 1
    """
    if step >= end:
        return final
    if step <= begin:
        return initial
    return final + (initial - final) * (1 - (step - begin) / (end - begin)) ** 3


def geometric_sparsity(number: int, rounds: int, final: float) -> float:
    """Sparsity after round `number` (from 1) of `rounds`: 1 - (1 - final)^(number / rounds), `final` after the last.

    Every round removes the same share of what the one before left.

    References
    ----------
    renda2020comparing, section 2
    """
    return final if number == rounds else 1 - (1 - final) ** (number / rounds)


@dataclass(frozen=True)
class Pruner:
    """Prunes layers while they train; see `magnitude`."""

    scheme: MagnitudePruning | GradualPruning
    masks: Masks

    def before_step(self, step: int, num_steps: int) -> None:
        """Update the masks every `frequency` steps from `begin` on, and last at `end`."""
        begin, end = self._span(num_steps)
        if begin <= step <= end and ((step - begin) % self.scheme.frequency == 0 or step == end):
            self._prune(cubic_sparsity(step, begin, end, self.scheme.sparsity))

    def settled(self, step: int, num_steps: int) -> bool:
        """Whether the last update of the masks comes before step number `step`."""
        return step > self._span(num_steps)[1]

    def finish(self) -> None:
        """Leave ordinary layers with the declared sparsity. A second call changes nothing."""
        # Fewer steps than the schedule has, or a checkpoint from before its end, leave too many.
        if not self.masks.final and not self._reached():
            self._prune(self.scheme.sparsity)
        self.masks.finish()

    def _span(self, num_steps: int) -> tuple[int, int]:
        """Steps of the first and the last update."""
        last = num_steps - 1
        return min(round(self.scheme.begin * num_steps), last), min(round(self.scheme.end * num_steps), last)

    def _reached(self) -> bool:
        ranking, kept = self.masks.ranking, self.masks.kept()
        if ranking.uses is not None:
            return ranking.flops_removed(kept) >= self.scheme.sparsity
        return sum(int(part.sum()) for part in kept) <= ranking.num_groups(self.scheme.sparsity)

    def _prune(self, share: float) -> None:
        """Set the masks from the magnitudes of the raw weights, pruned ones among them: they can come back."""
        self.masks.set(self.masks.ranking.kept(share))


def magnitude(scheme: MagnitudePruning, model: nn.Module) -> Pruner:
    """The hook that prunes `model` during its training.

    Layers get a parametrization weight = mask * raw weight until the hook's `finish`. Steps are
    rounded to begin * (number of steps) and end * (number of steps); masks are updated every
    `frequency` steps and at the last of them, always from the magnitudes of the raw weights.

    With gradient="masked" the raw weight behind a zero gets no gradient and moves by weight decay and
    momentum only (the published code of Hooker et al.); with "straight-through" it gets the gradient of
    the masked weight as if it were not masked ("removed weights continue to receive gradient updates").

    Raises
    ------
    ValueError
        If the model has no layer to prune, or its weights are parametrized already or quantized.

    References
    ----------
    zhu2017prune, section 3; hooker2019what, appendix B
    """
    ranking = Ranking(structures.weights(prunable(model)), scheme.scope, in_each=False)
    return Pruner(scheme, masked(ranking, scheme.gradient))


def copy_pruned(scheme: MagnitudePruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy of a model that was pruned in training.

    Raises
    ------
    ValueError
        If it has fewer zeros than the scheme declares.
    """
    weights = [layer.weight for layer in named_layers(model).values()]
    size, zeros = sum(w.numel() for w in weights), sum(int((w == 0).sum()) for w in weights)
    if zeros < size * scheme.sparsity - len(weights):  # each layer is exact within one weight
        raise ValueError(
            f"Expected a model trained with {scheme.label!r}, but only {zeros} of its {size} weights are 0. "
            "Pass the hook of `take_part` to `train`, or prune a trained model with OneShotPruning."
        )
    return copy.deepcopy(model)


def one_shot(scheme: OneShotPruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy with the smallest groups of weights at zero, fine-tuned for `epochs` with the masks held.

    The fine-tuning follows the recipe of the training (schedule, augmentation, held-out examples, ...)
    from the scheme's learning rate, with random streams of its own. With `physical` it is the smaller
    model that is fine-tuned, which is faster, unless its features are compared with those of the reference:
    then masks keep their number until the end.

    Raises
    ------
    ValueError
        If the model has nothing to prune, NaN or infinite weights, or is quantized or parametrized already.
    """
    pruned = copy.deepcopy(model)
    ranking = ranking_of(scheme, pruned, context)
    masks = masked(ranking)
    masks.set(ranking.kept(scheme.sparsity))
    reference = context.reference or model
    if scheme.physical and not (scheme.align and "features" in scheme.align.terms):
        masks.finish()
        thinning.thin(ranking.structures, masks.final)
        return with_modes_of(tuned(pruned, scheme, reference, context), model)
    tuned(pruned, scheme, reference, context, hook=masks)
    return _finished(scheme, pruned, model, masks)


def gradual(scheme: GradualPruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy that was fine-tuned for `epochs` while more and more of its groups of weights went to zero.

    As `magnitude`, but in the fine-tuning of a trained model. Without epochs all go at once.

    Raises
    ------
    ValueError
        As `one_shot`.

    References
    ----------
    zhu2017prune, section 3
    """
    pruned = copy.deepcopy(model)
    masks = masked(ranking_of(scheme, pruned, context), scheme.gradient)
    tuned(pruned, scheme, context.reference or model, context, hook=Pruner(scheme, masks))
    return _finished(scheme, pruned, model, masks)


def iterative(scheme: IterativePruning, model: nn.Module, context: Context) -> nn.Module:
    """A copy that was pruned and retrained in rounds.

    A group that went stays away. The first round's random streams are those of `one_shot`, so that one round of
    fine-tuning is the same.

    Raises
    ------
    ValueError
        As `one_shot`; and if the weights to rewind to cannot be remade, because the recipe has fewer epochs or
        another architecture.

    References
    ----------
    renda2020comparing, section 2; frankle2020linear, section 4
    """
    pruned = copy.deepcopy(model)
    ranking = ranking_of(scheme, pruned, context)
    span = None if scheme.rewind == "none" else rewinding.last_steps(scheme.epochs, context)
    early = rewinding.early_weights(model, span[0], context) if span and scheme.rewind == "weights" else None
    masks = masked(ranking)
    for number in range(1, scheme.rounds + 1):
        masks = masked(ranking) if number > 1 else masks
        kept = ranking.kept(geometric_sparsity(number, scheme.rounds, scheme.sparsity))
        if early is not None:
            rewinding.rewind(pruned, early)
        masks.set(kept)
        stream = "fine-tune" if number == 1 else f"fine-tune-{number}"
        recipe = None if span is None else context.recipe
        reference = context.reference or model
        tuned(pruned, scheme, reference, context, hook=masks, recipe=recipe, span=span, stream=stream)
    return _finished(scheme, pruned, model, masks)


def ranking_of(scheme: PostTrainingPruning, model: nn.Module, context: Context) -> Ranking:
    """The groups of weights of `model` that a scheme ranks; the model is set to evaluation mode.

    With `physical` what cannot be made smaller is added to `context.skipped`.

    Raises
    ------
    ValueError
        If the model has no such groups, NaN or infinite weights, or is quantized or parametrized already.
    """
    check_finite(model)
    layers = prunable(model)
    if scheme.structure == "weight":
        return Ranking(structures.weights(layers), scheme.scope)
    examples = examples_of(context.dataset.input_shape, model)
    wires = wiring(model, examples)
    if scheme.physical:
        chosen = structures.output_layers(layers, scheme.structure, wires)
        groups, skipped = thinning.coupled(model, examples, chosen, wires)
        context.skipped.extend(skipped)
    elif scheme.structure == "block":
        groups = structures.blocks(layers, scheme.block_size)
    else:
        groups = structures.outputs(model, scheme.structure, wires)
    return Ranking(groups, scheme.scope, scheme.criterion, uses=wires.uses if scheme.target == "flops" else None)


def _finished(scheme: PostTrainingPruning, pruned: nn.Module, model: nn.Module, masks: Masks) -> nn.Module:
    """The pruned model, smaller if asked for, in the modes of the given one."""
    if scheme.physical:
        thinning.thin(masks.ranking.structures, masks.final)
    return with_modes_of(pruned, model)


def _restored(scheme: PostTrainingPruning, parent: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    """The pruned model from its tensors, with layers of their sizes."""
    model = thinning.shaped(copy.deepcopy(parent), state) if scheme.physical else copy.deepcopy(parent)
    model.load_state_dict(state)
    return model


for _scheme in (OneShotPruning, GradualPruning, IterativePruning):
    restore.register(_scheme, _restored)


def prunable(model: nn.Module) -> dict[str, Layer]:
    """The layers of a model by name, checked to have plain float weights.

    Raises
    ------
    ValueError
        If there is none, or weights are quantized or parametrized already.
    """
    if any(isinstance(module, QuantizedLayer) for module in model.modules()):
        raise ValueError(
            "Expected a model that is not quantized, but it has quantized layers. Prune first, then quantize."
        )
    layers = named_layers(model)
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(
                f"Expected plain weights, but the weight of layer {name!r} is parametrized (weight norm? pruning?). "
                "Remove it first with torch.nn.utils.parametrize.remove_parametrizations."
            )
    return layers
