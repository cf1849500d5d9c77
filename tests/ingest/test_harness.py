import json

import numpy as np
import pytest

from remnant.ingest import population, read
from remnant.population import predictions
from tests.ingest import files
from tests.ingest.files import sample


def log(folder, rows, name="samples_arc_2026-01-01T00-00-00.000000.jsonl", **options):
    return read(files.write(folder, name, files.jsonl(rows)), **options)


def test_samples_become_log_likelihoods_of_the_options(tmp_path):
    rows = [sample(7, [-3.5, -1.25, -9.0], 1), sample(3, [-2.0, -4.0, -1.0], 0)]
    found = log(tmp_path, rows)
    assert found.scores is not None
    assert found.scores.dtype == np.float64
    np.testing.assert_array_equal(found.scores, [[-3.5, -1.25, -9.0], [-2.0, -4.0, -1.0]])
    assert found.ids is not None
    assert found.label is not None
    assert found.options is not None
    assert found.text is not None
    assert found.content is not None
    assert found.ids.tolist() == [7, 3]
    assert found.label.tolist() == [1, 0]
    assert found.options[0].tolist() == ["option 0", "option 1", "option 2"]
    assert found.text.tolist() == ["Question 7?\nAnswer:", "Question 3?\nAnswer:"]
    assert found.content[0] == f"{7:064x}"
    assert found.source["kind"] == "lm-evaluation-harness"
    assert found.source["label"] == "`target` as index, in agreement with the logged `acc`"


def older(row):
    """The sample as versions 0.4.0 to 0.4.2 wrote it (`evaluator.py` and `__main__.py` of 0.4.2): one indented list,
    numbers as numbers, arguments as lists, no hashes."""
    return {
        "doc_id": row["doc_id"],
        "doc": row["doc"],
        "target": int(row["target"]),
        "arguments": [[a["arg_0"], a["arg_1"]] for a in row["arguments"].values()],
        "resps": [[[float(r[0]), False]] for r in row["filtered_resps"]],
        "filtered_resps": [[float(r[0]), False] for r in row["filtered_resps"]],
        "acc": row["acc"],
    }


def test_logs_of_older_versions_say_the_same(tmp_path):
    rows = files.samples()
    new = log(tmp_path, rows)
    old = read(files.write(tmp_path, "old.jsonl", json.dumps([older(row) for row in rows], indent=2).encode()))
    np.testing.assert_array_equal(new.scores, old.scores)
    np.testing.assert_array_equal(new.label, old.label)
    np.testing.assert_array_equal(new.options, old.options)
    assert old.content is None


def test_options_that_some_examples_lack_get_the_lowest_score(tmp_path):
    found = log(tmp_path, [sample(0, [-1.0, -2.0, -3.0], 0), sample(1, [-5.0, -4.0], 1)])
    assert found.scores is not None
    assert found.num_options is not None
    assert found.options is not None
    assert found.scores[1].tolist() == [-5.0, -4.0, -1e4]
    assert found.num_options.tolist() == [3, 2]
    assert found.options[1].tolist() == ["option 0", "option 1", ""]


def test_log_likelihoods_below_that_of_absent_options_are_told(tmp_path):
    with pytest.raises(ValueError, match=r'above -10000, .* but the lowest is -20000\. .*normalize="bytes"'):
        log(tmp_path, [sample(0, [-1.0, -2e4, -3.0], 0), sample(1, [-5.0, -4.0], 1)])


@pytest.mark.parametrize(("how", "divisors"), [("none", [1, 1]), ("characters", [2, 8]), ("bytes", [4, 8])])
def test_normalization_divides_by_the_length_of_the_option(how, divisors, tmp_path):
    """As `task.py` of 0.4.13: acc_norm by characters, acc_bytes by UTF-8 bytes of the option without its blank."""
    row = sample(0, [-4.0, -8.0], 0)
    row["arguments"] = {f"gen_args_{i}": {"arg_0": "Q", "arg_1": t} for i, t in enumerate([" éé", " abcdefgh"])}
    found = log(tmp_path, [row, row | {"doc_id": 1}], normalize=how)
    assert found.scores is not None
    np.testing.assert_allclose(found.scores[0], np.array([-4.0, -8.0]) / divisors)
    assert found.source["normalize"] == how


def test_normalized_labels_do_not_depend_on_the_normalization(tmp_path):
    rows = files.samples()
    labels = [log(tmp_path, rows, normalize=how).label for how in ("none", "characters", "bytes")]
    assert all(label is not None for label in labels)
    np.testing.assert_array_equal(labels[0], labels[1])
    np.testing.assert_array_equal(labels[0], labels[2])


