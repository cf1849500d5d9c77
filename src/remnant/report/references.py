"""The bibliography of remnant: refs.bib in this folder, which the documentation shows too."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from string import ascii_lowercase


@dataclass(frozen=True)
class Reference:
    """One entry of the bibliography."""

    key: str
    authors: tuple[str, ...]
    """Surnames."""
    year: str
    title: str
    venue: str
    url: str
    """Where it can be read; "" if nowhere."""
    letter: str = ""
    """Tells entries of the same authors and year apart."""

    @property
    def short(self) -> str:
        """Authors and year, such as "Hooker et al. (2019)"."""
        names = self.authors
        who = f"{names[0]} et al." if len(names) > 2 else " & ".join(names)
        return f"{who} ({self.year}{self.letter})"

    @property
    def long(self) -> str:
        """The whole entry in one line, without its address."""
        *first, last = self.authors
        who = f"{', '.join(first)} & {last}" if first else last
        end = "" if self.title.endswith(("?", "!")) else "."
        venue = f" {self.venue}." if self.venue else ""
        return f"{who} ({self.year}{self.letter}). {self.title}{end}{venue}"


@cache
def bibliography() -> Mapping[str, Reference]:
    """All entries of refs.bib, by key."""
    return parse(files("remnant.report").joinpath("refs.bib").read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Reference]:
    """Entries of a BibTeX file by key; values in braces, no macros, text in UTF-8 rather than LaTeX.

    Raises
    ------
    ValueError
        If an entry has no author, title or year, or a key comes twice.
    """
    found: dict[str, Reference] = {}
    for key, fields in _entries(text):
        if key in found:
            raise ValueError(f"Expected each key of the bibliography once, but {key!r} comes twice.")
        if absent := {"author", "title", "year"} - set(fields):
            raise ValueError(f"Expected the entry {key!r} to have {sorted(absent)}, but they are missing.")
        authors = tuple(_surname(name) for name in fields["author"].split(" and "))
        venue = next((fields[name] for name in ("journal", "booktitle", "publisher", "note") if name in fields), "")
        url = fields.get("url") or (f"https://doi.org/{fields['doi']}" if "doi" in fields else "")
        found[key] = Reference(key, authors, fields["year"], fields["title"], venue, url)
    same = Counter(reference.short for reference in found.values())
    for short in (short for short, count in same.items() if count > 1):
        keys = sorted(key for key, reference in found.items() if reference.short == short)
        found |= {key: replace(found[key], letter=letter) for key, letter in zip(keys, ascii_lowercase, strict=False)}
    return found


def split(citation: str) -> list[tuple[str, str]]:
    """Keys of a citation with what follows each: "a2019b, eq. 1; c2020d" is [("a2019b", ", eq. 1"), ("c2020d", "")]."""
    parts = [part.strip() for part in citation.split(";")]
    return [(match[0], part[match.end() :]) for part in parts if (match := re.match(r"[\w-]+", part))]


def readable(citation: str) -> str:
    """A citation with authors and years for keys; a key that is not in the bibliography stays as it is."""
    known = bibliography()
    return "; ".join((known[key].short if key in known else key) + rest for key, rest in split(citation))


def cited(citations: Iterable[str]) -> list[Reference]:
    """The entries behind many citations, in order of authors and year, each once."""
    keys = {key for citation in citations for key, _ in split(citation)}
    known = bibliography()
    return sorted((known[key] for key in keys if key in known), key=lambda ref: (ref.authors, ref.year, ref.letter))


def _entries(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    for match in re.finditer(r"^@\w+\{([^,\s]+),", text, re.MULTILINE):
        fields = {}
        position = match.end()
        while field := re.compile(r"\s*(\w+)\s*=\s*\{").match(text, position):
            end = _closing(text, field.end())
            fields[field[1].lower()] = " ".join(re.sub(r"[{}]", "", text[field.end() : end]).split())
            position = end + 1
            if text[position : position + 1] == ",":
                position += 1
        yield match[1], fields


def _closing(text: str, start: int) -> int:
    """Position of the brace that closes the one before `start`."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ValueError(f"Expected a closing brace in the bibliography after {text[start : start + 40]!r}.")


def _surname(name: str) -> str:
    last, comma, _ = name.partition(",")
    return last.strip() if comma else name.split()[-1]
