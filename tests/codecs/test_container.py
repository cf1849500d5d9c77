import json
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from remnant.codecs import Jpeg, Png, Raw, ZfpPrecision, ZfpRate, Zstd
from remnant.codecs import container_format as form
from remnant.codecs.container import Container, ContainerError, DamagedExampleError, open_container
from remnant.codecs.container_writer import Examples, write
from tests.codecs.crops import crops

CODECS = [Raw(), Png(), Jpeg(), ZfpPrecision(8), ZfpPrecision(8, layout="channels"), ZfpRate(4, layout="batch"),
          Zstd(images=5)]  # fmt: skip


def parts() -> list[Examples]:
    images = crops(30)
    rng = np.random.default_rng(0)
    groups = {
        "light": rng.normal(size=30),
        "night": np.arange(30) % 3 == 0,
        "town": np.array(["Köln", "", "Oslo"] * 10),
    }
    groups["count"] = np.arange(30, dtype=np.uint8)

    def part(rows: slice, name: str) -> Examples:
        columns = {column: values[rows] for column, values in groups.items()}
        ids = np.array([f"photo-{i}" for i in range(30)])[rows]
        return Examples(images[rows], np.arange(30)[rows] % 3, ids, columns, name)

    return [part(slice(0, 13), "train"), part(slice(13, 18), "train"), part(slice(18, 30), "test")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write(tmp_path / "photos.rmn", parts(), Jpeg(), classes=["sky", "flower", "temple"])
    return tmp_path / "photos.rmn"


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.label)
def test_what_was_written_is_read(codec, tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 8)
    path = tmp_path / "photos.rmn"
    write(path, parts(), codec, classes=["sky", "flower", "temple"])
    container = open_container(path)
    assert container.codec == codec
    assert container.classes == ("sky", "flower", "temple")
    assert container.shape == (30, 32, 32, 3)
    assert container.damage == ()
    assert container.damaged() == []
    np.testing.assert_array_equal(container.labels, np.arange(30) % 3)
    assert container.ids.tolist() == [f"photo-{i}" for i in range(30)]
    assert container.splits.tolist() == ["train"] * 18 + ["test"] * 12
    assert container.groups["town"].tolist() == ["Köln", "", "Oslo"] * 10
    assert container.groups["night"].dtype == bool
    np.testing.assert_array_equal(container.groups["count"], np.arange(30))
    np.testing.assert_array_equal(container.groups["light"], np.random.default_rng(0).normal(size=30))
    images = container.batch(np.arange(30))
    if codec.group == 1:
        np.testing.assert_array_equal(images, codec.encode(crops(30)).decode())
    else:
        # A stream holds images of one block, and a block of one split.
        size = 8 - 8 % codec.group
        for first, last in ((0, 18), (18, 30)):
            for start in range(first, last, size):
                rows = slice(start, min(start + size, last))
                np.testing.assert_array_equal(images[rows], codec.encode(crops(30)[rows]).decode())


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.label)
def test_any_choice_of_examples_in_any_order(codec, tmp_path):
    write(tmp_path / "a.rmn", parts(), codec)
    container = open_container(tmp_path / "a.rmn")
    images = container.batch(np.arange(30), workers=1)
    for chosen in ([7], [29, 0, 13, 13, 5], [-1, 17, 18], [], np.arange(30)[::-1], np.array([3, 3], np.uint8)):
        expected = images[np.asarray(chosen, np.int64)]
        np.testing.assert_array_equal(container.batch(chosen), expected)
    np.testing.assert_array_equal(container[4], images[4])
    np.testing.assert_array_equal(container[-2], images[-2])
    test = container.split("test")
    np.testing.assert_array_equal(test.batch(np.arange(12)), images[18:])
    some = test.take([11, 2])
    np.testing.assert_array_equal(some.batch([0, 1]), images[[29, 20]])
    assert some.ids.tolist() == ["photo-29", "photo-20"]
    assert some.groups["count"].tolist() == [29, 20]
    assert len(some) == 2


def test_examples_that_are_not_there_are_an_error(file):
    container = open_container(file)
    for wrong in ([30], [-31], [[1]], [0.5], [True]):
        with pytest.raises(IndexError, match="Expected `indices`"):
            container.batch(wrong)
    with pytest.raises(ValueError, match=r"`split` to be one of \['test', 'train'\], but got 'val'"):
        container.split("val")


