"""The first screen: what was forgotten, whether it is more than noise, who pays, in sentences that quote claims.

A sentence is a tuple of text, quotes and names. Text holds no digit; every number is a quote of a claim, so
that prose cannot say what no finding says.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from remnant.finding import Audit, Claim, format_value
from remnant.report.labels import scheme_name


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


@dataclass(frozen=True)
class Answer:
    """A question of the first screen with its answer."""

    question: str
    lead: Sentence
    """The answer in one sentence."""
    rest: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A cell of the overview: a value and, below it, what to hold it against."""

    value: str = ""
    note: str = ""


@dataclass(frozen=True)
class Overview:
    """One row for each scheme, dense first."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Name, tuple[Cell, ...]], ...]


@dataclass(frozen=True)
class Claims:
    """Claims of an audit by quantity and subject."""

    found: dict[tuple[str, str], Claim]
    schemes: tuple[str, ...]
    """Labels of the schemes, "dense" first."""

    def get(self, quantity: str, subject: str) -> Claim | None:
        """The claim, or None."""
        return self.found.get((quantity, subject))

    @property
    def compressed(self) -> tuple[str, ...]:
        """Labels of all schemes but "dense"."""
        return tuple(label for label in self.schemes if label != "dense")

    def ranked(self, quantity: str) -> list[tuple[str, Claim]]:
        """Compressed schemes and their claims on `quantity`, largest estimate first, equals in order of the audit."""
        claims = [(label, claim) for label in self.compressed if (claim := self.get(quantity, label))]
        return sorted(claims, key=lambda item: -item[1].estimate)


def claims_of(audit: Audit) -> Claims:
    """The claims of all findings; where two findings claim the same, the first."""
    found: dict[tuple[str, str], Claim] = {}
    for finding in audit.findings:
        for claim in finding.claims:
            found.setdefault((claim.quantity, claim.subject), claim)
    known = list(audit.about.get("schemes") or dict.fromkeys(s for _, s in found if s != "population"))
    return Claims(found, tuple(sorted(known, key=lambda label: label != "dense")))


def answers(audit: Audit) -> tuple[Answer, ...]:
    """The questions of the first screen with what the audit's claims say to each."""
    claims = claims_of(audit)
    parts = (
        ("What was forgotten?", _forgotten(claims), ("mismatches", "exemplars")),
        ("Is it more than noise?", _noise(claims), ("exemplars", "mismatches")),
        ("Who pays?", _payers(claims, audit), ("exemplars", "classes")),
        ("What is it good for?", _gain(claims), ("footprint",)),
    )
    return tuple(_answer(question, sentences, needs, audit) for question, sentences, needs in parts)


def more_than_noise(claims: Claims) -> dict[str, bool]:
    """For each scheme with a PIE count against chance, whether the count is more than chance explains.

    By the p-values of the schemes with Holm's correction for their number, at 0.05; where a scheme has
    no p-value, whether the interval of the excess lies above 0.

    References
    ----------
    holm1979simple
    """
    verdict = {}
    p_values = sorted(claims.ranked("pie_count_p"), key=lambda item: item[1].estimate)
    rejected = True
    for place, (label, claim) in enumerate(p_values):
        rejected = rejected and claim.estimate * (len(p_values) - place) <= 0.05
        verdict[label] = rejected
    for label, claim in claims.ranked("pie_excess"):
        if label not in verdict and claim.low is not None:
            verdict[label] = claim.low > 0
    return {label: verdict[label] for label in claims.compressed if label in verdict}


def plain(sentence: Sentence) -> str:
    """The sentence as plain text."""
    return "".join(
        part if isinstance(part, str) else part.text if isinstance(part, Name) else part.value + part.interval
        for part in sentence
    )


