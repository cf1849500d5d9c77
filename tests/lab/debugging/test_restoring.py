import copy

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.compress import compress
from remnant.lab.debugging import restoring
from remnant.lab.debugging.restoring import restore_until
from remnant.lab.footprint import stored_bytes
from remnant.schemes import OneShotPruning, StaticInt8
from tests.lab import toys
from tests.lab.debugging.networks import images, made

INPUTS = images(200)


def noisy(model, names, scale):
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in names:
            weight = model.get_submodule(name).weight
            weight += scale * torch.randn(weight.shape, generator=generator)
    return model


def label(model):
    with torch.no_grad():
        return model(INPUTS).argmax(1)


def lost(model, reference, rows=slice(None)):
    return np.mean(toys.answers(model, INPUTS[rows]).argmax(1) != toys.answers(reference, INPUTS[rows]).argmax(1))


@pytest.mark.parametrize("again", [False, True])
def test_the_one_harmful_layer_is_restored(again):
    reference = made("plain")
    for name in ("1", "3", "5"):
        found = restore_until(reference, noisy(reference, [name], 0.5), INPUTS, label(reference), again=again)
        assert found.layers == (name,)
        assert found.reached
        assert found.before > found.selected == found.held_out == 0
        assert lost(found.model, reference) == 0


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("limit", ["cie", "cie_u"])
def test_nothing_less_than_the_limit_is_reached(again, limit):
    reference = made("in place")
    other = noisy(reference, ["stem.0", "conv", "head"], 0.05)
    for at_most in (0.1, 0.02, 0.0):
        found = restore_until(reference, other, INPUTS, label(reference), limit=limit, at_most=at_most, again=again)
        assert found.reached
        assert found.selected <= at_most
        assert len(found.layers) <= len(found.steps)
        half = (found.selected + found.held_out) / 2
        assert half == pytest.approx(lost(found.model, reference), abs=1e-9)
        low, high = found.held_out_interval
        assert low <= found.held_out <= high


def test_all_layers_restored_are_the_reference():
    reference, other = made("plain"), made("plain", 1)
    found = restore_until(reference, other, INPUTS, label(reference), at_most=0)
    assert found.reached
    assert (found.selected, found.held_out) == (0, 0)
    assert found.layers == ("1", "3", "5")
    assert found.cost == found.reference_cost
    state = reference.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in found.model.state_dict().items())


def test_nothing_is_restored_where_nothing_is_lost():
    reference = made("plain")
    found = restore_until(reference, copy.deepcopy(reference), INPUTS, label(reference), at_most=0)
    assert (found.layers, found.steps, found.reached) == ((), (), True)
    assert found.cost == found.compressed_cost


def test_of_equal_layers_the_first_is_restored():
    """Both factors of 1 are broken alike, and restoring either brings no answer back."""

    class Signs(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(a * torch.eye(4))
                self.b.weight.copy_(b * torch.eye(4))

        def forward(self, x):
            return self.b(self.a(x))

    inputs = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    truth = inputs.argmax(1)
    found = restore_until(Signs(1, 1).eval(), Signs(0, 0).eval(), inputs, truth, at_most=0)
    assert found.reached
    assert [name for name, _ in found.steps] == ["a", "b"]
    # Two wrongs make a right: one layer alone restored would do harm, and none is needed.
    assert restore_until(Signs(1, 1).eval(), Signs(-1, -1).eval(), inputs, truth, at_most=0).layers == ()


def test_a_limit_that_cannot_be_reached_gives_the_best():
    reference = made("plain")
    thin = made("plain", 1)
    thin[1], thin[3] = nn.Linear(192, 20), nn.Linear(20, 16)  # pyright: ignore
    found = restore_until(reference, thin.eval(), INPUTS, label(reference), at_most=0)
    assert not found.reached
    assert len(found.unmatched) == 2
    assert found.layers == ("5",)


def test_layers_that_are_not_needed_in_the_end_are_taken_back(monkeypatch):
    """A ranking that restores the wrong layer first: the limit holds with the other one alone."""
    reference = made("plain")
    other = noisy(noisy(reference, ["5"], 0.1), ["1"], 0.03)

    def misled(pair, *args):
        places = {layer.name: layer for layer in pair.layers}
        return [places["5"], places["1"]]

    monkeypatch.setattr(restoring, "_ranked", misled)
    found = restore_until(reference, other, INPUTS, label(reference), at_most=0.14, again=False)
    assert [name for name, _ in found.steps] == ["5", "1"]
    assert found.layers == ("1",)
    assert 0 < found.selected <= 0.14
    assert torch.equal(found.model[5].weight, other[5].weight)  # pyright: ignore
    assert torch.equal(found.model[1].weight, reference[1].weight)  # pyright: ignore


def test_the_models_are_not_changed_and_the_result_can_be_trained():
    context = toys.context()
    reference = toys.trained("residual", context)
    pruned = compress(OneShotPruning(0.9, epochs=0), reference, context)
    inputs = toys.evaluation_images(context)
    before = toys.answers(pruned, inputs), toys.answers(reference, inputs)
    found = restore_until(reference, pruned, inputs, context.dataset.test.labels, at_most=0.05)
    assert (toys.answers(pruned, inputs) == before[0]).all()
    assert (toys.answers(reference, inputs) == before[1]).all()
    assert stored_bytes(pruned) == found.compressed_cost.bytes <= found.cost.bytes <= found.reference_cost.bytes
    assert found.compressed_cost.effective_flops < found.cost.effective_flops
    found.model(inputs).sum().backward()


def test_int8_layers_are_given_back_with_their_norms():
    context = toys.context()
    reference = toys.trained("residual", context)
    quantized = compress(StaticInt8(calibration=1), reference, context)
    inputs = toys.evaluation_images(context)
    truth = torch.from_numpy(toys.answers(reference, inputs).argmax(1))
    found = restore_until(reference, quantized, inputs, truth, limit="cie", at_most=0)
    assert found.reached


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": "accuracy"}, r"Expected `limit` to be one of \['cie_u', 'cie'\], but got 'accuracy'"),
        ({"at_most": -0.1}, r"Expected `at_most` in \[0, 1\]"),
        ({"held_out": 1.0}, r"Expected `held_out` in \(0, 1\)"),
        ({"inputs": INPUTS[:1]}, "Expected `inputs` to hold at least 2 examples, but got 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    reference = made("plain")
    inputs = options.pop("inputs", INPUTS)
    with pytest.raises(ValueError, match=message):
        restore_until(reference, made("plain", 1), inputs, label(reference), **options)
