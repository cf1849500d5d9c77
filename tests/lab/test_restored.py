import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress import compress
from remnant.lab.compress.quantized_layers import QuantizedLayer
from remnant.lab.compress.restored import restored
from remnant.schemes import OneShotPruning, StaticInt8
from remnant.schemes.restored import Restored
from tests.lab import toys


@pytest.fixture(scope="module")
def context():
    plain = toys.context()
    return replace(plain, reference=toys.trained("residual", plain))


def test_named_layers_are_those_of_the_reference(context):
    quantized = compress(StaticInt8(), context.reference, context)
    found = restored(Restored(("stem", "head")), quantized, context)
    kinds = {name: isinstance(found.get_submodule(name), QuantizedLayer) for name in ("stem", "conv", "head")}
    assert kinds == {"stem": False, "conv": True, "head": False}
    assert isinstance(found.norm1, nn.BatchNorm2d)
    assert torch.equal(found.norm1.weight, context.reference.norm1.weight)  # pyright: ignore


def test_no_layers_leave_the_model_and_all_layers_give_the_reference(context):
    pruned = compress(OneShotPruning(0.8, epochs=0), context.reference, context)
    images = toys.evaluation_images(context)
    same = restored(Restored(), pruned, replace(context, reference=None))
    assert same is not pruned
    np.testing.assert_array_equal(toys.answers(same, images), toys.answers(pruned, images))
    found = restored(Restored(("stem", "conv", "depthwise", "norm3", "head")), pruned, context)
    np.testing.assert_array_equal(toys.answers(found, images), toys.answers(context.reference, images))


def test_the_given_models_are_not_changed(context):
    pruned = compress(OneShotPruning(0.8, epochs=0), context.reference, context)
    pruned.train()
    models = pruned, context.reference
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    found = restored(Restored(("conv",)), pruned, context)
    assert found.training
    assert found.conv.training  # pyright: ignore
    assert all(parameter.requires_grad for parameter in found.parameters())
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(1)
    for model, expected in zip(models, before, strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_unknown_layers_are_refused_with_all_names(context):
    pruned = copy.deepcopy(context.reference)
    with pytest.raises(ValueError, match="but got 'steam'; it has .*'stem', 'conv', 'depthwise', 'norm3', 'head'"):
        restored(Restored(("steam",)), pruned, context)


def test_layers_that_do_not_fit_are_refused(context):
    thin = copy.deepcopy(context.reference)
    thin.stem, thin.norm1 = nn.Conv2d(3, 8, 5, padding=1), nn.Identity()
    with pytest.raises(ValueError, match=r"stem: outputs of shape \(8, 6, 6\) instead of \(8, 8, 8\)"):
        restored(Restored(("stem",)), thin, context)


def test_without_a_reference_there_is_nothing_to_restore(context):
    with pytest.raises(ValueError, match="the context has none. Use `restored` as the last part of a composition"):
        restored(Restored(("stem",)), context.reference, replace(context, reference=None))


def test_a_layer_named_twice_is_refused():
    with pytest.raises(ValueError, match="Expected `layers` to name each layer once"):
        Restored(("a", "a"))


def test_the_dense_model_is_asked_for_where_layers_are_named():
    assert Restored(("stem",)).compares
    assert not Restored().compares
