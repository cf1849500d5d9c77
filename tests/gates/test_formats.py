"""JUnit, SARIF and Markdown: of the right form, and with nothing of a hostile name left that could act."""

import html
import json
import re
import unicodedata
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remnant.gates import Gate, Limits, Rules, Undecided, headline, judge, junit, markdown, rows, sarif
from remnant.gates import markdown as markdown_of
from remnant.gates.markdown import MOST_CHARACTERS
from remnant.gates.text import visible
from tests.gates.audits import HOSTILE, INT8, audit, claim, flips

LIMITS = Limits(max_harmful_flips=0.01, max_accuracy_drop=0.05, max_size=10)


def mixed(name: str = INT8, undecided: Undecided = "report") -> Gate:
    """One limit failed, one passed, one without a claim; the name stands wherever a name can."""
    worst = claim("worst_class_net_change", name, -0.1, -0.2, -0.01, scale="points", detail=name)
    content = audit(*flips(name, 30, 20, 1000), worst, sides=(name,))
    content.not_run["league"] = name
    limits = Limits(**(LIMITS.given() | {"max_worst_class_drop": 0.05}))
    return judge(content, limits, undecided=undecided, report="report/report.json", warnings=(name,))


def elements_of(gate: Gate) -> ElementTree.Element:
    return ElementTree.fromstring(junit(gate))


def test_junit_has_a_suite_for_each_side_and_a_case_for_each_limit():
    root = elements_of(mixed())
    assert [suite.attrib for suite in root] == [
        {"name": "int8", "tests": "4", "failures": "1", "errors": "0", "skipped": "2", "time": "0"}
    ]
    found = {case.attrib["name"]: [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        "harmful flips at most 1 %": ["failure"],
        "drop of accuracy at most 5 points": ["system-out"],
        "drop of the worst class at most 5 points": ["skipped"],
        "size at most 10 bytes": ["skipped"],
    }


@pytest.mark.parametrize(("undecided", "failures", "skipped"), [("fail", "3", "0"), ("pass", "1", "0")])
def test_junit_agrees_with_the_exit_code(undecided, failures, skipped):
    suite = elements_of(mixed(undecided=undecided))[0]
    assert (suite.attrib["failures"], suite.attrib["skipped"]) == (failures, skipped)
    assert len(suite.findall(".//failure")) == int(failures)
    assert len(suite.findall(".//skipped")) == int(skipped)


# Names and required attributes of junit-10.xsd (Jenkins xUnit plugin, as in the tests of pytest); validated once
# against the schema itself with lxml.
JUNIT = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, set(), {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time"},
        {"name", "tests", "failures", "errors"},
        {"testcase"},
    ),
    "testcase": ({"name", "classname", "time"}, {"name"}, {"failure", "skipped", "system-out"}),
    "failure": ({"message", "type"}, set(), set()),
    "skipped": ({"message", "type"}, set(), set()),
    "system-out": (set(), set(), set()),
}


def check_junit(element: ElementTree.Element) -> None:
    allowed, required, children = JUNIT[element.tag]
    assert required <= set(element.attrib) <= allowed
    for child in element:
        assert child.tag in children
        check_junit(child)


def check_sarif(data: dict) -> None:
    """What sarif-schema-2.1.0.json requires of what is written, and what GitHub's upload requires beside."""
    assert set(data) == {"$schema", "version", "runs"}
    assert data["version"] == "2.1.0"
    (run,) = data["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert result["level"] in ("error", "warning", "note")
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", place["artifactLocation"]["uri"])
        assert not place["artifactLocation"]["uri"].startswith("/")
        assert place["region"]["startLine"] >= 1
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())


def test_sarif_has_a_result_for_each_limit_that_is_not_passed():
    data = json.loads(sarif(mixed()))
    check_sarif(data)
    levels = {result["ruleId"]: result["level"] for result in data["runs"][0]["results"]}
    assert levels == {"max_harmful_flips": "error", "max_worst_class_drop": "warning", "max_size": "warning"}


@pytest.mark.parametrize(("undecided", "level"), [("fail", "error"), ("pass", "note")])
def test_sarif_levels_follow_what_undecided_counts_as(undecided, level):
    results = json.loads(sarif(mixed(undecided=undecided)))["runs"][0]["results"]
    assert {r["level"] for r in results if r["ruleId"] == "max_size"} == {level}