def test_tables_that_all_streams_share_are_stored_once(tmp_path):
    images = np.concatenate([crops(30)] * 10)
    encoded = Jpeg(quality=10).encode(images)
    write(tmp_path / "a.rmn", [Examples(images)], Jpeg(quality=10))
    container = open_container(tmp_path / "a.rmn")
    assert container.prefix == encoded.streams[0][:623]
    whole = sum(map(len, encoded.streams))
    assert container.size().bytes == (tmp_path / "a.rmn").stat().st_size
    # Ids, lengths and checksums take about 12 bytes each, and there is one header.
    assert container.size().bytes < whole - 299 * 623 + 20 * 300 + 2000
    np.testing.assert_array_equal(container.batch(np.arange(300)), encoded.decode())
    assert container.size().accounting == "container"


def test_streams_that_do_not_share_tables_are_stored_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 2)
    images = crops(9)
    write(tmp_path / "a.rmn", [Examples(images)], Jpeg(optimize=True))
    decoded = open_container(tmp_path / "a.rmn").batch(np.arange(9))
    np.testing.assert_array_equal(decoded, Jpeg(optimize=True).encode(images).decode())


def test_containers_can_be_sent_to_processes_and_compared(file, tmp_path):
    container = open_container(file)
    copy = pickle.loads(pickle.dumps(container))
    np.testing.assert_array_equal(copy[3], container[3])
    assert copy.fingerprint == container.fingerprint
    assert len({container.fingerprint, container.split("test").fingerprint, container.take([0]).fingerprint}) == 3
    changed = parts()
    images = changed[2].images.copy()
    images[5, :8, :8] ^= 64
    for name, last, codec in (
        ("pixels", Examples(images, changed[2].labels, changed[2].ids, changed[2].groups, "test"), Jpeg()),
        ("same", changed[2], Jpeg()),
        ("label", Examples(changed[2].images, np.zeros(12, int), changed[2].ids, changed[2].groups, "test"), Jpeg()),
        ("codec", changed[2], Jpeg(quality=76)),
    ):
        write(tmp_path / name, [*changed[:2], last], codec, classes=["sky", "flower", "temple"])
        assert (open_container(tmp_path / name).fingerprint == container.fingerprint) == (name == "same")


def stream_offset(container: Container, index: int) -> int:
    return int(container.streams.offset[index])


def test_a_damaged_example_is_named_and_the_others_stay_readable(file):
    container = open_container(file)
    intact = container.batch(np.arange(30))
    flip(file, stream_offset(container, 20) + 11)
    flip(file, stream_offset(container, 4) + 30)
    again = open_container(file)
    assert again.damaged() == ["photo-4", "photo-20"]
    with pytest.raises(DamagedExampleError, match="'photo-20' .*checksum differs.*container.damaged") as caught:
        again[20]
    assert caught.value.ids == ("photo-20",)
    with pytest.raises(DamagedExampleError) as caught:
        again.batch(np.arange(30))
    assert set(caught.value.ids) == {"photo-4", "photo-20"}
    others = np.setdiff1d(np.arange(30), [4, 20])
    np.testing.assert_array_equal(again.batch(others), intact[others])


def test_of_a_shared_stream_the_examples_that_were_asked_for_are_named(tmp_path):
    path = tmp_path / "a.rmn"
    write(path, parts(), Zstd(images=5))
    flip(path, stream_offset(open_container(path), 1) + 3)
    container = open_container(path)
    with pytest.raises(DamagedExampleError) as caught:
        container.batch([2, 9, 6, 20])
    assert caught.value.ids == ("photo-9", "photo-6")
    assert container.damaged() == [f"photo-{i}" for i in range(5, 10)]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x40
    path.write_bytes(data)


