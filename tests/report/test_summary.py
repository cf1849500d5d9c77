import re
from dataclasses import replace

import pytest

from remnant.finding import Audit, Finding
from remnant.report.summary import Name, answers, claims_of, more_than_noise, overview, plain
from tests.report import synthetic
from tests.report.synthetic import PRUNED, claim

NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def audit_of(*claims, tables=None, schemes=("dense", "a(x=1)", "b", "c"), not_run=None):
    finding = Finding("exemplars", "?", {}, claims, tables or {})
    return Audit((finding,), not_run or {}, {"schemes": {label: {"whole": 3} for label in schemes}})


def numbers_that_no_claim_makes(audit):
    """Numbers of the first screen outside of names that are in the text of no claim."""
    made = {n for finding in audit.findings for c in finding.claims for n in NUMBER.findall(c.text())}
    said = []
    for answer in answers(audit):
        for sentence in (answer.lead, *answer.rest):
            said += NUMBER.findall(plain(tuple(part for part in sentence if not isinstance(part, Name))))
    return said, [number for number in said if number not in made]


def test_every_number_of_the_first_screen_is_a_claims():
    said, invented = numbers_that_no_claim_makes(synthetic.audit())
    assert len(said) > 20
    assert not invented


def test_text_between_quotes_holds_no_digit():
    for answer in answers(synthetic.audit()):
        for sentence in (answer.lead, *answer.rest):
            assert not any(re.search(r"\d", part) for part in sentence if isinstance(part, str))


def test_every_sentence_ends_and_begins_as_one():
    for answer in answers(synthetic.audit()):
        for sentence in (answer.lead, *answer.rest):
            text = plain(sentence)
            assert text.endswith(".")
            assert text[0].isupper()
            assert "  " not in text
