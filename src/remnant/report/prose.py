"""Sentences that quote claims.

A sentence is a tuple of text, quotes and names. Text holds no digit; every number is a quote of a claim, so
that prose cannot say what no finding says.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from remnant.finding import Claim, format_value
from remnant.report.labels import scheme_name, scheme_phrase


@dataclass(frozen=True)
class Quote:
    """A claim's value in a sentence."""

    claim: Claim
    with_interval: bool = True

    @property
    def value(self) -> str:
        """The estimate as claims print it."""
        return format_value(self.claim.estimate, self.claim.scale)

    @property
    def interval(self) -> str:
        """The interval in brackets with a space before, or ""."""
        return self.claim.text().removeprefix(self.value) if self.with_interval else ""


@dataclass(frozen=True)
class Name:
    """A name in a sentence: of a scheme, a class or a group."""

    text: str
    exact: str = ""
    """What it is called in tables, where that differs."""


Sentence = tuple[str | Quote | Name, ...]


def plain(sentence: Sentence) -> str:
    """The sentence as plain text."""
    return "".join(
        part if isinstance(part, str) else part.text if isinstance(part, Name) else part.value + part.interval
        for part in sentence
    )


def scheme(label: str, *, first: bool = False) -> Name:
    """The name of a scheme inside of a sentence, or as its `first` words; names that users gave stay as they are."""
    phrase = scheme_phrase(label)
    is_given = scheme_name(label) == label
    return Name(phrase[:1].upper() + phrase[1:] if first and not is_given else phrase, label)


def sentence(*parts: str | Name | Claim | Sentence | None) -> Sentence | None:
    """A sentence from text and claims, or None if one of its claims is missing."""
    said: list[str | Quote | Name] = []
    for part in parts:
        if part is None:
            return None
        said += part if isinstance(part, tuple) else [Quote(part) if isinstance(part, Claim) else part]
    return tuple(said)


def p_value(claim: Claim | None) -> Sentence:
    """The end of a clause with a p-value, such as ", p = 0.0010"; nothing without a claim."""
    if claim is None:
        return ()
    quote = Quote(claim)
    return (", p " if quote.value.startswith("<") else ", p = ", quote)


def listed(labels: Sequence[str]) -> Sentence:
    """Names of schemes as "A, B and C"; with semicolons where names have commas."""
    names = [scheme(label) for label in labels]
    comma = "; " if any("," in name.text for name in names) else ", "
    parts: list[str | Name] = []
    for place, name in enumerate(names):
        if place:
            parts.append(" and " if place == len(names) - 1 else comma)
        parts.append(name)
    return tuple(parts)
