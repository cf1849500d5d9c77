"""What is wrong in a file is told with its column and row, in every format that can have it."""

import numpy as np
import pyarrow as pa
import pytest

from remnant.ingest import read
from tests.ingest import files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,score\n1,2\n", "Expected scores, predictions or labels, but the file has 'id', 'score'"),
        ("id,label,target\n1,2,3\n", r"one name for `label`, but got 'label', 'target' .*names=\{'label': 'label'\}"),
        ("id,label\n1,cat\n2\n", "Row #3: Expected 2 columns, got 1"),
        ("id,label\n1,cat\n2,\n", "'label' in every row, but it is empty in 1 .first row 1"),
        ("id,label\n1,cat\n1,dog\n", "every id once, but 1 rows repeat an earlier id, the first 1 in row 1"),
        ("id,label\na,cat\n,dog\n", "'id' in every row, but it is empty in row 1"),
        ("id,id,label\n1,1,2\n", "every name once"),
        ("label\n-1\n", r"`label` to be a class index in \[0, 100000\), but row 0 has -1"),
        ("logit_0,logit_1,label\n1,2,0\n1,2,2\n", r"`label` to be a class index in \[0, 2\), but row 1 has 2"),
        ("logit_a,logit_b,label\n1,2,b\n1,2,c\n", "`label` among the 2 classes 'a', 'b' .* but got 'c' .* in row 1"),
        ("logit_0,logit_2\n1,2\n", "one column for each of the classes 0 to 1"),
        ("logit_0,prob_1\n1,2\n", "columns of one kind per class"),
        ("logit_0\n1\n", "at least 2 classes"),
        ("logit_0,logit_1\n1,x\n", "CSV conversion error to float"),
        ("logit_0,logit_1\n1,2\n1,nan\n", "'logit_1' in every row, but it is missing in 1 .first row 1"),
        ("logit_0,logit_1\n1,2\n-inf,1\n", "row 1 has an infinite number in class 0"),
        ("logit_0,logit_1\n1,2\n,1\n", "'logit_0' in every row, but it is missing in 1 .first row 1"),
        ("prob_0,prob_1\n0.5,0.5\n0.5,0.6\n", "sum to 1, but row 1 reaches from 0.5 to 0.6 and sums to 1.1"),
        ("logit_0,logit_1,prediction\n0,1,1\n0,1,0\n", "row 1 predicts class 0 and scores class 1 highest"),
        ("label,prediction\ncat,0\ndog,1\n", None),
        ("label\n", "at least one example"),
        ("logits,label\n[1 2],0\n", "which cannot hold lists"),
        ("classes,label\na,0\n", "cannot hold lists"),
    ],
)
def test_faults_of_tables_are_told(text, says, tmp_path):
    path = files.write(tmp_path, "x.csv", text.encode())
    if says is None:
        assert read(path).classes == ("0", "1", "cat", "dog")
        return
    with pytest.raises(ValueError, match=says) as error:
        read(path)
    assert str(error.value).startswith(f"Cannot read {path}: ")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"logits": [1, 2]}, {"logits": [1, 2, 3]}], "a list of 2 numbers as 'logits' of every row, but row 1 has 3"),
        ([{"logits": [1, 2]}, {"logits": [1, None]}], "numbers in 'logits', but row 1 has None"),
        ([{"logits": [1, 2]}, {"logits": ["1", "2"]}], "numbers in 'logits', but row 1 has '1'"),
        ([{"logits": [1, 2]}, {"other": 1}], "'logits' in every row, as in the first, but row 1 has none"),
        ([{"logits": [[1, 2]]}], "numbers in 'logits'"),
        ([{"logits": [1, float("nan")]}], "finite scores, but row 0 has NaN in class 1"),
        ([{"logits": [1, 1e300]}], "an infinite number"),
        ([{"label": 1}, [2]], r"a JSON object, but line 2 is '\[2\]"),
        ([{"label": 1.5}], "whole numbers or names, but row 0 has 1.5"),
        ([{"label": "a"}, {"label": 1}], "`label` to hold strings, but row 1 has 1"),
        ([{"label": 1}, {"label": None}], "`label` to hold strings, but row 0 has 1"),
        ([{"label": "a", "prediction": 1}], "Expected `classes` .the class names in the order of `prediction`"),
        ([{"label": 2**70}], "within 64 bits"),
        ([{"label": 0, "id": 1.5}], "`id` to hold strings"),
        ([{"label": 0, "id": "\ud800"}], "Unicode text, but row 0"),
        ([{"label": 0, "text": "\ud800"}], "half a surrogate pair"),
        ([{"label": 0, "text": 3}], "a text as 'text' of every row, but row 0 has 3"),
        ([{"label": 0, "options": ["a", 3]}], "every answer option to be a string, but row 0 has 3"),
        ([{"logits": [1, 2], "options": ["a", "b", "c"]}], "one answer option per class, but row 0 has 3 for 2"),
    ],
)
def test_faults_of_json_lines_are_told(rows, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read(files.write(tmp_path, "x.jsonl", files.jsonl(rows)))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"logits": np.zeros((2, 3, 4))}, r"shape \(example, class\), but got the shape \(2, 3, 4\)"),
        ({"logits": np.zeros((2, 3), int)}, "dtype float16, float32 or float64, but got int64"),
        ({"logits": np.zeros((2, 3)), "label": np.arange(3)}, "same number of examples everywhere"),
        ({"logits": np.zeros((2, 3)), "id": np.arange(3)}, "`ids` to have one value for each of the 2 examples"),
        ({"logits": np.zeros((0, 3))}, "at least one example"),
        ({"logits": np.zeros((2, 3)), "probs": np.ones((2, 3))}, "one of logits, probabilities or scores"),
        ({"logits": np.zeros((2, 3)), "classes": np.array(["a", "b"])}, "2 names for 3 scores"),
        (
            {"label": np.arange(2), "classes": np.array(["a", "a"])},
            "different class names, but 'a' comes more than once",
        ),
        ({"label": np.array(["a", "b"]), "logits": np.zeros((2, 2))}, "the class names in the order of the scores"),
        ({"label": np.arange(2), "id": np.array([0.5, 1])}, "`ids` to be integers or strings, but got float64"),
        ({"label": np.arange(2), "id": np.array([1, 2**63], np.uint64)}, "integer ids below"),
        ({"label": np.array([b"a", b"\xff"])}, "`label` to be UTF-8, but row 1"),
        ({"label": np.zeros((2, 2), int)}, r"`label` to have one value per example, but got the shape \(2, 2\)"),
        ({"label": np.zeros(2, complex)}, "class indices or class names, but got complex128"),
        ({"embedding": np.zeros((2, 2))}, "the file has 'embedding'"),
    ],
)
def test_faults_of_archives_are_told(columns, says, tmp_path):
    if "complex" in says:
        says = "got the dtype '<c16'"
    with pytest.raises(ValueError, match=says):
        read(files.write(tmp_path, "x.npz", files.npz(columns)))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (
            {"logits": pa.array([[1.0, 2.0], [1.0]])},
            "2 numbers in every row of 'logits', as in the first, but row 1 has 1",
        ),
        ({"logits": pa.array([[1.0, 2.0], None])}, "'logits' in every row, but it is missing in 1 .first row 1"),
        ({"logits": pa.array([[1.0, 2.0], [1.0, None]])}, "numbers in 'logits', but row 1 has a missing one"),
        ({"logits": pa.array([["a"], ["b"]])}, "lists of numbers, but got 'list"),
        ({"logits": pa.array([1.0, 2.0])}, "a list of numbers per row, but got 'double'"),
        ({"label": pa.array([1, None])}, "'label' in every row, but it is missing in 1 .first row 1"),
        ({"label": pa.array(["a", None])}, "'label' in every row"),
        ({"label": pa.array([{"a": 1}])}, "class indices or class names, but got 'struct"),
        ({"label": pa.array([1]), "id": pa.array([None], pa.string())}, "'id' in every row"),
        ({"label": pa.array([1]), "options": pa.array([["a", None]])}, "'options' in every row"),
        ({"label": pa.array([1]), "text": pa.array([1])}, "'text' to hold strings"),
    ],
)
def test_faults_of_parquet_are_told(columns, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read(files.write(tmp_path, "x.parquet", files.parquet(pa.table(columns))))


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["1", "2"], [1, 2]),
        (["-3", "40"], [-3, 40]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
    ],
)
def test_ids_of_csv_are_integers_only_where_nothing_is_lost(ids, wanted, tmp_path):
    text = "id,label\n" + "".join(f"{value},0\n" for value in ids)
    found = read(files.write(tmp_path, "x.csv", text.encode())).ids
    assert found is not None
    assert found.tolist() == wanted


