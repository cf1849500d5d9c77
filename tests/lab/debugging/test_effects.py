import copy

import numpy as np
import pytest
import torch
from onnxruntime.quantization import qdq_loss_debug
from torch import nn

from remnant.lab.compress import compress
from remnant.lab.debugging.effects import layer_effects
from remnant.lab.debugging.matching import matched
from remnant.schemes import StaticInt8
from tests.lab import toys
from tests.lab.debugging.networks import MAKERS, images, made

EVERY = pytest.mark.parametrize("name", list(MAKERS))


def effects(reference, other, inputs, size=16):
    pair = matched(reference, other, inputs[:8])
    return pair, layer_effects(pair, inputs.split(size))


@torch.no_grad()
def answers(model, inputs):
    return model(inputs).argmax(1).numpy()


def noisy(model, name, scale, seed=0):
    """A copy with noise on the weight of one layer."""
    model = copy.deepcopy(model)
    weight = model.get_submodule(name).weight
    with torch.no_grad():
        weight += scale * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return model


@EVERY
def test_identity_compression_changes_nothing(name):
    model = made(name)
    pair, found = effects(model, copy.deepcopy(model), images())
    counts = found.counts(np.zeros(40, int))
    assert counts.cie == 0
    assert not counts.cie_alone.any()
    assert not counts.cie_restored.any()
    known = [layer.output is not None for layer in pair.layers]
    assert np.isposinf(found.local_ratio()[known]).all()
    assert np.isposinf(found.accumulated_ratio()[known]).all()


@EVERY
def test_answers_are_those_of_models_built_by_hand(name):
    reference, other = made(name), made(name, 1)
    pair, found = effects(reference, other, images())
    assert (found.reference == answers(reference, images())).all()
    assert (found.compressed == answers(other, images())).all()
    for place, layer in enumerate(pair.layers):
        for base, giver, answered in ((reference, other, found.alone), (other, reference, found.restored)):
            mixed = copy.deepcopy(base)
            state, given = mixed.state_dict(), giver.state_dict()
            for module in layer.modules:
                prefix = module.removeprefix("0").removeprefix(".")
                for key in state:
                    if key.startswith(f"{prefix}.") if prefix else "." not in key:
                        state[key] = given[key]
            mixed.load_state_dict(state)
            assert (answered[place] == answers(mixed, images())).all(), layer.name


def test_the_one_compressed_layer_is_blamed():
    reference = made("plain")
    for name in ("1", "3", "5"):
        pair, found = effects(reference, noisy(reference, name, 0.5), images())
        blamed = [layer.name == name for layer in pair.layers]
        counts = found.counts(answers(reference, images()))
        assert counts.cie_u > 0
        assert counts.cie_u_alone.tolist() == [counts.cie_u if b else 0 for b in blamed]
        assert counts.regained.tolist() == [counts.cie_u if b else 0 for b in blamed]
        assert np.isfinite(found.local_ratio()).tolist() == blamed
        first = blamed.index(True)
        assert np.isposinf(found.accumulated_ratio()[:first]).all()
        assert np.isfinite(found.accumulated_ratio()[first:]).all()


def test_ratios_are_those_of_onnx_runtime_on_the_same_outputs():
    """The two numbers of onnxruntime's `qdq_loss_debug` for an activation: `qdq_err` and `xmodel_err`."""
    reference, other = made("plain"), made("plain", 1)
    _, found = effects(reference, other, images())
    with torch.no_grad():
        given = torch.relu(reference[1](images().flatten(1)))  # pyright: ignore
        moved = torch.relu(other[1](images().flatten(1)))  # pyright: ignore
        outputs = [torch.relu(x).numpy() for x in (reference[3](given), other[3](given), other[3](moved))]  # pyright: ignore
    ratio = qdq_loss_debug.compute_signal_to_quantization_noice_ratio
    assert found.local_ratio()[1] == pytest.approx(ratio(outputs[0], outputs[1]), rel=1e-5)
    assert found.accumulated_ratio()[1] == pytest.approx(ratio(outputs[0], outputs[2]), rel=1e-5)
    rows = np.array([3, 8, 20])
    assert found.local_ratio(rows)[1] == pytest.approx(ratio(outputs[0][rows], outputs[1][rows]), rel=1e-5)


