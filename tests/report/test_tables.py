import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remnant.report import tables


def cells(name, values):
    return list(tables.table(pd.DataFrame({name: values})).columns[0].cells)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("cie_rate", [0.1234, 1.0, 0.0], ["12.34 %", "100.00 %", "0.00 %"]),
        ("accuracy_change", [-0.000001, -0.02], ["0.00 points", "-2.00 points"]),
        ("q", [0.04, 0.00001], ["0.0400", "< 0.0001"]),
        ("welch_p", [1.0], ["1.0000"]),
        ("pie_count", [5136, 0], ["5,136", "0"]),
        ("seed", [12345], ["12345"]),
        ("t", [12.3456, -0.5], ["12.3", "-0.5"]),
        ("effect", [0.0123456, 0.0], ["0.0123", "0.0000"]),
        ("flops", [2.5e10], ["25,000,000,000"]),
        ("latency", [1.2345e-6, 2e-6], ["1.23e-06", "2e-06"]),
        ("ratio", [3.5, np.inf, -np.inf, np.nan], ["3.50", "∞", "-∞", "–"]),
        ("tiny", [1000.5, 0.001], ["1,000", "0.001"]),
        ("right", [True, False], ["yes", "no"]),
        ("class", ["cat", None], ["cat", "–"]),
        ("mixed", ["cat", 0.5, True, float("nan")], ["cat", "0.5", "yes", "–"]),
        ("scheme", ["dense", "static-int8"], ["Dense", "Static int8"]),
    ],
)
def test_cells_are_printed_as_people_read_them(name, values, expected):
    assert cells(name, values) == expected


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=5),
    st.sampled_from(["p", "x", "t", "share", "seed"]),
)
@example([0.0, math.inf], "p")
def test_no_number_is_printed_as_nan_or_inf(values, name):
    assert not any(word in cell for cell in cells(name, values) for word in ("nan", "inf", "None"))


@given(st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=5))
def test_printed_numbers_differ_from_the_value_by_less_than_a_hundredth_of_the_largest(values):
    largest = max(map(abs, values))
    for value, cell in zip(values, cells("x", values), strict=True):
        assert abs(float(cell.replace(",", "")) - value) <= 0.01 * largest + 1e-12


def test_long_and_wide_tables_are_cut_and_say_so():
    frame = pd.DataFrame(np.arange(2000).reshape(100, 20), columns=[f"x{i}" for i in range(20)])
    shown = tables.table(frame)
    assert (shown.shown, shown.rows, len(shown.columns), shown.hidden_columns) == (30, 100, 16, 4)


def test_a_table_without_rows_has_none():
    shown = tables.table(pd.DataFrame({"scheme": [], "x": []}))
    assert (shown.shown, shown.rows) == (0, 0)


def test_exact_labels_stay_with_the_names_of_schemes():
    shown = tables.table(pd.DataFrame({"scheme": ["static-int8"]}))
    assert shown.columns[0].exact == ("static-int8",)


def test_files_hold_every_digit():
    frame = pd.DataFrame({"x": [1 / 3, np.nan], "name": ["ä, b", None], "count": [1, 2]})
    assert tables.csv_bytes(frame) == b'x,name,count\n0.3333333333333333,"\xc3\xa4, b",1\n,,2\n'
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(tables.parquet_bytes(frame))), frame)


def test_a_column_of_mixed_kinds_can_be_stored():
    frame = pd.DataFrame({"x": ["a", 1, None, 0.5]}, dtype=object)
    assert pd.read_parquet(io.BytesIO(tables.parquet_bytes(frame)))["x"].tolist()[:2] == ["a", "1"]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (("1.00 %", "2.00 %"), "1.00 to 2.00 %"),
        (("-1.00 points", "0.50 points"), "-1.00 to 0.50 points"),
        (("1", "2"), "1 to 2"),
    ],
)
def test_an_interval_names_its_unit_once(ends, said):
    assert tables.span(*ends) == said
