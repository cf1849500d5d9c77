"""What every compression scheme keeps, on every kind of small model. A new scheme inherits these tests."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.alignment import objective
from remnant.lab.compress import Context, compress, take_part, tuning
from remnant.schemes import (
    SCHEMES,
    Align,
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
    TunedScheme,
    WeightOnly,
)
from remnant.schemes.pruning import PostTrainingPruning
from tests.lab.toys import MODELS, NUM_CLASSES, answers, built, context, evaluation_images, quantized_layers, trained

EXAMPLES: list[Scheme] = [
    Dense(),
    MagnitudePruning(0.5),
    MagnitudePruning(0.9, scope="global", gradient="straight-through", frequency=3),
    OneShotPruning(0.5),
    OneShotPruning(0.9, scope="layer", epochs=0),
    Float16(),
    DynamicInt8(),
    DynamicInt8(per_channel=False),
    StaticInt8(),
    StaticInt8(calibration=10, per_channel=False),
    SelectedData("random", 0.5, "0123456789abcdef"),
    Compose((MagnitudePruning(0.7), StaticInt8())),
    Compose((OneShotPruning(0.7, epochs=0.5), Float16())),
    Compose((Dense(), DynamicInt8())),
    OneShotPruning(0.5, structure="filter", physical=True, epochs=0),
    OneShotPruning(0.5, structure="block", epochs=0),
    GradualPruning(0.7, epochs=0.5, align=Align(("distillation", "logits"), weights="softadapt", update=1)),
    IterativePruning(0.6, rounds=2, epochs=0.5, align=Align(("features", "labels"), focus="forgotten")),
    LayerwisePruning((0.5,), epochs=0.5, align=Align(("logits",), mix=1.0)),
    GroupSparsity(0.7, epochs=1.0),
    LowRank(share=0.6, epochs=0.5),
    LowRank(energy=0.9, method="svd", epochs=0),
    Distillation("mlp-8", epochs=1.0),
    LearningCompression(OneShotPruning(0.5, epochs=0), steps=3, epochs=1.0, validation=0.2),
    WeightOnly(4),
    QuantizationAwareTraining(4, epochs=0.5, align=Align(weights="uncertainty")),
    Compose((StaticInt8(), Restored())),
]
every_scheme = pytest.mark.parametrize("scheme", EXAMPLES, ids=lambda scheme: scheme.label)
every_model = pytest.mark.parametrize("name", MODELS)


def test_every_scheme_is_tried():
    tried = {type(part) for scheme in EXAMPLES for part in (scheme, *getattr(scheme, "parts", ()))}
    assert tried == set(SCHEMES.values())


@pytest.fixture(scope="module")
def place() -> Context:
    return context()


def applied(scheme: Scheme, model: nn.Module, place: Context) -> nn.Module | None:
    """The compressed model; None where the scheme refuses the architecture, in clear words."""
    try:
        return compress(scheme, model, place)
    except ValueError as error:
        assert str(error).startswith("Expected")  # noqa: PT017
        return None


def fingerprint(model: nn.Module) -> str:
    """Hash of all that a compression must leave alone: tensors, modes, hooks, types and gradients."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes() + str(tensor.stride()).encode())
    for name, module in model.named_modules():
        hooks = [list(module._forward_hooks), list(module._forward_pre_hooks), list(module._backward_hooks)]
        digest.update(repr((name, type(module), module.training, hooks)).encode())
    for name, parameter in model.named_parameters():
        digest.update(repr((name, id(parameter), parameter.requires_grad, parameter.grad is None)).encode())
    return digest.hexdigest()


Reference = Callable[[Scheme, str], nn.Module]


@pytest.fixture(scope="module")
def reference(place: Context) -> Reference:
    """The trained model that `compress` is given, dense or pruned in training: a new copy each time."""

    @cache
    def once(scheme: Scheme | None, name: str) -> nn.Module:
        return trained(name, place, scheme)

    def reference(scheme: Scheme, name: str) -> nn.Module:
        takes_part = take_part(scheme, built(name)) is not None
        return copy.deepcopy(once(scheme if takes_part else None, name))

    return reference


@every_scheme
@every_model
def test_the_given_model_is_untouched(scheme, name, place, reference):
    model = reference(scheme, name)
    calls: list[int] = []
    model.register_forward_hook(lambda *_: calls.append(1))
    for training in (True, False):
        model.train(training)
        next(model.children()).train(not training)
        before = fingerprint(model)
        compressed = applied(scheme, model, place)
        with torch.no_grad():
            for tensor in [] if compressed is None else compressed.state_dict().values():
                tensor.zero_()
        assert fingerprint(model) == before
        assert compressed is not model


@every_scheme
@every_model
def test_logits_keep_their_shape_and_are_finite(scheme, name, place, reference):
    compressed = applied(scheme, reference(scheme, name), place)
    if compressed is None:
        return
    logits = answers(compressed, evaluation_images(place))
    assert logits.shape == (64, NUM_CLASSES)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


@every_scheme
@every_model
def test_the_same_random_streams_give_the_same_model(scheme, name, place, reference):
    images = evaluation_images(place)
    first, again = reference(scheme, name), reference(scheme, name)
    if take_part(scheme, built(name)) is not None:
        again = trained(name, place, scheme)
    results = []
    for model in (first, again):
        torch.manual_seed(3)  # dropout in a fine-tuning
        compressed = applied(scheme, model, place)
        results.append(None if compressed is None else answers(compressed, images))
    np.testing.assert_array_equal(*results)


