from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import remnant.lab.probes.attribution as measuring
from remnant.lab.compress import compress
from remnant.lab.dataset import Dataset, Split
from remnant.lab.probing import Subject
from remnant.probes.attribution import METHODS, ROUTES, Attribution
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab.attribution.test_gradients import Rounded
from tests.lab.toys import context, trained

PLACE = context()
PROBE = Attribution(methods=METHODS, examples=20, steps=4, samples=3, square=0.5)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return trained("residual", PLACE).eval()


def subject(model, reference=None, probe=PROBE, rows=None):
    rows = np.arange(0, 60, 3) if rows is None else rows
    return Subject(model, reference, PLACE.dataset, rows, None, "dense", probe)


def test_maps_are_stored_over_their_peaks_with_the_class_and_the_route(model):
    found = measuring.measure(PROBE, subject(model))
    for name, dims in PROBE.dims.items():
        assert found[name].ndim == len(dims)
    assert found["attribution"].shape == (20, len(METHODS), 8, 8)
    assert found["attribution"].dtype == np.float16
    np.testing.assert_allclose(np.abs(found["attribution"].astype(float)).max(axis=(2, 3))[:, [0, 1, 3, 4]], 1)
    images = subject(model).inputs(np.arange(0, 60, 3))
    with torch.no_grad():
        expected = model(images).numpy().argmax(1)
    np.testing.assert_array_equal(found["target"], expected)
    np.testing.assert_array_equal(found["reference_target"], expected)
    assert [ROUTES[code] for code in found["route"][0]] == [
        "gradients", "gradients", "gradients", "occlusion", "gradients",
    ]  # fmt: skip
    np.testing.assert_array_equal(found["attribution"], found["same_class"])


def test_the_class_of_the_reference_is_explained_beside_the_own_one(model):
    """Where the answers agree the maps are the same; where they do not, one explains each class."""
    exchanged = nn.Linear(4, 4)
    with torch.no_grad():
        exchanged.weight.copy_(torch.eye(4)[[1, 0, 2, 3]])
        nn.init.zeros_(exchanged.bias)
    reference = nn.Sequential(model, exchanged).eval()
    probe = replace(PROBE, methods=("saliency",))
    found = measuring.measure(probe, subject(model, reference, probe))
    differ = found["target"] != found["reference_target"]
    assert 0 < differ.sum() < 20
    np.testing.assert_array_equal(found["attribution"][~differ], found["same_class"][~differ])
    images = subject(model).inputs(np.arange(0, 60, 3))
    expected = measuring.methods.saliency(model, images, found["reference_target"].astype(int)).numpy()
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(found["same_class"][:, 0], expected, atol=2e-3)


@pytest.mark.parametrize("scheme", [StaticInt8(), DynamicInt8()], ids=lambda s: s.label)
def test_int8_models_are_explained_through_their_twins_and_by_occlusion(model, scheme):
    found = measuring.measure(PROBE, subject(compress(scheme, model, PLACE), model))
    assert [ROUTES[code] for code in found["route"][0]] == [
        "straight-through", "straight-through", "straight-through", "occlusion", "straight-through",
    ]  # fmt: skip
    assert np.isfinite(found["attribution"]).all()
    assert (found["peak"][:, 0] > 0).all()


def test_masked_gradients_are_never_stored(model):
    found = measuring.measure(PROBE, subject(Rounded(model, leak=0.05), model))
    routes = [ROUTES[code] for code in found["route"][0]]
    assert routes == ["none", "none", "none", "occlusion", "none"]
    gradients = [k for k, route in enumerate(routes) if route == "none"]
    assert not found["attribution"][:, gradients].any()
    assert not found["peak"][:, gradients].any()
    assert found["attribution"][:, 3].any()


def test_networks_without_pictures_inside_have_no_grad_cam():
    model = trained("mlp", PLACE).eval()
    probe = replace(PROBE, methods=("grad-cam",))
    found = measuring.measure(probe, subject(model, probe=probe))
    assert ROUTES[found["route"][0, 0]] == "none"


def test_an_example_has_the_same_maps_whatever_else_is_probed(model):
    """The noise of SmoothGrad too: it is drawn for each example."""
    whole = measuring.measure(PROBE, subject(model))
    rows = np.arange(0, 60, 3)[4:9]
    part = measuring.measure(PROBE, subject(model, rows=rows))
    np.testing.assert_allclose(whole["attribution"][4:9].astype(float), part["attribution"].astype(float), atol=2e-3)


def test_inputs_that_are_no_pictures_are_refused():
    rng = np.random.default_rng(0)
    numbers = torch.from_numpy(rng.normal(size=(20, 6)).astype(np.float32))
    split = Split(numbers, torch.arange(20) % 4, np.array([str(i) for i in range(20)]))
    data = Dataset("numbers", split, split, tuple("abcd"), torch.zeros(6), torch.ones(6))
    model = nn.Linear(6, 4).eval()
    with pytest.raises(ValueError, match=r"Expected pictures .* the shape \(6,\)"):
        measuring.measure(PROBE, Subject(model, None, data, np.arange(5), None, "dense", PROBE))
