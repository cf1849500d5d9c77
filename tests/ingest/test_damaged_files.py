"""Damaged files in a process of their own: none ends it, whatever the library below does."""

import io
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from remnant.ingest import Limits, read
from remnant.ingest.parquet_footer import leaves, pages
from remnant.ingest.streams import Bounded
from tests.ingest import files

PROGRAM = """
import pathlib, sys
from remnant.ingest import Limits, read
source, step = pathlib.Path(sys.argv[1]), int(sys.argv[2])
good = source.read_bytes()
limits = Limits(memory=2**25, rows=10_000, classes=1_000, columns=100, header=2**20, line=2**20)
path = source.with_name("damaged_" + source.name)
for place in range(int(sys.argv[3]), 8 * len(good), step):
    print(place, flush=True)
    data = bytearray(good)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
    try:
        read(path, limits=limits)
    except ValueError as error:
        assert str(error).startswith("Cannot read "), error
"""


def all_are_told(path, step: int, start: int = 0) -> None:
    """Read a file once for every `step`-th bit from `start` on, with this bit the other way."""
    run = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(path), str(step), str(start)]
    found = subprocess.run(run, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, f"bit {found.stdout.splitlines()[-1]}: {found.stderr[-2000:]}"


def footer_of(data: bytes) -> tuple[int, bytes]:
    """The place in bits where the footer starts, and the footer."""
    length = int.from_bytes(data[-8:-4], "little")
    return 8 * (len(data) - 8 - length), data[-8 - length : -8]


def test_no_bit_of_a_footer_ends_the_process(tmp_path):
    """Of the 11,304 bits of this footer, 81 end a process that asks pyarrow 26 for the metadata of its columns."""
    data = files.valid()["flat.parquet"]
    all_are_told(files.write(tmp_path, "flat.parquet", data), 9, footer_of(data)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(files.valid()))
def test_no_bit_of_any_file_ends_the_process(name, tmp_path):
    all_are_told(files.write(tmp_path, name, files.valid()[name]), 5)


@pytest.mark.parametrize("name", ["plain.csv", "plain.csv.gz", "plain.tsv"])
def test_threads_of_arrow_never_call_python(name, tmp_path, monkeypatch):
    """One that is still reading ahead when the process ends would abort it (apache/arrow issue 34314)."""
    readers = set()
    read_of = Bounded.read

    def noted(stream, size=-1):
        readers.add(threading.get_ident())
        return read_of(stream, size)

    monkeypatch.setattr(Bounded, "read", noted)
    read(files.write(tmp_path, name, files.valid()[name]))
    assert readers == {threading.get_ident()}


def test_damaged_indices_of_a_dictionary_are_told(tmp_path):
    """Arrow reads indices without checking that the dictionary has so many values."""
    names = ["cat", "dog", "eel"]
    table = pa.table({"prediction": np.array(names)[np.random.default_rng(0).integers(0, 3, 64)]})
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="none", write_statistics=False)
    data = stream.getvalue()
    # Two bits for each value: 3 is an index that there is not.
    indices = table["prediction"].combine_chunks().dictionary_encode().indices.to_numpy()
    packed = np.packbits((indices[:, None] >> np.arange(2)) & 1, bitorder="little").tobytes()
    assert data.count(packed) == 1
    broken = data.replace(packed, b"\xff" * len(packed))
    with pytest.raises(ValueError, match="it is damaged: .*[Ii]ndices invalid"):
        read(files.write(tmp_path, "x.parquet", broken))


def test_checksums_of_pages_are_compared(tmp_path):
    stream = io.BytesIO()
    table = pa.table({"prediction": np.arange(500) % 7, "logit": np.random.default_rng(0).random(500)})
    parquet.write_table(table, stream, compression="none", write_page_checksum=True, use_dictionary=False)
    data = bytearray(stream.getvalue())
    data[data.index(table["logit"].chunk(0).buffers()[1].to_pybytes()[:64]) + 3] ^= 1
    with pytest.raises(ValueError, match="it is damaged: .*CRC"):
        read(files.write(tmp_path, "x.parquet", bytes(data)))


def varint(number: int, length: int) -> bytes:
    """A number >= 0 in so many bytes of Thrift's compact protocol, more than it needs."""
    zigzag = 2 * number
    return bytes([zigzag >> 7 * i & 127 | (128 if i < length - 1 else 0) for i in range(length)])


def test_a_footer_that_hides_long_lists_is_refused_before_they_are_read(tmp_path, monkeypatch):
    """3 KB that pyarrow reads as 80 MB, though the footer says 1,000 values."""
    rows, width = 1_000, 20_000
    ends = pa.array(np.arange(0, (rows + 1) * width, width, dtype=np.int32))
    lists = pa.ListArray.from_arrays(ends, pa.array(np.zeros(rows * width, np.float32)))
    stream = io.BytesIO()
    parquet.write_table(pa.table({"logits": lists}), stream, compression="zstd", data_page_size=2**30)
    data = stream.getvalue()
    assert len(data) < 5_000
    start, footer = footer_of(data)
    number = next(bytes(varint(rows * width, n)) for n in range(1, 9) if 2 * rows * width < 128**n)
    lying = data[: start // 8] + footer.replace(number, varint(rows, len(number))) + data[-8:]
    [leaf] = leaves(footer_of(lying)[1])
    assert leaf.num_values == rows
    assert pages(io.BytesIO(lying), leaf)[0] == rows * width
    monkeypatch.setattr("remnant.ingest.tables._batches", None)
    with pytest.raises(ValueError, match="at least this many bytes: 80,000,000, .*memory="):
        read(files.write(tmp_path, "x.parquet", lying), limits=Limits(memory=2**26))
