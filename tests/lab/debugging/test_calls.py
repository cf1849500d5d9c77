import torch
from torch import nn

from remnant.lab.debugging.calls import first_tensor, outermost, trace
from tests.lab.debugging.networks import images, made


def test_calls_are_in_their_order():
    found = trace(made("in place"), images())
    assert found.norms == {"stem.0": "stem.1", "conv": "norm"}
    assert found.before("conv") == ["stem", "stem.0", "stem.1", "stem.2"]
    assert found.before("stem.0") == []
    assert found.before("unknown") == []
    assert found.calls["conv"].inputs == [(40, 6, 8, 8)]


def test_a_module_that_is_called_twice_is_before_nothing():
    found = trace(made("shared"), images())
    assert found.before("head") == ["first"]
    assert len(found.calls["twice"].outputs) == 2


def test_outputs_that_are_changed_in_place_are_known():
    calls = trace(made("in place"), images()).calls
    assert [name for name, own in calls.items() if own.is_overwritten] == ["stem.1", "norm"]
    with torch.inference_mode():  # tensors have no version there
        calls = trace(made("plain"), images()).calls
    assert [name for name, own in calls.items() if own.is_overwritten] == ["1"]


def test_the_inputs_are_not_changed():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(192, 2))
    given = images()
    trace(model, given)
    assert torch.equal(given, images())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_only_the_outermost_of_nested_modules_are_kept():
    assert outermost(["a.b.c", "a.b", "d", "a.bc", "d.e"]) == ("a.b", "d", "a.bc")


def test_the_first_tensor_of_what_a_module_gives():
    one = torch.ones(2)
    assert first_tensor(one) is one
    assert first_tensor((None, [one, torch.zeros(3)])) is one
    assert first_tensor({"a": None, "b": one}) is one
    assert first_tensor("text").numel() == 0
