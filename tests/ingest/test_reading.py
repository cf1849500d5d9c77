import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from remnant.ingest import Limits, read
from tests.ingest import files

VALID = files.valid()
WITH_SCORES = sorted(set(VALID) - {"answers.npy", "labels.csv", "plain.tsv", "samples.jsonl"})


@pytest.mark.parametrize("name", WITH_SCORES)
def test_every_format_holds_the_same_answers(name, tmp_path):
    columns = files.answers()
    found = read(files.write(tmp_path, name, VALID[name]))
    assert found.scores is not None
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, columns["logits"], rtol=1e-6)
    if name != "scores.npy":
        assert found.ids is not None
        assert found.label is not None
        assert found.ids.tolist() == columns["id"].tolist()
        assert found.label.tolist() == columns["label"].tolist()
        if name != "plain.safetensors":
            assert found.columns["site"].tolist() == columns["site"].tolist()


def test_provenance_says_which_file_it_was(tmp_path):
    path = files.write(tmp_path, "plain.npz", VALID["plain.npz"])
    source = read(path).source
    assert source == {
        "kind": "npz",
        "name": "plain.npz",
        "sha256": hashlib.sha256(VALID["plain.npz"]).hexdigest(),
        "bytes": len(VALID["plain.npz"]),
        "scores": "logits",
        "rows": files.ROWS,
    }


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("end", [".npy", ".npz"])
def test_scores_keep_the_dtype_of_the_file(kind, end, tmp_path):
    logits = files.answers()["logits"].astype(kind)
    data = files.npy(logits) if end == ".npy" else files.npz({"logits": logits})
    found = read(files.write(tmp_path, f"x{end}", data)).scores
    assert found is not None
    assert found.dtype == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(found, logits)


def test_arrays_whose_first_axis_runs_fastest_are_read_alike(tmp_path):
    logits = np.asfortranarray(files.answers()["logits"])
    found = read(files.write(tmp_path, "x.npy", files.npy(logits))).scores
    np.testing.assert_array_equal(found, logits)


def test_bfloat16_tensors_become_float32(tmp_path):
    wanted = np.array([[1.5, -2.0], [0.0, 3.25]], np.float32)
    data = (wanted.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = json.dumps({"logits": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    path = files.write(tmp_path, "x.safetensors", struct.pack("<Q", len(header)) + header + data)
    found = read(path).scores
    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_float16_lists_of_parquet_stay_float16(tmp_path):
    for kind in (pa.list_(pa.float16()), pa.list_(pa.float16(), 3), pa.large_list(pa.float16())):
        logits = files.answers()["logits"].astype(np.float16)
        made = pa.table({"logits": pa.array(list(logits), kind)})
        found = read(files.write(tmp_path, "x.parquet", files.parquet(made))).scores
        assert found is not None
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, logits)


def test_names_of_a_file_can_be_told(tmp_path):
    data = files.csv({"file": ["b.png", "a.png"], "gold": ["cat", "dog"], "guess": ["cat", "cat"], "label": ["x", "y"]})
    path = files.write(tmp_path, "x.csv", data)
    found = read(path, names={"id": "file", "label": "gold", "prediction": "guess"})
    assert found.ids is not None
    assert found.ids.tolist() == ["b.png", "a.png"]
    assert found.classes == ("cat", "dog")
    assert found.columns["label"].tolist() == ["x", "y"]


def test_probabilities_are_told_by_name_by_value_or_by_the_user(tmp_path):
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    by_name = read(files.write(tmp_path, "a.npz", files.npz({"probs": probabilities})))
    by_value = read(files.write(tmp_path, "a.npy", files.npy(probabilities)))
    as_logits = read(tmp_path / "a.npy", scores="logits")
    assert by_name.scores is not None
    np.testing.assert_allclose(by_name.scores[0], np.log([0.25, 0.75]), rtol=1e-6)
    assert np.isfinite(by_name.scores).all()
    np.testing.assert_array_equal(by_name.scores, by_value.scores)
    np.testing.assert_array_equal(as_logits.scores, probabilities)
    assert "as logarithms" in by_value.source["scores"]


def test_scores_named_logits_are_taken_at_their_word(tmp_path):
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
    found = read(files.write(tmp_path, "a.npz", files.npz({"logits": probabilities})))
    np.testing.assert_array_equal(found.scores, probabilities)


def test_hostile_strings_are_data(tmp_path):
    nasty = ["\x1b[2Jred", "\u202egnp.exe", "<script>alert(1)</script>", "=HYPERLINK()", "a\nb", "\x00in", "../../x"]
    rows = [{"id": text, "label": text, "prediction": nasty[0], nasty[1]: text} for text in nasty]
    found = read(files.write(tmp_path, "\x1b[31m<b>\u202e.jsonl", files.jsonl(rows)))
    assert found.ids is not None
    assert found.ids.tolist() == nasty
    assert found.classes == tuple(sorted(nasty))
    assert found.columns[nasty[1]].tolist() == nasty
    assert found.source["name"] == "\x1b[31m<b>\u202e.jsonl"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.csv", "does not exist"),
        ("folder.csv", "is a folder"),
        ("model.pkl", "a file that ends in .npz"),
        ("empty.csv", "the file is empty"),
        ("empty.npy", "does not start like one"),
        ("empty.npz", "not an .npz file"),
        ("empty.parquet", "0 bytes"),
        ("empty.jsonl", "the file is empty"),
        ("empty.safetensors", "0 bytes"),
        ("empty.csv.gz", "the file is empty"),
    ],
)
def test_files_that_cannot_be_read_are_told(name, says, tmp_path):
    if name.startswith(("empty", "model")):
        files.write(tmp_path, name, gzip.compress(b"") if name.endswith("gz") else b"")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        read(tmp_path / name)


