import json

import pytest

from remnant.finding import Audit, Finding
from remnant.gates import Limits, Rules, gate, judge, read_report
from remnant.gates.verdicts import compressed_sides
from tests.gates.audits import INT8, audit, claim, flips, write


def outcomes(found) -> dict[str, str]:
    return {verdict.limit: verdict.outcome for verdict in found.verdicts}


def one(found):
    (verdict,) = found.verdicts
    return verdict


@pytest.mark.parametrize(
    ("lost", "limit", "outcome", "code"),
    [(1, 0.01, "pass", 0), (30, 0.01, "fail", 1), (9, 0.01, "could not tell", 2)],
)
def test_harmful_flips_are_judged_by_their_whole_interval(lost, limit, outcome, code):
    found = judge(audit(*flips(INT8, lost, 5, 1000)), Limits(max_harmful_flips=limit))
    assert (one(found).outcome, found.outcome, found.exit_code) == (outcome, outcome, code)
    assert one(found).wanted == "harmful flips at most 1 %"


def test_an_undecided_verdict_says_how_many_examples_would_tell():
    """n >= 1.96^2 * 0.01 * 0.99 / (0.015 - 0.01)^2 = 1521.3, by hand."""
    verdict = one(judge(audit(*flips(INT8, 15, 0, 1000)), Limits(max_harmful_flips=0.01)))
    assert verdict.reason == "about 1,522 examples would tell, if the value stays; the report has 1,000"


def test_no_number_of_examples_is_promised_where_none_is_enough():
    verdict = one(judge(audit(*flips(INT8, 0, 0, 1000)), Limits(max_harmful_flips=0.0)))
    assert (verdict.outcome, verdict.reason) == (
        "could not tell",
        "the 95 % interval lies on both sides of the limit",
    )


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(-0.004, 0.001, "pass"), (-0.02, -0.006, "fail"), (-0.02, 0.001, "could not tell"), (0.01, 0.02, "pass")],
)
def test_a_drop_is_a_negative_change(low, high, outcome):
    """Gains are never a failure of non-inferiority."""
    content = audit(claim("net_accuracy_change", INT8, (low + high) / 2, low, high, scale="points"))
    assert one(judge(content, Limits(max_accuracy_drop=0.005))).outcome == outcome


@pytest.mark.parametrize("name", ["class", "group"])
@pytest.mark.parametrize(("high", "outcome"), [(-0.04, "fail"), (-0.01, "could not tell")])
def test_the_worst_class_and_group_are_drops_too(name, high, outcome):
    worst = claim(f"worst_{name}_net_change", INT8, -0.06, -0.1, high, scale="points", detail="cat")
    verdict = one(judge(audit(worst, analysis="slices"), Limits(**{f"max_worst_{name}_drop": 0.03})))
    assert verdict.outcome == outcome
    assert verdict.measured.endswith(", class cat" if name == "class" else ", cat")


@pytest.mark.parametrize(
    ("quantity", "limits", "value", "outcome"),
    [
        ("size_bytes", {"max_size": 100}, 100, "pass"),
        ("size_bytes", {"max_size": 100}, 101, "fail"),
        ("size_ratio", {"min_size_ratio": 4}, 4.0, "pass"),
        ("size_ratio", {"min_size_ratio": 4}, 3.9, "fail"),
        ("bytes", {"max_size": 100}, 101, "fail"),
        ("latency_ratio", {"min_speedup": 2}, 1.9, "fail"),
        ("latency_ratio", {"min_speedup": 2}, 2.1, "pass"),
        ("harmed_classes_q", {"max_harmed_classes": 0}, 0, "pass"),
        ("harmed_classes_q", {"max_harmed_classes": 0}, 1, "fail"),
        ("harmed_groups_q", {"max_harmed_groups": 2}, 3, "fail"),
        ("kl_p99", {"max_kl_p99": 0.2}, 0.1, "pass"),
        ("kl_mean", {"max_kl": 0.2}, 0.1, "could not tell"),
        ("cie_rate", {"max_flips": 0.2}, 0.1, "could not tell"),
    ],
)
def test_sizes_and_counts_are_compared_directly_and_estimates_are_not(quantity, limits, value, outcome):
    verdict = one(judge(audit(claim(quantity, INT8, value, scale="number")), Limits(**limits)))
    assert verdict.outcome == outcome
    assert ("without an interval" in verdict.reason) == (quantity in ("kl_p99", "latency_ratio"))


