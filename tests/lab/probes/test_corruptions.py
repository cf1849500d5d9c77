import numpy as np
import pytest
import torch

from remnant.lab.corruptions import corrupt
from remnant.lab.dataset import assemble, split, take
from remnant.lab.models import build
from remnant.lab.probes.corruptions import measure, prepare, ranks
from remnant.lab.probing import Subject
from remnant.lab.train import normalize
from remnant.probes.corruptions import Corruptions
from tests.lab.corruptions.pictures import photographs

PROBE = Corruptions(examples=30, corruptions=("fog", "jpeg_compression"), severities=(1, 5))


def dataset(images=None, number=60):
    images = photographs(number, 16) if images is None else images
    ids = np.array([f"p-{i}" for i in range(len(images))])
    train, test = (split(images, np.arange(len(images)) % 4, np.char.add(part, ids)) for part in ("train ", "test "))
    return assemble("photographs", train, test, ["a", "b", "c", "d"])


def subject(data, probe=PROBE):
    torch.manual_seed(0)
    model = build("cnn", data.input_shape, 4, np.random.default_rng(0)).eval()
    rows = probe.rows(len(data.test))
    return Subject(model, None, data, rows, None, "dense", probe)


def test_answers_are_those_on_corrupted_images():
    data = dataset()
    of = subject(data)
    found = measure(PROBE, of, prepare(PROBE, data, of.rows))
    assert {name: array.shape for name, array in found.items()} == dict.fromkeys(("prediction", "rank"), (30, 2, 2))
    assert {array.dtype for array in found.values()} == {np.dtype(np.uint8)}
    label = data.test.labels[of.rows].numpy()
    np.testing.assert_array_equal(found["rank"] == 0, found["prediction"] == label[:, None, None])
    pixels = take(data.test.images, of.rows).permute(0, 2, 3, 1).numpy()
    slow = corrupt(pixels, data.test.ids[of.rows], "jpeg_compression", 5)
    with torch.inference_mode():
        logits = of.model(normalize(data, torch.from_numpy(slow).permute(0, 3, 1, 2))).numpy()
    np.testing.assert_array_equal(found["prediction"][:, 1, 1], logits.argmax(1))
    order = np.argsort(-logits, axis=1, kind="stable")
    np.testing.assert_array_equal(found["rank"][:, 1, 1], (order == label[:, None]).argmax(1))


def test_fewer_examples_get_the_same_answers():
    data = dataset()
    few = Corruptions(examples=5, corruptions=("fog",), severities=(3,))
    many = Corruptions(examples=None, corruptions=("fog",), severities=(3,))
    one, two = subject(data, few), subject(data, many)
    small, large = (prepare(p, data, s.rows) for p, s in ((few, one), (many, two)))
    np.testing.assert_array_equal(small, large[:, :, one.rows])
    np.testing.assert_array_equal(measure(few, one, small)["rank"], measure(many, two, large)["rank"][one.rows])


def test_equal_logits_go_to_the_first_class():
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [3.0, 3.0, 3.0]])
    assert ranks(logits, torch.tensor([1, 1, 0])).tolist() == [1, 0, 0]


def test_inputs_computed_from_images_are_computed_from_corrupted_ones():
    from remnant.lab.coefficients import Dct
    from remnant.lab.coefficients.inputs import with_coefficients

    plain = dataset()
    data = with_coefficients(plain, Dct(4))
    rows = np.arange(6)
    np.testing.assert_array_equal(prepare(PROBE, data, rows), prepare(PROBE, plain, rows))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4)).eval()
    of = Subject(model, None, data, rows, None, "dense", PROBE)
    assert measure(PROBE, of, prepare(PROBE, data, rows))["rank"].shape == (6, 2, 2)


def test_features_are_refused():
    features = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    with pytest.raises(ValueError, match="defined for pictures only"):
        prepare(PROBE, dataset(features), np.arange(3))
    floats = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="0 to 255 only"):
        prepare(PROBE, dataset(floats), np.arange(3))


def test_logits_that_are_not_finite_are_refused():
    data = dataset()
    of = subject(data)
    with torch.no_grad():
        for parameter in of.model.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or infinity on images with 'fog' of severity 1"):
        measure(PROBE, of, prepare(PROBE, data, of.rows))
