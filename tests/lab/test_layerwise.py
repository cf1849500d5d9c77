"""Pruning with a sparsity for each layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress.layers import named_layers
from remnant.lab.compress.layerwise import global_sparsities, layer_sizes, layerwise
from remnant.lab.compress.pruning import one_shot
from remnant.lab.compress.structures import num_kept
from remnant.schemes import OneShotPruning
from remnant.schemes.layerwise import LayerwisePruning
from tests.lab.toys import answers, built, context, evaluation_images


def zeros(model: nn.Module) -> list[int]:
    return [int((layer.weight == 0).sum()) for layer in named_layers(model).values()]


@pytest.mark.parametrize("epochs", [0, 1])
def test_each_layer_has_its_own_sparsity_before_and_after_fine_tuning(epochs):
    model, place = built("residual"), context()
    sizes = list(layer_sizes(model).values())
    sparsities = tuple(np.linspace(0, 0.9, len(sizes)).round(2).tolist())
    pruned = layerwise(LayerwisePruning(sparsities, epochs=epochs), model, place)
    assert zeros(pruned) == [size - num_kept(size, s) for size, s in zip(sizes, sparsities, strict=True)]
    assert all(type(layer) is type(other) for layer, other in zip(pruned.modules(), model.modules(), strict=True))


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_one_sparsity_for_all_is_one_shot_pruning_by_layer(name):
    place = context()
    images = evaluation_images(place)
    torch.manual_seed(3)
    mine = layerwise(LayerwisePruning((0.7,), epochs=0.5), built(name), place)
    torch.manual_seed(3)
    other = one_shot(OneShotPruning(0.7, scope="layer", epochs=0.5), built(name), place)
    np.testing.assert_array_equal(answers(mine, images), answers(other, images))


def test_sparsities_of_one_threshold_prune_what_global_pruning_does():
    model, place = built("residual"), context()
    sparsities = global_sparsities(model, 0.6)
    images = evaluation_images(place)
    mine = layerwise(LayerwisePruning(sparsities, epochs=0), model, place)
    other = one_shot(OneShotPruning(0.6, scope="global", epochs=0), model, place)
    np.testing.assert_array_equal(answers(mine, images), answers(other, images))
    assert len(set(sparsities)) > 1


def test_nothing_pruned_is_the_model_itself():
    model, place = built("residual"), context()
    same = layerwise(LayerwisePruning((0.0,), epochs=0), model, place)
    for name, tensor in same.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_masks_hold_while_others_learn():
    model, place = built("mlp"), context()
    before = layerwise(LayerwisePruning((0.5, 0.8), epochs=0), model, place)
    after = layerwise(LayerwisePruning((0.5, 0.8), epochs=1), model, place)
    for one, two in zip(named_layers(before).values(), named_layers(after).values(), strict=True):
        assert ((two.weight == 0) == (one.weight == 0)).all()
        assert not torch.equal(one.weight, two.weight)


def test_the_wrong_number_of_sparsities_lists_the_layers():
    model, place = built("mlp"), context()
    with pytest.raises(ValueError, match=r"`sparsities` for 2 layers, but got 3. .* in order: \['1', '4'\]"):
        layerwise(LayerwisePruning((0.1, 0.2, 0.3)), model, place)


def test_parametrized_layers_are_named():
    model = built("mlp")
    nn.utils.parametrizations.weight_norm(model[1])  # pyright: ignore
    with pytest.raises(ValueError, match=r"the weight of layer '1' is parametrized"):
        layerwise(LayerwisePruning((0.5,)), model, replace(context()))


@pytest.mark.parametrize(
    ("sparsities", "message"),
    [
        ((), "to hold a sparsity for each layer"),
        ((0.5, 1.0), r"Expected `sparsities\[1\]` in \[0, 1\), but got 1.0"),
        ((-0.1,), r"Expected `sparsities\[0\]`"),
    ],
)
def test_malformed_sparsities_are_refused(sparsities, message):
    with pytest.raises(ValueError, match=message):
        LayerwisePruning(sparsities)
