import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from remnant.lab.compress import compress
from remnant.lab.compress.quantized_layers import QuantizedLayer
from remnant.lab.debugging.matching import exchange, exchanged, matched
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab import toys
from tests.lab.debugging.networks import MAKERS, images, made

EVERY = pytest.mark.parametrize("name", list(MAKERS))


def tensors(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def names(pair):
    return [layer.name for layer in pair.layers]


def layer(pair, name):
    return next(layer for layer in pair.layers if layer.name == name)


def test_batch_norms_belong_to_the_layer_that_feeds_them():
    pair = matched(made("in place"), made("in place", 1), images())
    assert names(pair) == ["stem.0", "conv", "head"]
    assert layer(pair, "stem.0").modules == ("0.stem.0", "0.stem.1")
    assert layer(pair, "conv").output == "0.norm"
    assert layer(pair, "stem.0").bounds == (0, float("inf"))
    assert layer(pair, "conv").bounds == (-float("inf"), float("inf"))


def test_attention_is_one_layer_and_own_parameters_are_another():
    pair = matched(made("attention"), made("attention", 1), images())
    assert names(pair) == ["", "embed", "norm", "attention", "head"]
    assert layer(pair, "").output is None
    assert not pair.unmatched


def test_a_shared_layer_is_exchanged_under_all_its_names():
    pair = matched(made("shared"), made("shared", 1), images())
    assert names(pair) == ["first", "middle", "twice", "head"]
    assert set(layer(pair, "middle").modules) == {"0.middle", "0.again"}


@EVERY
def test_all_layers_exchanged_are_the_other_model(name):
    reference, other = made(name), made(name, 1)
    pair = matched(reference, other, images(8))
    with torch.no_grad(), exchanged(pair, *pair.layers):
        torch.testing.assert_close(pair.reference(images()), other(images()), rtol=0, atol=0)
        torch.testing.assert_close(pair.compressed(images()), reference(images()), rtol=0, atol=0)
    torch.testing.assert_close(pair.reference(images()), reference(images()), rtol=0, atol=0)


@EVERY
def test_the_given_models_are_not_changed(name):
    reference, other = made(name).train(), made(name, 1)
    before = tensors(reference), tensors(other)
    pair = matched(reference, other, images(8))
    exchange(pair, *pair.layers)
    for model, expected in zip((reference, other), before, strict=True):
        assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
        assert not any(parameter.is_inference() for parameter in pair.compressed.parameters())
    assert all(module.training for module in reference.modules())


@EVERY
def test_equal_models_do_not_differ(name):
    pair = matched(made(name), copy.deepcopy(made(name)), images(8))
    assert not any(layer.differs or layer.obstacle for layer in pair.layers)


def test_one_changed_weight_makes_one_layer_differ():
    reference = made("in place")
    other = copy.deepcopy(reference)
    with torch.no_grad():
        other.norm.bias[0] += 1  # pyright: ignore
    pair = matched(reference, other, images(8))
    assert [layer.name for layer in pair.layers if layer.differs] == ["conv"]


@pytest.mark.parametrize("scheme", [StaticInt8(), DynamicInt8()])
def test_folded_norms_are_exchanged_with_their_quantized_layer(scheme):
    context = toys.context()
    reference = toys.trained("residual", context)
    pair = matched(reference, compress(scheme, reference, context), toys.evaluation_images(context))
    assert not pair.unmatched
    stem = layer(pair, "stem")
    with exchanged(pair, stem):
        assert isinstance(pair.reference[0].stem, QuantizedLayer)
        assert isinstance(pair.reference[0].norm1, nn.Identity)
        assert isinstance(pair.compressed[0].stem, nn.Conv2d)
        assert isinstance(pair.compressed[0].norm1, nn.BatchNorm2d)
    with exchanged(pair, *pair.layers):
        expected = toys.answers(reference, toys.evaluation_images(context))
        assert (toys.answers(pair.compressed, toys.evaluation_images(context)) == expected).all()


def test_factors_take_the_place_of_their_layer():
    reference = made("plain")
    low = copy.deepcopy(reference)
    low[1] = nn.Sequential(nn.Linear(192, 2, bias=False), nn.Linear(2, 24))  # pyright: ignore
    pair = matched(reference, low, images(8))
    assert not pair.unmatched
    with torch.no_grad(), exchanged(pair, layer(pair, "1")):
        torch.testing.assert_close(pair.compressed(images()), reference(images()))


def test_parametrized_weights_are_one_layer():
    reference = made("plain")
    other = copy.deepcopy(reference)
    parametrizations.weight_norm(other[3])  # pyright: ignore
    pair = matched(reference, other, images(8))
    assert names(pair) == ["1", "3", "5"]
    assert [layer.name for layer in pair.layers if layer.is_exchangeable] == ["3"]
    assert names(matched(other, reference, images(8))) == ["1", "3", "5"]


def test_thinned_layers_are_listed_with_the_reason():
    reference = made("plain")
    thin = copy.deepcopy(reference)
    thin[1], thin[3] = nn.Linear(192, 20), nn.Linear(20, 16)  # pyright: ignore
    pair = matched(reference, thin, images(8))
    assert pair.unmatched == ("1: outputs of shape (20,) instead of (24,)", "3: inputs of shape (20,) instead of (24,)")
    assert not layer(pair, "5").obstacle


def test_missing_and_unused_layers_are_listed_with_the_reason():
    reference = made("plain")
    pair = matched(reference, nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval(), images(8))
    assert pair.unmatched[1:] == (
        "3: the compressed model has no module '3'",
        "5: the compressed model has no module '5'",
    )
    skipping = made("shared")
    skipping.twice.forward = lambda values: values  # pyright: ignore
    skipping.forward = lambda x: skipping.head(skipping.first(x.flatten(1)))  # pyright: ignore
    pair = matched(made("shared"), skipping, images(8))
    assert "twice: called 0 times instead of 2" in pair.unmatched


def test_own_parameters_of_another_shape_are_listed():
    other = made("attention")
    other.token = nn.Parameter(torch.zeros(1, 2, 8))  # pyright: ignore
    pair = matched(made("attention"), other, images(8))
    assert ": own parameters of other shapes" in pair.unmatched


def test_a_model_that_is_itself_a_layer_can_be_exchanged():
    one, two = nn.Linear(5, 3).eval(), nn.Linear(5, 3).eval()
    pair = matched(one, two, torch.randn(4, 5))
    assert names(pair) == [""]
    with exchanged(pair, *pair.layers):
        assert torch.equal(pair.reference[0].weight, two.weight)  # pyright: ignore


def test_a_failure_while_exchanged_puts_layers_back():
    pair = matched(made("plain"), made("plain", 1), images(8))
    before = pair.reference[0][1]  # pyright: ignore
    with pytest.raises(RuntimeError), exchanged(pair, *pair.layers):
        raise RuntimeError
    assert pair.reference[0][1] is before  # pyright: ignore


def test_modules_called_before_a_layer_are_known():
    pair = matched(made("in place"), made("in place", 1), images(8))
    assert layer(pair, "stem.0").before == ()
    assert layer(pair, "conv").before == ("0.stem",)
    assert set(layer(pair, "head").before) == {"0.stem", "0.conv", "0.norm"}
    assert pair.overwritten == {"0.stem.1", "0.norm"}
    assert layer(matched(made("shared"), made("shared", 1), images(8)), "head").before == ("0.first",)
