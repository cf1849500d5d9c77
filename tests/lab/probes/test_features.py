import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress import compress
from remnant.lab.probes.features import measure
from remnant.lab.probing import Subject
from remnant.probes.features import Features
from remnant.schemes import DynamicInt8, StaticInt8
from tests.lab import toys

PROBE = Features(examples=30)


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def model(context):
    return toys.trained("residual", context)


def subject(model, context, probe=PROBE, rows=None):
    rows = probe.rows(len(context.dataset.test)) if rows is None else rows
    return Subject(model, None, context.dataset, rows, None, "dense", probe)


def test_features_are_what_the_last_layer_makes_answers_of(model, context):
    own = subject(model, context)
    found = measure(PROBE, own)["features"]
    assert found.dtype == np.float16
    assert found.shape == (30, 8)
    with torch.no_grad():
        answers = model.head(torch.from_numpy(found.astype(np.float32)))
        expected = model(own.inputs(own.rows))
    torch.testing.assert_close(answers, expected, atol=2e-2, rtol=1e-2)


def test_layers_before_the_last_are_not_taken(context):
    found = measure(PROBE, subject(toys.mlp().eval(), context))["features"]
    assert found.shape == (30, 24)
    assert found.min() == 0  # after the ReLU


@pytest.mark.parametrize("scheme", [DynamicInt8(), StaticInt8()])
def test_quantized_layers_have_features_before_they_round_them(scheme, model, context):
    own = subject(compress(scheme, model, context), context)
    found = measure(PROBE, own)["features"].astype(float)
    dense = measure(PROBE, subject(model, context))["features"].astype(float)
    assert found.shape == dense.shape
    assert 0.95 < np.corrcoef(found.ravel(), dense.ravel())[0, 1] < 1


def test_rows_do_not_depend_on_each_other(model, context):
    every = measure(PROBE, subject(model, context))["features"]
    rows = PROBE.rows(64)
    part = measure(PROBE, subject(model, context, rows=rows[3:7]))["features"]
    np.testing.assert_allclose(part.astype(float), every[3:7].astype(float), rtol=2e-3, atol=1e-4)


def test_the_model_is_left_without_hooks(model, context):
    measure(PROBE, subject(model, context))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


class Convolutional(nn.Module):
    """A network whose head is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.body = nn.Conv2d(3, 6, 3)
        self.head = nn.Conv2d(6, toys.NUM_CLASSES, 1)

    def forward(self, images):
        gated = images * self.gate(images.mean((2, 3)))[:, :, None, None]
        return self.head(self.body(gated)).mean((2, 3))


def test_without_a_linear_layer_at_the_end_a_name_is_asked_for(context):
    model = Convolutional().eval()
    with pytest.raises(ValueError, match="last one, 'gate', does not give the answers.*`layer` of the features probe"):
        measure(PROBE, subject(model, context))
    model.gate = nn.Identity()  # pyright: ignore
    with pytest.raises(ValueError, match="to end in a linear layer, but it calls none"):
        measure(PROBE, subject(model, context))
    assert not any(m._forward_hooks for m in model.modules())


def test_a_named_layer_is_averaged_over_positions(context):
    model = Convolutional().eval()
    probe = Features(examples=30, layer="head")
    own = subject(model, context, probe)
    found = measure(probe, own)["features"]
    with torch.no_grad():
        images = own.inputs(own.rows)
        expected = model.body(images * model.gate(images.mean((2, 3)))[:, :, None, None]).mean((2, 3))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-2, atol=1e-3)


def test_a_wrong_name_is_named(model, context):
    probe = Features(examples=30, layer="haed")
    with pytest.raises(ValueError, match=r"to be a module of ResidualNet, but got 'haed'; it has .*'head'"):
        measure(probe, subject(model, context, probe))


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_features_beyond_half_precision_are_scaled(factor, context):
    def scaled(factor):
        torch.manual_seed(0)
        model = toys.mlp().eval()
        with torch.no_grad():
            model[1].weight.mul_(factor)  # pyright: ignore
            model[1].bias.mul_(factor)  # pyright: ignore
        return measure(PROBE, subject(model, context))["features"].astype(float)

    plain, found = scaled(1.0), scaled(factor)
    assert np.isfinite(found).all()
    ratio = np.log2(found[plain > 0.1] / plain[plain > 0.1] / factor)
    np.testing.assert_allclose(ratio, np.round(np.median(ratio)), atol=0.01)