def test_labels_as_floats_booleans_and_padded_numbers_are_indices(tmp_path):
    for text in ("label\n1.0\n0.0\n", "label\n01\n00\n"):
        label = read(files.write(tmp_path, "x.csv", text.encode())).label
        assert label is not None
        assert label.tolist() == [1, 0]
    for values in (np.array([1.0, 0.0]), np.array([True, False])):
        label = read(files.write(tmp_path, "x.npz", files.npz({"label": values}))).label
        assert label is not None
        assert label.tolist() == [1, 0]


def test_class_names_that_look_like_numbers_are_names_if_the_file_names_its_classes(tmp_path):
    columns = {"logits": np.eye(2, dtype=np.float32), "label": np.array(["7", "3"]), "classes": np.array(["3", "7"])}
    found = read(files.write(tmp_path, "x.npz", files.npz(columns)))
    assert found.label is not None
    assert found.label.tolist() == [1, 0]


def test_missing_attributes_are_empty_or_nan(tmp_path):
    csv = read(files.write(tmp_path, "x.csv", b"label,site,age\n0,A,1\n1,,\n"))
    lines = read(
        files.write(
            tmp_path,
            "x.jsonl",
            files.jsonl([{"label": 0, "site": "A", "age": 1.0}, {"label": 1, "age": None, "site": None}]),
        )
    )
    table = read(
        files.write(
            tmp_path, "x.parquet", files.parquet(pa.table({"label": [0, 1], "site": ["A", None], "age": [1.0, None]}))
        )
    )
    for found in (csv, lines, table):
        assert found.columns["site"].tolist() == ["A", ""]
        np.testing.assert_array_equal(found.columns["age"], [1, np.nan])