@every_scheme
@every_model
def test_the_declared_strength_is_reached(scheme, name, place, reference):
    model = applied(scheme, reference(scheme, name), place)
    if model is None:
        return
    parts = scheme.parts if isinstance(scheme, Compose) else (scheme,)
    weights = [p for p in model.parameters() if p.dim() >= 2]
    for part in parts:
        if (
            isinstance(part, MagnitudePruning | PostTrainingPruning)
            and getattr(part, "structure", "weight") == "weight"
        ):
            missing = [round(part.sparsity * w.numel()) - int((w == 0).sum()) for w in weights]
            if part.scope == "layer":
                assert max(missing) <= 1
            assert sum(missing) <= len(weights)
            if not isinstance(parts[-1], StaticInt8 | DynamicInt8):  # rounding makes more zeros
                assert sum(missing) >= -len(weights)
        if isinstance(part, Float16):
            assert all(torch.equal(p, p.half().float()) for p in model.parameters())
        if isinstance(part, DynamicInt8 | StaticInt8):
            layers = quantized_layers(model)
            assert len(layers) == len(weights)
            assert all(torch.equal(w, w.round().clamp(-127, 127)) for w in weights)


@pytest.mark.parametrize(
    "scheme",
    [
        Dense(),
        OneShotPruning(0.0, epochs=0),
        OneShotPruning(0.0, scope="layer", epochs=0),
        *(
            MagnitudePruning(0.0, scope=s, gradient=g)
            for s in ("layer", "global")
            for g in ("masked", "straight-through")
        ),
        Compose((MagnitudePruning(0.0), OneShotPruning(0.0, epochs=0))),
    ],
    ids=lambda scheme: scheme.label,
)
@every_model
def test_no_compression_is_the_dense_model_bit_for_bit(scheme, name, place, reference):
    dense = reference(Dense(), name)
    nothing = compress(scheme, reference(scheme, name), place)
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(nothing, images), answers(dense, images))
    assert {name: tensor.tolist() for name, tensor in nothing.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in dense.state_dict().items()
    }


@every_scheme
def test_compression_works_with_bfloat16_training_and_held_out_examples(scheme, place):
    recipe = replace(place.recipe, precision="bfloat16", validation=0.2, checkpoint="validation", epochs=2)
    place = replace(place, recipe=recipe)
    model = trained("residual", place, scheme)
    logits = answers(compress(scheme, model, place), evaluation_images(place))
    assert np.isfinite(logits).all()


@every_scheme
def test_only_schemes_of_training_take_part_in_it(scheme):
    first = scheme.parts[0] if isinstance(scheme, Compose) else scheme
    hook = take_part(scheme, built("mlp"))
    assert (hook is not None) == isinstance(first, MagnitudePruning)
    if first.post_training:
        assert hook is None


def test_compose_applies_its_parts_in_order(place, reference):
    model = reference(Dense(), "residual")
    together = compress(Compose((OneShotPruning(0.5, epochs=0), StaticInt8())), model, place)
    one_by_one = compress(StaticInt8(), compress(OneShotPruning(0.5, epochs=0), model, place), place)
    images = evaluation_images(place)
    np.testing.assert_array_equal(answers(together, images), answers(one_by_one, images))


@pytest.mark.parametrize(
    "scheme", [s for s in EXAMPLES if isinstance(s, TunedScheme) and s.epochs > 0], ids=lambda scheme: scheme.label
)
def test_losses_look_at_the_reference_of_the_context_and_not_at_the_model_that_is_compressed(
    scheme, place, reference, monkeypatch
):
    """In a composition these differ: the model may be pruned already."""
    dense, seen = built("residual"), []
    expected = {name: tensor.clone() for name, tensor in dense.state_dict().items()}

    def watched(align, teacher, *rest, **options):
        seen.append(teacher.state_dict())
        return objective(align, teacher, *rest, **options)

    monkeypatch.setattr(tuning, "objective", watched)
    aligned = replace(scheme, align=Align(("logits",)))
    compress(aligned, reference(Dense(), "residual"), replace(place, reference=dense))
    assert seen
    assert all(torch.equal(state[name], tensor) for state in seen for name, tensor in expected.items())


def test_unregistered_schemes_are_named(place):
    @dataclass(frozen=True)
    class Magic(Scheme):
        kind: ClassVar[str] = "magic"

    with pytest.raises(
        TypeError, match=r"that remnant.lab.compress.compress knows, but got .*Magic.*compress.register"
    ):
        compress(Magic(), built("mlp"), place)
    with pytest.raises(TypeError, match=r"take_part.register\(Magic"):
        take_part(Magic(), built("mlp"))


def test_other_packages_can_add_a_scheme(place):
    @dataclass(frozen=True)
    class Halved(Scheme):
        kind: ClassVar[str] = "halved"

    def halve(scheme: Halved, model: nn.Module, context: Context) -> nn.Module:
        model = copy.deepcopy(model)
        model[4].weight.data /= 2  # pyright: ignore
        return model

    compress.register(Halved, halve)
    model = built("mlp")
    both = compress(Compose((Halved(), Halved())), model, place)
    torch.testing.assert_close(both[4].weight * 4, model[4].weight)  # pyright: ignore
