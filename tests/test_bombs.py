"""Small files that ask for much time or memory, compared within a bound on the memory of the process."""

import gzip
import json
import struct
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from tests.ingest import files

MEMORY = 3 * 2**30
SECONDS = 300
"""For all bombs together; they take a third of it on a slow machine."""

PROGRAM = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
from remnant.cli import main
for name in sys.argv[1:]:
    try:
        main(["compare", "good.npz", name, "--out", "report"])
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    print(json.dumps([name, code]), flush=True)
"""


def header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    text = str({"descr": kind, "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def repeated(column: str, text: str, rows: int) -> bytes:
    """A Parquet file that holds one text once and repeats it in every row."""
    cells = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text]))
    ids = {} if column == "id" else {"id": np.arange(rows)}
    return files.parquet(pa.table({**ids, "prediction": np.zeros(rows, np.int8), column: cells}))


def bombs(folder) -> dict[str, str]:
    """Names of files in the folder to what the error says."""
    long = "x" * 2**20
    tensor = json.dumps({"logits": {"dtype": "F32", "shape": [2**40, 8], "data_offsets": [0, 2**45]}}).encode()
    wide = ",".join(f"c{i}" for i in range(1_000_000))
    made = {
        "declared.npy": (header((2**40, 1000)) + b"\0" * 100, "as its header says"),
        "declared.safetensors": (struct.pack("<Q", len(tensor)) + tensor, "Is the file complete"),
        "columns.csv": (f"{wide},prediction\n{'0,' * 1_000_000}0\n".encode(), "columns number 1,000,001"),
        "keys.jsonl": (json.dumps(dict.fromkeys(wide.split(","), 0)).encode(), "columns number 1,000,000"),
        "deep.jsonl": (b'{"label":' + b"[" * 1_000_000, "nested too deeply"),
        "deep.json": (b"[" * 5_000_000, "Cannot read deep.json: it"),
        "id.jsonl": (json.dumps({"id": "x" * 10_000_000, "prediction": 0}).encode(), "10,000,000"),
        "id.csv": (b"id,prediction\n" + b"x" * 10_000_000 + b",0\n", "10,000,000"),
        "class.npz": (files.npz(files.answers() | {"classes": [long, "b", "c"]}, compressed=True), "1,048,576"),
        "text.parquet": (repeated("text", long, 1_000_000), "the same ids"),
        "attribute.parquet": (repeated("site", "x" * 900, 1_000_000), "more memory than there is"),
        "ids.parquet": (repeated("id", long, 200_000), "The text of 'id'"),
        "line.csv.gz": (gzip.compress(b"0" * 2**24) * 100, "header line"),
        "lines.csv.gz": (gzip.compress(b"id,prediction\n") + gzip.compress(b"1,0\n" * 2**20) * 100, "so many times"),
    }  # fmt: skip
    for name, (data, _) in made.items():
        files.write(folder, name, data)
    with zipfile.ZipFile(folder / "members.npz", "w") as archive:
        for number in range(20_000):
            archive.writestr(f"a{number}.npy", b"")
    with (
        zipfile.ZipFile(folder / "zeros.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("logits.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(header((10**9, 1000)))
        for _ in range(16):
            stream.write(bytes(2**24))
    return {name: said for name, (_, said) in made.items()} | {
        "members.npz": "20,000",
        "zeros.npz": "as its header says",
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit on memory is that of Linux")
def test_bombs_are_told_in_little_time_and_memory(tmp_path):
    expected = bombs(tmp_path)
    (tmp_path / "good.npz").write_bytes(files.npz(files.answers()))
    program = PROGRAM.format(memory=MEMORY)
    environment = {"OMP_NUM_THREADS": "1", "PATH": "", "COLUMNS": "10000", "HOME": str(tmp_path)}
    found = subprocess.run(
        [sys.executable, "-c", program, *expected],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=True,
    )  # fmt: skip
    assert [json.loads(line) for line in found.stdout.splitlines()] == [[name, 2] for name in expected]
    errors = [line for line in found.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == len(expected)
    for (name, said), error in zip(expected.items(), errors, strict=True):
        assert said in error, name
        assert len(error) < 1000
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_many_classes_and_attributes_are_reported(tmp_path):
    """100,000 classes of 6 examples, and 900 attributes: within the limits, so a report that can be opened."""
    from remnant.versus import compare

    for number in range(2):
        scores = np.random.default_rng(number).normal(size=(6, 100_000)).astype(np.float32)
        names = np.array([f"class {i}" for i in range(100_000)])
        np.savez(tmp_path / f"classes{number}.npz", ids=np.arange(6), logits=scores, label=np.arange(6), classes=names)
        columns: dict[str, Any] = {f"g{i}": (np.arange(1000) % 199).astype(np.float32) for i in range(900)}
        answers = np.arange(1000) % (7 + number) % 5
        columns |= {"ids": np.arange(1000), "label": np.arange(1000) % 5, "prediction": answers}
        files.write(tmp_path, f"columns{number}.npz", files.npz(columns))
    for name in ("classes", "columns"):
        paths = compare(tmp_path / f"{name}0.npz", tmp_path / f"{name}1.npz").write(tmp_path / name)
        assert paths["report.html"].stat().st_size < 5_000_000
        assert parquet.read_table(paths["tables/mismatches.schemes.parquet"]).num_rows
