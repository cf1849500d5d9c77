import hashlib

import fsspec
import numpy as np
import pytest
import safetensors.numpy

from remnant.stored_array import DTYPES, fault, located

ARRAYS = {
    "logits": np.random.default_rng(0).normal(size=(50, 3, 2)).astype(np.float16),
    "double": np.random.default_rng(1).normal(size=(4, 5)),
    "flags": np.array([True, False, True]),
    "number": np.array(7, np.int32),
    "none": np.empty((0, 3), np.uint16),
}


@pytest.fixture(params=["file", "memory"])
def stored(request, tmp_path):
    files = fsspec.filesystem(request.param)
    path = str(tmp_path / "arrays.safetensors")
    files.pipe_file(path, safetensors.numpy.save(ARRAYS, {"made": "here"}))
    return files, path


def test_arrays_are_those_that_safetensors_reads(stored):
    files, path = stored
    expected = safetensors.numpy.load(files.cat_file(path))
    found = located(files, path)
    assert set(found) == set(expected)
    for name, array in found.items():
        if array.shape:
            np.testing.assert_array_equal(array.whole(), expected[name])
        assert (array.shape, array.dtype) == (expected[name].shape, expected[name].dtype)
        assert array.num_bytes == expected[name].nbytes


@pytest.mark.parametrize("kind", sorted(DTYPES.values()))
def test_every_type_is_read(kind, tmp_path):
    path = str(tmp_path / "one.safetensors")
    values = np.array([[0, 1], [1, 0]]).astype(kind)
    safetensors.numpy.save_file({"values": values}, path)
    found = located(fsspec.filesystem("file"), path)["values"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found.part(1, 2), values[1:2])


def test_parts_and_rows_are_those_of_the_array(stored):
    array = located(*stored)["logits"]
    np.testing.assert_array_equal(array.part(3, 9), ARRAYS["logits"][3:9])
    for indices in ([], [4], [0, 49], [49, 0, 0], [3, 4, 5, 7], list(range(50))):
        rows = np.array(indices, np.intp)
        np.testing.assert_array_equal(array.rows(rows), ARRAYS["logits"][rows])


def test_a_type_that_numpy_does_not_know_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(ValueError, match="Expected arrays of .*'F16'.*, but got 'BF16'"):
        located(fsspec.filesystem("file"), str(path))


def test_a_file_that_got_shorter_is_an_error(stored):
    files, path = stored
    array = located(files, path)["logits"]
    files.pipe_file(path, files.cat_file(path)[:-100])
    last = located(files, path)
    with pytest.raises(OSError, match=r"Expected \d+ bytes of .*, but got \d+: it was changed"):
        max(last.values(), key=lambda one: one.start + one.num_bytes).whole()
    files.pipe_file(path, b"")
    with pytest.raises(OSError, match="but got 0: it was changed"):
        array.part(0, 1)


def test_what_is_wrong_with_a_file_is_said(stored):
    files, path = stored
    data = files.cat_file(path)
    digest = hashlib.sha256(data).hexdigest()
    assert fault(files, path, len(data), digest) == ""
    assert fault(files, path, len(data) + 1, digest) == f"has {len(data)} bytes where {len(data) + 1} were written"
    files.pipe_file(path, data[:-1] + bytes([data[-1] ^ 1]))
    assert "its checksum differs" in fault(files, path, len(data), digest)
    with pytest.raises(FileNotFoundError):
        fault(files, path + "x", 1, digest)


def test_parts_across_the_pages_of_a_file_are_read_and_outlive_it(tmp_path):
    """The system maps whole pages of a file; arrays begin anywhere in them."""
    files, path = fsspec.filesystem("file"), str(tmp_path / "long.safetensors")
    values = np.arange(100_000, dtype=np.uint32).reshape(-1, 10)
    safetensors.numpy.save_file({"first": np.zeros(3, np.uint8), "values": values}, path)
    array = located(files, path)["values"]
    starts = [0, 1, 102, 409, 5000]
    parts = [array.part(start, start + 700) for start in starts]
    files.rm(path)
    for start, part in zip(starts, parts, strict=True):
        np.testing.assert_array_equal(part, values[start : start + 700])
        assert not part.flags.writeable


def test_the_checksum_is_that_of_the_whole_file(stored, monkeypatch):
    """Read in parts, of which the last one is shorter."""
    files, path = stored
    data = files.cat_file(path)
    for size in (1000, 4096, len(data), 2 * len(data)):
        monkeypatch.setattr("remnant.stored_array._BYTES", size)
        assert fault(files, path, len(data), hashlib.sha256(data).hexdigest()) == ""
