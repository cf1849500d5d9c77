"""A gate as SARIF 2.1.0, which code scanning shows as annotations."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from remnant.gates.limits import KINDS
from remnant.gates.text import visible
from remnant.gates.verdicts import Gate, Verdict
from remnant.version import __version__

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LONGEST = 2000


def sarif(gate: Gate) -> str:
    """SARIF: rules are the limits, results are the verdicts that are not passed.

    A failed limit has the level "error", one that could not be told "warning" ("note" where it counts as
    passed). Results lie at the line of the limits file that sets the limit, else at the report: code scanning
    refuses results without a place.
    """
    names = list(dict.fromkeys(verdict.limit for verdict in gate.verdicts))
    driver = {
        "name": "remnant gate",
        "version": __version__,
        "rules": [
            {
                "id": name,
                "shortDescription": {"text": f"Limit on {KINDS[name].words}"},
                "fullDescription": {"text": f"{name} holds the claim {KINDS[name].quantity} against a limit."},
                "defaultConfiguration": {"level": "error"},
            }
            for name in names
        ],
    }
    results = [
        _result(gate, verdict, names.index(verdict.limit)) for verdict in gate.verdicts if verdict.outcome != "pass"
    ]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1) + "\n"


def _result(gate: Gate, verdict: Verdict, rule: int) -> dict[str, Any]:
    levels = {"fail": "error", "could not tell": "warning", "pass": "note"}
    place = f"{verdict.limit}\n{verdict.side}".encode("utf-8", "surrogatepass")
    return {
        "ruleId": verdict.limit,
        "ruleIndex": rule,
        "level": levels[gate.counts_as(verdict)],
        "message": {"text": message(verdict)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(gate.rules.path or gate.report or "report.json")},
                    "region": {"startLine": gate.rules.line(verdict.side, verdict.limit)},
                }
            }
        ],
        "partialFingerprints": {"remnantVerdict/v1": hashlib.sha256(place).hexdigest()},
    }


def message(verdict: Verdict) -> str:
    """The verdict as a SARIF message: names of files cannot make links or placeholders in it.

    Brackets are links and braces placeholders in SARIF messages (SARIF 2.1.0, sections 3.11.5 and 3.11.6).
    """
    said = "; ".join(filter(None, [verdict.measured, verdict.reason]))
    text = visible(f"{verdict.side}: {verdict.outcome}: {verdict.wanted}: {said}", _LONGEST)
    return re.sub(r"([\\\[\]])", r"\\\1", text).replace("{", "{{").replace("}", "}}")


def _uri(path: str) -> str:
    """The path relative to the current folder, as code scanning wants it; its name alone if it lies elsewhere."""
    absolute = Path(path).absolute()
    here = Path.cwd()
    relative = absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else absolute.name
    return quote(relative.encode("utf-8", "surrogateescape"))