def overview(audit: Audit) -> Overview:
    """The table of the first screen: a row for each scheme; columns without any value are left out."""
    claims = claims_of(audit)
    verdict = more_than_noise(claims)
    columns = {
        "Accuracy": lambda label: _cell(claims.get("test_accuracy", label) or claims.get("accuracy_all", label)),
        "Right answers lost": lambda label: _cell(claims.get("cie_u_rate", label)),
        "PIEs": lambda label: _against_chance(claims, "pie_count", "pie_count_null", label, verdict.get(label)),
        "Significant classes": lambda label: _against_chance(
            claims, "significant_classes", "significant_classes_chance", label
        ),
        "Worst class": lambda label: _cell(claims.get("worst_class_change", label), worst_class(audit, label)),
        "Size": lambda label: _cell(claims.get("size_ratio", label)),
    }
    cells = {title: [show(label) for label in claims.schemes] for title, show in columns.items()}
    kept = [title for title, column in cells.items() if any(cell.value for cell in column)]
    rows = [
        (_scheme(label), tuple(cells[title][place] for title in kept)) for place, label in enumerate(claims.schemes)
    ]
    return Overview(tuple(kept), tuple(rows))


def _answer(question: str, sentences: list[Sentence | None], needs: Iterable[str], audit: Audit) -> Answer:
    said = [sentence for sentence in sentences if sentence]
    if said:
        return Answer(question, said[0], tuple(said[1:]))
    reasons = [(name, audit.not_run[name]) for name in needs if name in audit.not_run]
    if not reasons:
        return Answer(question, ("This audit holds no finding that answers it.",))
    return Answer(question, ("Not asked.",), tuple((Name(name), ": ", Name(reason)) for name, reason in reasons))


def _forgotten(claims: Claims) -> list[Sentence | None]:
    lost = claims.ranked("cie_u_rate")
    if not lost:
        return []
    label, claim = lost[0]
    sentences: list[Sentence | None] = [
        (_scheme(label), " loses the right answer on ", Quote(claim), " of the test examples."),
        _sentence(
            "Its answer differs from the dense model's, right or wrong, on ",
            claims.get("cie_rate", label),
            "; accuracy changes by ",
            claims.get("net_accuracy_change", label),
            ".",
        ),
    ]
    if len(lost) > 1:
        least, least_claim = lost[-1]
        sentences.append(("The mildest scheme, ", _scheme(least), ", loses ", Quote(least_claim), "."))
    return sentences


def _noise(claims: Claims) -> list[Sentence | None]:
    verdict = more_than_noise(claims)
    sentences: list[Sentence | None] = [_verdict(verdict)]
    shown = [label for label, _ in claims.ranked("pie_excess")] or [label for label, _ in claims.ranked("pie_count")]
    for label in shown[:1]:
        sentences += [
            _sentence(
                "Under ",
                _scheme(label),
                ", the models' most frequent answer differs from the dense models' on ",
                claims.get("pie_count", label),
                " examples (PIEs), where chance alone gives ",
                claims.get("pie_count_null", label),
                ".",
            ),
            _sentence(
                "That is an excess of ", claims.get("pie_excess", label), _p(claims.get("pie_count_p", label)), "."
            ),
        ]
    null = claims.get("cie_rate_null", "dense") or claims.get("cie_rate_null", "population")
    sentences.append(_sentence("Dense models that differ in their seed alone disagree on ", null, " of the examples."))
    return sentences


def _verdict(verdict: dict[str, bool]) -> Sentence | None:
    yes = [label for label, more in verdict.items() if more]
    no = [label for label, more in verdict.items() if not more]
    if not verdict:
        return None
    if not no and len(yes) == 1:
        return ("Yes: ", _scheme(yes[0]), " changes more answers than chance explains.")
    if not no:
        return ("Yes: every scheme changes more answers than chance explains.",)
    if not yes:
        return ("Not shown: no scheme changes more answers than chance explains.",)
    if len(yes) <= len(no):
        return ("Yes for ", *_list(yes), "; not shown for the other schemes.")
    return ("Yes, but it is not shown for ", *_list(no), ".")


def _payers(claims: Claims, audit: Audit) -> list[Sentence | None]:
    sentences: list[Sentence | None] = []
    count = claims.ranked("pie_count")
    label = next((label for label, _ in count if claims.get("accuracy_pie", label)), None)
    if label:
        on_pies, on_all = claims.get("accuracy_pie", label), claims.get("accuracy_all", label)
        hard = on_pies and on_all and on_pies.estimate < on_all.estimate
        sentences.append(
            _sentence(
                "Examples that were hard already: " if hard else "Not the hard examples: ",
                "on the PIEs of ",
                _scheme(label),
                " the dense models are right in ",
                on_pies,
                " of cases, on all examples in ",
                on_all,
                ".",
            )
        )
    return [*sentences, *_classes(claims, audit), *_long_tail(claims)]


