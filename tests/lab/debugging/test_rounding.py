import copy

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress import compress
from remnant.lab.compress.grids import quantize_weight
from remnant.lab.compress.layers import folded, named_layers
from remnant.lab.compress.quantized_layers import StaticLayer, WeightOnlyLayer
from remnant.lab.debugging.rounding import is_quantized, with_float_activations, with_float_weights
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab import toys

INT8 = pytest.mark.parametrize("scheme", [StaticInt8(), DynamicInt8(), DynamicInt8(per_channel=False)])


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def reference(context):
    return toys.trained("residual", context)


@INT8
def test_rounded_weights_alone_are_the_folded_model_with_rounded_weights(scheme, context, reference):
    images = toys.evaluation_images(context)
    found = with_float_activations(compress(scheme, reference, context))
    assert not is_quantized(found)
    expected = folded(reference, images[:8])
    with torch.no_grad():
        for layer in named_layers(expected).values():
            codes, scale = quantize_weight(layer.weight, getattr(scheme, "per_channel", True))
            layer.weight.copy_(codes * scale.view(-1, *[1] * (codes.dim() - 1)))
    np.testing.assert_allclose(toys.answers(found, images), toys.answers(expected, images), atol=2e-3)  # biases


@INT8
def test_rounded_activations_alone_keep_the_weights_of_the_reference(scheme, context, reference):
    images = toys.evaluation_images(context)
    quantized = compress(scheme, reference, context)
    dense = toys.answers(reference, images)
    found = toys.answers(with_float_weights(quantized, reference, images[:8]), images)
    assert 15 < toys.sqnr(dense, found) < 80
    # Weights that int8 holds exactly leave nothing but the rounding of activations.
    exact = copy.deepcopy(folded(reference, images[:8]))
    with torch.no_grad():
        for layer in named_layers(exact).values():
            codes, scale = quantize_weight(layer.weight)
            layer.weight.copy_(codes * scale.view(-1, *[1] * (codes.dim() - 1)))
            layer.bias = None  # pyright: ignore
    quantized = compress(scheme, exact, context)
    if scheme != DynamicInt8(per_channel=False):
        found = toys.answers(with_float_weights(quantized, exact, images[:8]), images)
        np.testing.assert_allclose(found, toys.answers(quantized, images), atol=0.05 * np.abs(found).max())


def test_static_activations_are_rounded_onto_the_same_grids(context, reference):
    quantized = compress(StaticInt8(), reference, context)
    found = with_float_weights(quantized, reference, toys.evaluation_images(context)[:8])
    layer = quantized.get_submodule("head")
    assert isinstance(layer, StaticLayer)
    assert layer.outputs is not None
    codes = toys.answers(found, toys.evaluation_images(context)) / layer.outputs.scale
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-3)


def test_layers_that_round_weights_only_compute_as_in_the_reference(context, reference):
    model = copy.deepcopy(reference)
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    codes, scale = quantize_weight(head.weight, bits=4)
    model.set_submodule("head", WeightOnlyLayer(head, codes, scale, 4))
    images = toys.evaluation_images(context)
    both = toys.answers(with_float_weights(model, reference, images[:8]), images)
    np.testing.assert_array_equal(both, toys.answers(reference, images))
    np.testing.assert_allclose(toys.answers(with_float_activations(model), images), toys.answers(model, images), 1e-4)


def test_the_given_models_are_not_changed(context, reference):
    quantized = compress(StaticInt8(), reference, context)
    images = toys.evaluation_images(context)
    before = toys.answers(quantized, images), toys.answers(reference, images)
    with_float_activations(quantized)
    with_float_weights(quantized, reference, images[:8])
    assert (toys.answers(quantized, images) == before[0]).all()
    assert (toys.answers(reference, images) == before[1]).all()


def test_a_float_model_is_refused(reference):
    with pytest.raises(ValueError, match="Expected a quantized model, but ResidualNet has no quantized layer"):
        with_float_activations(reference)


def test_another_reference_is_refused(context, reference):
    quantized = compress(StaticInt8(), reference, context)
    images = toys.evaluation_images(context)[:8]
    other = copy.deepcopy(reference)
    other.head = nn.Linear(8, 5)
    with pytest.raises(ValueError, match=r"Expected the reference to have a layer 'head' of .*\(4, 8\)"):
        with_float_weights(quantized, other, images)
    with pytest.raises(ValueError, match="Expected a reference with the batch norms of the quantized model"):
        with_float_weights(quantized, toys.built("mlp").eval(), images)
