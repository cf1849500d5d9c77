import re
from dataclasses import replace

import pandas as pd
import pytest

from remnant.finding import Audit, Finding
from remnant.report.overview import Cell, overview
from remnant.report.prose import Name, listed, plain
from remnant.report.summary import answers, claims_of, level_of, more_than_noise
from tests.report import synthetic
from tests.report.synthetic import PRUNED, claim

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
LABELS = ("dense", "a(sparsity=0.1)", "b", "c")


def audit_of(*claims, tables=None, not_run=None, schemes=LABELS):
    finding = Finding("exemplars", "?", {}, claims, tables or {})
    return Audit((finding,), not_run or {}, {"schemes": {label: {"whole": 30} for label in schemes}})


def sentences(audit):
    return [sentence for answer in answers(audit) for sentence in (answer.lead, *answer.rest)]


def text(audit):
    return " ".join(map(plain, sentences(audit)))


def numbers(audit):
    """Numbers that the first screen prints outside of names, and those of them that no claim prints."""
    made = {number for f in audit.findings for c in f.claims for number in NUMBER.findall(c.text())}
    said = [NUMBER.findall(plain(tuple(p for p in s if not isinstance(p, Name)))) for s in sentences(audit)]
    said = [number for found in said for number in found]
    return said, [number for number in said if number not in made]


def test_every_number_of_the_first_screen_is_one_of_a_claim():
    said, invented = numbers(synthetic.audit())
    assert len(said) > 20
    assert not invented


def test_text_between_quotes_holds_no_digit():
    assert not [p for s in sentences(synthetic.audit()) for p in s if isinstance(p, str) and re.search(r"\d", p)]


def test_every_sentence_begins_and_ends_as_one():
    for sentence in map(plain, sentences(synthetic.audit())):
        assert re.fullmatch(r"[A-Z].*\.", sentence), sentence
        assert "  " not in sentence


def test_the_first_screen_speaks_of_the_scheme_that_loses_most():
    audit = audit_of(claim("cie_u_rate", "b", 0.01, scale="share"), claim("cie_u_rate", LABELS[1], 0.02, scale="share"))
    assert "A at sparsity 0.1 loses the right answer on 2.00 % of the test examples." in text(audit)
    assert "The mildest, b, loses 1.00 %." in text(audit)


def test_a_sentence_without_its_claims_is_left_out():
    assert "accuracy" not in text(audit_of(claim("cie_u_rate", "b", 0.01, scale="share"))).lower()
    assert "excess" not in text(audit_of(claim("pie_count", "b", 3), claim("pie_count_p", "b", 0.1, scale="p")))


def test_questions_without_claims_say_what_was_not_run():
    found = answers(audit_of(not_run={"exemplars": "Needs two models.", "classes": "Needs labels."}))
    assert [answer.question for answer in found] == ["What was forgotten?", "Is it more than noise?", "Who pays?"]
    assert [plain(answer.lead) for answer in found] == ["It was not asked."] * 3
    assert [plain(s) for s in found[2].rest] == ["Needs two models.", "Needs labels."]


def test_an_audit_of_something_else_says_of_what():
    [answer] = answers(audit_of())
    assert answer.question == "What was asked?"
    assert plain(answer.lead) == "Exemplars; not what was forgotten, nor who pays."
    assert plain(answers(Audit((), {}, audit_of().about))[0].lead).startswith("Nothing; ")
    lost = audit_of(claim("cie_u_rate", "b", 0.01, scale="share"))
    assert plain(answers(lost)[2].lead) == "This audit holds no finding that answers it."