def test_a_cut_off_file_is_an_error_and_readable_up_to_there(file, monkeypatch, tmp_path):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 4)
    write(file, parts(), Jpeg())
    whole = open_container(file)
    images, data = whole.batch(np.arange(30)), file.read_bytes()
    seen = set()
    ends = (whole.streams.offset + whole.streams.length).tolist()
    for length in [*range(700, len(data) - 1, 97), *ends[::3], len(data) - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(ContainerError, match=r"not whole.*partial=True|no example of it|cut off within its header"):
            open_container(file)
        complete = int((whole.streams.offset + whole.streams.length <= length).sum())
        try:
            rest = open_container(file, partial=True)
        except ContainerError:
            assert length < stream_offset(whole, 0) + whole.streams.length[0]
            continue
        seen.add(len(rest))
        assert len(rest) == complete
        assert rest.damage
        np.testing.assert_array_equal(rest.batch(np.arange(len(rest))), images[: len(rest)])
        assert rest.ids.tolist() == whole.ids[: len(rest)].tolist()
    assert len(seen) > 10


def test_a_damaged_table_or_head_loses_one_block(file, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 4)
    write(file, parts(), Jpeg())
    data = file.read_bytes()
    intact = open_container(file).batch(np.arange(30))
    starts = [i for i in range(len(data)) if data.startswith(b"BLCK", i)]
    assert len(starts) == 5 + 3
    for offset, message in ((40, r"the table of a block is damaged \(examples 4 to 7\)"), (5, "the head of a block"),
                            (1, "the head of a block is damaged")):  # fmt: skip
        file.write_bytes(data)
        flip(file, starts[1] + offset)
        with pytest.raises(ContainerError, match=message + ".*26 examples can be read"):
            open_container(file)
        rest = open_container(file, partial=True)
        np.testing.assert_array_equal(rest.batch(np.arange(26)), np.concatenate([intact[:4], intact[8:]]))
    file.write_bytes(data[: starts[2]] + data[starts[3] :])
    with pytest.raises(ContainerError, match="blocks are missing"):
        open_container(file)
    file.write_bytes(data + b"more")
    with pytest.raises(ContainerError, match="bytes follow its end"):
        open_container(file)


def test_the_block_after_a_damaged_one_is_found_far_away(tmp_path, monkeypatch):
    monkeypatch.setattr("remnant.codecs.container_writer.BLOCK_EXAMPLES", 20)
    images = np.random.default_rng(0).integers(0, 256, (40, 256, 256, 1), np.uint8)
    path = tmp_path / "a.rmn"
    write(path, [Examples(images)], Raw())
    flip(path, path.read_bytes().index(b"BLCK") + 9)
    rest = open_container(path, partial=True)
    assert rest.ids[0] == "example-00020"
    np.testing.assert_array_equal(rest.batch(np.arange(20)), images[20:])


def test_files_that_are_no_containers_are_told(tmp_path):
    path = tmp_path / "a.rmn"
    for data in (b"", b"PK\x03\x04" * 10, b"remnant"):
        path.write_bytes(data)
        with pytest.raises(ContainerError, match="not a remnant container"):
            open_container(path)
    path.write_bytes(b"remnant\x02" + bytes(40))
    with pytest.raises(ContainerError, match="has the format 2, and this remnant reads format 1. Upgrade"):
        open_container(path)
    with pytest.raises(FileNotFoundError):
        open_container(tmp_path / "absent")


def forged(path: Path, **changes: object) -> Path:
    """The file with another header, and a checksum that fits."""
    data = path.read_bytes()
    length = int.from_bytes(data[8:12], "little")
    header = json.loads(data[16 : 16 + length])
    body = json.dumps({key: value for key, value in {**header, **changes}.items() if value is not ...}).encode()
    start = data[:8] + len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little")
    path.write_bytes(start + body + data[16 + length :])
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [2**20, 8, 3]}, "with sides <= 65500"),
        ({"shape": [60_000, 60_000, 3]}, "at most 1073741824 values in a stream"),
        ({"shape": [-1, 8, 3]}, r"the shape \(height, width, channels\), but got"),
        ({"shape": [8.0, 8, 3]}, "the shape"),
        ({"shape": [8, 8]}, "the shape"),
        ({"shape": 8}, "`shape` of type list"),
        ({"dtype": "float64"}, "the dtype 'uint8', but got 'float64'"),
        ({"codec": {"kind": "../../evil"}}, "Expected `codec` to be one of"),
        ({"codec": {"kind": "jpeg", "quality": 1000}}, "`quality` a whole number"),
        ({"codec": {"kind": "zfp-rate", "rate": 10**400}}, "not valid"),
        ({"codec": {"kind": ["jpeg"]}}, "to have a `kind`"),
        ({"codec": {"kind": "zstd", "images": 10**9}}, "`images` a whole number"),
        ({"codec": ...}, "`codec` of type dict"),
        ({"classes": ["a", "a"]}, "distinct names of classes"),
        ({"classes": [1]}, "names of classes"),
        ({"columns": {"../../etc/passwd": "text"}}, "printable text without slashes"),
        ({"columns": {"a": "object"}}, "of a type in"),
        ({"columns": {"a": ["text"]}}, "not valid"),
        ({"columns": {"a": "int64"}}, "the table of a block is not valid"),
        ({"labels": False}, "the table of a block is not valid"),
        ({"classes": ["one"]}, "labels outside of the 1 classes"),
        ({"prefix": "not base64!"}, "not valid"),
        ({"prefix": ""}, None),
    ],
    ids=repr,
)
def test_headers_that_no_writer_writes_are_refused_before_memory_is_asked_for(changes, message, file):
    forged(file, **changes)
    if message is None:
        # The header holds; the streams do not decode without their tables.
        assert len(open_container(file).damaged()) == 30
        return
    with pytest.raises(ContainerError, match=message):
        open_container(file)


