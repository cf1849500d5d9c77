from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.attacks import Target, agreement, chosen_target, draw
from remnant.lab.attacks.losses import cross_entropy
from remnant.lab.attacks.rounding import StraightThrough
from remnant.lab.compress import compress
from remnant.probes.adversarial import Adversarial
from remnant.schemes import Float16
from tests.lab import toys

RNG = Adversarial().rng


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module", params=["mlp", "residual"])
def dense(request, context):
    return toys.trained(request.param, context)


def images(context):
    return context.dataset.test.images.float() / 255, context.dataset.test.labels


@pytest.mark.parametrize("scheme", toys.INT8, ids=lambda scheme: scheme.label)
def test_gradients_of_int8_models_are_masked_and_pass_straight_through(scheme, dense, context):
    target = Target.of(compress(scheme, dense, context), context.dataset)
    assert agreement(target, *images(context), RNG) < 0.2
    found, name = chosen_target(target, None, *images(context), RNG)
    assert name == "straight-through"
    assert agreement(found, *images(context), RNG) > 0.7
    pixels, labels = images(context)
    points, gradient = found.gradient(pixels, labels, cross_entropy, labels)
    torch.testing.assert_close(points.logits, target.points(pixels, labels).logits, rtol=0, atol=1e-5)
    assert gradient.abs().sum() > 0


def test_gradients_of_dense_and_float16_models_are_their_own(dense, context):
    for model in (dense, compress(Float16(), dense, context)):
        target = Target.of(model, context.dataset)
        assert chosen_target(target, None, *images(context), RNG) == (target, "own")
        assert agreement(target, *images(context), RNG) > 0.8


class Stepped(nn.Module):
    """Answers of a model on images that were cut into steps by `torch.floor`, which hides all gradients."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model((images * 8).floor() / 8)


def test_without_gradients_of_its_own_a_model_is_attacked_along_those_of_its_reference(dense, context):
    target, reference = (Target.of(model, context.dataset) for model in (Stepped(dense), dense))
    assert agreement(target, *images(context), RNG) == 0
    found, name = chosen_target(target, reference, *images(context), RNG)
    assert name == "reference"
    assert found.guide is reference
    pixels, labels = images(context)
    points, gradient = found.gradient(pixels, labels, cross_entropy, labels)
    torch.testing.assert_close(points.logits, target.points(pixels, labels).logits)
    torch.testing.assert_close(gradient, reference.gradient(pixels, labels, cross_entropy, labels)[1])
    assert chosen_target(target, None, *images(context), RNG)[1] == "masked"


def test_models_that_break_the_graph_have_the_gradient_zero(context):
    class Detached(nn.Module):
        def forward(self, images):
            return images.detach().flatten(1)[:, :4]

    target = Target.of(Detached(), context.dataset)
    pixels, labels = images(context)
    assert target.gradient(pixels, labels, cross_entropy, labels)[1].abs().sum() == 0
    assert agreement(target, pixels, labels, RNG) == 0


def test_agreement_is_one_for_a_linear_model_and_sees_a_wrong_sign(context):
    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, *gradients):
            return -gradients[0]

    class Linear(nn.Module):
        def __init__(self, turned):
            super().__init__()
            self.turned = turned
            self.layer = nn.Linear(192, 4)

        def forward(self, images):
            return self.layer((Reversed.apply(images) if self.turned else images).flatten(1))

    assert agreement(Target.of(Linear(False), context.dataset), *images(context), RNG) == pytest.approx(1, abs=1e-3)
    assert agreement(Target.of(Linear(True), context.dataset), *images(context), RNG) == pytest.approx(-1, abs=1e-3)


def test_rounding_passes_straight_through_only_while_it_is_open():
    x = torch.tensor([0.2, 0.7, 1.5], requires_grad=True)
    with StraightThrough():
        y = (x * 2).round_().clamp_(0, 2)
    # The first one is rounded to the lower end, and not cut off by it.
    assert y.tolist() == [0, 1, 2]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [2, 2, 0]
    z = (x * 2).round()
    assert torch.autograd.grad(z.sum(), x)[0].tolist() == [0, 0, 0]


def test_a_models_batches_do_not_change_its_points(dense, context, monkeypatch):
    target = Target.of(dense, context.dataset)
    pixels, labels = images(context)
    whole = target.gradient(pixels, labels, cross_entropy, labels)
    monkeypatch.setattr("remnant.lab.attacks.target._VALUES", 5 * 192)
    parts = target.gradient(pixels, labels, cross_entropy, labels)
    torch.testing.assert_close(whole[0].logits, parts[0].logits)
    torch.testing.assert_close(whole[1], parts[1])
    torch.testing.assert_close(target.points(pixels, labels).logits, whole[0].logits)


def test_random_numbers_belong_to_the_row():
    few = draw(RNG, [3, 8], toys.SHAPE, restarts=1, queries=4)
    many = draw(RNG, [1, 8, 9, 3], toys.SHAPE, restarts=2, queries=9)
    torch.testing.assert_close(few.starts, many.starts[[3, 1], :1])
    torch.testing.assert_close(few.stripes, many.stripes[[3, 1]])
    torch.testing.assert_close(few.squares, many.squares[[3, 1], :4])
    assert -1 <= many.starts.min() < -0.9
    assert 0.9 < many.starts.max() <= 1
    assert set(many.stripes.unique().tolist()) == {-1, 1}
    assert np.unique(many.squares).size == many.squares.numel()


def test_guides_are_only_asked_for_gradients(dense, context):
    target = Target.of(dense, context.dataset)
    assert replace(target, guide=target).points(*images(context)).logits.shape == (64, 4)
