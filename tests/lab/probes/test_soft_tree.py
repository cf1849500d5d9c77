import numpy as np
import pytest
import torch

from remnant.lab.compress import compress
from remnant.lab.probes.soft_tree import measure, prepare
from remnant.lab.probing import Subject
from remnant.probes.soft_tree import SoftTree
from remnant.schemes import StaticInt8
from tests.lab import toys

PROBE = SoftTree(examples=50, depth=3, training=300, steps=150, size=4)


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def model(context):
    return toys.trained("residual", context)


@pytest.fixture(scope="module")
def prepared(context):
    return prepare(PROBE, context.dataset, PROBE.rows(64))


def subject(model, context, probe=PROBE):
    return Subject(model, None, context.dataset, probe.rows(64), None, "dense", probe)


@pytest.fixture(scope="module")
def found(model, context, prepared):
    return measure(PROBE, subject(model, context), prepared)


def test_arrays_have_the_dimensions_of_the_probe(found):
    sizes = {"example": 50, "leaf": 8, "node": 7, "class": 4, "channel": 3, "height": 4, "width": 4}
    assert list(found) == list(PROBE.dims)
    for name, dims in PROBE.dims.items():
        assert found[name].shape == tuple(sizes[dim] for dim in dims)
        assert np.isfinite(found[name]).all()
    assert sum(array.nbytes for array in found.values()) < 10_000


def test_the_tree_imitates_the_model(model, context, found):
    own = subject(model, context)
    with torch.no_grad():
        answers = model(own.inputs(own.rows)).argmax(1).numpy()
    assert (found["prediction"] == answers).mean() > 0.8
    np.testing.assert_allclose(found["leaf_distribution"].sum(axis=1), 1, atol=5e-3)
    assert (found["leaf_distribution"].argmax(axis=1)[found["leaf_reached"]] == found["prediction"]).all()
    # No leaf is less likely than all others together would allow.
    assert (found["path_probability"] >= 1 / 8).all()


def test_the_tree_of_labels_knows_no_model(model, context, prepared, found):
    other = toys.mlp().eval()
    again = measure(PROBE, subject(other, context), prepared)
    for name in ("label_prediction", "label_leaf_reached"):
        assert (again[name] == found[name]).all()
    assert not (again["prediction"] == found["prediction"]).all()
    labels = context.dataset.test.labels.numpy()[PROBE.rows(64)]
    assert (found["label_prediction"] == labels).mean() > 0.8


def test_the_same_model_gives_the_same_tree(model, context, prepared, found):
    again = measure(PROBE, subject(model, context), prepared)
    for name, array in found.items():
        assert (again[name] == array).all()


def test_a_quantized_model_has_a_tree(model, context, prepared, found):
    quantized = compress(StaticInt8(), model, context)
    again = measure(PROBE, subject(quantized, context), prepared)
    assert (again["prediction"] == found["prediction"]).mean() > 0.9


def test_leaf_pictures_are_means_of_pixels(context, prepared, found):
    """Together, by how often they are reached, they are near the mean of all training images."""
    picture = found["leaf_picture"].astype(float)
    every = context.dataset.train.images.float().mean((0, 2, 3)).numpy()
    assert np.abs(picture.mean((0, 2, 3)) - every).max() < 25
    assert picture.std(axis=0).max() > 5


def test_features_that_are_no_pictures_are_one_row(context):
    from dataclasses import replace

    data = context.dataset
    flat = {
        part: replace(getattr(data, part), images=getattr(data, part).images.float().flatten(1))
        for part in ("train", "test")
    }
    data = replace(data, **flat, mean=torch.full((192,), 128.0), std=torch.full((192,), 50.0))
    probe = SoftTree(examples=50, depth=2, training=200, steps=50)
    shared = prepare(probe, data, probe.rows(64))
    found = measure(probe, Subject(toys.mlp().eval(), None, data, probe.rows(64), None, "dense", probe), shared)
    assert found["filter"].shape == (3, 1, 1, 192)
    assert found["leaf_picture"].min() == 0
    assert found["leaf_picture"].max() == 255
