"""Compression schemes at work: one function for those that take part in training, one for those that come after.

Other packages add a scheme of their own with `take_part.register` or `compress.register`.
"""

import copy
from dataclasses import replace
from functools import singledispatch

from torch import nn

from remnant.lab.compress import (
    distillation,
    group_sparsity,
    layerwise,
    learning_compression,
    low_rank,
    pruning,
    qat,
    quantization,
    restored,
    weight_only,
)
from remnant.lab.compress.context import Context
from remnant.lab.compress.restoring import restore
from remnant.lab.train import Hook
from remnant.schemes import (
    SCHEMES,
    Compose,
    Dense,
    Distillation,
    DynamicInt8,
    Float16,
    GradualPruning,
    GroupSparsity,
    IterativePruning,
    LayerwisePruning,
    LearningCompression,
    LowRank,
    MagnitudePruning,
    OneShotPruning,
    QuantizationAwareTraining,
    Restored,
    Scheme,
    SelectedData,
    StaticInt8,
    WeightOnly,
)

__all__ = ["Context", "Hook", "compress", "restore", "take_part"]


@singledispatch
def take_part(scheme: Scheme, model: nn.Module) -> Hook | None:
    """The hook through which a scheme takes part in the training of `model`; None if it does not.

    `model` is prepared in place; the hook's `finish` leaves an ordinary module again.

    Raises
    ------
    TypeError
        If nothing is registered for the scheme's type.
    """
    raise _unregistered("take_part", scheme)


@singledispatch
def compress(scheme: Scheme, model: nn.Module, context: Context) -> nn.Module:
    """A compressed copy of a trained model. `model` itself is never changed.

    Schemes that take part in training (`post_training` is False) are in the model already: for them
    this is a plain copy, checked for the declared sparsity. `Compose` applies its parts in order.

    Raises
    ------
    TypeError
        If nothing is registered for the scheme's type.
    ValueError
        If the model has no linear or convolution layer, NaN or infinite weights, or is quantized already.
    """
    raise _unregistered("compress", scheme)


def _unregistered(function: str, scheme: object) -> TypeError:
    return TypeError(
        f"Expected `scheme` of a type that remnant.lab.compress.{function} knows, but got {scheme!r}. "
        f"Register it with `{function}.register({type(scheme).__name__}, your_function)`."
    )


def _stay_out(scheme: Scheme, model: nn.Module) -> None:
    return None


def _take_first_part(scheme: Compose, model: nn.Module) -> Hook | None:
    return take_part(scheme.parts[0], model)


def _copy(scheme: Scheme, model: nn.Module, context: Context) -> nn.Module:
    return copy.deepcopy(model)


def _chain(scheme: Compose, model: nn.Module, context: Context) -> nn.Module:
    # Later parts are held to the answers of the model that the first was given.
    context = replace(context, reference=context.reference or model)
    for part in scheme.parts:
        model = compress(part, model, context)
    return model


for _scheme in SCHEMES.values():
    if _scheme not in (MagnitudePruning, Compose):
        take_part.register(_scheme, _stay_out)
take_part.register(MagnitudePruning, pruning.magnitude)
take_part.register(Compose, _take_first_part)

compress.register(Dense, _copy)
compress.register(SelectedData, _copy)
compress.register(MagnitudePruning, pruning.copy_pruned)
compress.register(OneShotPruning, pruning.one_shot)
compress.register(GradualPruning, pruning.gradual)
compress.register(IterativePruning, pruning.iterative)
compress.register(LayerwisePruning, layerwise.layerwise)
compress.register(GroupSparsity, group_sparsity.group_sparsity)
compress.register(LowRank, low_rank.low_rank)
compress.register(Distillation, distillation.distilled)
compress.register(LearningCompression, learning_compression.learning_compression)
compress.register(Float16, quantization.float16)
compress.register(DynamicInt8, quantization.dynamic_int8)
compress.register(StaticInt8, quantization.static_int8)
compress.register(WeightOnly, weight_only.weight_only)
compress.register(QuantizationAwareTraining, qat.quantization_aware)
compress.register(Restored, restored.restored)
compress.register(Compose, _chain)

restore.register(GroupSparsity, group_sparsity.restore_group_sparsity)
restore.register(LowRank, low_rank.restore_low_rank)
restore.register(Float16, quantization.restored_float16)
restore.register(DynamicInt8, quantization.restored_dynamic)
restore.register(StaticInt8, quantization.restored_static)
restore.register(WeightOnly, weight_only.restored)
restore.register(QuantizationAwareTraining, qat.restored)
