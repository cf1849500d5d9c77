"""Damaged and hostile files: every reader gives valid predictions or an error of ours, in little memory."""

import gzip
import io
import json
import os
import resource
import struct
import sys
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remnant.ingest import READERS, Limits, Predictions, population, read
from remnant.population import SchemaError
from tests.ingest import files

EXAMPLES = int(os.environ.get("REMNANT_FUZZ", "50"))
"""Malformed inputs for each of the 23 tests below that draw them; 10,000 in all with 440."""

LIMITS = Limits(memory=2**25, rows=10_000, classes=1_000, columns=100, header=2**20, line=2**20, name=200, text=100)
MOST_MEMORY = 200 * 2**20
VALID = files.valid()
KNOWN = ["id", "logits", "probabilities", "scores", "prediction", "label", "text", "options", "classes", "doc_hash"]
NASTY = [
    "",
    "\x00",
    "\x1b[2J",
    "\u202eevil",
    "<script>alert(1)</script>",
    "=1+1",
    "../../etc",
    "nan",
    "\ud800",
    "a" * 500,
]

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
names = st.sampled_from([*KNOWN, "logit_0", "logit_1", "prob_cat", "extra", "y"]) | st.sampled_from(NASTY)
texts = st.sampled_from(NASTY) | st.text(max_size=20)
integers = st.integers(-3, 5) | st.sampled_from([2**31, 2**63, -(2**63), 2**64, 10**30])
floats = st.floats(width=32) | st.sampled_from([0.0, 1.0, 1e300, -1e4])
scalars = st.none() | st.booleans() | integers | floats | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3), max_leaves=12
)