@pytest.mark.parametrize(
    ("smallest", "change", "outcome"),
    [
        (0.004, (-0.001, -0.004, 0.003), "pass"),
        (0.005, None, "pass"),
        (0.009, (-0.001, -0.01, 0.008), "could not tell"),
        (0.02, (-0.015, -0.02, -0.01), "fail"),
        (0.02, (0.015, 0.01, 0.02), "fail"),
        (0.02, None, "could not tell"),
        (None, (-0.001, -0.004, 0.003), "pass"),
        (None, (-0.001, -0.006, 0.003), "could not tell"),
        (None, None, "could not tell"),
    ],
)
def test_equivalence_is_the_test_of_the_report_else_the_interval(smallest, change, outcome):
    claims = [] if smallest is None else [claim("smallest_equivalence_margin", INT8, smallest)]
    claims += [] if change is None else [claim("net_accuracy_change", INT8, *change)]
    assert one(judge(audit(*claims), Limits(equivalence_margin=0.005))).outcome == outcome


def test_a_claim_that_is_missing_is_not_a_pass():
    content = audit(*flips(INT8, 0, 0, 1000))
    found = judge(content, Limits(max_worst_class_drop=0.1, max_size=10, max_kl=1))
    reasons = [verdict.reason for verdict in found.verdicts]
    assert outcomes(found) == dict.fromkeys(("max_worst_class_drop", "max_kl", "max_size"), "could not tell")
    assert reasons == [
        "the analysis 'slices' was not run: The population has no `label`.",
        "the analysis 'mismatches' says nothing on 'kl_mean' of 'int8'",
        "the report has no analysis 'league'",
    ]


def test_a_speed_up_with_an_interval_is_judged_by_it():
    """At least: the interval must lie above the limit."""
    for low, high, outcome in ((2.1, 3, "pass"), (1.9, 3, "could not tell"), (1.0, 1.9, "fail")):
        content = audit(claim("latency_ratio", INT8, (low + high) / 2, low, high, scale="number"))
        assert one(judge(content, Limits(min_speedup=2))).outcome == outcome


def test_the_claim_of_the_analysis_that_makes_it_wins():
    one_finding = Finding("mismatches", "?", {}, (claim("cie_rate", INT8, 0.1, 0.09, 0.11),), {})
    other = Finding("aaa", "?", {}, (claim("cie_rate", INT8, 0.5, 0.4, 0.6),), {})
    both = Audit((other, one_finding), {}, audit().about)
    assert one(judge(both, Limits(max_flips=0.2))).outcome == "pass"


@pytest.mark.parametrize(("undecided", "codes"), [("report", (0, 2, 1)), ("fail", (0, 1, 1)), ("pass", (0, 0, 1))])
def test_what_could_not_be_told_counts_as_asked_for(undecided, codes):
    found = [
        judge(audit(*flips(INT8, lost, 0, 1000)), Limits(max_harmful_flips=0.01), undecided=undecided).exit_code
        for lost in (1, 9, 30)
    ]
    assert tuple(found) == codes


def test_a_failure_outweighs_what_could_not_be_told():
    content = audit(*flips("a", 30, 0, 1000), *flips("b", 9, 0, 1000), sides=("a", "b"))
    found = judge(content, Limits(max_harmful_flips=0.01))
    assert [v.outcome for v in found.verdicts] == ["fail", "could not tell"]
    assert (found.outcome, found.exit_code) == ("fail", 1)


def test_each_side_has_its_own_limits():
    content = audit(*flips("a", 30, 0, 1000), *flips("b", 30, 0, 1000), sides=("a", "b"))
    rules = Rules(Limits(max_harmful_flips=0.01), {"b": {"max_harmful_flips": 0.5}})
    assert [v.outcome for v in judge(content, rules).verdicts] == ["fail", "pass"]
    lifted = Rules(Limits(max_harmful_flips=0.01), {"b": {"max_harmful_flips": None}})
    assert [v.side for v in judge(content, lifted).verdicts] == ["a"]


