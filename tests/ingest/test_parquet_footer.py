"""What a Parquet file says of its columns, beside pyarrow's own reading of valid files."""

import contextlib
import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.ingest.parquet_footer import BYTE_ARRAY, Leaf, leaves, pages
from remnant.ingest.thrift import BINARY, LIST, STRUCT, Cursor
from tests.ingest import files

VALUES = {
    "bool": pa.array([True, None, False]),
    "int8": pa.array([1, 2, None], pa.int8()),
    "int64": pa.array([1, 2**60, -5]),
    "uint32": pa.array([1, 2**32 - 1, 0], pa.uint32()),
    "float16": pa.array(np.array([0.5, 1, 2], np.float16)),
    "float32": pa.array([0.5, None, 2], pa.float32()),
    "string": pa.array(["a", "", "é" * 200]),
    "large_string": pa.array(["a", "b", None], pa.large_string()),
    "binary": pa.array([b"a", b"\xff", None]),
    "fixed": pa.array([b"abcd", b"efgh", None], pa.binary(4)),
    "decimal": pa.array([Decimal("1.25"), None, Decimal("-3.5")], pa.decimal128(20, 4)),
    "date": pa.array([1, 2, 3], pa.date32()),
    "timestamp": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
    "category": pa.array(["a", "b", "a"]).dictionary_encode(),
    "list": pa.array([[1.0, 2.0], [], None], pa.list_(pa.float32())),
    "fixed_list": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int16(), 2)),
    "lists": pa.array([[["a"], []], [None], None], pa.list_(pa.list_(pa.string()))),
    "struct": pa.array([{"a": 1, "b.c": "x"}, {"a": None, "b.c": None}, None]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int8())),
    "null": pa.nulls(3),
}  # fmt: skip
PHYSICAL = ["BOOLEAN", "INT32", "INT64", "INT96", "FLOAT", "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"]


def footer(data: bytes) -> bytes:
    return data[-8 - int.from_bytes(data[-8:-4], "little") : -8]


def as_pyarrow_says(data: bytes) -> list[Leaf]:
    facts = parquet.ParquetFile(io.BytesIO(data)).metadata
    found = []
    for group in range(facts.num_row_groups):
        for place in range(facts.num_columns):
            leaf = facts.row_group(group).column(place)
            kind = PHYSICAL.index(leaf.physical_type)
            start = leaf.data_page_offset  # 0 where there are no values
            start = min(start, leaf.dictionary_page_offset) if leaf.has_dictionary_page else start
            sizes = (leaf.num_values, leaf.total_uncompressed_size, start, leaf.total_compressed_size)
            found.append(Leaf(leaf.path_in_schema, kind, *sizes))
    return found


def written(table: pa.Table, **options) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(table, stream, **options)
    return stream.getvalue()


def check(data: bytes) -> list[Leaf]:
    """The leaves of a file, which are those of pyarrow and agree with the headers of the pages."""
    found = list(leaves(footer(data)))
    assert found == as_pyarrow_says(data)
    for leaf in found:
        values, size = pages(io.BytesIO(data), leaf)
        assert values == leaf.num_values
        # The footer also counts the headers of the pages.
        assert size <= leaf.size
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_leaves_are_those_that_pyarrow_reads(data):
    names = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=5, unique=True))
    copies = data.draw(st.integers(0, 40))
    columns = {f"{name}{data.draw(st.sampled_from(['', '.x', ' é']))}": VALUES[name] for name in names}
    table = pa.concat_tables([pa.table(columns)] * copies) if copies else pa.table(columns).slice(0, 0)
    check(
        written(
            table,
            row_group_size=data.draw(st.sampled_from([7, 50, 1000])),
            compression=data.draw(st.sampled_from(["none", "snappy", "zstd", "gzip"])),
            use_dictionary=data.draw(st.booleans()),
            data_page_version=data.draw(st.sampled_from(["1.0", "2.0"])),
            write_statistics=data.draw(st.booleans()),
            write_page_index=data.draw(st.booleans()),
            write_page_checksum=data.draw(st.booleans()),
            data_page_size=data.draw(st.sampled_from([16, 2**20])),
            write_batch_size=data.draw(st.sampled_from([3, 1024])),
        )
    )