def test_p_values_are_corrected_for_the_number_of_schemes():
    """Holm by hand: 0.01 <= 0.05 / 3, 0.02 <= 0.05 / 2, 0.06 > 0.05."""
    p = {"a(sparsity=0.1)": 0.02, "b": 0.01, "c": 0.06}
    audit = audit_of(*(claim("pie_count_p", label, value, scale="p") for label, value in p.items()))
    assert more_than_noise(claims_of(audit)) == {"a(sparsity=0.1)": True, "b": True, "c": False}
    p = {"a(sparsity=0.1)": 0.03, "b": 0.03, "c": 0.04}
    audit = audit_of(*(claim("pie_count_p", label, value, scale="p") for label, value in p.items()))
    assert not any(more_than_noise(claims_of(audit)).values())


def test_the_verdict_is_that_of_multipletests():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p = [0.001, 0.013, 0.014, 0.19, 0.03]
    labels = [f"s{i}" for i in range(len(p))]
    audit = audit_of(
        *(claim("pie_count_p", label, value, scale="p") for label, value in zip(labels, p, strict=True)),
        schemes=("dense", *labels),
    )
    expected = multipletests(p, alpha=0.05, method="holm")[0].tolist()
    assert list(more_than_noise(claims_of(audit)).values()) == expected
    assert 0 < sum(expected) < len(p)


def test_without_a_p_value_the_interval_of_the_excess_decides():
    audit = audit_of(claim("pie_excess", "b", 3, 1, 5), claim("pie_excess", "c", 3, -1, 7), claim("pie_excess", "a", 1))
    assert more_than_noise(claims_of(audit)) == {"b": True, "c": False}


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ({"b": 0.01}, "Yes: b changes more than chance does."),
        ({"b": 0.5}, "Not shown: b changes no more than chance can."),
        ({"b": 0.001, "c": 0.002}, "Yes: every scheme changes more than chance does."),
        ({"b": 0.3, "c": 0.4}, "Not shown: no scheme changes more than chance can."),
        ({"b": 0.001, "c": 0.4}, "Yes for b; it is not shown for the others."),
        ({LABELS[1]: 0.001, "b": 0.001, "c": 0.4}, "Yes, except that it is not shown for c."),
    ],
)
def test_the_verdict_in_words(p, expected):
    audit = audit_of(*(claim("pie_count_p", label, value, scale="p") for label, value in p.items()))
    assert plain(answers(audit)[1].lead) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b"], "b"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (["float16 + dynamic-int8", "b", "c"], "float16, then dynamic int8; b and c"),
    ],
)
def test_schemes_are_listed(labels, expected):
    assert plain(listed(labels)) == expected


def test_many_schemes_of_both_kinds_are_not_listed():
    labels = [f"s{i}" for i in range(8)]
    claims = [claim("pie_count_p", label, 1e-5 if i % 2 else 0.9, scale="p") for i, label in enumerate(labels)]
    assert "the table below marks which" in text(audit_of(*claims, schemes=("dense", *labels)))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, "1 class changes"), (0, "0 classes change"), (2, "2 classes change")]
)
def test_one_is_not_a_plural(count, expected):
    quantities = {"significant_classes": count, "significant_classes_chance": 0.5, "significant_classes_q": 0}
    claims = [claim(quantity, "b", value) for quantity, value in quantities.items()]
    claims += [claim("pie_count", "b", count), claim("pie_count_null", "b", 3.5)]
    said = text(audit_of(*claims))
    assert expected in said
    assert ("1 example (a PIE)" if count == 1 else f"{count} examples (PIEs)") in said


def test_hard_examples_are_only_called_so_when_they_are():
    for on_pies, start in ((0.4, "Examples that are hard"), (0.95, "Not the examples that are hard")):
        claims = (
            claim("pie_count", "b", 5),
            claim("accuracy_pie", "b", on_pies, scale="share"),
            claim("accuracy_all", "b", 0.9, scale="share"),
        )
        assert plain(answers(audit_of(*claims))[2].lead).startswith(start)