def test_limits_for_a_side_that_is_not_there_are_refused():
    """A misspelt name must not switch a limit off."""
    with pytest.raises(ValueError, match="Did you mean 'int8'"):
        judge(audit(), Rules(sides={"int-8": {"max_flips": 0.1}}))


def test_the_reference_again_is_not_a_compressed_side():
    content = audit(sides=(INT8, "reference, again"), floor="reference, again")
    assert compressed_sides(content) == [INT8]


def test_a_report_on_the_reference_alone_is_refused():
    with pytest.raises(ValueError, match="at least one compressed model beside the reference 'reference'"):
        judge(audit(sides=()), Limits(max_flips=0.1))


def test_no_limit_is_not_a_pass():
    with pytest.raises(ValueError, match="at least one limit"):
        judge(audit(), Limits())


def test_other_words_for_undecided_are_refused():
    with pytest.raises(ValueError, match="Expected `undecided` to be one of"):
        judge(audit(), Limits(max_flips=0.1), undecided="ignore")  # pyright: ignore[reportArgumentType]


def test_the_gate_reads_report_and_limits_from_files(tmp_path):
    path = write(tmp_path / "report" / "report.json", audit(*flips(INT8, 30, 0, 1000)))
    (tmp_path / "gate.toml").write_text('[limits]\nmax_harmful_flips = "1%"\n')
    assert gate(path, limits=tmp_path / "gate.toml").exit_code == 1
    assert gate(path.parent, limits=tmp_path / "gate.toml", max_harmful_flips="10%").exit_code == 0
    assert gate(path, max_harmful_flips="3%").exit_code == 2
    assert gate(path, max_harmful_flips="3%", strict=True).exit_code == 1
    assert gate(path, max_harmful_flips="3%", lenient=True).exit_code == 0
    with pytest.raises(ValueError, match="`strict` or `lenient`"):
        gate(path, max_harmful_flips="3%", strict=True, lenient=True)


def test_the_gate_is_plain_data_for_programs():
    found = judge(audit(*flips(INT8, 9, 0, 1000)), Limits(max_harmful_flips=0.01), report="report")
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (data["outcome"], data["exit_code"], data["report"]) == ("could not tell", 2, "report")
    assert data["verdicts"][0]["claim"]["quantity"] == "cie_u_rate"


def test_every_written_report_is_read_without_its_tables(tmp_path):
    content = audit(*flips(INT8, 9, 0, 1000))
    found = read_report(write(tmp_path / "report.json", content))
    assert found.findings[0].claims == content.findings[0].claims
    assert found.about == content.about


def test_values_are_printed_with_few_digits():
    ratio = claim("latency_ratio", INT8, 1.870971, 1.5123456, 2.1, scale="number")
    assert one(judge(audit(ratio), Limits(min_speedup=1))).measured == "1.87x (95 % interval 1.51x to 2.1x)"
    margin = claim("smallest_equivalence_margin", INT8, 0.00253698, scale="points")
    assert one(judge(audit(margin), Limits(equivalence_margin=0.01))).measured == "equivalent within 0.254 points"


def test_drops_are_in_points_and_shares_in_percent():
    content = audit(*flips(INT8, 1, 5, 1000), claim("cie_rate", INT8, 0.01, 0, 0.02))
    wanted = {v.limit: v.wanted for v in judge(content, Limits(max_accuracy_drop=0.01, max_flips=0.05)).verdicts}
    assert wanted == {"max_accuracy_drop": "drop of accuracy at most 1 point", "max_flips": "flips at most 5 %"}
    assert (
        one(judge(content, Limits(equivalence_margin=0.025))).wanted
        == "change of accuracy either way within 2.5 points"
    )


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_harmful_flips": 0.1}, "without labels"),
        ({"max_accuracy_drop": 0.1}, "without labels"),
        ({"max_worst_class_drop": 0.1}, "without labels"),
        ({"max_kl": 1}, "answers without scores"),
        ({"max_size": 100}, "only where remnant ran the models"),
    ],
)
def test_a_report_without_labels_scores_or_sizes_says_so(limit, reason):
    found = one(judge(audit(claim("cie_rate", INT8, 0.01, 0, 0.02)), Limits(**limit)))
    assert found.outcome == "could not tell"
    assert reason in found.reason
