"""The first screen: what was forgotten, whether it is more than noise, who pays, in sentences that quote claims."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from remnant.finding import Audit, Claim
from remnant.report import pairs
from remnant.report.labels import title
from remnant.report.prose import Name, Quote, Sentence, listed, p_value, scheme, sentence
from remnant.stats.multiplicity import holm

_UNANSWERED: Sentence = ("This audit holds no finding that answers it.",)


@dataclass(frozen=True)
class Answer:
    """A question of the first screen with its answer."""

    question: str
    lead: Sentence
    """The answer in one sentence."""
    rest: tuple[Sentence, ...] = ()


@dataclass(frozen=True)
class Claims:
    """Claims of an audit by quantity and subject."""

    found: dict[tuple[str, str], Claim]
    schemes: tuple[str, ...]
    """Labels of the schemes, the reference first."""
    reference: str = "dense"
    """Label of what the others are compared with."""
    floor: str = ""
    """Label of the reference run again, which is no compressed scheme."""

    def get(self, quantity: str, subject: str) -> Claim | None:
        """The claim, or None."""
        return self.found.get((quantity, subject))

    @property
    def compressed(self) -> tuple[str, ...]:
        """Labels of all schemes but the reference, and the reference run again."""
        return tuple(label for label in self.schemes if label not in (self.reference, self.floor))

    def of_strongest(self, quantity: str) -> tuple[str, Claim] | None:
        """The claim on `quantity` of the scheme that loses most right answers, among those that have one.

        The first screen speaks of the same scheme in all its sentences, and no test is quoted for its result.
        """
        order = self.ranked("cie_u_rate") or self.ranked(quantity)
        return next(((label, claim) for label, _ in order if (claim := self.get(quantity, label))), None)

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
    reference = audit.reference
    return Claims(
        found, tuple(sorted(known, key=lambda label: label != reference)), reference, str(audit.about.get("floor", ""))
    )


def answers(audit: Audit) -> tuple[Answer, ...]:
    """The questions of the first screen with what the audit's claims say to each.

    A question that no claim answers says which analyses were not run and why; the last one is left out then. Where
    none of them was asked, one answer says what was.
    """
    claims = claims_of(audit)
    found = [_answer("What was forgotten?", _forgotten(claims), ("mismatches", "exemplars"), audit)]
    if _pair_without_labels(claims):
        found.append(Answer("Is it as accurate as before, and who pays?", pairs.NO_LABELS[0], pairs.NO_LABELS[1:]))
    else:
        needs = ("exemplars", "classes", "slices", "long_tail")
        found += [*_noise_and_accuracy(claims, audit), _answer("Who pays?", _payers(claims, audit), needs, audit)]
    if all(answer.lead == _UNANSWERED for answer in found):
        asked = ", ".join(title(finding.analysis) for finding in audit.findings) or "Nothing"
        found = [Answer("What was asked?", (f"{asked}; not what was forgotten, nor who pays.",))]
    saved = [said for said in _saved(claims) if said]
    if saved:
        found.append(Answer("What does it save?", saved[0], tuple(saved[1:])))
    return tuple(found)


def _pair_without_labels(claims: Claims) -> bool:
    """One model a side, compared by a reference of its own, and no true classes."""
    made_elsewhere = claims.reference != "dense"
    return (
        made_elsewhere
        and not any(claims.ranked(name) for name in ("cie_u_rate", "pie_count"))
        and bool(claims.ranked("cie_rate"))
    )


def _noise_and_accuracy(claims: Claims, audit: Audit) -> list[Answer]:
    """Populations can tell compression from chance; models made elsewhere have a margin to hold accuracy against."""
    tested = [label for label, _ in claims.ranked("cie_u_rate")]
    single = not claims.ranked("pie_count")
    noise = _answer("Is it more than noise?", _noise(claims, audit), ("exemplars", "mismatches"), audit)
    said = pairs.accuracy(claims.found, tested, claims.reference, single=single)
    if not said or (claims.reference == "dense" and not single):
        return [noise]
    accuracy = _answer("Is it as accurate as before?", said, (), audit)
    return [accuracy] if single else [noise, accuracy]


def more_than_noise(claims: Claims) -> dict[str, bool]:
    """For each scheme with a PIE count against chance, whether the count is more than chance explains.

    By the p-values of the schemes with Holm's correction for their number, at 0.05, or by single PIEs that are
    confirmed at a false-discovery rate of 5 %; where a scheme has no p-value, whether the interval of the excess
    lies above 0.

    References
    ----------
    holm1979simple
    """
    tested = claims.ranked("pie_count_p")
    adjusted = holm([claim.estimate for _, claim in tested])
    verdict = {label: bool(p <= 0.05) for (label, _), p in zip(tested, adjusted, strict=True)}
    for label, claim in claims.ranked("pie_excess"):
        if label not in verdict and claim.low is not None:
            verdict[label] = claim.low > 0
    for label, claim in claims.ranked("pie_confirmed"):
        verdict[label] = verdict.get(label, False) or claim.estimate > 0
    return {label: verdict[label] for label in claims.compressed if label in verdict}


def level_of(audit: Audit, claim: Claim | None, column: str) -> str:
    """The class or "attribute = level" whose row holds the claim's number in a table of its scheme; "" if none does."""
    if claim is None:
        return ""
    for finding in audit.findings:
        if not any(claim is other for other in finding.claims):
            continue
        for table in finding.tables.values():
            if not {"scheme", column} <= set(table.columns):
                continue
            rows: Any = table[table["scheme"] == claim.subject]
            numbers = rows.select_dtypes("number").to_numpy(float)
            found = np.flatnonzero(np.isclose(numbers, claim.estimate, rtol=1e-9, atol=1e-12).any(axis=1))
            if len(found) == 1:
                name = str(rows[column].iloc[found[0]])
                return f"{rows['attribute'].iloc[found[0]]} = {name}" if "attribute" in rows else name
    return ""