def test_a_header_that_claims_more_than_the_file_has_is_refused(file):
    data = bytearray(file.read_bytes())
    for length, message in ((2**32 - 1, "more than the limit"), (2**23, "cut off within its header")):
        data[8:12] = length.to_bytes(4, "little")
        file.write_bytes(data)
        with pytest.raises(ContainerError, match=message):
            open_container(file)


def block(examples: int, streams: int, raw: bytes, *, table_bytes: int | None = None, stream_bytes: int = 0) -> bytes:
    packed = zlib.compress(raw)
    head = form.BLOCK + form.struct.pack("<III", examples, streams, table_bytes or len(packed))
    head += form.struct.pack("<QI", stream_bytes, zlib.crc32(packed))
    return head + form.struct.pack("<I", zlib.crc32(head)) + packed


@pytest.mark.parametrize(
    ("forgery", "message"),
    [
        (block(1, 1, bytes(12) + b"\3\0\0\0a\0b"), "2 texts instead of 1"),
        (block(2**32 - 1, 2**32 - 1, b""), "the head of a block is damaged"),
        (block(10, 3, b""), "the head of a block is damaged"),
        (block(1, 1, b"", table_bytes=2**32 - 1), "cut off"),
        (block(1, 1, bytes(2**27)), "the table of a block is not valid"),
        (block(1, 1, b"\0" * 20 + b"\xff\xff\xff\x7f"), "the table of a block is not valid"),
        (block(1, 1, b"\1\0\0\0\0" + bytes(30)), "the table of a block is not valid"),
    ],
    ids=["ids", "examples", "streams", "table", "bomb", "text", "texts"],
)
def test_blocks_that_no_writer_writes_are_refused_before_memory_is_asked_for(forgery, message, tmp_path):
    path = tmp_path / "a.rmn"
    path.write_bytes(form.pack_header(form.Header(Raw(), (8, 8, 3))) + forgery + form.pack_end(1, 1))
    with pytest.raises(ContainerError, match=message):
        open_container(path, partial=False)


def test_a_stream_of_another_size_with_a_fitting_checksum_is_named(tmp_path):
    path = tmp_path / "a.rmn"
    for codec, large in ((Jpeg(), crops(1, 64, 64)), (ZfpPrecision(8), crops(1, 64, 64)), (Png(), crops(1, 8, 8))):
        stream = codec.encode(large).streams[0]
        table = form.Table("", np.array([len(stream)]), np.array([zlib.crc32(stream)]), ["big"], None, {})
        head = form.pack_header(form.Header(codec, (32, 32, 3)))
        path.write_bytes(head + form.pack_block(table, [stream]) + stream + form.pack_end(1, 1))
        with pytest.raises(DamagedExampleError, match="'big' .*(it cannot be decoded|it is not a whole stream)"):
            open_container(path)[0]


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory) -> tuple[Path, bytes, np.ndarray]:
    path = tmp_path_factory.mktemp("fuzz") / "a.rmn"
    write(path, parts(), Jpeg(quality=30), classes=["a", "b", "c"])
    return path, path.read_bytes(), open_container(path).batch(np.arange(30))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.floats(0, 1),
    added=st.binary(max_size=8),
)
@example(changes=[(0.0, 0)], cut=1.0, added=b"")
def test_changed_bytes_give_our_error_or_what_was_written(fuzzed, changes, cut, added):
    path, data, images = fuzzed
    changed = bytearray(data)
    for place, value in changes:
        changed[int(place * len(data))] = value
    path.write_bytes(bytes(changed[: int(cut * len(data)) if cut < 0.5 else len(data)]) + added)
    for partial in (False, True):
        try:
            container = open_container(path, partial=partial)
        except ContainerError:
            continue
        damaged = set(container.damaged())
        for index, name in enumerate(container.ids.tolist()):
            if name in damaged:
                with pytest.raises(DamagedExampleError):
                    container[index]
            else:
                np.testing.assert_array_equal(container[index], images[int(name.removeprefix("photo-"))])
