"""A model made elsewhere, from a name or an object to predictions."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from remnant.lab.foreign import Expectation, Preprocessing, of_arrays, of_callable, predict
from remnant.lab.foreign import model as models
from tests.lab.foreign.networks import Small, digits, direct, ids, scores, trained


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    return direct().numpy()


def test_a_module_answers_as_when_called_directly(wanted):
    found = predict(trained(), "digits", preprocessing="dataset", batch_size=100)
    np.testing.assert_allclose(scores(found), wanted, atol=1e-5)
    assert ids(found) == digits().test.ids.tolist()
    assert found.label is not None
    assert found.label.tolist() == digits().test.labels.tolist()
    assert found.classes == tuple("0123456789")


def test_functions_get_tensors_or_arrays(wanted):
    weights = [p.detach().numpy() for p in trained().parameters()]

    def by_numpy(x: np.ndarray) -> np.ndarray:
        hidden = np.maximum(x.reshape(len(x), -1) @ weights[0].T + weights[1], 0)
        return hidden @ weights[2].T + weights[3]

    for model in (lambda x: trained()(x), of_callable(by_numpy, inputs="numpy", name="by numpy")):
        found = predict(model, digits(), preprocessing="dataset")
        np.testing.assert_allclose(scores(found), wanted, atol=1e-4)


def test_the_same_question_twice_has_the_same_answer_bit_for_bit():
    first, second = (predict(trained(), "digits", preprocessing="dataset", threads=1) for _ in range(2))
    assert np.array_equal(scores(first), scores(second))
    different = {"cost"}
    assert {k: v for k, v in first.source.items() if k not in different} == {
        k: v for k, v in second.source.items() if k not in different
    }


def test_the_model_the_random_state_and_the_threads_stay_as_they_are():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    before, state, threads = models.state_hash(model), torch.get_rng_state(), torch.get_num_threads()
    found = predict(model, "digits", preprocessing="none", threads=1, limit=50)
    assert model.training
    assert models.state_hash(model) == before == found.source["sha256"]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_model_that_changes_itself_is_refused():
    class Restless(Small):
        def forward(self, x):
            with torch.no_grad():
                self.hidden.weight += 1
            return super().forward(x)

    with pytest.raises(ValueError, match="keep its weights while it answers"):
        predict(Restless(), "digits", preprocessing="none", limit=20)


def test_the_record_says_how_the_model_was_asked_and_what_it_costs():
    source = predict(trained(), "digits", preprocessing="dataset", threads=1, batch_size=32, limit=100).source
    assert json.loads(json.dumps(source)) == source
    assert source["kind"] == "model"
    assert source["data"] == {
        "name": "digits", "fingerprint": source["data"]["fingerprint"], "examples": 100, "of": len(digits().test),
    }  # fmt: skip
    assert source["data"]["fingerprint"] != digits().fingerprint
    assert source["preprocessing"].startswith("mean=0.30")
    numbers = 64 * 16 + 16 + 16 * 10 + 10
    cost = source["cost"]
    assert (cost["parameters"], cost["bytes"], cost["threads"], cost["latency_batch_size"]) == (
        numbers,
        4 * numbers,
        1,
        32,
    )
    assert 0 < cost["latency"] < 0.01
    assert source["notes"] == []


def test_the_latency_is_that_of_the_model():
    import time

    def slow(x):
        time.sleep(0.02)
        return trained()(x)

    found = predict(slow, "digits", preprocessing="dataset", batch_size=10, limit=60)
    assert found.latency is not None
    assert 0.002 <= found.latency < 0.004


def test_a_limit_takes_evenly_spaced_examples(wanted):
    found = predict(trained(), "digits", preprocessing="dataset", limit=3)
    last = len(wanted) - 1
    np.testing.assert_allclose(scores(found), wanted[[0, round(last / 2), last]], atol=1e-5)


def test_numbers_keep_their_precision_and_half_models_get_half_inputs():
    half = predict(trained().__class__().half(), "digits", preprocessing="none", limit=20)
    assert scores(half).dtype == np.float16
    assert scores(predict(Small().bfloat16(), "digits", preprocessing="none", limit=20)).dtype == np.float32


def test_progress_reaches_the_end():
    seen = []
    predict(trained(), "digits", preprocessing="none", batch_size=100, progress=lambda *state: seen.append(state))
    assert [done for done, _, _ in seen] == [100, 200, 300, len(digits().test)]


def test_unlabelled_arrays_and_texts_need_no_preset():
    features = of_arrays(np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32), ids=np.arange(5, 35))
    found = predict(trained(), features, preprocessing="none")
    assert found.label is None
    assert ids(found)[0] == 5
    texts = of_arrays(["good", "bad", "good"], np.array([1, 0, 1]), classes=["bad", "good"])
    found = predict(lambda batch: np.array([[0.0, t == "good"] for t in batch]), texts)
    assert found.text is not None
    assert found.text.tolist() == ["good", "bad", "good"]
    assert found.source["preprocessing"] == "texts as they are"


def test_only_a_stated_accuracy_that_holds_gives_answers():
    found = predict(trained(), "digits", preprocessing="dataset", expect=Expectation(0.95, tolerance=0.05))
    assert found.source["expect"] == {"accuracy": 0.95, "tolerance": 0.05}
    with pytest.raises(ValueError, match="Expected Small to be right on 99.90 %") as error:
        predict(trained(), "digits", preprocessing="dataset", expect=0.999)
    assert "Nothing else was computed" in str(error.value)


def test_the_early_look_stops_a_wrong_model_before_most_of_the_work():
    data = of_arrays(np.zeros((6000, 4), np.float32), np.arange(6000) % 2, classes=["a", "b"])
    seen = []

    def model(x):
        seen.append(len(x))
        return torch.zeros(len(x), 2)

    with pytest.raises(ValueError, match=r"it is on \d+.\d\d % of 1,000"):
        predict(model, data, preprocessing="none", expect=0.9)
    assert sum(seen) < 6000


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: torch.zeros(len(x), 7), "Expected 10 outputs from .*, one for each class of 'digits', but it has 7"),
        (lambda x: torch.zeros(len(x)), "of shape \\(128, classes\\) for 128 examples"),
        (lambda x: torch.zeros(1, 10), "for 128 examples"),
        (lambda x: torch.zeros(len(x), 10, dtype=torch.int64), "floating-point logits"),
        (lambda x: [1, 2], "as a tensor or an array, but it returned list"),
        (lambda x: torch.full((len(x), 10), torch.nan), "NaN or infinity on 128 of 128 examples"),
        (lambda x: x @ torch.zeros(3, 10), "failed on a batch of shape \\(128, 1, 8, 8\\): RuntimeError"),
        (lambda x: x.no_such_thing, "AttributeError.*Does `preprocessing` give"),
        (lambda x: torch.zeros(2**50), "asks for more memory than this machine has free"),
    ],
)
def test_outputs_that_are_no_logits_for_the_data_are_refused(output, message):
    with pytest.raises(ValueError, match=message):
        predict(output, "digits", preprocessing="none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Expected `preprocessing`: what does Small want to see\\? Presets are 'dataset'"),
        ({"preprocessing": "imagnet"}, "Expected a preset"),
        ({"preprocessing": "none", "batch_size": 0}, "`batch_size` to be a whole number above 0"),
        ({"preprocessing": "none", "limit": 1.5}, "`limit` to be a whole number"),
        ({"preprocessing": "none", "expect": 91.2}, "Write 0.912"),
        ({"preprocessing": "none", "expect": Expectation(0.5)}, "Expected Small to be right on 50.00 %"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        predict(Small(), "digits", **options)


def test_expectations_need_labels_and_a_tolerance_below_one():
    with pytest.raises(ValueError, match="labels in 'arrays' to compare"):
        predict(Small(), of_arrays(np.zeros((3, 64), np.float32)), preprocessing="none", expect=0.5)
    with pytest.raises(ValueError, match="`tolerance`"):
        Expectation(0.5, tolerance=1.0)


def test_a_preprocessing_may_be_a_value():
    found = predict(trained(), "digits", preprocessing=Preprocessing(range="0..255"), limit=5)
    assert found.source["preprocessing"] == "range=0..255"


@pytest.mark.parametrize("inputs", ["tensorflow", ""])
def test_unknown_kinds_of_inputs_are_refused(inputs):
    with pytest.raises(ValueError, match="`inputs` to be 'torch' or 'numpy'"):
        of_callable(len, inputs=inputs)
