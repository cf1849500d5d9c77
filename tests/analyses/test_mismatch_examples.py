from typing import Any

import numpy as np
import pytest

from remnant.analyses.comparison import comparisons
from remnant.analyses.mismatch_examples import changed
from remnant.analyses.mismatch_measures import measure
from remnant.analyses.mismatches import run
from tests.analyses import file_populations


def softmax(logits):
    x = np.exp(logits.astype(float) - logits.max(axis=-1, keepdims=True).astype(float))
    return x / x.sum(axis=-1, keepdims=True)


def test_regressed_examples_of_a_pair_are_those_of_a_loop():
    """By the probability that the reference gives to the true class, largest first."""
    population = file_populations.population(text=True)
    probability, label = softmax(population["logits"].values), population["label"].values
    predicted = population["logits"].values.argmax(axis=-1)
    lost = [i for i in range(300) if predicted[0, i] == label[i] != predicted[1, i]]
    lost.sort(key=lambda i: -probability[0, i, label[i]])
    table: Any = run(population).tables["regressed"]
    np.testing.assert_array_equal(table["example"], population["example"].values[lost])
    np.testing.assert_allclose(table["reference_confidence"], [probability[0, i, label[i]] for i in lost])
    np.testing.assert_allclose(table["compressed_confidence"], [probability[1, i].max() for i in lost])
    assert (
        table["true"][0] == table["reference_answer"][0] == f"class {label[lost[0]]}: answer {lost[0]}.{label[lost[0]]}"
    )
    assert table["compressed_answer"][0].startswith(f"class {predicted[1, lost[0]]}: answer")
    assert table["text"][0] == f"question {lost[0]} <b>?"
    assert "pairs_changed" not in table


def test_the_usual_answers_of_several_pairs_are_those_of_a_loop():
    population = file_populations.population(sides={"a": 5, "b": 5}, num_classes=4, noise=1.5)
    part = measure(comparisons(population, pairs=True)[0], "auto", 10, 0)
    found: Any = changed(part, 1000)
    predicted, label = population["logits"].values.argmax(axis=-1), population["label"].values
    probability = softmax(population["logits"].values)
    assert (np.diff(found.flips) <= 0).all()
    for row, flips, before, after, sure, sure_after in zip(
        found.rows, found.flips, found.before, found.after, found.sure_before, found.sure_after, strict=True
    ):
        lost = [k for k in range(5) if predicted[k, row] == label[row] != predicted[k + 5, row]]
        assert flips == len(lost)
        assert before == label[row]
        assert after == np.bincount(predicted[5:][lost, row]).argmax()
        assert sure == pytest.approx(np.mean([probability[k, row, before] for k in lost]))
        assert sure_after == pytest.approx(np.mean([probability[k + 5, row, after] for k in lost]))
    assert (predicted[:5] == label).any(axis=0).sum() > len(found.rows)


def test_the_first_ones_do_not_depend_on_how_many_are_asked_for():
    population = file_populations.population(sides={"a": 3, "b": 3})
    part = measure(comparisons(population, pairs=True)[0], "auto", 10, 0)
    every = changed(part, 1000)
    for most in (0, 1, 7, 40):
        few = changed(part, most)
        np.testing.assert_array_equal(few.rows, every.rows[:most])
        np.testing.assert_array_equal(few.after, every.after[:most])


def test_answers_alone_stand_in_order_of_their_ids():
    population = file_populations.population(logits=False)
    table: Any = run(population).tables["regressed"]
    assert (np.diff(table["example"]) > 0).all()
    assert "reference_confidence" not in table
    unlabelled = run(population.drop_vars("label")).tables
    assert "regressed" not in unlabelled
    changes: Any = unlabelled["changed"]
    assert "true" not in changes
    assert (changes["reference_answer"] != changes["compressed_answer"]).all()
    predicted = population["prediction"].values
    assert len(changes) == (predicted[0] != predicted[1]).sum()


def test_lists_are_as_long_as_asked_for():
    population = file_populations.population(sides={"net": 1, "a": 1, "b": 3}, text=True)
    finding = run(population, regressed=5, gallery=3)
    table: Any = finding.tables["regressed"]
    assert table["scheme"].value_counts().to_dict() == {"a": 5, "b": 5}
    assert table["pairs_changed"].tolist()[:5] == [1] * 5
    assert [len(exhibits) for exhibits in finding.galleries.values()] == [3, 3]
    none = run(population, regressed=0, gallery=0)
    assert "regressed" not in none.tables
    assert not none.galleries


def test_exhibits_of_texts_carry_the_text_and_both_answers():
    finding = run(file_populations.population(text=True))
    (exhibit, *_) = finding.galleries["Right answers lost: net-int8"]
    assert [line.split(": ")[0] for line in exhibit.lines] == ["text", "true", "net", "net-int8"]
    assert exhibit.lines[2].endswith(f", sure by {exhibit.value:.2f}")
    long = file_populations.population(text=True)
    long["text"].values[:] = "a  word " * 1000
    finding = run(long)
    (exhibit, *_) = finding.galleries["Right answers lost: net-int8"]
    assert len(exhibit.lines[0]) <= 310
    assert exhibit.lines[0].startswith("text: a word a word")
    assert exhibit.lines[0].endswith("…")
    assert finding.tables["regressed"]["text"].str.len().max() <= 200


def test_a_gallery_needs_something_to_see():
    files = file_populations.population()
    assert not run(files).galleries
    assert len(run(files).tables["regressed"]) > 0
    files.attrs["pictures"] = True
    assert run(files).galleries
