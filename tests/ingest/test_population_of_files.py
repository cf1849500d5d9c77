import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.ingest import from_arrays, population
from remnant.ingest.matching import by_id
from remnant.population import SchemaError, check, groups, predictions, reference_of, schemes

EYE = np.eye(3, dtype=np.float32)


def test_files_become_a_checked_population():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 4)).astype(np.float16)
    common = {"ids": list("vwxyz"), "label": [0, 1, 2, 3, 0], "columns": {"site": list("AABBA")}}
    files = [
        from_arrays(part, **common, model_bytes=100 + i, latency=0.5, source={"name": f"{i}.npz"})
        for i, part in enumerate(logits)
    ]
    people = population({"float": files[:1], "int8": files[1:]})
    assert isinstance(people, xr.Dataset)
    assert check(people) is people
    assert reference_of(people) == "float"
    assert schemes(people) == ["float", "int8"]
    assert people["trial"].values.tolist() == ["float/0", "int8/0", "int8/1"]
    assert people["seed"].values.tolist() == [0, 0, 1]
    assert people["subset"].values.tolist() == [-1, -1, -1]
    assert people["logits"].dtype == np.float16
    np.testing.assert_array_equal(people["logits"], logits)
    assert people["class"].values.tolist() == ["0", "1", "2", "3"]
    assert groups(people)["site"].tolist() == list("AABBA")
    assert people["bytes"].values.tolist() == [[100], [101], [102]]
    assert people["encoding"].values.tolist() == ["file"]
    assert people["latency"].values.tolist() == [0.5] * 3
    assert [entry["side"] for entry in people.attrs["inputs"]] == ["float", "int8", "int8"]
    assert people.attrs["matching"] == {"by": "id", "examples": 5, "reordered": [], "answers": "scores"}


@settings(max_examples=40)
@given(st.data(), st.booleans(), st.sampled_from([1, 10**9]))
def test_matching_is_that_of_a_dictionary(data, as_text, spread):
    ids = [data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True)) for _ in range(3)]
    ids = [[n * spread for n in part] for part in ids]
    files = [
        from_arrays(prediction=np.arange(len(p)), ids=[str(n) for n in p] if as_text else np.array(p)) for p in ids
    ]
    shared = [n for n in ids[0] if all(n in part for part in ids)]
    names = ["a", "b", "c"]
    if any(set(part) != set(ids[0]) for part in ids):
        with pytest.raises(SchemaError, match="the same ids in every file"):
            by_id(files, names, "error")
    if not shared:
        with pytest.raises(SchemaError, match="some ids that all files have, but there is none"):
            by_id(files, names, "drop")
        return
    found = by_id(files, names, "drop")
    assert found.example.tolist() == ([str(n) for n in shared] if as_text else shared)
    for part, rows, name in zip(ids, found.rows, names, strict=True):
        where = np.arange(len(part)) if rows is None else rows
        assert where.tolist() == [part.index(n) for n in shared]
        assert found.record.get("left_out", {}).get(name, {"count": 0})["count"] == len(part) - len(shared)


def test_ids_in_one_file_only_are_listed():
    a, b = from_arrays(EYE, ids=[1, 2, 3], source={"name": "a.csv"}), from_arrays(EYE, ids=[3, 1, 9])
    says = r"2 \(1 in all\) are in ref \(a.csv\) and not in int8; 9 \(1 in all\) are in int8 and not in ref"
    with pytest.raises(SchemaError, match=says):
        population({"ref": [a], "int8": [b]})
    people = population({"ref": [a], "int8": [b]}, missing="drop")
    assert people["example"].values.tolist() == [1, 3]
    np.testing.assert_array_equal(predictions(people), [[0, 2], [1, 0]])
    assert people.attrs["matching"]["left_out"] == {
        "ref (a.csv)": {"count": 1, "first": [2]},
        "int8": {"count": 1, "first": [9]},
    }


def test_integer_and_text_ids_match():
    a, b = from_arrays(EYE, ids=[1, 2, 3]), from_arrays(EYE, ids=["3", "2", "1"])
    np.testing.assert_array_equal(predictions(population({"a": [a], "b": [b]})), [[0, 1, 2], [2, 1, 0]])


def test_ids_with_a_zero_character_are_not_mistaken():
    a = from_arrays(prediction=[0, 1], ids=["x\0a", "x\0b"])
    b = from_arrays(prediction=[0, 1], ids=["x\0b", "x\0a"])
    np.testing.assert_array_equal(predictions(population({"a": [a], "b": [b]})), [[0, 1], [1, 0]])


