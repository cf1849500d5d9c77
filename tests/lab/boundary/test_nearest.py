import warnings
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch

from remnant.lab.boundary.nearest import worst_directions
from remnant.lab.boundary.pixels import pixel_model, pixels
from remnant.lab.dataset import take
from tests.lab import toys
from tests.lab.boundary.linear import Function, gaps, linear, plain


@pytest.fixture(scope="module")
def trained():
    context = toys.context()
    model = toys.trained("residual", context)
    points = pixels(take(context.dataset.test.images, np.arange(64)), torch.device("cpu"))
    return context.dataset, model, points


@pytest.mark.parametrize("rounds", [1, 2])
def test_the_nearest_boundary_of_a_linear_model_has_its_closed_form(rounds):
    """min over classes of lead / |slope|, in the direction of that slope."""
    rng = np.random.default_rng(0)
    model, weights, biases = linear(rng)
    points = rng.uniform(0, 1, (80, 20)).astype(np.float32)
    lead, slopes = gaps(points.astype(float), weights, biases)
    norm = np.linalg.norm(slopes, axis=2)
    way = np.divide(lead, norm, out=np.full_like(lead, np.inf), where=norm > 0)
    found = worst_directions(model, torch.from_numpy(points), candidates=4, rounds=rounds, limit=10.0)
    assert found.found.all()
    np.testing.assert_allclose(found.distance, way.min(axis=1), rtol=0.021, atol=2e-5)
    assert (found.distance.numpy() >= way.min(axis=1)).all()
    chosen = way.argmin(axis=1)
    rows = np.arange(len(points))
    towards = -slopes[rows, chosen] / norm[rows, chosen][:, None]
    np.testing.assert_allclose((found.direction.numpy() * towards).sum(axis=1), 1, atol=1e-4)
    few = worst_directions(model, torch.from_numpy(points), candidates=1, rounds=1, limit=10.0)
    assert (few.distance >= found.distance * 0.999).all()


def test_one_round_equals_the_deepfool_of_foolbox(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports a name that SciPy moved
        foolbox: Any = import_module("foolbox")
    dataset, model, points = trained
    how = {"mean": dataset.mean.tolist(), "std": dataset.std.tolist(), "axis": -3}
    theirs = foolbox.PyTorchModel(model, bounds=(-50, 50), preprocessing=how, device="cpu")
    images = points.view(-1, *toys.SHAPE)
    labels = theirs(images).argmax(1)
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=4)
    _, ends, changed = attack(theirs, images, labels, epsilons=None)
    expected = (ends - images).flatten(1).norm(dim=1)
    found = worst_directions(pixel_model(model, dataset), points, candidates=3, rounds=1, limit=20.0)
    assert bool(changed.all())
    assert bool(found.found.all())
    np.testing.assert_allclose(found.distance.numpy(), expected.numpy(), rtol=0.03, atol=1e-3)


def test_found_changes_give_another_answer_and_more_rounds_are_never_longer(trained):
    dataset, network, points = trained
    model = pixel_model(network, dataset)
    one, three = (worst_directions(model, points, candidates=3, rounds=r, limit=20.0) for r in (1, 3))
    assert (three.distance <= one.distance * (1 + 1e-6)).all()
    assert float(three.distance.sum()) < float(one.distance.sum())
    for found in (one, three):
        moved = points + (found.distance * (1 + 1e-4))[:, None] * found.direction
        assert (model.answers(moved) != model.answers(points))[found.found].all()
        np.testing.assert_allclose(found.direction.norm(dim=1)[found.found], 1, rtol=1e-5)


def test_clipped_changes_stay_in_the_box(trained):
    dataset, network, points = trained
    model = pixel_model(network, dataset)
    found = worst_directions(model, points, candidates=3, rounds=2, limit=20.0, clip=True)
    moved = points + found.distance[:, None] * found.direction
    assert found.found.any()
    assert float(moved[found.found].min()) >= -1e-5
    assert float(moved[found.found].max()) <= 1 + 1e-5


def test_the_model_and_its_points_are_left_as_they_were(trained):
    dataset, network, points = trained
    network.zero_grad(set_to_none=True)
    before = points.clone()
    wants = [p.requires_grad for p in network.parameters()]
    worst_directions(pixel_model(network, dataset), points, candidates=3, rounds=2, limit=20.0)
    assert torch.equal(points, before)
    assert not points.requires_grad
    assert [p.requires_grad for p in network.parameters()] == wants
    assert all(p.grad is None for p in network.parameters())
    assert not network.training


def test_where_there_is_no_way_nothing_is_found():
    flat = plain(Function(lambda x: torch.stack([1 + 0 * x[:, 0], 0 * x[:, 0]], 1)), 3)
    found = worst_directions(flat, torch.zeros(4, 3), candidates=1, rounds=2, limit=5.0)
    assert not found.found.any()
    assert not found.distance.any()
    assert not found.direction.any()
    far = plain(Function(lambda x: torch.stack([100 + 0 * x[:, 0], x[:, 0]], 1)), 3)
    assert not worst_directions(far, torch.zeros(4, 3), candidates=1, rounds=1, limit=5.0).found.any()
