"""One self-contained HTML page from an audit: no scripts, no network."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from remnant.finding import Audit, Claim, Finding, format_value
from remnant.report import references, tables
from remnant.report.galleries import Gallery, Thumbnails, galleries
from remnant.report.labels import scheme_name, title, with_scheme_phrases
from remnant.report.pictures import picture
from remnant.report.summary import Quote, Sentence, answers, overview

MOST_BYTES = 5_000_000
"""Largest page."""
_IMAGE_BYTES = 3_000_000
_MARGIN_BYTES = 200_000
"""Left free for the tags and alternative texts around images."""
_MOST_CLAIMS = 200
_FIRST_EXHIBITS = 12

TERMS = (
    ("Dense", "The model before compression: the reference of every comparison."),
    ("CIE", "Compression impacted exemplar: a test example to which the dense and the compressed model give different classes."),
    ("CIE-U", "A CIE that the dense model has right: a right answer lost."),
    ("PIE", "Pruning identified exemplar: a test example to which most compressed models give another class than most dense models do."),
    ("Chance", "What the same count is among models that differ by nothing but their random seed."),
    ("Significant class", "Its accuracy changes by more, or less, than the accuracy as a whole, by a test on that class alone."),
    ("Memorization", "How much more often a training example is answered right by models that trained on it than by models that did not."),
    ("Influence", "How much more often a test example is answered right by models that trained on a certain training example."),
    ("More than noise", "By permutation p-values at 0.05, with Holm's correction for the number of schemes."),
    ("95 % interval", "A range that, made in this way, holds the true value in 95 of 100 audits."),
)  # fmt: skip


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


def render(audit: Audit, thumbnails: Thumbnails | None = None, *, heading: str | None = None) -> str:
    """The page: first screen, one section for each finding, how the audit was made.

    Images share what the rest of the page leaves of `MOST_BYTES`, at most 3 MB.
    """
    labels = list(audit.about.get("schemes") or {})
    sections = [_section(finding, labels, place) for place, finding in enumerate(audit.findings)]
    context = {
        "title": heading or default_title(audit),
        "css": Markup(files("remnant.report").joinpath("style.css").read_text(encoding="utf-8")),
        "facts": facts(audit),
        "answers": answers(audit),
        "overview": overview(audit),
        "terms": TERMS,
        "not_run": [(title(name), with_scheme_phrases(reason, labels)) for name, reason in audit.not_run.items()],
        "references": _references(audit),
        "first_exhibits": _FIRST_EXHIBITS,
        "version": _version(audit),
        **_about(audit),
    }
    template = _environment().get_template("report.html.j2")
    bare = _filled(template, context, sections, galleries(audit.findings, None, budget=0, labels=labels))
    left = MOST_BYTES - len(bare.encode()) - _MARGIN_BYTES
    if left < 0:
        raise ValueError(
            f"Expected findings that fit on a page of {MOST_BYTES:,} bytes, but without images it has "
            f"{len(bare.encode()):,}. Audit fewer schemes or analyses in one report."
        )
    if thumbnails is None:
        return bare
    shown = galleries(audit.findings, thumbnails, budget=min(left, _IMAGE_BYTES), labels=labels)
    return _filled(template, context, sections, shown)


def default_title(audit: Audit) -> str:
    """The title of a report."""
    dataset = audit.about.get("dataset")
    return f"What compression forgot: {dataset}" if dataset else "What compression forgot"


def facts(audit: Audit) -> list[str]:
    """Data set and sizes in a few words each."""
    about = audit.about
    shown = [str(about["recipe"])] if isinstance(about.get("recipe"), str) else []
    for name, words in (
        ("num_examples", "test examples"),
        ("num_train_examples", "training examples"),
        ("num_classes", "classes"),
    ):
        if about.get(name):
            shown.append(f"{format_value(about[name], 'count')} {words}")
    if about.get("schemes"):
        shown.append(f"{len(about['schemes'])} schemes")
    return shown


def sentence_html(sentence: Sentence) -> Markup:
    """A sentence with its quotes and names marked up."""
    parts = []
    for part in sentence:
        if isinstance(part, str):
            parts.append(escape(part))
        elif isinstance(part, Quote):
            interval = Markup('<span class="interval">{}</span>').format(number_html(part.interval))
            value = Markup('<span class="value">{}</span>').format(number_html(part.value))
            parts.append(value + (interval if part.interval else ""))
        else:
            exact = Markup(' title="{}"').format(part.exact) if part.exact else ""
            parts.append(Markup('<span class="name"{}>{}</span>').format(exact, part.text))
    return Markup("").join(parts)


def number_html(text: str) -> str:
    """A formatted number with a true minus sign and a space that does not break before "%"."""
    return re.sub(r"(?<![\w.])-(?=[\d.∞])", "−", text).replace(" %", "\u202f%")


def _filled(
    template: Any, context: dict[str, Any], sections: list[Section], shown: dict[str, tuple[Gallery, ...]]
) -> str:
    return template.render(context, sections=[replace(s, galleries=shown[s.analysis]) for s in sections])


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("remnant.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["sentence"] = sentence_html
    environment.filters["number"] = number_html
    return environment


def _section(finding: Finding, labels: list[str], place: int) -> Section:
    name = f"analysis-{place + 1}"
    svg, note = picture(finding, prefix=f"{name}-picture")
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
        parameters=tuple((title(key), _value(value)) for key, value in finding.parameters.items()),
        cites=tuple(cites),
    )


def _shown_table(finding: Finding, name: str, id: str) -> ShownTable:
    frame = finding.tables[name]
    shown = tables.table(frame)
    pointer = "All digits:"
    if shown.shown < shown.rows or shown.hidden_columns:
        pointer = f"{shown.shown:,} of {shown.rows:,} rows"
        pointer += (
            f" and {len(shown.columns)} of {len(shown.columns) + shown.hidden_columns} columns"
            if shown.hidden_columns
            else ""
        )
        pointer += " are shown; all are in"
    heading = title(name if name != finding.analysis else finding.analysis)
    return ShownTable(id, heading, tables.file_stem(finding, name), pointer, shown)


def _shown_claim(claim: Claim, labels: list[str]) -> ShownClaim:
    interval = tables.ABSENT
    if claim.low is not None and claim.high is not None:
        interval = f"{format_value(claim.low, claim.scale)} to {format_value(claim.high, claim.scale)}"
    return ShownClaim(
        quantity=claim.quantity,
        title=title(claim.quantity),
        subject=claim.subject,
        on=scheme_name(claim.subject) if claim.subject in labels else claim.subject,
        estimate=format_value(claim.estimate, claim.scale),
        interval=interval,
        n=f"{claim.n:,} {claim.unit}{'s' if claim.n != 1 and claim.unit and not claim.unit.endswith('s') else ''}",
        method=with_scheme_phrases(claim.method, labels),
        source=_citation(claim.citation),
    )


def _citation(citation: str) -> Markup:
    known = references.bibliography()
    parts = []
    for key, rest in references.split(citation):
        if key in known:
            parts.append(Markup('<a href="#ref-{}">{}</a>{}').format(key, known[key].short, rest))
        else:
            parts.append(escape(key + rest))
    return Markup("; ").join(parts) if parts else Markup(tables.ABSENT)


def _references(audit: Audit) -> list[references.Reference]:
    used = [c for f in audit.findings for c in (*f.cites, *(claim.citation for claim in f.claims))]
    return references.cited(used)


def _about(audit: Audit) -> dict[str, Any]:
    about = {name: value for name, value in audit.about.items() if name != "schemes"}
    schemes: Mapping[str, Any] = audit.about.get("schemes") or {}
    columns = list(dict.fromkeys(name for counts in schemes.values() for name in _counts(counts)))
    rows = [
        (scheme_name(label), label, [f"{_counts(counts).get(name, 0):,}" for name in columns])
        for label, counts in schemes.items()
    ]
    return {
        "about": [(title(name.removeprefix("num_")), _value(value)) for name, value in about.items()],
        "schemes": rows,
        "scheme_columns": [title(name) for name in columns],
    }


def _counts(value: Any) -> dict[str, int]:
    """Numbers of trials of a scheme by what they trained on."""
    if isinstance(value, Mapping):
        return {str(name): int(number) for name, number in value.items()}
    numbers = value if isinstance(value, list | tuple) else [value]
    return {name: int(number) for name, number in zip(("trials", "on_subsets"), numbers, strict=False)}


def _value(value: Any) -> str:
    """A setting or a fact as text."""
    if isinstance(value, Mapping):
        return (
            "; ".join(f"{str(name).replace('_', ' ')} {_value(item)}" for name, item in value.items()) or tables.ABSENT
        )
    if isinstance(value, list | tuple):
        shown = ", ".join(_value(item) for item in value[:20])
        return f"{shown}, … ({len(value):,} in all)" if len(value) > 20 else shown or tables.ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return tables.ABSENT if value is None or value != value else str(value)


def _version(audit: Audit) -> str:
    versions = audit.about.get("versions")
    return str(versions.get("remnant", "")) if isinstance(versions, Mapping) else ""
