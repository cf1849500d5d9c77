from dataclasses import replace

import pytest

from remnant.lab.cohort.rules import MOST, hidden, size, together
from remnant.schemes import Float16, MagnitudePruning
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp")


def test_plain_trainings_of_fully_connected_networks_go_together():
    assert together(Trial(RECIPE))
    assert not together(Trial(RECIPE, MagnitudePruning(0.5)))
    assert not together(Trial(RECIPE, Float16()))
    assert not together(Trial(replace(RECIPE, architecture="cnn")))
    assert not together(Trial(replace(RECIPE, precision="bfloat16")))


@pytest.mark.parametrize(
    ("architecture", "number"),
    [("mlp", MOST), ("mlp-64-32", MOST), ("mlp-128-64", MOST), ("mlp-512-256", MOST // 4), ("cnn", 1), ("resnet8", 1)],
)
def test_small_models_come_in_larger_cohorts(architecture, number):
    assert size(Trial(replace(RECIPE, architecture=architecture))) == number


def test_hidden_layers_are_read_from_the_name():
    assert hidden("mlp") == (128, 64)
    assert hidden("mlp-7") == (7,)
    assert hidden("mlp-512-256") == (512, 256)
    assert hidden("my.module:mlp-7") is None
    assert hidden("cnn-7") is None
