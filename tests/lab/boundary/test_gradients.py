import numpy as np
import pytest
import torch

from remnant.lab.boundary.gradients import usable
from remnant.lab.boundary.pixels import pixel_model, pixels
from remnant.lab.compress import compress
from remnant.lab.dataset import take
from remnant.schemes import Float16
from tests.lab import toys
from tests.lab.boundary.linear import Function, linear, plain


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.mark.parametrize("name", list(toys.MODELS))
def test_rounding_masks_gradients_and_floats_do_not(name, context):
    model = toys.trained(name, context)
    points = pixels(take(context.dataset.test.images, np.arange(64)), torch.device("cpu"))

    def can_be_used(found):
        return usable(pixel_model(found.eval(), context.dataset), points)

    assert can_be_used(model)
    assert can_be_used(compress(Float16(), model, context))
    for scheme in toys.INT8:
        assert not can_be_used(compress(scheme, model, context)), scheme.label


def test_outputs_without_gradients_are_not_usable():
    points = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (30, 4)).astype(np.float32))
    model, _, _ = linear(np.random.default_rng(1), 4, 3)
    assert usable(model, points)
    for spoiled in (
        lambda x: model.model(x).detach(),
        lambda x: model.model(x.round()),
        lambda x: model.model(x * 0),
        lambda x: model.model((x * 255).round() / 255) + 1e-4 * model.model(x).flip(1),
        lambda x: model.model(torch.from_numpy(x.detach().numpy())),
        lambda x: -model.model(-x.detach() + 2 * (x - x.detach())),
    ):
        assert not usable(plain(Function(spoiled), 4), points)


def test_equal_outputs_everywhere_are_not_usable():
    assert not usable(plain(Function(lambda x: torch.stack([x[:, 0], x[:, 0]], 1)), 2), torch.rand(10, 2))