@pytest.mark.parametrize(
    ("auc", "p", "expected"),
    [(0.7, 0.01, "depend more on"), (0.3, 0.01, "depend less on"), (0.7, 0.2, "are not shown to depend more on")],
)
def test_the_long_tail_is_told_as_tested(auc, p, expected):
    audit = audit_of(claim("long_tail_auc", "b", auc, scale="number"), claim("long_tail_p", "b", p, scale="p"))
    assert expected in text(audit)


def test_a_class_is_named_by_the_row_that_holds_its_claim():
    table = pd.DataFrame({"scheme": ["b", "b", "c"], "class": ["x", "y", "x"], "change": [-0.1, -0.05, -0.1]})
    worst = claim("worst_class_change", "b", -0.1, scale="share")
    assert level_of(audit_of(worst, tables={"t": table}), worst, "class") == "x"
    tied = pd.DataFrame({"scheme": ["b", "b"], "class": ["x", "y"], "change": [-0.1, -0.1]})
    assert level_of(audit_of(worst, tables={"t": tied}), worst, "class") == ""
    assert level_of(audit_of(worst), worst, "class") == ""
    assert "Under b, the right answers on the worst class, x, change by -10.00 % of their number." in text(
        audit_of(worst, tables={"t": table})
    )


def test_the_overview_has_a_row_for_each_scheme_and_no_empty_column():
    found = overview(synthetic.audit())
    assert [name.text for name, _ in found.rows][:2] == ["Dense", "Magnitude pruning, sparsity 0.9"]
    assert "Times smaller" not in found.columns
    row = dict(zip(found.columns, found.rows[1][1], strict=True))
    assert row["PIEs"] == Cell("60", "chance 19.5\nmore than noise")
    assert row["Worst class, relative change"] == Cell("-5.00 %", "cat")
    assert dict(zip(found.columns, found.rows[0][1], strict=True))["Accuracy"] == Cell("93.21 %")


def test_an_audit_without_claims_has_no_overview():
    assert overview(audit_of()).columns == ()


def test_exact_labels_stay_with_the_names():
    assert Name("magnitude pruning at sparsity 0.9", PRUNED) in [p for s in sentences(synthetic.audit()) for p in s]


@pytest.mark.parametrize(("models", "expected"), [(7, "too few models to tell"), (8, "no more than chance can")])
def test_with_few_models_no_effect_is_not_called_none(models, expected):
    made = audit_of(claim("pie_count", "b", 3), claim("pie_count_p", "b", 0.5, scale="p"))
    made = replace(made, about={"schemes": {"dense": {"whole": models}, "b": {"whole": models}}})
    assert expected in plain(answers(made)[1].lead)


def test_a_confirmed_pie_is_more_than_noise():
    made = audit_of(claim("pie_count_p", "b", 0.5, scale="p"), claim("pie_confirmed", "b", 1))
    assert plain(answers(made)[1].lead).startswith("Yes")


def test_nothing_saved_is_said_so():
    made = audit_of(claim("size_ratio", "b", 1.0, scale="number"))
    assert plain(answers(made)[-1].lead) == "No scheme takes fewer bytes than the dense model."


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.02, 0.04), "More than that: under b, accuracy changes by"),
        ((-0.005, 0.03), "No less accurate, within 1.00 points: under b, accuracy changes by"),
        ((-0.02, 0.03), "Not shown either way for b: accuracy changes by"),
        ((-0.04, -0.02), "No: under b, accuracy changes by"),
        ((-0.04, -0.005), "Not shown either way for b: accuracy changes by"),
    ],
)
def test_a_gain_of_accuracy_is_no_failure_to_show_equivalence(interval, said):
    claims = [
        claim("cie_u_rate", "b", 0.01, scale="share"),
        claim("equivalence_margin", "b", 0.01, scale="points"),
        claim("tost_p", "b", 0.9, scale="p"),
        replace(
            claim("net_accuracy_change", "b", sum(interval) / 2, scale="points"), low=interval[0], high=interval[1]
        ),
    ]
    assert said in text(audit_of(*claims, schemes=("dense", "b")))