def _answer(question: str, sentences: list[Sentence | None], needs: tuple[str, ...], audit: Audit) -> Answer:
    said = [one for one in sentences if one]
    if said:
        return Answer(question, said[0], tuple(said[1:]))
    reasons = [audit.not_run[name] for name in needs if name in audit.not_run]
    if not reasons:
        return Answer(question, _UNANSWERED)
    return Answer(question, ("It was not asked.",), tuple((Name(reason),) for reason in dict.fromkeys(reasons)))


def _forgotten(claims: Claims) -> list[Sentence | None]:
    lost = claims.ranked("cie_u_rate")
    if not lost:
        return [
            (scheme(label, first=True), " answers otherwise than ", scheme(claims.reference), " on ", Quote(rate), ".")
            for label, rate in claims.ranked("cie_rate")[:1]
        ]
    label, claim = lost[0]
    sentences = [
        (scheme(label, first=True), " loses the right answer on ", Quote(claim), " of the test examples."),
        sentence(
            "It gains one on ",
            claims.get("cie_c_rate", label),
            "; net, accuracy changes by ",
            claims.get("net_accuracy_change", label),
            ".",
        ),
    ]
    if len(lost) > 1:
        least, least_claim = lost[-1]
        sentences.append(("The mildest, ", scheme(least), ", loses ", Quote(least_claim), "."))
    return sentences


ENOUGH = 8
"""Models a side from which rearranged pairs can show an effect after correction for five schemes: the smallest
p-value of n exchangeable pairs is 2 / 2**n."""


def _noise(claims: Claims, audit: Audit) -> list[Sentence | None]:
    verdict = more_than_noise(claims)
    counts = [audit.about.get("schemes", {}).get(label) for label, more in verdict.items() if not more]
    too_few = any(isinstance(count, dict) and count.get("whole", ENOUGH) < ENOUGH for count in counts)
    sentences: list[Sentence | None] = [_verdict(verdict)]
    if too_few and not any(verdict.values()):
        sentences = [("There are too few models to tell: train more seeds.",)]
    if found := claims.of_strongest("pie_count"):
        label, count = found
        sentences += [
            sentence(
                "Under ",
                scheme(label),
                ", the most frequent answer of the models changes on ",
                count,
                " example (a PIE)" if count.estimate == 1 else " examples (PIEs)",
                ", where chance gives ",
                _bare(claims.get("pie_count_null", label)),
                ".",
            ),
            sentence("The excess is ", claims.get("pie_excess", label), p_value(claims.get("pie_count_p", label)), "."),
        ]
    if found := claims.of_strongest("cie_rate"):
        label, rate = found
        sentences.append(
            sentence(
                f"Two {_models(claims)} of different seeds disagree on ",
                claims.get("cie_rate_null", claims.reference),
                " of the examples; one of them and its counterpart under ",
                scheme(label),
                " on ",
                rate,
                ".",
            )
        )
    return sentences


def _models(claims: Claims) -> str:
    return "dense models" if claims.reference == "dense" else "models of the reference"


def _bare(claim: Claim | None) -> Sentence | None:
    """A claim without its range, which for a number by chance is no interval of an estimate."""
    return (Quote(claim, False),) if claim else None