@pytest.mark.parametrize("name", sorted(VALID))
def test_truncated_files_are_told(name, tmp_path):
    # Text cut at the end of a row is a shorter table: only formats that know their length can tell.
    data = VALID[name][:-3]
    path = files.write(tmp_path, name, data)
    if name in ("plain.csv", "labels.csv"):
        read(path)
        return
    with pytest.raises(ValueError, match=f"Cannot read .*{name}"):
        read(path)


class Boom:
    def __reduce__(self):
        return os.mkdir, ("pickle-was-run",)


def test_pickles_are_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = np.array([Boom()], dtype=object)
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    for name, data in {
        "x.npy": stream.getvalue(),
        "x.npz": files.npz({"label": np.arange(1), "logits": array}),
        "y.npz": pickle.dumps(Boom()),
        "y.npy": pickle.dumps(Boom()),
    }.items():
        with pytest.raises(ValueError, match="Cannot read"):
            read(files.write(tmp_path, name, data))
    assert not (tmp_path / "pickle-was-run").exists()
    with pytest.raises(ValueError, match=r"Python objects, which only pickle can read\. Convert it with"):
        read(tmp_path / "x.npy")


def test_arrays_that_are_not_needed_may_hold_anything(tmp_path):
    columns = files.answers() | {"extra": np.array([Boom()], dtype=object), "embedding": np.zeros((files.ROWS, 4))}
    found = read(files.write(tmp_path, "x.npz", files.npz(columns)))
    assert found.source["ignored"] == ["extra", "embedding"]