def test_position_is_used_only_if_asked():
    a, b = from_arrays(EYE), from_arrays(EYE[::-1].copy())
    with pytest.raises(SchemaError, match=r"no file has any. Add a column `id`, or, .*match=\"position\""):
        population({"a": [a], "b": [b]})
    with pytest.raises(SchemaError, match=r"'b' \(1 in all\) have none"):
        population({"a": [from_arrays(EYE, ids=[1, 2, 3])], "b": [b]})
    people = population({"a": [a], "b": [b]}, match="position")
    assert people["example"].values.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(predictions(people), [[0, 1, 2], [2, 1, 0]])
    with pytest.raises(SchemaError, match="as many rows in every file, to match them by position, but got a: 3, b: 2"):
        population({"a": [a], "b": [from_arrays(EYE[:2])]}, match="position")


def test_matching_by_position_says_where_ids_differ():
    a, b = from_arrays(EYE, ids=[1, 2, 3]), from_arrays(EYE, ids=[3, 2, 1])
    people = population({"a": [a], "b": [b]}, match="position")
    assert people.attrs["matching"] == {"by": "position", "examples": 3, "ids_differ_in": ["b"], "answers": "scores"}


# Classes


def test_scores_follow_the_names_of_classes_not_their_order():
    a = from_arrays(EYE, label=["x", "y", "z"], ids=[1, 2, 3], classes=["x", "y", "z"])
    b = from_arrays(EYE[:, [2, 0, 1]].copy(), label=["x", "y", "z"], ids=[1, 2, 3], classes=["z", "x", "y"])
    people = population({"a": [a], "b": [b]})
    np.testing.assert_array_equal(people["logits"][0], people["logits"][1])
    assert people["class"].values.tolist() == ["x", "y", "z"]
    assert people["label"].values.tolist() == [0, 1, 2]


@settings(max_examples=15)
@given(st.permutations(range(4)), st.permutations(range(6)))
def test_order_of_classes_and_examples_changes_nothing(classes, examples):
    rng = np.random.default_rng(0)
    logits, label, names = rng.normal(size=(2, 6, 4)), np.arange(6) % 4, np.array(list("pqrs"))
    a = from_arrays(logits[0], label=label, ids=np.arange(6), classes=names)
    straight = population({"a": [a], "b": [from_arrays(logits[1], label=label, ids=np.arange(6), classes=names)]})
    order, rows = np.array(classes), np.array(examples)
    moved = from_arrays(logits[1][rows][:, order], label=names[label[rows]], ids=rows, classes=names[order])
    xr.testing.assert_equal(population({"a": [a], "b": [moved]}), straight)


def test_files_with_answers_only_make_all_answers():
    a = from_arrays(EYE, ids=[1, 2, 3], classes=["x", "y", "z"])
    b = from_arrays(prediction=["z", "z", "x"], ids=[1, 2, 3])
    people = population({"a": [a], "b": [b]})
    assert "logits" not in people
    np.testing.assert_array_equal(people["prediction"], [[0, 1, 2], [2, 2, 0]])
    assert people.attrs["matching"]["answers"] == "predictions only, as 'b' (1 in all) have no scores"


def test_names_that_occur_are_joined():
    a = from_arrays(prediction=["b", "a"], ids=[1, 2])
    b = from_arrays(prediction=["c", "a"], ids=[1, 2])
    people = population({"a": [a], "b": [b]})
    assert people["class"].values.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(people["prediction"], [[1, 0], [2, 0]])


def test_numbers_follow_the_file_that_names_them():
    a = from_arrays(EYE, ids=[1, 2, 3], classes=["z", "y", "x"])
    people = population({"a": [a], "b": [from_arrays(prediction=[2, 1, 0], ids=[1, 2, 3])]})
    np.testing.assert_array_equal(people["prediction"], [[0, 1, 2], [2, 1, 0]])


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (
            {"prediction": ["x", "y"]},
            {"prediction": [0, 1]},
            r"class names in every file or in none, but 'b' .*classes=",
        ),
        (
            {"scores": EYE[:2], "classes": ["x", "y", "z"]},
            {"prediction": ["x", "w"]},
            r"'w' \(1 in all\) are in b only",
        ),
        (
            {"scores": EYE[:2], "classes": ["x", "y", "z"]},
            {"scores": EYE[:2], "classes": ["x", "y", "Z"]},
            r"'Z' \(1 in all\) are in b only and b lacks 'z'",
        ),
        ({"scores": EYE[:2]}, {"scores": EYE[:2, :2]}, "scores of the same classes in every file, but got a: 3, b: 2"),
        (
            {"scores": EYE[:2], "classes": ["x", "y", "z"]},
            {"scores": EYE[:2, :2]},
            "3 classes in every file, but b has 2",
        ),
        ({"scores": EYE[:2]}, {"prediction": [0, 5]}, "class indices below 3, the number of scores, but b has 5"),
        ({"scores": EYE[:2]}, {"label": [0, 1]}, "scores or predictions in b, but it has labels only"),
        (
            {"scores": EYE[:2], "label": [0, 1]},
            {"scores": EYE[:2], "label": [0, 2]},
            r"a and b differ on 1 examples: 8 .*'1' and '2'",
        ),
        (
            {"scores": EYE[:2], "content": ["p", "q"]},
            {"scores": EYE[:2], "content": ["p", "r"]},
            "content hashes differ",
        ),
        ({"prediction": ["x", "x"]}, {"prediction": ["x", "x"]}, "at least 2 classes, but got 1"),
    ],
)
def test_sides_that_do_not_fit_are_told(a, b, says):
    with pytest.raises(SchemaError, match=says):
        population({"a": [from_arrays(**a, ids=[7, 8])], "b": [from_arrays(**b, ids=[7, 8])]})


