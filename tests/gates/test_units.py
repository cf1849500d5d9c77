import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.gates.units import EXAMPLES, checked, parse, shown


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1%", "share", 0.01),
        ("1 %", "share", 0.01),
        ("0.5pt", "share", 0.005),
        (".5 pt", "share", 0.005),
        ("3 points", "share", 0.03),
        ("3 Percentage Points", "share", 0.03),
        ("1pp", "share", 0.01),
        ("100%", "share", 1.0),
        (0.01, "share", 0.01),
        ("0.01", "share", 0.01),
        (0, "share", 0.0),
        (1e-05, "share", 1e-05),
        (3, "count", 3.0),
        ("0", "count", 0.0),
        ("0.02 nats", "number", 0.02),
        (1.5, "number", 1.5),
        ("20MB", "bytes", 20e6),
        ("20 mb", "bytes", 20e6),
        ("20MiB", "bytes", 20 * 2**20),
        ("1.5 GB", "bytes", 1.5e9),
        ("64KiB", "bytes", 65536.0),
        ("1_000", "bytes", 1000.0),
        (20_000_000, "bytes", 20e6),
        ("4x", "ratio", 4.0),
        ("120%", "ratio", 1.2),
        (1.2, "ratio", 1.2),
    ],
)
def test_limits_are_read_as_people_write_them(text, unit, value):
    assert parse(text, unit, "limit") == value


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("one percent", "share"),
        ("", "share"),
        ("-1%", "share"),
        ("101%", "share"),
        ("nan", "number"),
        (float("nan"), "number"),
        (float("inf"), "number"),
        (True, "count"),
        (None, "share"),
        ([1], "share"),
        ("20MB", "share"),
        ("1%", "bytes"),
        ("1%", "count"),
        ("2.5", "count"),
        ("0.5", "bytes"),
        ("1 %%", "share"),
        ("1e999", "number"),
        ("9" * 10_000, "number"),
        ("٣%", "share"),
    ],
)
def test_anything_else_is_refused_by_name(value, unit):
    with pytest.raises(ValueError, match="Expected `max_x`"):
        parse(value, unit, "max_x")


@pytest.mark.parametrize(("value", "text"), [(1, "'1%'"), ("1", "'1%'"), (3, "'3%'"), ("2.5", "'2.5%'")])
def test_a_bare_number_from_one_on_is_no_share(value, text):
    with pytest.raises(ValueError, match=f"Did you mean {text}"):
        parse(value, "share", "max_flips")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.01, "share", "1 %"),
        (0.005, "share", "0.5 %"),
        (0.0, "share", "0 %"),
        (20e6, "bytes", "20 MB"),
        (999.0, "bytes", "999 bytes"),
        (4.0, "ratio", "4x"),
        (12.0, "count", "12"),
        (0.015, "number", "0.015"),
    ],
)
def test_limits_are_shown_in_their_unit(value, unit, text):
    assert shown(value, unit) == text


@given(st.floats(0, 1), st.sampled_from(["{:.17f}", "{:.17f} ", "{:.15f}%"]))
def test_what_is_read_is_what_was_written(value, form):
    percent = form.endswith("%")
    written = form.format(100 * value if percent else value)
    if value < 0.999999:
        assert parse(written, "share", "limit") == pytest.approx(value, abs=1e-15)


@given(st.text(max_size=30), st.sampled_from(sorted(EXAMPLES)))
def test_any_text_is_a_limit_or_a_clear_error(text, unit):
    try:
        value, message = parse(text, unit, "limit"), ""
    except ValueError as error:
        value, message = 0.0, str(error)
    assert checked(value, unit, "limit") >= 0
    assert message == "" or message.startswith("Expected `limit`")
