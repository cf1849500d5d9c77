import copy

import numpy as np
import pytest
import torch

from remnant.lab import probing
from remnant.lab.compress import compress
from remnant.lab.footprint import stored_bytes
from remnant.lab.probes.layers import measure
from remnant.lab.probing import Subject
from remnant.probes.layers import Layers
from remnant.schemes import OneShotPruning, StaticInt8
from remnant.stats.layer_counts import decibels
from remnant.stored_array import unpack_text
from tests.lab import toys

PROBE = Layers(examples=50)
NAMES = ["stem", "conv", "depthwise", "norm3", "head"]


@pytest.fixture(scope="module")
def context():
    return toys.context()


@pytest.fixture(scope="module")
def model(context):
    return toys.trained("residual", context)


def subject(model, reference, context, kind):
    rows = PROBE.rows(len(context.dataset.test))
    return Subject(model, reference, context.dataset, rows, None, kind, PROBE)


def measured(model, reference, context, kind):
    own = subject(model, reference, context, kind)
    found = measure(PROBE, own)
    assert found.keys() == PROBE.dims.keys()
    sizes = {"example": 50, "layer": 5, "character": len("\0".join(NAMES))}
    for name, dims in PROBE.dims.items():
        assert found[name].shape == tuple(sizes[dim] for dim in dims), name
        assert np.isfinite(found[name]).all(), name
    assert unpack_text(found["names"]) == NAMES
    return found, own


def answers(model, own):
    return toys.answers(model, own.inputs(own.rows)).argmax(1)


def test_a_dense_model_is_the_same_as_itself(model, context):
    found, own = measured(model, None, context, "dense")
    expected = answers(model, own)[:, None]
    assert (found["alone"] == expected).all()
    assert (found["restored"] == expected).all()
    assert not found["local_noise"].any()
    assert not found["accumulated_noise"].any()
    assert not found["exchange"].any()
    assert (found["weights_only"] == -1).all()
    assert found["reference_bytes"].sum() == stored_bytes(model)


def test_identity_compression_is_no_compression(model, context):
    found, own = measured(copy.deepcopy(model), model, context, "one-shot-pruning")
    assert (found["alone"] == answers(model, own)[:, None]).all()
    assert not found["exchange"].any()


def test_a_single_pruned_layer_carries_all_harm(model, context):
    pruned = copy.deepcopy(model)
    with torch.no_grad():
        pruned.conv.weight.zero_()
    found, own = measured(pruned, model, context, "one-shot-pruning")
    assert found["exchange"].tolist() == [0, 1, 0, 0, 0]
    assert (found["alone"][:, 1] == answers(pruned, own)).all()
    assert (found["restored"][:, 1] == answers(model, own)).all()
    assert (found["alone"][:, [0, 2, 3, 4]] == answers(model, own)[:, None]).all()
    assert (found["restored"][:, [0, 2, 3, 4]] == answers(pruned, own)[:, None]).all()
    assert found["compressed_bytes"][1] < found["reference_bytes"][1]


def test_a_quantized_model_is_measured_with_each_half_of_its_rounding(model, context):
    quantized = compress(StaticInt8(), model, context)
    found, own = measured(quantized, model, context, "static-int8")
    assert found["exchange"].tolist() == [1, 1, 1, 0, 1]
    assert (found["weights_only"] >= 0).all()
    assert (found["activations_only"] >= 0).all()
    assert np.mean(found["weights_only"] != answers(model, own)) < 0.1
    ratio = decibels(found["signal"].sum(0), found["local_noise"].sum(0))
    assert (ratio > 20).all()
    # Four bytes a weight become one.
    assert found["reference_bytes"][1] == 4 * (8 * 8 * 9 + 8 + 16)
    assert found["compressed_bytes"][1] == 8 * 8 * 9 + 4 * 8 + 4 * 8


def test_layers_without_a_counterpart_are_marked(model, context):
    thin = copy.deepcopy(model)
    thin.head = torch.nn.Sequential()
    thin.forward = lambda images: model(images)
    found, _ = measured(thin, model, context, "thinned")
    assert (found["exchange"] == 2).all()
    assert (found["alone"] == -1).all()
    assert (found["signal"] == -1).all()


def test_the_models_are_left_as_they_are(model, context):
    pruned = compress(OneShotPruning(0.5, epochs=0), model, context)
    before = [{name: value.clone() for name, value in m.state_dict().items()} for m in (model, pruned)]
    measured(pruned, model, context, "one-shot-pruning")
    for own, expected in zip((model, pruned), before, strict=True):
        assert all(torch.equal(value, expected[name]) for name, value in own.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in own.modules())
        assert all(p.requires_grad for p in own.parameters())


def test_a_compressed_model_without_its_reference_is_refused(model, context):
    with pytest.raises(ValueError, match="Expected the dense model of the same seed in the store"):
        measure(PROBE, subject(model, None, context, "magnitude-pruning"))


def test_the_probe_passes_the_checks_of_its_kind(model, context, monkeypatch):
    monkeypatch.setattr(
        probing, "_implementation", lambda kind: __import__("remnant.lab.probes.layers", fromlist=["x"])
    )
    assert probing.measure(PROBE, subject(model, None, context, "dense")).keys() == PROBE.dims.keys()
