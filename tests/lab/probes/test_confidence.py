import numpy as np
import torch
from torch.nn import functional

from remnant.lab.probes.confidence import measure
from remnant.lab.probing import Subject
from remnant.probes.confidence import Confidence
from tests.lab import toys


def subject(probe: Confidence, model=None) -> Subject:
    torch.manual_seed(0)
    data = toys.dataset()
    return Subject(model or toys.mlp().eval(), None, data, probe.rows(len(data.train)), None, "dense", probe)


def test_confidence_and_loss_equal_those_of_torch():
    probe = Confidence(precision="float32", examples=120)
    asked = subject(probe)
    found = measure(probe, asked)
    labels = asked.dataset.train.labels[asked.rows]
    with torch.inference_mode():
        logits = asked.model(asked.inputs(asked.rows)).double()
    expected = functional.cross_entropy(logits, labels, reduction="none").numpy()
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-5)
    p = np.exp(-expected)
    np.testing.assert_allclose(found["confidence"], np.log(p / (1 - p)), rtol=1e-4, atol=1e-5)
    assert found["confidence"].dtype == np.float32


def test_sure_models_stay_finite_in_half_precision():
    """A model with logits of 1e6: probabilities round to 0 and 1 in any precision."""

    class Sure(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([1e6, -1e6, 0, 0]).expand(len(images), 4)

    probe = Confidence(examples=50)
    asked = subject(probe, Sure().eval())
    found = measure(probe, asked)
    labels = asked.dataset.train.labels.numpy()[asked.rows]
    most = np.finfo(np.float16).max
    assert found["confidence"].dtype == np.float16
    np.testing.assert_array_equal(found["confidence"][labels == 0], most)
    np.testing.assert_array_equal(found["confidence"][labels == 1], -most)
    np.testing.assert_array_equal(found["loss"][labels == 0], 0)


def test_which_examples_are_probed_changes_no_number():
    few, many = Confidence(examples=60, precision="float32"), Confidence(precision="float32")
    one, two = (measure(probe, subject(probe)) for probe in (few, many))
    np.testing.assert_allclose(one["confidence"], two["confidence"][few.rows(400)], rtol=1e-5, atol=1e-6)