def test_classes_can_be_given():
    a, b = from_arrays(prediction=["x", "y"], ids=[7, 8]), from_arrays(prediction=[0, 1], ids=[7, 8])
    people = population({"a": [a], "b": [b]}, classes=["y", "x"])
    np.testing.assert_array_equal(people["prediction"], [[1, 0], [0, 1]])


# Labels, attributes, texts


def test_labels_may_come_from_a_file_of_their_own():
    a, b = from_arrays(EYE, ids=[1, 2, 3]), from_arrays(EYE, ids=[3, 2, 1])
    truth = from_arrays(label=[2, 0, 1], ids=[2, 3, 1], columns={"site": ["B", "C", "A"]})
    people = population({"a": [a], "b": [b]}, labels=truth)
    assert people["label"].values.tolist() == [1, 2, 0]
    assert people["group_site"].values.tolist() == ["A", "B", "C"]
    assert people.attrs["inputs"][-1]["side"] == "labels"
    assert people.sizes["trial"] == 2


def test_one_array_of_classes_can_be_the_labels():
    a = from_arrays(EYE)
    people = population({"a": [a], "b": [a]}, labels=from_arrays(prediction=[2, 1, 0]), match="position")
    assert people["label"].values.tolist() == [2, 1, 0]


def test_without_labels_there_is_no_label():
    a = from_arrays(EYE, ids=[1, 2, 3])
    assert "label" not in population({"a": [a], "b": [a]})


def test_attributes_in_which_models_differ_are_left_out():
    a = from_arrays(
        EYE, ids=[1, 2, 3], columns={"site": ["A", "B", "B"], "confidence": [0.1, 0.2, 0.3], "age": [1, np.nan, 3]}
    )
    b = from_arrays(EYE, ids=[1, 2, 3], columns={"confidence": [0.2, 0.2, 0.3], "age": [1, np.nan, 3]})
    people = population({"a": [a], "b": [b]})
    assert set(groups(people)) == {"site", "age"}
    assert people.attrs["matching"]["columns_left_out"] == ["confidence"]


def test_texts_and_options_follow_the_examples():
    a = from_arrays(EYE, ids=[1, 2, 3])
    b = from_arrays(EYE, ids=[3, 2, 1], text=["t3", "t2", "t1"], options=[["p"], ["p", "q"], ["p", "q", "r"]])
    people = population({"a": [a], "b": [b]})
    assert people["text"].values.tolist() == ["t1", "t2", "t3"]
    assert people["option"].values[0].tolist() == ["p", "q", "r"]
    assert people["num_options"].values.tolist() == [3, 2, 1]


def test_the_widest_dtype_holds_all_logits():
    a, b = from_arrays(EYE.astype(np.float16), ids=[1, 2, 3]), from_arrays(EYE, ids=[1, 2, 3])
    assert population({"a": [a], "b": [b]})["logits"].dtype == np.float32


@pytest.mark.parametrize(
    ("sides", "options", "says"),
    [
        ({}, {}, "at least one side with predictions"),
        ({"a": []}, {}, "at least one file of predictions for the side 'a'"),
        ({"a": from_arrays(EYE)}, {}, r"a list of predictions for the side 'a', but got one: write \[predictions\]"),
        ({"a": [from_arrays(EYE)]}, {"match": "order"}, "`match` to be one of"),
        ({"a": [from_arrays(EYE)]}, {"missing": "ignore"}, "`missing` to be one of"),
    ],
)
def test_wrong_arguments_are_told(sides, options, says):
    with pytest.raises(ValueError, match=says):
        population(sides, **options)


def test_messages_escape_the_names_of_files():
    a, b = from_arrays(EYE, ids=[1, 2, 3]), from_arrays(EYE, ids=[1, 2, 4], source={"name": "\x1b[31m\u202e.csv"})
    with pytest.raises(SchemaError) as error:
        population({"a": [a], "b": [b]})
    assert str(error.value).isprintable()
