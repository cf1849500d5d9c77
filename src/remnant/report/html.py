"""One self-contained HTML page from an audit: no scripts, no network."""

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from remnant.finding import Audit, format_value
from remnant.report import references
from remnant.report.characters import visible
from remnant.report.galleries import Gallery, Thumbnails, galleries
from remnant.report.labels import scheme_name, title, with_scheme_phrases
from remnant.report.overview import overview
from remnant.report.prose import Quote, Sentence
from remnant.report.sections import Section, section, value_text
from remnant.report.summary import answers

MOST_BYTES = 5_000_000
"""Largest page."""
_IMAGE_BYTES = 3_000_000
_MARGIN_BYTES = 200_000
"""Left free for the tags and alternative texts around images."""
_FIRST_EXHIBITS = 12
_FEW_SIDES = 3
"""So many compressed sides are named at the head of the page."""


def render(audit: Audit, thumbnails: Thumbnails | None = None, *, heading: str | None = None) -> str:
    """The page: first screen, one section for each finding, how the audit was made.

    Images share what the rest of the page leaves of `MOST_BYTES`, at most 3 MB.
    """
    labels = list(audit.about.get("schemes") or {})
    sections = [section(finding, labels, place) for place, finding in enumerate(audit.findings)]
    context = {
        "title": heading or default_title(audit),
        "css": Markup(files("remnant.report").joinpath("style.css").read_text(encoding="utf-8")),
        "facts": facts(audit),
        "answers": answers(audit),
        "overview": overview(audit),
        "damaged": len(audit.about.get("damaged") or {}),
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


def excerpt(audit: Audit) -> str:
    """The first screen as a fragment for a notebook: the answers and the table, with styles of its own."""
    template = _environment().get_template("excerpt.html.j2")
    return visible(
        template.render(
            title=default_title(audit), facts=facts(audit), answers=answers(audit), overview=overview(audit)
        )
    )


def default_title(audit: Audit) -> str:
    """The title of a report."""
    dataset = audit.about.get("dataset")
    return f"What compression forgot: {dataset}" if dataset else "What compression forgot"


def facts(audit: Audit) -> list[str]:
    """Data set and sizes in a few words each."""
    about = audit.about
    recipe = about.get("recipe")
    architecture = recipe.get("architecture") if isinstance(recipe, Mapping) else recipe
    shown = [str(architecture)] if architecture else []
    for name, words in (
        ("num_examples", "test examples"),
        ("num_train_examples", "training examples"),
        ("num_classes", "classes"),
    ):
        if about.get(name):
            shown.append(f"{format_value(about[name], 'count')} {words}")
    if about.get("schemes"):
        shown.append(_compared(audit))
    return shown


def _compared(audit: Audit) -> str:
    """How many schemes there are; of sides made elsewhere their names."""
    schemes = audit.about["schemes"]
    others = [label for label in schemes if label not in (audit.reference, audit.about.get("floor"))]
    if "inputs" not in audit.about or not 0 < len(others) <= _FEW_SIDES:
        return f"{len(schemes)} schemes"
    return f"{', '.join(others)} against {audit.reference}"


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
    return visible(template.render(context, sections=[replace(s, galleries=shown[s.analysis]) for s in sections]))


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
        "about": [_fact(name, value) for name, value in about.items()],
        "schemes": rows,
        "scheme_columns": [title(name) for name in columns],
    }


def _fact(name: str, value: Any) -> tuple[str, str]:
    if name.startswith("num_") and isinstance(value, int):
        return f"Number of {name.removeprefix('num_').replace('_', ' ')}", format_value(value, "count")
    return title(name), value_text(value)


def _counts(value: Any) -> dict[str, int]:
    """Numbers of trials of a scheme by what they trained on."""
    if isinstance(value, Mapping):
        return {str(name): int(number) for name, number in value.items()}
    numbers = value if isinstance(value, list | tuple) else [value]
    return {name: int(number) for name, number in zip(("trials", "on_subsets"), numbers, strict=False)}


def _version(audit: Audit) -> str:
    versions = audit.about.get("versions")
    return str(versions.get("remnant", "")) if isinstance(versions, Mapping) else ""
