from dataclasses import fields

import pytest

from remnant.gates import KINDS, Limits, Rules, rules
from remnant.gates.limits import parse_limits

FILE = """
# what we ship
[limits]
max_harmful_flips = "1%"
max_accuracy_drop = "0.5pt"
max_kl = 0.02

[limits."int8"]
max_size = "20MB"
max_harmful_flips = "none"

[limits.'a "b"']
max_flips = 0.25
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "remnant-gate.toml"
    file.write_text(FILE)
    return file


def test_every_limit_is_described():
    assert [f.name for f in fields(Limits)] == list(KINDS)


def test_a_file_holds_limits_for_all_and_for_some(path):
    found = rules(path)
    assert found.of("float16") == Limits(max_harmful_flips=0.01, max_accuracy_drop=0.005, max_kl=0.02)
    assert found.of("int8") == Limits(max_accuracy_drop=0.005, max_kl=0.02, max_size=20e6)
    assert found.of('a "b"').max_flips == 0.25


def test_flags_replace_what_the_file_says_everywhere(path):
    found = rules(path, max_harmful_flips="2%", max_size="1MB", max_flips=None)
    assert found.of("int8").max_harmful_flips == 0.02
    assert found.of("int8").max_size == 1e6
    assert found.of("float16").max_kl == 0.02


def test_the_line_that_sets_a_limit_is_known(path):
    found = rules(path)
    assert (found.line("float16", "max_kl"), found.line("int8", "max_size")) == (6, 9)
    assert found.line("int8", "max_kl") == 6
    assert found.line('a "b"', "max_flips") == 13
    assert found.line("int8", "max_flips") == 1


def test_flags_alone_are_enough():
    assert rules(max_flips="3%") == Rules(Limits(max_flips=0.03))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[limits]\nmax_harmfull_flips = 0.1", "Did you mean 'max_harmful_flips'"),
        ('[limits]\nmax_flips = "1 MB"', "In `limits`: Expected `max_flips` to be '1%'"),
        ('[limits.int8]\nmax_flips = "x"', r'In `limits."int8"`: Expected `max_flips`'),
        ("[limit]\nmax_flips = 0.1", r"Did you mean 'limits'.*in the table \[limits\]"),
        ("limits = 3", r"Expected a table \[limits\]"),
        ("", r"Expected a table \[limits\]"),
        ("[limits]", "Expected at least one limit"),
        ('[limits]\nmax_flips = "none"', "Expected at least one limit"),
        ("[limits", "is not valid TOML"),
        ("[limits]\nmax_flips = [1]", r"but got \[1\]"),
        ("a = " + "[" * 5000 + "]" * 5000, "TOML|Expected"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path, text, message):
    path = tmp_path / "gate.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        rules(path)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.toml"):
        rules(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not valid TOML"):
        rules(tmp_path / "b.toml")


def test_what_looks_like_a_header_inside_of_a_text_does_no_harm(tmp_path):
    path = tmp_path / "gate.toml"
    path.write_text("[limits.\"a\"]\nmax_kl = '''\n[limits.\"\\q\"]\n0.1'''\n")
    with pytest.raises(ValueError, match="Expected `max_kl`"):
        rules(path)


def test_unknown_flags_are_named_with_the_nearest():
    with pytest.raises(ValueError, match="In `flags`: .*Did you mean 'max_kl'"):
        rules(max_k=1)
    assert parse_limits({"max_kl": " None "}) == {"max_kl": None}


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_flips", 1.5), ("max_flips", -0.1), ("max_size", float("nan")), ("max_harmed_classes", 0.5)],
)
def test_limits_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"Expected `{name}`"):
        Limits(**{name: value})


@pytest.mark.parametrize("value", ["1%", True])
def test_limits_in_python_are_numbers(value):
    with pytest.raises(ValueError, match="Expected `max_kl`"):
        Limits(max_kl=value)
