"""What the page shows of one finding, as plain data for its template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from remnant.finding import Claim, Finding, format_value
from remnant.report import references, tables
from remnant.report.galleries import Gallery
from remnant.report.labels import scheme_name, title, with_scheme_phrases
from remnant.report.pictures import picture

_MOST_CLAIMS = 200


@dataclass(frozen=True)
class ShownTable:
    """A table of a section."""

    id: str
    title: str
    file: str
    pointer: str
    """What is not shown, and where the rest is."""
    table: tables.Table


@dataclass(frozen=True)
class ShownClaim:
    """A claim as one row."""

    quantity: str
    title: str
    subject: str
    on: str
    estimate: str
    interval: str
    n: str
    method: str
    source: Markup


@dataclass(frozen=True)
class Section:
    """All that the page shows of one finding."""

    id: str
    analysis: str
    title: str
    question: str
    picture: Markup | None
    picture_note: str
    tables: tuple[ShownTable, ...]
    claims: tuple[ShownClaim, ...]
    hidden_claims: int
    caveats: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...]
    cites: tuple[references.Reference, ...]
    galleries: tuple[Gallery, ...] = ()


def section(finding: Finding, labels: Sequence[str], place: int) -> Section:
    """The section of a finding; `place` numbers it and makes its ids. Galleries come later."""
    name = f"analysis-{place + 1}"
    svg, note = picture(finding, prefix=f"{name}-picture", labels=labels)
    cites = references.cited([*finding.cites, *(claim.citation for claim in finding.claims)])
    return Section(
        id=name,
        analysis=finding.analysis,
        title=title(finding.analysis),
        question=finding.question,
        picture=Markup(svg) if svg else None,
        picture_note=note,
        tables=tuple(_shown_table(finding, table, f"{name}-table-{i}") for i, table in enumerate(finding.tables)),
        claims=tuple(_shown_claim(claim, labels) for claim in finding.claims[:_MOST_CLAIMS]),
        hidden_claims=max(0, len(finding.claims) - _MOST_CLAIMS),
        caveats=tuple(with_scheme_phrases(caveat, labels) for caveat in finding.caveats),
        parameters=tuple((title(key), value_text(value)) for key, value in finding.parameters.items()),
        cites=tuple(cites),
    )


def _shown_table(finding: Finding, name: str, id: str) -> ShownTable:
    frame = finding.tables[name]
    shown = tables.table(frame)
    pointer = f"{tables.cut(shown)}; all are in" if tables.cut(shown) else "All digits are in"
    heading = title(name if name != finding.analysis else finding.analysis)
    return ShownTable(id, heading, tables.file_stem(finding.analysis, name), pointer, shown)


def _shown_claim(claim: Claim, labels: Sequence[str]) -> ShownClaim:
    interval = tables.ABSENT
    if claim.low is not None and claim.high is not None:
        interval = f"{format_value(claim.low, claim.scale)} to {format_value(claim.high, claim.scale)}"
    return ShownClaim(
        quantity=claim.quantity,
        title=title(claim.quantity),
        subject=claim.subject,
        on=_on(claim, labels),
        estimate=format_value(claim.estimate, claim.scale),
        interval=interval,
        n=f"{claim.n:,} {claim.unit}{'s' if claim.n != 1 and claim.unit and not claim.unit.endswith('s') else ''}",
        method=with_scheme_phrases(claim.method, labels),
        source=_citation(claim.citation),
    )


def _on(claim: Claim, labels: Sequence[str]) -> str:
    subject = scheme_name(claim.subject) if claim.subject in labels else claim.subject
    return f"{subject}: {claim.detail}" if claim.detail else subject


def _citation(citation: str) -> Markup:
    known = references.bibliography()
    parts = []
    for key, rest in references.split(citation):
        if key in known:
            parts.append(Markup('<a href="#ref-{}">{}</a>{}').format(key, known[key].short, rest))
        else:
            parts.append(escape(key + rest))
    return Markup("; ").join(parts) if parts else Markup(tables.ABSENT)


def value_text(value: Any) -> str:
    """A setting or a fact as text."""
    if isinstance(value, Mapping):
        return (
            "; ".join(f"{str(name).replace('_', ' ')} {value_text(item)}" for name, item in value.items())
            or tables.ABSENT
        )
    if isinstance(value, list | tuple):
        shown = ", ".join(value_text(item) for item in value[:20])
        return f"{shown}, … ({len(value):,} in all)" if len(value) > 20 else shown or tables.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return tables.ABSENT if value is None or value != value else str(value)
