"""The report as Markdown, short enough for a comment on a pull request."""

import re

from remnant.finding import Audit, Finding
from remnant.report import tables
from remnant.report.characters import visible
from remnant.report.html import default_title
from remnant.report.labels import title, with_scheme_phrases
from remnant.report.overview import overview
from remnant.report.prose import Name, Quote, Sentence
from remnant.report.references import cited
from remnant.report.summary import answers

MOST_CHARACTERS = 60_000
"""Longest text; GitHub refuses comments of more than 65,536 characters."""
_MOST_ROWS = 10
_MOST_COLUMNS = 8


def render(audit: Audit, *, heading: str | None = None) -> str:
    """The same first screen as the page, then the main table and the caveats of each finding."""
    labels = list(audit.about.get("schemes") or {})
    parts = [f"# {escape(heading or default_title(audit))}"]
    for answer in answers(audit):
        parts.append(f"**{answer.question}** {' '.join(_sentence(s) for s in (answer.lead, *answer.rest))}")
    glance = overview(audit)
    if glance.columns:
        rows = [
            [name.text, *(_with_note(cell.value or tables.ABSENT, cell.note) for cell in cells)]
            for name, cells in glance.rows
        ]
        parts.append(_grid(["Scheme", *glance.columns], rows, ["left"] + ["right"] * len(glance.columns)))
    sections = [_section(finding, labels) for finding in audit.findings]
    if audit.not_run:
        reasons = [
            f"- {escape(title(name))}: {escape(with_scheme_phrases(reason, labels))}"
            for name, reason in audit.not_run.items()
        ]
        sections.append("## What was not asked, and why\n\n" + "\n".join(reasons))
    room = MOST_CHARACTERS - sum(len(part) + 2 for part in parts)
    for place, section in enumerate(sections):
        if len(section) + 2 > room - 200:
            left_out = len(sections) - place
            parts.append(f"{left_out} more {'sections are' if left_out > 1 else 'section is'} in report.html.")
            break
        parts.append(section)
        room -= len(section) + 2
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", visible(" ".join(text.split())))
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Bare addresses become links, and a name after "@" is notified, unless something stands between.
    text = re.sub(r"@(?=\w)", "&#64;<!-- -->", text)
    return re.sub(r"\b(www)\.", r"\1&#46;", text.replace("://", "&#58;//"), flags=re.IGNORECASE)


def _sentence(sentence: Sentence) -> str:
    parts = []
    for part in sentence:
        if isinstance(part, Quote):
            parts.append(f"**{part.value.replace('<', '&lt;')}**{part.interval}")
        elif isinstance(part, Name):
            parts.append(escape(part.text))
        else:
            parts.append(part)
    return "".join(parts)


def _section(finding: Finding, labels: list[str]) -> str:
    lines = [f"## {escape(finding.question)}"]
    if finding.tables:
        name, frame = next(iter(finding.tables.items()))
        shown = tables.table(frame, max_rows=_MOST_ROWS, max_columns=_MOST_COLUMNS)
        rows = [
            [_with_note(column.cells[row], column.notes[row]) for column in shown.columns] for row in range(shown.shown)
        ]
        sides = ["right" if column.numeric else "left" for column in shown.columns]
        if rows:
            lines.append(_grid([column.title for column in shown.columns], rows, sides))
        if tables.cut(shown):
            lines.append(f"{tables.cut(shown)}; all are in `tables/{tables.file_stem(finding.analysis, name)}.csv`.")
    if finding.caveats:
        lines.append("\n".join(f"- {escape(with_scheme_phrases(caveat, labels))}" for caveat in finding.caveats))
    if sources := cited([*finding.cites, *(claim.citation for claim in finding.claims)]):
        lines.append(f"After {', '.join(escape(source.short) for source in sources)}.")
    return "\n\n".join(lines)


def _with_note(value: str, note: str) -> str:
    return f"{value} ({note})".replace("\n", ", ") if note else value


def _grid(heads: list[str], rows: list[list[str]], sides: list[str]) -> str:
    marks = ["---:" if side == "right" else ":---" for side in sides]
    lines = [heads, marks, *rows]
    escaped = [line if line is marks else [escape(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