def survives(folder, name: str, data: bytes, **options) -> None:
    """Read a file; whatever is in it, the outcome is predictions that a population can be made of, or our error."""
    path = files.write(folder, name, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found, message = None, "Cannot read "
    try:
        found = read(path, limits=LIMITS, **options)
    except ValueError as error:
        message = str(error)
    assert message.startswith("Cannot read ")
    assert message.isprintable()
    assert len(message) < 3000
    if found is not None:
        is_valid(found)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MOST_MEMORY, f"{grown:,} bytes"


def is_valid(found: Predictions) -> None:
    assert 1 <= len(found) <= LIMITS.rows
    json.dumps(found.source, allow_nan=False).encode()
    if found.scores is not None:
        assert found.scores.dtype.kind == "f"
        assert np.isfinite(found.scores).all()
        assert found.scores.shape == (len(found), found.num_classes)
    for column in (found.prediction, found.label):
        assert column is None or (column.min() >= 0 and column.max() < found.num_classes and len(column) == len(found))
    if found.ids is not None:
        assert len(set(found.ids.tolist())) == len(found)
    for texts in (found.ids, found.text, np.array(found.classes or []), *found.columns.values()):
        if texts is not None and texts.dtype.kind in "UO":
            "".join(texts.tolist()).encode()
    people, message = None, "Expected"
    try:
        people = population({"a": [found], "b": [found]}, match="position")
    except SchemaError as error:
        message = str(error)
    assert message.startswith("Expected")
    assert people is None or people.sizes["trial"] == 2


@st.composite
def damaged(draw, data: bytes):
    """A valid file with some bytes changed, cut out, doubled, inserted, or its end lost."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(out) - 1)))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 16, 64]))
        kind = draw(st.sampled_from(["flip", "set", "cut", "double", "insert", "end", "big"]))
        if kind == "flip" and out:
            out[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set":
            out[place : place + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "cut":
            del out[place : place + length]
        elif kind == "double":
            out[place:place] = out[place : place + length]
        elif kind == "insert":
            out[place:place] = draw(
                st.sampled_from([b"\x00", b"\xff" * 8, b"\n", b",", b'"', b"[" * 50, b"9" * 30, b"NaN"])
            )
        elif kind == "end":
            del out[place:]
        else:
            out[place : place + 4] = struct.pack("<I", draw(st.sampled_from([2**31 - 1, 2**32 - 1, 2**30])))
    return bytes(out)


@pytest.mark.parametrize("name", sorted(VALID))
@fuzzed
@given(st.data())
def test_damaged_files_are_told(name, tmp_path, data):
    survives(tmp_path, name, data.draw(damaged(VALID[name])))


descriptions = st.sampled_from(
    ["<f4", ">f8", "<f2", "<i8", "|u1", "<U5", "|S3", "|O", "|V8", "<M8[s]", "?", "f", "<U9999999"]
)
sizes = st.integers(0, 6) | st.sampled_from([2**20, 2**40, -1])


@st.composite
def npy_bytes(draw):
    shape = tuple(draw(st.lists(sizes, max_size=3)))
    header = {"descr": draw(descriptions), "fortran_order": draw(st.booleans()), "shape": shape}
    text = draw(st.sampled_from([str(header), str(header)[:-3], repr([header]), "(" * 3000, "{'descr': 1}"]))
    version = draw(st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
    length = struct.pack("<H" if version[0] == 1 else "<I", draw(st.sampled_from([len(text), len(text), 7, 60_000])))
    return b"\x93NUMPY" + version + length + text.encode() + draw(st.binary(max_size=200))


@fuzzed
@given(npy_bytes())
def test_strange_npy_headers_are_told(tmp_path, data):
    survives(tmp_path, "strange.npy", data)


@st.composite
def archive(draw):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as made:
        for name in draw(st.lists(names.filter(lambda n: n and n.isprintable()), max_size=4, unique=True)):
            rows, shape = draw(st.sampled_from([0, 2, 3])), draw(st.sampled_from([(), (2,), (3,)]))
            array = np.zeros((rows, *shape), draw(st.sampled_from(["f2", "f4", "i8", "U3", "S2", "?", "c8", "O"])))
            data = draw(npy_bytes()) if draw(st.booleans()) else files.npy(array)
            made.writestr(name + draw(st.sampled_from([".npy", ""])), data)
    return stream.getvalue()


@fuzzed
@given(archive())
def test_strange_archives_are_told(tmp_path, data):
    survives(tmp_path, "strange.npz", data)


@fuzzed
@given(
    st.dictionaries(
        names,
        values
        | st.builds(
            lambda kind, shape, begin, end: {"dtype": kind, "shape": shape, "data_offsets": [begin, end]},
            st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3", "X"]),
            st.lists(sizes, max_size=3),
            st.sampled_from([0, 0, 8, -1]),
            st.sampled_from([0, 16, 24, 32, 2**40]),
        ),
        max_size=4,
    ),
    st.binary(max_size=64),
)
def test_strange_tensor_headers_are_told(tmp_path, header, tail):
    text = json.dumps(header).encode()
    survives(tmp_path, "strange.safetensors", struct.pack("<Q", len(text)) + text + tail)


cells = st.sampled_from(["1", "0", "2", "0.5", "cat", "dog", '"a\nb"', '"', "007", "-1", "nan", "inf", "1e400"]) | texts


@fuzzed
@given(
    st.lists(names, max_size=5),
    st.lists(st.lists(cells, max_size=5), max_size=6),
    st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_strange_tables_are_told(tmp_path, header, lines, end):
    between = "\t" if end == ".tsv" else ","
    text = "\n".join(between.join(line) for line in [header, *lines]).encode("utf-8", "surrogatepass")
    survives(tmp_path, f"strange{end}", gzip.compress(text) if end.endswith("gz") else text)


columns = st.dictionaries(
    names.filter(lambda n: "\ud800" not in n),
    st.tuples(
        st.sampled_from(
            [
                pa.int64(),
                pa.int8(),
                pa.uint64(),
                pa.float16(),
                pa.float32(),
                pa.float64(),
                pa.string(),
                pa.bool_(),
                pa.binary(),
                pa.date32(),
                pa.list_(pa.float32()),
                pa.list_(pa.float16(), 2),
                pa.list_(pa.string()),
                pa.dictionary(pa.int8(), pa.string()),
                pa.null(),
                pa.struct([("a", pa.int8())]),
                pa.decimal128(5, 2),
            ]
        ),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=5,
)


def arrow(kind: pa.DataType, rows: int, seed: int) -> pa.Array:
    """An array of a type with a few odd values."""
    rng = np.random.default_rng(seed)
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        widths = [2] * rows if pa.types.is_fixed_size_list(kind) or rng.random() < 0.7 else rng.integers(0, 4, rows)
        return pa.array([arrow(kind.value_type, int(w), seed + i).to_pylist() for i, w in enumerate(widths)], kind)
    choices = {"f": [0.5, 0.5, 1.0, float("nan")], "i": [0, 1, 2, 100], "s": ["a", "b", "", "\u202e"]}
    if pa.types.is_floating(kind):
        options = choices["f"][: 3 + int(rng.random() < 0.3)]
        options = [np.float16(o) for o in options] if kind == pa.float16() else options
    elif pa.types.is_integer(kind):
        options = choices["i"]
    elif pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        options = choices["s"]
    else:
        options = {"bool": [True, False], "binary": [b"a", b"\xff"]}.get(str(kind), [None])
    picked = [options[int(k)] for k in rng.integers(0, len(options), rows)]
    if rng.random() < 0.2 and rows:
        picked[0] = None
    if rng.random() < 0.3 and pa.types.is_integer(kind):
        picked = list(range(rows))
    return pa.array(picked, kind)


@fuzzed
@given(columns, st.sampled_from([0, 1, 2, 5]), st.booleans())
def test_strange_parquet_columns_are_told(tmp_path, kinds, rows, compress):
    made = pa.table({name: arrow(kind, rows, seed) for name, (kind, seed) in kinds.items()})
    stream = io.BytesIO()
    parquet.write_table(made, stream, compression="snappy" if compress else "none")
    survives(tmp_path, "strange.parquet", stream.getvalue())


objects = st.dictionaries(names, values, max_size=5)


@st.composite
def similar(draw):
    """Objects with the same keys, whose values are mostly of one kind."""
    keys = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    kinds = {
        key: draw(st.sampled_from([integers, texts, st.lists(floats, min_size=2, max_size=2), values])) for key in keys
    }
    return [{key: draw(kinds[key]) for key in keys} for _ in range(draw(st.integers(1, 4)))]


@fuzzed
@given(similar() | st.lists(objects | values, max_size=4), st.sampled_from([".jsonl", ".json", ".jsonl.gz"]))
def test_strange_objects_are_told(tmp_path, rows, end):
    text = json.dumps(rows).encode() if end == ".json" else files.jsonl(rows)
    survives(tmp_path, f"strange{end}", gzip.compress(text) if end.endswith("gz") else text)


@fuzzed
@given(st.data(), st.sampled_from(["none", "characters", "bytes"]))
def test_strange_samples_are_told(tmp_path, data, normalize):
    rows = files.samples()
    for _ in range(data.draw(st.integers(1, 3))):
        row = data.draw(st.sampled_from(rows))
        key = data.draw(st.sampled_from(sorted(row)))
        row[key] = data.draw(values | st.lists(st.tuples(floats | texts, st.booleans() | texts), max_size=4))
    survives(tmp_path, "samples.jsonl", files.jsonl(rows), normalize=normalize)


def test_every_format_is_fuzzed():
    assert {"".join(name.partition(".")[1:]) for name in VALID} | {".tsv.gz", ".json.gz"} == set(READERS)


@pytest.mark.parametrize("name", sorted(VALID))
def test_the_files_are_valid_before_they_are_damaged(name, tmp_path):
    is_valid(read(files.write(tmp_path, name, VALID[name]), limits=LIMITS))


def test_deep_nesting_is_told(tmp_path):
    survives(tmp_path, "deep.jsonl", b'{"label": ' + b"[" * 100_000)
    survives(tmp_path, "deep.json", b"[" * 100_000)
    text = b'{"a": ' + b"[" * 100_000
    survives(tmp_path, "deep.safetensors", struct.pack("<Q", len(text)) + text)
    assert sys.getrecursionlimit() < 100_000
