"""Labelled examples from folders, tables and Hugging Face data sets."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from remnant.lab.data import load
from remnant.lab.foreign import evaluation_data, of_arrays, predict
from remnant.lab.foreign.columns import classes_of
from tests.lab.foreign.networks import ids

RNG = np.random.default_rng(0)


def picture(size, mode="RGB") -> Image.Image:
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        path = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture((8 + i, 9), "L" if i == 3 else "RGB").save(path)
    return tmp_path


def test_names_of_remnants_data_sets_give_their_test_split():
    data, dataset = evaluation_data("digits"), load("digits")
    assert ids(data) == dataset.test.ids.tolist()
    assert data.fingerprint == dataset.fingerprint
    assert evaluation_data(dataset).normal == data.normal
    assert evaluation_data(data) is data


def test_a_plain_folder_has_its_classes_and_paths_as_ids(folder):
    data = evaluation_data("imagefolder:pets", folder)
    assert data.classes == ("cat", "dog")
    assert ids(data) == ["cat/0.png", "cat/2.png", "cat/4.png", "dog/1.png", "dog/3.png", "dog/5.png"]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    shapes = [p.shape for p in data.batch(np.arange(6))]
    assert shapes == [(9, 8, 3), (9, 10, 3), (9, 12, 3), (9, 9, 3), (9, 11, 1), (9, 13, 3)]
    found = predict(lambda x: x.mean((2, 3))[:, :2], data, preprocessing="size=4,channels=RGB", batch_size=4)
    assert len(found) == 6
    with pytest.raises(ValueError, match="still differ after preprocessing"):
        predict(lambda x: x, data, preprocessing="none")


def test_the_fingerprint_follows_the_files(folder):
    before = evaluation_data("imagefolder:pets", folder).fingerprint
    assert evaluation_data("imagefolder:pets", folder).fingerprint == before
    picture((30, 30)).save(folder / "pets/cat/0.png")
    assert evaluation_data("imagefolder:pets", folder).fingerprint != before


def test_folders_with_train_and_test_are_remnants_image_folders(folder):
    (folder / "both").mkdir()
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            path = folder / "both" / part / name / "a.png"
            path.parent.mkdir(parents=True)
            picture((8, 8)).save(path)
    data = evaluation_data("imagefolder:both", folder)
    assert len(data) == 2
    assert data.normal is not None


def test_attributes_beside_a_plain_folder(folder):
    names = evaluation_data("imagefolder:pets", folder).ids.tolist()
    rows = "\n".join(["file_name,light", *(f"{name},{'day' if i % 2 else 'night'}" for i, name in enumerate(names))])
    (folder / "pets/metadata.csv").write_text(rows)
    found = predict(
        lambda x: x.mean((2, 3))[:, :2], "imagefolder:pets", root=folder, preprocessing="size=4,channels=RGB"
    )
    assert found.columns["light"].tolist() == ["night", "day"] * 3


def test_bad_folders_are_refused(folder):
    (folder / "flat").mkdir()
    (folder / "empty" / "a").mkdir(parents=True)
    (folder / "one" / "cat").mkdir(parents=True)
    picture((8, 8)).save(folder / "one/cat/a.png")
    for name, message in {
        "none": "does not exist",
        "flat": "it has no folders",
        "empty": "but found none",
        "one": "at least 2 folders of classes",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            evaluation_data(f"imagefolder:{name}", folder)
    (folder / "pets/cat/0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="Cannot decode .*0.png"):
        evaluation_data("imagefolder:pets", folder).batch(np.arange(1))


def test_a_picture_that_unpacks_to_gigabytes_is_refused(folder):
    Image.new("1", (20000, 20000)).save(folder / "pets/cat/0.png")
    with pytest.raises(ValueError, match="Cannot decode .*0.png.*pixels"):
        evaluation_data("imagefolder:pets", folder).batch(np.arange(1))


ROWS = [("a", "so good", "pos", 3.5), ("b", "bad, really", "neg", 1.0), ("c", "fine\nindeed", "pos", 2.0)]


def test_texts_from_tables_and_lines_are_the_same(tmp_path):
    lines = [json.dumps({"id": i, "text": t, "label": n, "stars": s}) for i, t, n, s in ROWS]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n\n")
    (tmp_path / "t.csv").write_text(
        '﻿id,text,label,stars\na,so good,pos,3.5\nb,"bad, really",neg,1.0\nc,"fine\nindeed",pos,2.0\n'
    )
    (tmp_path / "t.tsv").write_text("uid\tsentence\tkind\na\tso good\tpos\nb\tbad, really\tneg\n")
    for name in ("t.jsonl", "t.csv"):
        data = evaluation_data(f"texts:{name}", tmp_path)
        assert data.are_texts
        assert list(data.inputs) == [text for _, text, _, _ in ROWS]  # pyright: ignore
        assert ids(data) == ["a", "b", "c"]
        assert data.classes == ("neg", "pos")
        assert data.labels is not None
        assert data.labels.tolist() == [1, 0, 1]
        assert list(data.columns) == ["stars"]
    named = evaluation_data("texts:t.tsv#text=sentence,label=kind,id=uid", tmp_path)
    assert named.classes == ("neg", "pos")
    part = named.part(np.array([1]))
    assert list(part.inputs) == ["bad, really"]  # pyright: ignore
    assert part.fingerprint != named.fingerprint


def test_texts_without_labels_and_ids(tmp_path):
    (tmp_path / "t.csv").write_text("text\nhello\nworld\n")
    data = evaluation_data("texts:t.csv", tmp_path)
    assert data.labels is None
    assert ids(data) == [0, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b\n1,2\n", "Expected a column text or sentence.*Name one with #text=COLUMN"),
        ("t.csv", "text,label\nx\n", "1 cells in line 2, but 2 names"),
        ("t.csv", "text,text\nx,y\n", "distinct column names"),
        ("t.csv", "", "at least one row"),
        ("t.csv", "text,label\nx,\n", "a whole number or a name, but got ''"),
        ("t.csv", "text,id\nx,1\ny,1\n", "unique ids .*: \\['1'\\]"),
        ("t.csv", 'text\n"open', "Cannot read .* as a table"),
        ("t.jsonl", "{\n", "Cannot read .* as JSON lines"),
        ("t.jsonl", "[1]\n", "line 1 is not an object"),
        ("t.jsonl", '{"text": "a"}\n{"txt": "b"}\n', "line 2 is not an object with the keys of the first"),
        ("t.jsonl", '{"text": 3}\n', "Expected texts in the column 'text'"),
        ("t.jsonl", '{"text": "a", "label": -1}\n', "Expected labels in \\[0"),
        ("t.jsonl", '{"text": "a", "label": 1.5}\n', "a whole number or a name, but got 1.5"),
        ("t.jsonl", "[" * 100_000, "as JSON lines"),
        ("t.txt", "text\n", "ends in .csv, .tsv or .jsonl"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        evaluation_data(f"texts:{name}", tmp_path)


def test_missing_tables_bad_options_and_unknown_data_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="a file of texts"):
        evaluation_data("texts:none.csv", tmp_path)
    with pytest.raises(ValueError, match="options such as text=NAME out of .* but got 'labels=y'"):
        evaluation_data("texts:t.csv#labels=y", tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'digits'.*Data are one of") as error:
        evaluation_data("digit")
    assert "imagefolder:DIR" in str(error.value)


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_are_texts_or_a_clear_error(tmp_path_factory, content, ending):
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    path.write_bytes(content)
    message = None
    try:
        assert len(evaluation_data(f"texts:{path}")) > 0
    except ValueError as error:
        message = str(error)
    assert message is None or message.startswith(("Expected", "Cannot read"))


def test_labels_may_be_written_as_text():
    labels, classes = classes_of(["1", "0", "2"], "here")
    assert labels.tolist() == [1, 0, 2]
    assert classes is None
    with pytest.raises(ValueError, match="out of \\['a', 'b'\\] in here, but got \\['c'\\]"):
        classes_of(["a", "c"], "here", ["a", "b"])


def test_arrays_are_checked():
    with pytest.raises(ValueError, match="uint8 pictures .* but got int64"):
        of_arrays(np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match="one id for each of the 3 inputs"):
        of_arrays(np.zeros((3, 4), np.float32), ids=np.arange(2))
    with pytest.raises(ValueError, match="at least one example"):
        of_arrays(np.zeros((0, 4), np.float32))


def test_saved_data_sets_of_pictures_and_texts(tmp_path):
    datasets = pytest.importorskip("datasets")
    pictures = [picture((8, 8)) for _ in range(4)]
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]),
         "where": datasets.ClassLabel(names=["in", "out"]), "boxes": [datasets.Value("int64")]}
    )  # fmt: skip
    table = datasets.Dataset.from_dict(
        {"img": pictures, "label": [1, 0, 1, 0], "where": [0, 1, 1, 0], "boxes": [[1]] * 4}, features=features
    )
    datasets.DatasetDict({"train": table.select([0]), "test": table}).save_to_disk(str(tmp_path / "pets"))
    data = evaluation_data("hf:pets", tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.columns["where"].tolist() == ["in", "out", "out", "in"]
    assert list(data.columns) == ["where"]
    batch = data.batch(np.array([2, 0]))
    assert np.array_equal(batch[0], np.asarray(pictures[2]))
    assert len(evaluation_data("hf:pets#split=train", tmp_path)) == 1
    assert evaluation_data("hf:pets#label=where", tmp_path).classes == ("in", "out")
    assert len(predict(lambda x: x.mean((2, 3))[:, :2], data, preprocessing="none", limit=2)) == 2

    texts = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0], "idx": [5, 6]})
    texts = texts.cast_column("label", datasets.ClassLabel(names=["no", "yes"]))
    texts.save_to_disk(str(tmp_path / "texts"))
    data = evaluation_data("hf:texts#id=idx", tmp_path)
    assert (data.classes, ids(data), list(data.inputs)) == (("no", "yes"), [5, 6], ["a", "b"])  # pyright: ignore

    for name, message in {
        "hf:none": "does not exist",
        "hf:pets#split=dev": "a split out of \\['train', 'test'\\]",
        "hf:pets#image=where": "pictures in the column 'where'",
        "hf:texts#text=body": "a column body",
        f"hf:{tmp_path}": "that save_to_disk wrote",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            evaluation_data(name, tmp_path)


def test_files_are_found_here_before_the_folder_of_the_data_sets(tmp_path, monkeypatch):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for folder, words in ((here, ["a b", "c d"]), (elsewhere, ["e f"])):
        folder.mkdir()
        (folder / "texts.csv").write_text("text,label\n" + "".join(f"{word},x\n" for word in words))
    (elsewhere / "only.csv").write_text("text,label\ng h,x\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("REMNANT_DATA", str(elsewhere))
    assert len(evaluation_data("texts:texts.csv")) == 2
    assert len(evaluation_data("texts:only.csv")) == 1
    assert len(evaluation_data("texts:texts.csv", elsewhere)) == 1
