import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from remnant.ingest import from_arrays
from remnant.ingest.limits import Limits
from remnant.ingest.scores import argmax, as_logits


def test_arrays_of_a_notebook_become_predictions():
    found = from_arrays(
        [[1.0, 2.0], [4.0, 3.0]],
        label=["cat", "dog"],
        ids=pd.Series(["x", "y"]),
        classes=["dog", "cat"],
        columns={"site": ["A", "B"], "age": [3, 4], "seen": [True, False]},
        text=["one", "two"],
        options=[["a"], ["b", "c"]],
        model_bytes=123,
        latency=0.5,
        source={"name": "mine"},
    )
    assert len(found) == 2
    assert found.num_classes == 2
    assert repr(found) == "Predictions('mine', 2 examples, ids, scores, label, text, options)"
    assert found.label is not None
    assert found.label.tolist() == [1, 0]
    assert found.columns["seen"].tolist() == ["True", "False"]
    assert found.options is not None
    assert found.options.tolist() == [["a", ""], ["b", "c"]]
    answers = found.answers()
    assert answers is not None
    assert answers.tolist() == [1, 0]
    assert found.source == {
        "kind": "arrays",
        "name": "mine",
        "scores": "logits (they are not probabilities)",
        "rows": 2,
    }


def test_nothing_given_is_an_error():
    with pytest.raises(ValueError, match="scores, a prediction or a label for every example, but got none"):
        from_arrays()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"columns": {"x": [1, 2, 3]}}, "`x` to have one value for each of the 2 examples"),
        ({"columns": {"x": np.zeros(2, complex)}}, "the attribute 'x' to hold strings or numbers, but got complex128"),
        ({"ids": ["a" * 2000, "b"]}, r"has this many characters: 2,000, but at most 1,000 are read"),
        ({"text": ["a"]}, "a text for each of the 2 examples, but got 1"),
        ({"options": [["a"]]}, "answer options for each of the 2 examples, but got 1"),
        ({"read_as": "odds"}, "'auto', 'logits' or 'probabilities', but got 'odds'"),
        ({"classes": ["a"]}, "at least 2 classes"),
        ({"classes": [["a"]]}, r"a list of names, but got the shape \(1, 1\)"),
        ({"num_options": [1]}, "`num_options` to have one value"),
    ],
)
def test_faults_of_arrays_are_told(given, says):
    with pytest.raises(ValueError, match=says):
        from_arrays(np.zeros((2, 2)), **given)


@given(hnp.arrays(np.float16, (7, 5), elements=st.floats(-100, 100, width=16)))
def test_the_highest_score_is_that_of_numpy(scores):
    np.testing.assert_array_equal(argmax(scores), scores.astype(float).argmax(axis=1))


@given(
    hnp.arrays(np.float64, (5, 4), elements=st.floats(-30, 30)), st.sampled_from([np.float16, np.float32, np.float64])
)
def test_probabilities_are_recognised_and_keep_their_order(logits, kind):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (shifted / shifted.sum(axis=1, keepdims=True)).astype(kind)
    found, note = as_logits(probabilities, "auto", Limits())
    assert note.startswith("probabilities")
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))
    large = probabilities > 1e-6
    np.testing.assert_allclose(np.exp(found[large]), probabilities[large].astype(float), rtol=1e-5)


def test_probabilities_of_a_thousand_float16_classes_are_recognised():
    logits = np.random.default_rng(0).normal(0, 3, (200, 1000))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert as_logits(probabilities.astype(np.float16), "auto", Limits())[1].startswith("probabilities")


def test_scores_that_only_look_like_probabilities_are_logits():
    for scores in ([[0.2, 0.7]], [[-0.1, 1.1]], [[1.0, 1.0]]):
        assert as_logits(np.array(scores), "auto", Limits())[1].startswith("logits")


def test_predictions_beside_scores_may_be_any_of_the_highest():
    found = from_arrays([[1.0, 1.0, 0.0]], prediction=[1])
    assert found.prediction is None
    with pytest.raises(ValueError, match="row 0 predicts class 2 and scores class 0 highest"):
        from_arrays([[1.0, 1.0, 0.0]], prediction=[2])


def test_disagreement_is_found_beyond_the_first_block(monkeypatch):
    monkeypatch.setattr("remnant.ingest.scores.BLOCK", 6)
    scores = np.eye(3)[np.arange(9) % 3]
    assert from_arrays(scores, prediction=np.arange(9) % 3).prediction is None
    wrong = np.arange(9) % 3
    wrong[7] = 0
    with pytest.raises(ValueError, match="row 7 predicts class 0 and scores class 1 highest"):
        from_arrays(scores, prediction=wrong)


def test_strings_with_a_zero_character_stay_apart():
    found = from_arrays(label=["a\0b", "a\0c", "a"])
    assert found.classes == ("a", "a\0b", "a\0c")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_told(kind, value):
    scores = np.zeros((5, 3), kind)
    scores[3, 2] = value
    with pytest.raises(ValueError, match="finite scores, but row 3 has (NaN|an infinite number) in class 2"):
        from_arrays(scores)


@pytest.mark.parametrize("value", [-1, 3])
def test_indices_out_of_range_are_told(value):
    with pytest.raises(ValueError, match=rf"`label` to be a class index in \[0, 3\), but row 1 has {value}"):
        from_arrays(np.eye(3), label=[0, value, 2])