def _classes(claims: Claims, audit: Audit) -> list[Sentence | None]:
    ranked = sorted(claims.ranked("worst_class_change"), key=lambda item: item[1].estimate)
    if not ranked:
        return []
    label, change = ranked[0]
    name = worst_class(audit, label)
    return [
        (
            "The class that loses most",
            *((", ", Name(name), ",") if name else ()),
            " changes by ",
            Quote(change),
            " under ",
            _scheme(label),
            ".",
        ),
        _sentence(
            "There, ",
            claims.get("significant_classes", label),
            " classes change significantly one by one, where chance alone gives ",
            claims.get("significant_classes_chance", label),
            ".",
        ),
        _sentence("After correction for many tests, the number is ", claims.get("significant_classes_q", label), "."),
    ]


def _long_tail(claims: Claims) -> list[Sentence | None]:
    tested = claims.ranked("long_tail_auc")
    if not tested:
        return []
    label, auc = tested[0]
    p = claims.get("long_tail_p", label)
    if p is None:
        return []
    more = auc.estimate > 0.5 and p.estimate <= 0.05
    link = (
        "depend more on single training examples than others do"
        if more
        else "are not shown to depend more on single training examples"
    )
    return [
        (
            "Examples whose answer ",
            _scheme(label),
            f" changes {link} (area under the curve ",
            Quote(auc),
            *_p(p),
            ").",
        )
    ]


def _gain(claims: Claims) -> list[Sentence | None]:
    sizes = claims.ranked("size_ratio")
    if not sizes:
        return []
    label, size = sizes[-1]
    return [
        ("The smallest, ", _scheme(label), ", takes ", Quote(size), " of the dense model's bytes."),
        _sentence("It needs ", claims.get("effective_flops_ratio", label), " of its operations."),
        _sentence("Measured here, it takes ", claims.get("latency_ratio", label), " of its time."),
    ]


def worst_class(audit: Audit, label: str) -> str:
    """The class that loses most under a scheme, or "" if the findings do not say."""
    return ""


def _scheme(label: str) -> Name:
    return Name(scheme_name(label), label)


def _sentence(*parts: str | Name | Claim | Sentence | None) -> Sentence | None:
    """A sentence from text and claims, or None if one of its claims is missing."""
    if any(part is None for part in parts):
        return None
    sentence: list[str | Quote | Name] = []
    for part in parts:
        if isinstance(part, Claim):
            sentence.append(Quote(part))
        elif isinstance(part, tuple):
            sentence += part
        elif part is not None:
            sentence.append(part)
    return tuple(sentence)


def _p(claim: Claim | None) -> Sentence:
    """ ", p = ..." to end a bracket or clause with; nothing without a claim."""
    if claim is None:
        return ()
    quote = Quote(claim)
    return (", p " if quote.value.startswith("<") else ", p = ", quote)


def _list(labels: list[str]) -> Sentence:
    """Names of schemes as "A, B and C"; "some schemes" of more than three."""
    if len(labels) > 3:
        return ("some schemes",)
    parts: list[str | Name] = []
    for place, label in enumerate(labels):
        if place:
            parts.append(" and " if place == len(labels) - 1 else "; ")
        parts.append(_scheme(label))
    return tuple(parts)


def _cell(claim: Claim | None, note: str = "") -> Cell:
    return Cell(format_value(claim.estimate, claim.scale), note) if claim else Cell()


def _against_chance(claims: Claims, quantity: str, null: str, label: str, more: bool | None = None) -> Cell:
    claim, chance = claims.get(quantity, label), claims.get(null, label)
    if claim is None:
        return Cell()
    note = f"chance {format_value(chance.estimate, chance.scale)}" if chance else ""
    if more is not None:
        note = f"{note}; {'more' if more else 'not more'} than noise".removeprefix("; ")
    return Cell(format_value(claim.estimate, claim.scale), note)
