import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remnant.search.expressions import Expression

KNOWN = ("accuracy", "cie_u", "memory", "dense_memory")
VALUES = {"accuracy": 0.9, "cie_u": 0.02, "memory": 500.0, "dense_memory": 2000.0}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("memory", 500.0),
        ("accuracy - 10 * cie_u", 0.7),
        ("dense_memory / memory", 4.0),
        ("-accuracy + +1", 0.1),
        ("2 ** 3 ** 2", 512.0),
        ("min(memory, 300)", 300.0),
        ("max(memory, 300, dense_memory)", 2000.0),
        ("(accuracy >= 0.5) * memory", 500.0),
        ("accuracy < 0.5", 0.0),
        ("0 < cie_u < accuracy <= 0.9", 1.0),
        ("0 < cie_u < 0.01 < 1", 0.0),
        ("accuracy == 0.9", 1.0),
        ("accuracy != 0.9", 0.0),
        ("  1e3 ", 1000.0),
    ],
)
def test_arithmetic_is_that_of_python(text, value):
    assert Expression(text, KNOWN)(VALUES) == pytest.approx(value)


@given(st.recursive(
    st.sampled_from([*KNOWN, "2", "0.5"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "<", ">="]), inner)
    | st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
    max_leaves=8,
))  # fmt: skip
def test_any_allowed_expression_is_what_python_computes(text):
    if len(text) <= 300:
        expected = float(eval(text, {"__builtins__": {}, "min": min, "max": max}, VALUES))
        assert Expression(text, KNOWN)(VALUES) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "accuracy.real",
        "memory.__class__",
        "abs(memory)",
        "min(memory)",
        "min(*memory)",
        "min(memory, key=accuracy)",
        "(lambda: 1)()",
        "[memory]",
        "memory[0]",
        "'memory'",
        "True",
        "None",
        "1j",
        "memory if accuracy else 0",
        "accuracy and memory",
        "not memory",
        "~memory",
        "memory % 2",
        "memory // 2",
        "memory @ memory",
        "memory << 2",
        "f'{memory}'",
        "(memory := 3)",
        "accuracy in memory",
        "accuracy is memory",
        "{memory}",
        "...",
    ],
)
def test_all_else_is_refused(text):
    with pytest.raises(ValueError, match="Expected numbers, names|Expected an expression such as"):
        Expression(text, KNOWN)


@pytest.mark.parametrize("text", ["", "1 +", "import os", "a = 1", "1; 2", "\0", "9" * 299, "(" * 299, "x y"])
def test_what_is_no_expression_says_so(text):
    if text == "9" * 299:
        assert Expression(text, KNOWN)({}) == pytest.approx(1e299)
        return
    with pytest.raises(ValueError, match="Expected an expression such as 'accuracy - 10"):
        Expression(text, KNOWN)


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(ValueError, match="but got 'acuracy'. Did you mean 'accuracy'"):
        Expression("1 - acuracy", KNOWN)


def test_long_texts_are_refused():
    with pytest.raises(ValueError, match="at most 300 characters, got 401"):
        Expression("-" * 400 + "1", KNOWN)


def test_deep_nesting_is_fine_or_a_clear_error():
    assert Expression("-" * 298 + "1", KNOWN)({}) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [("memory / 0", math.inf), ("0 / 0", math.nan), ("(-8) ** 0.5", math.nan), ("9 ** 9 ** 9 ** 9", math.inf)],
)
def test_what_is_not_defined_is_infinite_or_nan_and_quick(text, value):
    found = Expression(text, KNOWN)(VALUES)
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_names_are_those_of_numbers_in_order():
    assert Expression("min(memory, accuracy) + memory", KNOWN).names == ("memory", "accuracy")


def test_missing_numbers_are_named():
    with pytest.raises(ValueError, match=r"numbers for \['cie_u'\] in 'accuracy - cie_u', but they were not measured"):
        Expression("accuracy - cie_u", KNOWN)({"accuracy": np.float64(1)})
