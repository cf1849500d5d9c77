import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.gates import Limits, judge, read_report, reading
from tests.gates.audits import INT8, audit, flips, write


@pytest.fixture
def good() -> dict:
    return audit(*flips(INT8, 9, 0, 1000)).to_dict()


def test_a_report_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json.*does not exist.*remnant compare"):
        read_report(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_what_is_not_json_is_refused(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"to be a report\.json, but it is not JSON"):
        read_report(tmp_path)


def test_a_report_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 10)
    path = write(tmp_path / "report.json", audit())
    with pytest.raises(ValueError, match="at most 10 bytes, but it has"):
        read_report(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"estimate": "0.1"}, "real number|wrong type"),
        ({"estimate": True}, "wrong type"),
        ({"low": "0"}, "wrong type"),
        ({"low": float("nan")}, "wrong type"),
        ({"high": float("inf")}, "wrong type"),
        ({"estimate": 10**400}, "too large"),
        ({"estimate": float("nan")}, "finite"),
        ({"n": None}, "wrong type"),
        ({"subject": 3}, "wrong type"),
        ({"scale": []}, "wrong type"),
        ({"low": 0.9, "high": 0.1}, "ends before it begins"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_claim_without_numbers_is_refused(tmp_path, good, change, message):
    """A gate must not pass on NaN, or on text that looks like a number."""
    good["findings"][0]["claims"][0] |= change
    (tmp_path / "report.json").write_text(json.dumps(good))
    with pytest.raises(ValueError, match=f"damaged or none: .*({message})"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 99},
        {"findings": None},
        {"findings": [3]},
        {"findings": [{}]},
        {"not_run": 3},
        {"about": {"schemes": ["int8"]}},
        {"about": 3},
    ],
)
def test_a_report_of_another_form_is_refused(tmp_path, good, change):
    (tmp_path / "report.json").write_text(json.dumps(good | change))
    with pytest.raises(ValueError, match="damaged or none"):
        read_report(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(
    st.sampled_from(["findings", "not_run", "about", "schema_version", "claims", "claim", "parameters", "schemes"]),
    st.sampled_from(["estimate", "low", "high", "n", "subject", "quantity", "unit", "method", "scale", "detail"]),
    json_values,
)
def test_any_damage_is_a_clear_error_or_a_verdict(tmp_path_factory, place, field, value):
    data = audit(*flips(INT8, 9, 0, 1000)).to_dict()
    finding = data["findings"][0]
    if place in data:
        data[place] = value
    elif place == "schemes":
        data["about"]["schemes"] = value
    elif place == "claim":
        finding["claims"][0][field] = value
    else:
        finding[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_text(json.dumps(data))
    try:
        found = judge(read_report(path), Limits(max_harmful_flips=0.01)).exit_code
    except ValueError as error:
        found = str(error)
    assert found in (0, 1, 2) or str(found).startswith("Expected")