def test_attributes_of_other_kinds_become_strings_or_are_ignored(tmp_path):
    table = pa.table(
        {
            "label": [0, 1],
            "seen": [True, False],
            "day": pa.array([0, 1], pa.date32()),
            "parts": [[1], [2]],
            "nothing": pa.nulls(2),
        }
    )
    found = read(files.write(tmp_path, "x.parquet", files.parquet(table)))
    assert found.columns["seen"].tolist() == ["True", "False"]
    assert found.columns["day"].tolist() == ["1970-01-01", "1970-01-02"]
    assert found.source["ignored"] == ["parts", "nothing"]


def test_quoted_line_breaks_and_a_byte_order_mark_are_read(tmp_path):
    found = read(files.write(tmp_path, "x.csv", b'\xef\xbb\xbfid,label,text\n1,0,"a\nb, c"\n2,1,d\n'))
    assert found.ids is not None
    assert found.text is not None
    assert found.text.tolist() == ["a\nb, c", "d"]
    assert found.columns["text_length"].tolist() == [6, 1]


def test_long_texts_are_shortened_and_their_length_is_kept(tmp_path):
    found = read(files.write(tmp_path, "x.jsonl", files.jsonl([{"label": 0, "text": "x" * 5000}])))
    assert found.text is not None
    assert len(found.text[0]) == 2003
    assert found.columns["text_length"].tolist() == [5000]
