import numpy as np
import pytest
from scipy.special import softmax

from remnant.answers import ROUNDED_FROM, bytes_of_answers, predicted, stored


def logits(num_classes):
    return np.random.default_rng(0).normal(0, 5, (40, num_classes)).astype(np.float32)


def test_logits_of_few_classes_are_stored_as_they_are():
    few = logits(ROUNDED_FROM - 1)
    found = stored(few)
    assert list(found) == ["logits"]
    assert found["logits"] is few
    assert np.array_equal(predicted(found), few.argmax(axis=1))


def test_rounded_logits_keep_the_answers_that_rounding_would_change():
    many = logits(ROUNDED_FROM)
    many[0] = 0
    many[0, 7:9] = 100, 100.001  # one number in half precision
    found = stored(many)
    assert found["logits"].dtype == np.float16
    assert predicted(found)[0] == found["logits"][0].argmax() == 8
    assert np.array_equal(predicted(found), many.argmax(axis=1))


@pytest.mark.parametrize("offset", [0, 100])
def test_rounding_hardly_changes_probabilities(offset):
    many = logits(1000) + np.float32(offset)
    exact, rounded = softmax(many, axis=1), softmax(stored(many)["logits"].astype(np.float32), axis=1)
    assert np.abs(exact - rounded).max() < 5e-4
    assert np.array_equal(rounded.argmax(axis=1), many.argmax(axis=1))


def test_logits_too_far_apart_for_half_precision_are_not_rounded():
    many = logits(ROUNDED_FROM)
    many[3, 4] = -70_000
    assert stored(many)["logits"] is many


def test_bytes_are_those_of_what_is_stored():
    for num_classes in (10, ROUNDED_FROM, 300):
        found = stored(logits(num_classes))
        assert bytes_of_answers(40, num_classes) == sum(array.nbytes for array in found.values())
