"""A gate as JUnit XML, which CI systems show as tests."""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from remnant.gates.text import visible
from remnant.gates.verdicts import Gate, Verdict

_LONGEST = 2000
"""Most characters of a message."""


def junit(gate: Gate) -> bytes:
    """JUnit XML: one suite for each compressed side, one test case for each limit.

    A case that counts as failed has a `failure`; one that could not be told is `skipped`. The elements and
    attributes are those that the schemas of Jenkins and of Maven Surefire have in common.
    """
    root = Element("testsuites", {"name": "remnant gate"} | _counts(gate, gate.verdicts))
    for side in dict.fromkeys(verdict.side for verdict in gate.verdicts):
        own = tuple(verdict for verdict in gate.verdicts if verdict.side == side)
        skipped = sum(gate.counts_as(verdict) == "could not tell" for verdict in own)
        attributes = {"name": visible(side)} | _counts(gate, own) | {"skipped": str(skipped), "time": "0"}
        suite = SubElement(root, "testsuite", attributes)
        for verdict in own:
            _case(suite, gate, verdict)
    indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="utf-8") + b"\n"


def _counts(gate: Gate, verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    failures = sum(gate.counts_as(verdict) == "fail" for verdict in verdicts)
    return {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0"}


def _case(suite: Element, gate: Gate, verdict: Verdict) -> None:
    name = visible(verdict.wanted)
    case = SubElement(suite, "testcase", {"name": name, "classname": f"remnant.{visible(verdict.side)}", "time": "0"})
    said = "; ".join(filter(None, [verdict.measured, verdict.reason]))
    counted = gate.counts_as(verdict)
    if counted != "pass":
        tag = "failure" if counted == "fail" else "skipped"
        attributes = {"message": visible(said, _LONGEST), "type": verdict.outcome}
        SubElement(case, tag, attributes).text = visible(f"{verdict.wanted}: {said}", _LONGEST)
    elif said:
        SubElement(case, "system-out").text = visible(said, _LONGEST)
