from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.boundary.crossings import crossings
from remnant.lab.boundary.pixels import pixel_model, pixels, spread
from remnant.lab.compress import compress
from remnant.lab.dataset import take
from remnant.lab.probes.boundary import measure, random_directions
from remnant.lab.probing import Subject
from remnant.probes.boundary import FOUND, NOT_MEASURED, Boundary
from remnant.schemes import DynamicInt8, Float16, StaticInt8
from tests.lab import toys

PROBE = Boundary(examples=24, directions=3)
WORST = ("nearest", "along_reference")


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def model(context):
    return toys.trained("residual", context)


def subject(model, context, *, reference=None, kind="dense", probe=PROBE, rows=None):
    data = context.dataset
    rows = probe.rows(len(data.test)) if rows is None else rows
    return Subject(model, reference, data, rows, None, kind, probe)


@pytest.fixture(scope="module")
def dense(model, context):
    return measure(PROBE, subject(model, context))


def test_arrays_have_the_dimensions_of_the_probe(dense):
    assert list(dense) == list(PROBE.dims)
    for name, dims in PROBE.dims.items():
        assert dense[name].shape == (24, 3)[: len(dims)]
        assert np.isfinite(dense[name]).all()
    assert dense["random"].dtype == np.float32
    assert dense["random_found"].dtype == bool


