from dataclasses import replace

import pytest

from remnant.finding import Finding
from remnant.report import markdown
from remnant.report.prose import plain
from remnant.report.summary import answers
from tests.report import synthetic


def test_it_begins_with_the_first_screen_of_the_page():
    text = markdown.render(synthetic.audit())
    assert text.startswith("# What compression forgot: by hand &lt;b&gt;\n\n**What was forgotten?** ")
    unmarked = text.replace("**", "").replace("&lt;", "<")
    for answer in answers(synthetic.audit()):
        assert plain(answer.lead) in unmarked


def test_cells_cannot_break_the_table_or_the_page():
    text = markdown.render(synthetic.audit())
    assert "<" not in text
    assert "a \\| b &amp; c" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    grids = {line.replace("\\|", "").count("|") for line in rows}
    assert grids == {5, 7}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a*b_c", "a\\*b\\_c"),
        ("@team #1", "&#64;<!-- -->team \\#1"),
        ("two\nlines", "two lines"),
        ("<img>", "&lt;img&gt;"),
    ],
)
def test_text_is_shown_as_it_is(text, expected):
    assert markdown.escape(text) == expected


def test_it_fits_into_a_comment_on_a_pull_request():
    audit = synthetic.audit()
    long = Finding("long", "?" * 5000, {}, (), {}, caveats=("word " * 1000,))
    text = markdown.render(replace(audit, findings=(*audit.findings, *[long] * 20)))
    assert 30_000 < len(text) < 65_536
    assert "more sections are in report.html" in text
    assert "## Which classes pay?" in text


def test_missing_values_are_dashes():
    text = markdown.render(synthetic.audit())
    assert "nan" not in text.lower()
    assert "| – |" in text