def test_every_type_is_read():
    found = check(written(pa.table(VALUES)))
    assert {leaf.path for leaf in found} >= {"list.list.element", "struct.b.c", "map.key_value.value"}
    assert {leaf.path for leaf in found if leaf.physical_type == BYTE_ARRAY} >= {"string", "category", "binary"}


def test_keys_and_values_beside_the_columns_are_passed_over():
    table = pa.table({"a": [1, 2]}, metadata={"k" * 300: "v" * 70_000, "": ""})
    check(written(table, sorting_columns=[parquet.SortingColumn(0)]))


def test_long_headers_of_pages_are_read_whole():
    """Statistics in the header of a page hold its least and largest value."""
    check(written(pa.table({"a": ["x" * 900, "y" * 900]}), data_page_version="2.0", use_dictionary=False))


VALID = files.valid()["flat.parquet"]


def test_a_footer_cut_short_is_told():
    whole = footer(VALID)
    for length in range(len(whole) - 1):
        with pytest.raises(ValueError, match="ends too early"):
            list(leaves(whole[:length]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_other_bytes_are_told(data):
    """ValueError, which says what is wrong or is that of text not in UTF-8; nothing else."""
    with contextlib.suppress(ValueError):
        list(leaves(data))
    with contextlib.suppress(ValueError):
        pages(io.BytesIO(data), Leaf("a", 1, 10**9, 0, 0, len(data)))


def test_nesting_and_long_numbers_are_bounded():
    with pytest.raises(ValueError, match="nested too deeply"):
        list(leaves(bytes([0x1C]) * 100_000))
    with pytest.raises(ValueError, match="nested too deeply"):
        list(leaves(bytes([0x19]) + bytes([0x19]) * 100_000))
    with pytest.raises(ValueError, match="number that is too long"):
        list(leaves(bytes([0x15]) + b"\xff" * 20))


def test_types_that_are_not_parquets_are_told():
    with pytest.raises(ValueError, match="another type"):
        list(leaves(bytes([0x49, 0x15, 0x02, 0])))  # row groups that are integers
    with pytest.raises(ValueError, match="type that there is not"):
        list(leaves(bytes([0x1E, 0x00])))


def test_every_type_of_the_protocol_is_passed_over():
    """Worked by hand from the specification: short and long field headers, every type, and then a string."""
    data = bytes([
        0x11, 0x12, 0x13, 0x80, 0x14, 0x81, 0x01, 0x15, 0x02, 0x16, 0x03, 0x17, *range(8),  # two booleans to a double
        0x18, 0x02, 0x61, 0x62, 0x19, 0x25, 0x02, 0x04, 0x1A, 0x11, 0x01,  # binary, a list of 2, a set
        0x1B, 0x01, 0x85, 0x01, 0x6B, 0x02, 0x1B, 0x00, 0x1C, 0x11, 0x00, 0x1D, *range(16),  # maps, structure, UUID
        0x08, 0x80, 0x02, 0x03, 0x78, 0x79, 0x7A, 0x00,  # field 128: "xyz"
    ])  # fmt: skip
    cursor = Cursor(data)
    numbers = []
    for number, kind in cursor.fields():
        numbers.append(number)
        if number == 128:
            assert kind == BINARY
            assert cursor.binary() == b"xyz"
    assert numbers == [*range(1, 15), 128]
    assert cursor.at == len(data)


def test_long_lists_have_their_size_behind_them():
    cursor = Cursor(bytes([0xFC, 0x80, 0x01, *[0] * 128]))
    structures = [list(cursor.fields()) for _ in cursor.elements(LIST, STRUCT)]
    assert structures == [[]] * 128


def test_pages_tell_what_a_footer_hides():
    lists = pa.array([[0.0] * 5000] * 4, pa.list_(pa.float32()))
    data = written(pa.table({"logits": lists}), compression="zstd")
    [leaf] = leaves(footer(data))
    lying = Leaf(leaf.path, leaf.physical_type, 4, 100, leaf.start, leaf.compressed_size)
    assert pages(io.BytesIO(data), lying)[0] == 20_000


@pytest.mark.parametrize(("start", "says"), [(-5, "ends too early"), (10**12, "ends too early"), (0, "no size")])
def test_pages_elsewhere_are_told(start, says):
    with pytest.raises(ValueError, match=says):
        pages(io.BytesIO(b"PAR1" + bytes(1000)), Leaf("a", 1, 5, 10, start, 100))