@pytest.mark.parametrize("decibels", [0.0, 10.0, 40.0])
def test_noise_of_known_power_has_the_known_ratio(decibels):
    class Noisy(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, values):
            outputs = self.layer(values)
            sign = torch.where(torch.arange(outputs.numel()).view(outputs.shape) % 3 == 0, 1.0, -1.0)
            return outputs + sign * outputs.square().mean().sqrt() * 10 ** (-decibels / 20)

    reference = made("plain")
    other = copy.deepcopy(reference)
    other[5] = Noisy(other[5])  # pyright: ignore
    _, found = effects(reference, other, images(), size=40)
    assert found.local_ratio()[2] == pytest.approx(decibels, abs=1e-3)
    assert found.accumulated_ratio()[2] == pytest.approx(decibels, abs=1e-3)


def test_what_an_activation_cuts_off_is_no_noise():
    """An int8 layer with its ReLU gives no negative values; the reference's do not count."""
    context = toys.context()
    reference = toys.trained("residual", context)
    pair, found = effects(reference, compress(StaticInt8(), reference, context), toys.evaluation_images(context))
    places = {layer.name: place for place, layer in enumerate(pair.layers)}
    assert (found.local_ratio()[[places["stem"], places["depthwise"], places["head"]]] > 20).all()


@EVERY
def test_batches_do_not_matter(name):
    reference, other = made(name), made(name, 1)
    _, one = effects(reference, other, images(), 40)
    _, two = effects(reference, other, images(), 7)
    for field in ("reference", "compressed", "alone", "restored"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    for field in ("signal", "local_noise", "accumulated_noise"):
        np.testing.assert_allclose(getattr(one, field), getattr(two, field), rtol=1e-3, atol=1e-4)


def test_changes_in_place_do_not_reach_what_is_kept():
    """The residual connection is added in place to what the second norm gives."""
    reference = made("in place")
    _, found = effects(reference, made("in place", 1), images())
    with torch.no_grad():
        expected = reference.norm(reference.conv(reference.stem(images())))  # pyright: ignore
    np.testing.assert_allclose(found.signal[1], expected.square().sum((1, 2, 3)), rtol=1e-4)


def test_layers_that_cannot_be_exchanged_are_unknown():
    reference = made("plain")
    thin = copy.deepcopy(reference)
    thin[1], thin[3] = nn.Linear(192, 20), nn.Linear(20, 16)  # pyright: ignore
    _, found = effects(reference, thin, images())
    assert (found.alone[:2] == -1).all()
    assert np.isnan(found.signal[:2]).all()
    assert found.counts(np.zeros(40)).is_known.tolist() == [False, False, True]


def test_no_hooks_and_no_replacements_are_left():
    pair, _ = effects(made("in place"), made("in place", 1), images())
    for model in (pair.reference, pair.compressed):
        for module in model.modules():
            assert not module._forward_hooks
            assert "forward" not in module.__dict__


def test_a_layer_is_computed_only_where_something_before_it_changed(monkeypatch):
    """Three layers, reference and compressed: 2 + 2 k calls of the k-th layer, not 2 + 2 * 3."""
    pair = matched(made("plain"), made("plain", 1), images(8))
    calls = []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w, b: calls.append(tuple(w.shape)) or linear(x, w, b))
    layer_effects(pair, [images()])
    assert [calls.count(shape) for shape in ((24, 192), (16, 24), (4, 16))] == [4, 6, 8]


def test_no_examples_are_refused():
    pair = matched(made("plain"), made("plain", 1), images(8))
    with pytest.raises(ValueError, match="Expected at least one batch of examples, but got none"):
        layer_effects(pair, [])