def _verdict(verdict: dict[str, bool]) -> Sentence | None:
    yes = [label for label, more in verdict.items() if more]
    no = [label for label, more in verdict.items() if not more]
    if not verdict:
        return None
    if not no and len(yes) == 1:
        return ("Yes: ", scheme(yes[0]), " changes more than chance does.")
    if not no:
        return ("Yes: every scheme changes more than chance does.",)
    if not yes and len(no) == 1:
        return ("Not shown: ", scheme(no[0]), " changes no more than chance can.")
    if not yes:
        return ("Not shown: no scheme changes more than chance can.",)
    if len(yes) > 3 and len(no) > 3:
        return ("Yes for some schemes, not for others: the table below marks which.",)
    if len(yes) <= len(no):
        return ("Yes for ", *listed(yes), "; it is not shown for the others.")
    return ("Yes, except that it is not shown for ", *listed(no), ".")


def _payers(claims: Claims, audit: Audit) -> list[Sentence | None]:
    sentences: list[Sentence | None] = []
    found = claims.of_strongest("accuracy_pie")
    on_all = claims.get("accuracy_all", found[0]) if found else None
    if found and on_all:
        label, on_pies = found
        hard = on_pies.estimate < on_all.estimate
        models = _models(claims)
        start = f"Examples that are hard for {models} too" if hard else "Not the examples that are hard already"
        sentences += [
            (
                f"{start}: {models} are right on ",
                Quote(on_pies, False),
                " of the PIEs of ",
                scheme(label),
                ", on ",
                Quote(on_all, False),
                " of all examples.",
            ),
            _chance_pies(on_pies, claims.get("accuracy_pie_null", label)),
        ]
    losers = _losers(claims, audit)
    if not losers:
        losers = [said for label, _ in claims.ranked("cie_u_rate")[:1] for said in pairs.payers(claims.found, label)]
    return [*sentences, *losers, *_tested(claims), *_long_tail(claims)]


def _chance_pies(on_pies: Claim, by_chance: Claim | None) -> Sentence | None:
    if by_chance is None:
        return None
    end = "." if by_chance.estimate > on_pies.estimate else ": that PIEs are hard is no sign of compression by itself."
    return ("On PIEs that chance makes, it is ", Quote(by_chance), end)


def _losers(claims: Claims, audit: Audit) -> list[Sentence | None]:
    """The class and the group that lose most, as shares of what dense models get right there."""
    sentences: list[Sentence | None] = []
    said = None
    for kind, quantity, column in (
        ("class", "worst_class_change", "class"),
        ("group", "worst_group_change", "level"),
    ):
        ranked = claims.ranked(quantity)
        if not ranked:
            continue
        label, change = min(ranked, key=lambda item: item[1].estimate)
        name = level_of(audit, change, column)
        where: Sentence = (f"the worst {kind}, ", Name(name)) if name else (f"the worst {kind}",)
        if label == said:
            sentences.append(("On ", *where, ", they change by ", Quote(change), "."))
        else:
            start = ("Under ", scheme(label), ", the right answers on ")
            sentences.append((*start, *where, ", change by ", Quote(change), " of their number."))
        said = label
    return sentences


def _tested(claims: Claims) -> list[Sentence | None]:
    found = claims.of_strongest("significant_classes")
    if not found:
        return []
    label, count = found
    return [
        sentence(
            "Tested one by one, ",
            count,
            " class changes otherwise under " if count.estimate == 1 else " classes change otherwise under ",
            scheme(label),
            " than accuracy as a whole, where chance gives ",
            _bare(claims.get("significant_classes_chance", label)),
            "; corrected for many tests, the number is ",
            claims.get("significant_classes_q", label),
            ".",
        )
    ]


def _long_tail(claims: Claims) -> list[Sentence | None]:
    found = claims.of_strongest("long_tail_auc")
    p = claims.get("long_tail_p", found[0]) if found else None
    if not found or not p:
        return []
    label, auc = found
    depend = "are not shown to depend more"
    if p.estimate <= 0.05:
        depend = f"depend {'more' if auc.estimate > 0.5 else 'less'}"
    how = f" changes {depend} on single training examples than others of the same difficulty do (area under the curve "
    return [("The examples that ", scheme(label), how, Quote(auc), *p_value(p), ").")]


def _reference_model(claims: Claims) -> str:
    return "dense model" if claims.reference == "dense" else "reference"


def _saved(claims: Claims) -> list[Sentence | None]:
    for label, size in claims.ranked("size_ratio")[:1]:
        if size.estimate <= 1:
            return [(f"No scheme takes fewer bytes than the {_reference_model(claims)}.",)]
        start = f"The {_reference_model(claims)} takes "
        sentences: list[Sentence | None] = [
            (start, Quote(size), " times the bytes of ", scheme(label), ", the smallest scheme.")
        ]
        operations, time = claims.get("effective_flops_ratio", label), claims.get("latency_ratio", label)
        sentences.append(
            sentence("It needs ", operations, " times as many operations, weights that are zero left out.")
        )
        sentences.append(sentence("Measured here, it takes ", time, " times as long."))
        return sentences
    return []
