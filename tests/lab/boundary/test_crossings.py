import numpy as np
import pytest
import torch

from remnant.lab.boundary.crossings import FIRST, RATIO, crossings
from tests.lab.boundary.linear import Function, gaps, linear, plain, unit


def test_distances_of_a_linear_model_have_their_closed_form():
    """Along u, the lead g on class k is lost at g_k / (-slope_k . u), where the slope is downwards."""
    rng = np.random.default_rng(0)
    model, weights, biases = linear(rng)
    points, rays = rng.uniform(0, 1, (60, 20)).astype(np.float32), unit(rng, 60, 4, 20)
    lead, slopes = gaps(points.astype(float), weights, biases)
    fall = -np.einsum("pcv,pdv->pdc", slopes, rays.astype(float))
    with np.errstate(divide="ignore", invalid="ignore"):
        way = np.where(fall > 1e-12, lead[:, None] / fall, np.inf).min(axis=2)
    found = crossings(model, torch.from_numpy(points), torch.from_numpy(rays), limit=6.0, tolerance=0.01)
    assert 0.1 < found.found.mean() < 0.95
    np.testing.assert_array_equal(found.found, way <= 6)
    seen = found.distance[found.found]
    assert (seen >= way[found.found] * (1 - 1e-4)).all()
    assert (seen <= way[found.found] * (1.01 + 1e-4)).all()
    assert (found.distance[~found.found] == 6).all()


def test_answers_differ_just_outside_and_agree_just_inside():
    rng = np.random.default_rng(1)
    hidden = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))
    for index, parameter in enumerate(hidden.parameters()):
        parameter.data.copy_(torch.from_numpy(np.random.default_rng(index).normal(0, 0.5, tuple(parameter.shape))))
    model = plain(hidden, 20)
    points, rays = (
        torch.from_numpy(rng.uniform(0, 1, (50, 20)).astype(np.float32)),
        torch.from_numpy(unit(rng, 50, 3, 20)),
    )
    found = crossings(model, points, rays, limit=8.0, tolerance=1e-3)
    assert found.found.mean() > 0.5
    own = model.answers(points).numpy()[:, None]

    def answers(reach):
        at = points[:, None] + torch.from_numpy(reach)[:, :, None] * rays
        return model.answers(at.reshape(-1, 20)).numpy().reshape(reach.shape)

    assert (answers(found.distance * (1 + 1e-5)) != own)[found.found].all()
    assert (answers(found.distance * (1 - 1.1e-3)) == own)[found.found].all()
    # Nowhere on the steps outwards is there another answer before it.
    for step in range(12):
        reach = np.full_like(found.distance, FIRST * 8 * RATIO**step)
        before = reach < found.distance * (1 - 1e-3)
        assert (answers(reach) == own)[before].all()


def test_the_first_of_several_changes_counts():
    """Answers along the line: 0 up to 1, 1 up to 3, then 0 again."""
    model = plain(Function(lambda x: torch.stack([torch.zeros_like(x[:, 0]), 1 - (x[:, 0] - 2).abs()], 1)), 1)
    found = crossings(model, torch.zeros(1, 1), torch.ones(1, 1, 1), limit=10.0, tolerance=1e-3)
    assert found.distance.item() == pytest.approx(1, rel=1e-3)


def test_clipped_lines_are_bent_at_the_edge_and_measured_after_it():
    """Two values at 0.9 and 0.1, direction (0.8, 0.6), boundary at a sum of 1.3: reached at (1, 0.3)."""
    model = plain(Function(lambda x: torch.stack([torch.full_like(x[:, 0], 1.3), x.sum(1)], 1)), 2)
    points, rays = torch.tensor([[0.9, 0.1]]), torch.tensor([[[0.8, 0.6]]])
    found = crossings(model, points, rays, limit=4.0, tolerance=1e-4, clip=True)
    assert found.distance.item() == pytest.approx(np.hypot(0.1, 0.2), rel=1e-3)
    straight = crossings(model, points, rays, limit=4.0, tolerance=1e-4)
    assert straight.distance.item() == pytest.approx(0.3 / 1.4, rel=1e-3)


def test_what_lies_beyond_the_limit_is_not_found():
    model = plain(Function(lambda x: torch.stack([torch.ones_like(x[:, 0]), x[:, 0]], 1)), 1)
    at_zero, ray = torch.zeros(1, 1), torch.ones(1, 1, 1)
    assert not crossings(model, at_zero, ray, limit=0.9, tolerance=0.01).found.any()
    # The last step ends at the limit, not before it.
    assert crossings(model, at_zero, ray, limit=1.001, tolerance=0.01).found.all()
    assert crossings(model, at_zero, -ray, limit=50.0, tolerance=0.01).distance.item() == 50


def test_examples_on_the_boundary_end():
    model = plain(Function(lambda x: torch.stack([torch.zeros_like(x[:, 0]), x[:, 0]], 1)), 1)
    found = crossings(model, torch.zeros(1, 1), torch.ones(1, 1, 1), limit=1.0, tolerance=1e-5)
    assert found.found.all()
    assert 0 < found.distance.item() < 1e-4


def test_rays_do_not_depend_on_each_other():
    rng = np.random.default_rng(2)
    model, _, _ = linear(rng)
    points, rays = (
        torch.from_numpy(rng.uniform(0, 1, (300, 20)).astype(np.float32)),
        torch.from_numpy(unit(rng, 300, 2, 20)),
    )
    every = crossings(model, points, rays, limit=6.0, tolerance=0.01)
    some = crossings(model, points[100:130], rays[100:130, 1:], limit=6.0, tolerance=0.01)
    np.testing.assert_allclose(some.distance[:, 0], every.distance[100:130, 1], rtol=1e-5)
