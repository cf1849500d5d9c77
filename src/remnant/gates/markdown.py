"""A gate as Markdown, for the summary of a CI job or a comment on a pull request; and as rows of a table."""

import re

from remnant.gates.text import visible
from remnant.gates.verdicts import Gate, Verdict

MOST_CHARACTERS = 60_000
"""Longest text; GitHub refuses comments of more than 65,536 characters."""
_SIGNS = {"pass": "✅ pass", "fail": "❌ fail", "could not tell": "❔ could not tell"}
_ORDER = ("fail", "could not tell", "pass")


def rows(gate: Gate) -> list[tuple[str, str, str, str, str]]:
    """Verdicts for a table in a terminal: outcome, side, limit, measured, reason; failures first.

    The texts are on one line and without control characters, not escaped for any markup.
    """
    return [
        (v.outcome, visible(v.side), visible(v.wanted), visible(v.measured, 400), visible(v.reason, 400))
        for v in _sorted(gate)
    ]


def headline(gate: Gate) -> str:
    """The result in one sentence, such as "fail: 1 of 4 limits failed, 2 could not be told"."""
    total = len(gate.verdicts)
    failed = sum(verdict.outcome == "fail" for verdict in gate.verdicts)
    undecided = sum(verdict.outcome == "could not tell" for verdict in gate.verdicts)
    limits = f"{total} limit{'s' if total > 1 else ''}"
    parts = [f"{failed} of {limits} failed" if failed else f"none of {limits} failed"]
    if undecided:
        counted = {"report": "", "fail": " and count as failed", "pass": " and count as passed"}[gate.undecided]
        parts.append(f"{undecided} could not be told{counted}")
    return f"{gate.outcome}: {', '.join(parts)}"


def markdown(gate: Gate) -> str:
    """The headline and a table of verdicts, failures first, as GitHub shows it.

    Everything that comes from files is written with character references inside of `<code>`, where neither
    Markdown, HTML, nor mentions work.
    """
    head = [f"### remnant gate: {_SIGNS[gate.outcome]}", "", f"{headline(gate)}.", ""]
    head += [f"> {_code(warning, 400)}" for warning in gate.warnings]
    head += ["", "| | compressed model | limit | measured | |", "|:---|:---|:---|:---|:---|"]
    foot = [
        "",
        "A limit is failed or passed only if the whole 95 % interval lies beyond or within it, each limit by itself.",
        "",
    ]
    room = MOST_CHARACTERS - sum(len(line) + 1 for line in head + foot) - 100
    lines = []
    ordered = _sorted(gate)
    for place, verdict in enumerate(ordered):
        cells = [_code(verdict.side), _plain(verdict.wanted), _code(verdict.measured, 400), _code(verdict.reason, 400)]
        line = f"| {_SIGNS[verdict.outcome]} | {' | '.join(cells)} |"
        room -= len(line) + 1
        if room < 0:
            foot = ["", f"{len(ordered) - place} more verdicts are not shown.", *foot]
            break
        lines.append(line)
    return "\n".join([*head, *lines, *foot])


def _sorted(gate: Gate) -> list[Verdict]:
    return sorted(gate.verdicts, key=lambda verdict: _ORDER.index(verdict.outcome))


def _code(text: str, most: int = 200) -> str:
    escaped = _plain(text, most)
    return f"<code>{escaped}</code>" if escaped else ""


def _plain(text: str, most: int = 200) -> str:
    """Text in which every ASCII character that could mean something to Markdown or HTML is a reference."""
    return re.sub(r"[^A-Za-z0-9 .,%()\u0080-\U0010ffff]", lambda match: f"&#{ord(match[0])};", visible(text, most))