# What could exhaust the memory


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    text = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def bomb(name: str) -> bytes:
    """A small file that asks for a lot of memory."""
    zeros = b"\0" * 2**24
    stream = io.BytesIO()
    if name == "zip.npz":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("logits.npy", header((2**20, 4)) + zeros)
    elif name == "lying.npz":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("logits.npy", header((2**40, 4)) + b"\0" * 64)
    elif name == "shape.npy":
        stream.write(header((2**40, 1000)))
    elif name == "wide.npy":
        stream.write(header((2, 50_000)) + b"\0" * 400_000)
    elif name == "strings.npy":
        stream.write(header((100, 1), "<U9999999"))
    elif name == "header.safetensors":
        stream.write(struct.pack("<Q", 2**62) + b"{}")
    elif name == "offsets.safetensors":
        text = json.dumps({"logits": {"dtype": "F32", "shape": [2**30, 2], "data_offsets": [0, 2**33]}}).encode()
        stream.write(struct.pack("<Q", len(text)) + text)
    elif name == "gzip.csv.gz":
        stream.write(gzip.compress(b"id,label\n" + b"1,0\n" * 2**22))
    elif name == "gzip.jsonl.gz":
        stream.write(gzip.compress(b'{"label": 0, "x": "' + (b"a" * 1000 + b'"}\n{"label": 0, "x": "') * 2**14))
    elif name == "line.csv":
        stream.write(b"id,label\n" + b"1" * 2**21 + b",1\n2,2\n")
    elif name == "line.jsonl":
        stream.write(b'{"label": ' + b"1" * 2**21 + b"}")
    elif name == "name.csv":
        stream.write(b"id,label\n" + b"x" * 5000 + b",1\n2,2\n")
    elif name == "padding.jsonl":
        stream.write(files.jsonl([{"id": "a" * 900, "label": 1}, *({"id": str(i), "label": 1} for i in range(9000))]))
    elif name == "columns.csv":
        stream.write(",".join(["label", *(f"c{i}" for i in range(1500))]).encode() + b"\n")
    elif name == "classes.csv":
        stream.write(",".join(f"logit_{i}" for i in range(3000)).encode() + b"\n")
    elif name == "runs.parquet":
        run = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**20, np.int32)), ["x" * 2**17])
        parquet.write_table(pa.table({"id": run, "label": run}), stream)
    elif name == "lists.parquet":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2**23, np.float32)), 512)
        parquet.write_table(pa.table({"logits": lists}), stream)
    elif name == "options.parquet":
        run = pa.array([["y" * 2**18] * 8] * 8, pa.list_(pa.string()))
        parquet.write_table(pa.table({"options": run, "label": [0] * 8}), stream)
    return stream.getvalue()


BOMBS = {
    "zip.npz": "memory=",
    "lying.npz": "archive declares",
    "shape.npy": "the file holds 0",
    "wide.npy": "classes=",
    "strings.npy": "the file holds 0",
    "header.safetensors": "header of 4,611,686",
    "offsets.safetensors": "Is the file complete",
    "gzip.csv.gz": "memory=",
    "gzip.jsonl.gz": "memory=",
    "line.csv": "line|block",
    "line.jsonl": "line=",
    "name.csv": "name=",
    "padding.jsonl": "memory=",
    "columns.csv": "classes=|columns=",
    "classes.csv": "classes=",
    "runs.parquet": "memory=|classes|name=",
    "lists.parquet": "memory=",
    "options.parquet": None,
}


@pytest.mark.parametrize(("name", "says"), BOMBS.items())
def test_small_files_that_ask_for_much_memory_are_refused(name, says, tmp_path):
    limits = Limits(memory=2**23, rows=10**7, classes=2_000, columns=1_000, line=2**20)
    path = files.write(tmp_path, name, bomb(name))
    assert path.stat().st_size < 2**22
    if says is None:
        options = read(path, limits=limits).options
        assert options is not None
        assert len(options[0, 0]) < 3000
        return
    with pytest.raises(ValueError, match=says):
        read(path, limits=limits)


def test_a_limit_can_be_raised_as_the_message_says(tmp_path):
    path = files.write(tmp_path, "x.npy", files.npy(np.zeros((4, 60), np.float32)))
    with pytest.raises(ValueError, match=r"`limits=Limits\(classes=60\)`"):
        read(path, limits=Limits(classes=50))
    assert read(path, limits=Limits(classes=60)).num_classes == 60


def test_limits_are_whole_positive_numbers():
    with pytest.raises(ValueError, match="the limit `rows` to be a whole number above 0, but got 0"):
        Limits(rows=0)
    with pytest.raises(ValueError, match="`classes`"):
        Limits(classes=True)


def test_tables_that_lie_about_their_size_are_refused_while_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.ingest.tables._leaves", lambda *_: (0, []))
    with pytest.raises(ValueError, match="memory="):
        read(files.write(tmp_path, "x.parquet", bomb("lists.parquet")), limits=Limits(memory=2**23))