def test_sarif_points_at_the_line_of_the_limits_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = audit(*flips(INT8, 30, 20, 1000))

    def place(path: str) -> dict:
        found = Rules(Limits(max_harmful_flips=0.01), path=path, lines={("", "max_harmful_flips"): 7})
        return json.loads(sarif(judge(content, found)))["runs"][0]["results"][0]["locations"][0]["physicalLocation"]

    assert place("ci/a b.toml") == {"artifactLocation": {"uri": "ci/a%20b.toml"}, "region": {"startLine": 7}}
    assert place(str(tmp_path / "ci" / "gate.toml"))["artifactLocation"]["uri"] == "ci/gate.toml"
    assert place("/etc/gate.toml")["artifactLocation"]["uri"] == "gate.toml"


def test_sarif_fingerprints_stay_when_the_numbers_change():
    def prints(lost: int) -> list[dict]:
        gate = judge(audit(*flips(INT8, lost, 0, 1000)), Limits(max_harmful_flips=0.01))
        return [result["partialFingerprints"] for result in json.loads(sarif(gate))["runs"][0]["results"]]

    assert prints(30) == prints(40)


def test_the_summary_shows_failures_first():
    text = markdown(mixed())
    assert text.startswith("### remnant gate: ❌ fail\n\nfail: 1 of 4 limits failed, 2 could not be told.\n")
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [line.split(" | ")[0][2:] for line in lines] == [
        "❌ fail",
        "❔ could not tell",
        "❔ could not tell",
        "✅ pass",
    ]
    assert [row[0] for row in rows(mixed())] == ["fail", "could not tell", "could not tell", "pass"]


@pytest.mark.parametrize(
    ("lost", "undecided", "text"),
    [
        (1, "report", "pass: none of 1 limit failed"),
        (9, "report", "could not tell: none of 1 limit failed, 1 could not be told"),
        (9, "pass", "pass: none of 1 limit failed, 1 could not be told and count as passed"),
        (9, "fail", "fail: none of 1 limit failed, 1 could not be told and count as failed"),
    ],
)
def test_the_headline_says_what_decided(lost, undecided, text):
    gate = judge(audit(*flips(INT8, lost, 0, 1000)), Limits(max_harmful_flips=0.01), undecided=undecided)
    assert headline(gate) == text


def test_a_long_summary_is_cut_where_github_would_refuse_it():
    sides = tuple(f"side {i} " + "&" * 150 for i in range(200))
    content = audit(*(c for side in sides for c in flips(side, 30, 0, 1000)), sides=sides)
    text = markdown(judge(content, LIMITS))
    assert len(text) <= MOST_CHARACTERS
    assert re.search(r"\n\d+ more verdicts are not shown\.\n", text)


def check_harmless(name: str) -> None:
    gate = mixed(name)
    root = elements_of(gate)
    check_junit(root)
    texts = [text for element in root.iter() for text in (element.text or "", *element.attrib.values())]
    data = json.loads(sarif(gate))
    check_sarif(data)
    for result in data["runs"][0]["results"]:
        # What is left without escapes makes no link and no placeholder.
        assert not re.search(r"(?<!\\)(\\\\)*[\[\]]", result["message"]["text"])
        assert not re.search(r"[{}]", result["message"]["text"].replace("{{", "").replace("}}", ""))
        texts.append(result["message"]["text"])
    check_markdown(markdown(gate), len(gate.verdicts))
    texts += [cell for row in rows(gate) for cell in row]
    for text in texts:
        inner = text.strip("\n ").replace("\n", " ")  # of the indentation
        assert "::" not in inner
        assert "##[" not in inner
        assert {unicodedata.category(c) for c in inner} & {"Cc", "Cf", "Cs", "Zl", "Zp"} == set()


def check_markdown(text: str, verdicts: int) -> None:
    lines = text.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == verdicts + 2
    for line in table:
        assert line.count("|") == 6
    plain = text.replace("<code>", "").replace("</code>", "")
    assert "<" not in plain
    assert not re.search(r"[*_`\[\]~@$!]|://", plain)
    assert set(re.findall(r"&[^;]{0,9};?", plain)) <= set(re.findall(r"&#\d+;", plain))
    assert text.count("<code>") == text.count("</code>")
    text.encode()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_do_nothing(name):
    check_harmless(name)


@settings(max_examples=150)
@given(st.text(st.characters(codec=None), max_size=40).filter(lambda name: name != "reference"))
def test_no_name_does_anything(name):
    check_harmless(name)


def test_an_ordinary_name_is_shown_as_it_is():
    assert visible("Größe int8 (γ=0.9)") == "Größe int8 (γ=0.9)"
    assert html.unescape(re.findall("<code>(.*?)</code>", markdown_of(mixed("a*b|c")))[0]) == "a*b|c"
    assert visible("a" * 300) == "a" * 197 + "..."
    assert visible("a\x00b\u202ec\U000e0001") == "a\\x00b\\u202ec\\U000e0001"
    assert visible(":::") == ": : :"