@pytest.mark.parametrize(
    ("targets", "accuracies", "label", "note"),
    [
        # Index 1 or the option "1" (the first)? The logged accuracy decides.
        (["1", "2"], [1.0, 1.0], [0, 1], "`target` as text, in agreement"),
        (["1", "0"], [0.0, 0.0], [1, 0], "`target` as index, in agreement"),
        (["1", "1"], [None, None], None, "may be an index or a text"),
        (["[0]", "[1]"], [1.0, 1.0], [0, 1], "`target` as index"),
        (["2", "2"], [None, None], [1, 1], "`target` as text"),
        (["x", "y"], [1.0, 0.0], [0, 0], "from the logged `acc`"),
        (["x", "y"], [0.4, 0.6], None, "neither"),
        (["[0, 1]", "[0, 1]"], [None, None], None, "neither"),
    ],
)
def test_labels_are_told_from_target_and_accuracy(targets, accuracies, label, note, tmp_path):
    rows = [sample(0, [-1.0, -2.0], 0), sample(1, [-2.0, -1.0], 1)]
    for row, target, accuracy in zip(rows, targets, accuracies, strict=True):
        row["target"], row["acc"] = target, accuracy
        for i, text in enumerate([" 1", " 2"]):
            row["arguments"][f"gen_args_{i}"]["arg_1"] = text
    found = log(tmp_path, rows)
    assert (None if found.label is None else found.label.tolist()) == label
    assert note in found.source["label"]


def test_targets_that_contradict_the_logged_accuracy_are_no_labels(tmp_path):
    rows = [sample(i, [-1.0, -2.0, -3.0], 0, acc=0.0) for i in range(3)]
    found = log(tmp_path, rows)
    assert found.label is None
    assert "does not agree with the logged `acc`" in found.source["label"]


def test_questions_that_differ_between_options_are_the_options(tmp_path):
    """winogrande: the options are two beginnings with the same end, and `target` is that end."""
    row = sample(0, [-1.0, -2.0], 0) | {"target": "is big.", "acc": 0.0}
    for i, start in enumerate(["The cup", "The table"]):
        row["arguments"][f"gen_args_{i}"] = {"arg_0": start, "arg_1": " is big."}
    found = log(tmp_path, [row])
    assert found.options is not None
    assert found.text is not None
    assert found.label is not None
    assert found.options[0].tolist() == ["The cup", "The table"]
    assert found.text[0] == " is big."
    assert found.label.tolist() == [1]


def test_requests_for_mutual_information_are_left_out(tmp_path):
    row = sample(0, [-1.0, -2.0, -0.5, -0.1], 0)
    for i in (2, 3):
        row["arguments"][f"gen_args_{i}"]["arg_0"] = ""
    found = log(tmp_path, [row])
    np.testing.assert_array_equal(found.scores, [[-1.0, -2.0]])


def test_fields_with_few_values_are_attributes(tmp_path):
    found = log(tmp_path, files.samples(number=8))
    assert found.columns["subject"].tolist() == ["law", "art"] * 4
    assert sorted(found.columns) == ["subject", "text_length"]


def test_the_end_of_a_long_prompt_is_kept(tmp_path):
    row = sample(0, [-1.0, -2.0], 0)
    for i in range(2):
        row["arguments"][f"gen_args_{i}"]["arg_0"] = "few shots " * 1000 + "the question"
    found = log(tmp_path, [row])
    assert found.text is not None
    assert found.text[0].endswith("the question")
    assert len(found.text[0]) == 2000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"filtered_resps": ["The answer is 4."]}, "the task generates text"),
        ({"filtered_resps": [["The answer is 4."]]}, "the task generates text"),
        (
            {"filtered_resps": [["-1.0", "True"]], "arguments": [["a", "b"]]},
            "at least 2 answer options, but sample 1 has 1",
        ),
        ({"filtered_resps": []}, "a list of responses"),
        ({"arguments": {"gen_args_0": {"arg_0": "a"}}}, "context and continuation of 3 requests"),
        ({"filtered_resps": [["nan", "True"]] * 3}, "finite scores, but row 1 has NaN"),
        ({"doc_id": 0}, "every id once"),
    ],
)
def test_faults_of_samples_are_told(change, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        log(tmp_path, [sample(0, [-1.0, -2.0, -3.0], 0), sample(1, [-1.0, -2.0, -3.0], 0) | change])


def test_normalization_needs_a_log(tmp_path):
    with pytest.raises(ValueError, match="a log of lm-evaluation-harness for `normalize='bytes'`"):
        log(tmp_path, [{"label": 1}], normalize="bytes")
    with pytest.raises(ValueError, match=r"`normalize` among \['bytes', 'characters', 'none'\]"):
        log(tmp_path, files.samples(), normalize="tokens")


def test_two_logs_become_a_population(tmp_path):
    a, b = files.samples(0), files.samples(1)
    people = population({"bf16": [log(tmp_path, a)], "int4": [log(tmp_path, b[::-1])]})
    wanted = [[np.argmax([float(r[0]) for r in row["filtered_resps"]]) for row in rows] for rows in (a, b)]
    np.testing.assert_array_equal(predictions(people), wanted)
    accuracy = (predictions(people) == people["label"].values).mean(axis=1)
    np.testing.assert_allclose(accuracy, [np.mean([row["acc"] for row in rows]) for rows in (a, b)])


def test_logs_of_different_data_are_told(tmp_path):
    other = files.samples()
    other[2]["doc_hash"] = "f" * 64
    with pytest.raises(ValueError, match=r"content hashes differ between a .* and b .* on 2 \(1 in all\)"):
        population({"a": [log(tmp_path, files.samples())], "b": [log(tmp_path, other)]})