def test_the_unit_is_the_norm_of_the_change_of_pixels_over_255(context):
    """A linear model on normalized inputs: closed form with the weights over the std of their channel."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(192, toys.NUM_CLASSES)
    weights = rng.normal(0, 0.3, (toys.NUM_CLASSES, 192)).astype(np.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
        layer.bias.zero_()
    data = context.dataset
    found = measure(PROBE, subject(nn.Sequential(nn.Flatten(), layer).eval(), context))
    rows = PROBE.rows(len(data.test))
    points = take(data.test.images, rows).double().numpy().reshape(len(rows), 3, 64) / 255
    normal = (points - data.mean.double().numpy()[:, None]) / data.std.double().numpy()[:, None]
    outputs = normal.reshape(len(rows), -1) @ weights.T.astype(float)
    per_pixel = (weights.reshape(-1, 3, 64) / data.std.numpy()[:, None]).reshape(-1, 192)
    lead = outputs.max(1, keepdims=True) - outputs
    norm = np.linalg.norm(per_pixel[outputs.argmax(1)][:, None] - per_pixel, axis=2)
    way = np.where(norm > 0, lead / np.where(norm > 0, norm, 1), np.inf).min(axis=1)
    assert (found["nearest_status"] == FOUND).all()
    np.testing.assert_allclose(found["nearest"], way, rtol=0.011, atol=2e-5)
    assert (found["random"].min(axis=1) >= way * 0.999).all()


def test_a_dense_model_is_its_own_reference(dense):
    np.testing.assert_array_equal(dense["along_reference"], dense["nearest"])
    assert (dense["nearest_status"] == FOUND).all()
    assert (dense["nearest"] <= dense["random"].min(axis=1) * 1.001).all()


def test_an_identical_model_has_identical_distances(dense, model, context):
    other = measure(PROBE, subject(model, context, reference=model, kind="float16"))
    for name in dense:
        np.testing.assert_array_equal(other[name], dense[name])


@pytest.mark.parametrize("scheme", [DynamicInt8(), StaticInt8()])
def test_masked_gradients_are_never_reported(scheme, model, context, dense):
    """The int8 model has no worst direction of its own; along that of the dense model it is about as far."""
    int8 = compress(scheme, model, context).eval()
    found = measure(PROBE, subject(int8, context, reference=model, kind=scheme.kind))
    assert (found["nearest_status"] == NOT_MEASURED).all()
    assert not found["nearest"].any()
    assert (found["along_reference_status"] != NOT_MEASURED).all()
    seen = found["along_reference_status"] == FOUND
    assert seen.mean() > 0.7
    ratio = found["along_reference"][seen] / dense["along_reference"][seen]
    assert 0.8 < np.median(ratio) < 1.25
    assert 0.8 < np.median(found["random"] / dense["random"]) < 1.25
    alone = measure(PROBE, subject(int8, context, kind=scheme.kind))
    assert all((alone[f"{name}_status"] == NOT_MEASURED).all() for name in WORST)
    np.testing.assert_array_equal(alone["random"], found["random"])


def test_float16_keeps_its_gradients(model, context):
    half = compress(Float16(), model, context).eval()
    found = measure(PROBE, subject(half, context, reference=model, kind="float16"))
    assert (found["nearest_status"] == FOUND).all()


def test_directions_belong_to_their_example_and_number(model, context):
    one = subject(model, context)
    every = random_directions(one, np.array([3, 8, 20]), 4, 192)
    np.testing.assert_allclose(np.linalg.norm(every, axis=2), 1, rtol=1e-6)
    np.testing.assert_array_equal(random_directions(one, np.array([8]), 2, 192)[0], every[1, :2])
    assert len(np.unique(every.round(6).reshape(-1, 192), axis=0)) == 12
    # Uniform on the sphere: means of 0, and squares of 1 / 192.
    many = random_directions(one, np.arange(200), 5, 192).reshape(-1, 192)
    assert np.abs(many.mean()) < 4 / np.sqrt(192 * many.size)
    assert np.abs((many**2).mean(axis=0) * 192 - 1).max() < 5 * np.sqrt(2 / 1000)


def test_results_do_not_depend_on_what_else_is_probed(dense, model, context, monkeypatch):
    rows = PROBE.rows(64)
    few = measure(PROBE, subject(model, context, rows=rows[5:12]))
    for name in ("random", *WORST):
        np.testing.assert_allclose(few[name], dense[name][5:12], rtol=0.011)
    monkeypatch.setattr("remnant.lab.probes.boundary._VALUES", 192 * 3 * 5)
    blocks = measure(PROBE, subject(model, context))
    for name in ("random", *WORST):
        np.testing.assert_allclose(blocks[name], dense[name], rtol=0.011)


def test_the_limit_counts_standard_deviations_of_the_data(model, context, dense):
    assert spread(context.dataset) == pytest.approx(0.2 * np.sqrt(192))
    probe = replace(PROBE, limit=0.05)
    found = measure(probe, subject(model, context, probe=probe))
    limit = 0.05 * 0.2 * np.sqrt(192)
    beyond = ~found["random_found"]
    assert beyond.any()
    np.testing.assert_allclose(found["random"][beyond], limit, rtol=1e-6)
    # A grid of other steps may see what the other one missed, but not often.
    assert ((dense["random"] > limit) == beyond).mean() > 0.9


def test_the_worst_case_can_be_left_out(model, context):
    probe = replace(PROBE, worst_case="none")
    assert list(measure(probe, subject(model, context, probe=probe))) == ["random", "random_found"]


def test_clipping_measures_what_is_left_of_the_change(model, context):
    probe = replace(PROBE, clip=True)
    found = measure(probe, subject(model, context, probe=probe))
    rows = probe.rows(64)
    points = pixels(take(context.dataset.test.images, rows), torch.device("cpu"))
    directions = torch.from_numpy(random_directions(subject(model, context), rows, 3, 192))
    straight = crossings(pixel_model(model, context.dataset), points, directions, limit=5.0, tolerance=0.01)
    both = found["random_found"] & straight.found
    assert not np.allclose(found["random"][both], straight.distance[both], rtol=0.05)


def test_clipping_of_other_inputs_is_refused(context):
    data = context.dataset
    split = replace(data.test, images=take(data.test.images, np.arange(64)).float())
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    floats = replace(context, dataset=replace(data, train=split, test=split))
    probe = replace(PROBE, clip=True)
    with pytest.raises(ValueError, match="Expected `clip` to be False for inputs that are not 8-bit images"):
        measure(probe, subject(model, floats, probe=probe))
    assert measure(PROBE, subject(model, floats))["random"].shape == (24, 3)
