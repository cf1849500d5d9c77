import pytest

from remnant.gates import Limits, gate, judge
from remnant.gates.earlier import comparable
from tests.gates.audits import INT8, audit, claim, flips, write


def inputs(**sha256: str) -> list[dict[str, str]]:
    return [{"side": side, "name": f"{side}.npz", "sha256": digest} for side, digest in sha256.items()]


SAME = inputs(reference="aa", int8="bb", labels="cc")
LIMITS = Limits(max_increase_harmful_flips=0.005)


@pytest.mark.parametrize(
    ("new", "old", "outcome"),
    [(100, 10, "fail"), (11, 10, "could not tell"), (10, 100, "pass")],
)
def test_a_regression_is_an_increase_beyond_the_tolerance(new, old, outcome):
    found = judge(audit(*flips(INT8, new, 0, 2000)), LIMITS, earlier=audit(*flips(INT8, old, 0, 2000)))
    (verdict,) = found.verdicts
    assert verdict.outcome == outcome
    assert "before" in verdict.measured


def test_the_same_files_are_no_regression():
    content = audit(*flips(INT8, 10, 0, 2000), inputs=SAME)
    (verdict,) = judge(content, Limits(max_increase_harmful_flips=0.0), earlier=content).verdicts
    assert (verdict.outcome, verdict.reason) == ("pass", "the same files as before")


def test_other_files_with_equal_counts_are_not_taken_for_the_same():
    other = audit(*flips(INT8, 10, 0, 2000), inputs=inputs(reference="aa", int8="xx", labels="cc"))
    content = audit(*flips(INT8, 10, 0, 2000), inputs=SAME)
    assert judge(content, Limits(max_increase_harmful_flips=0.0), earlier=other).exit_code == 2


def test_reports_that_name_no_files_are_not_taken_for_the_same():
    content = audit(*flips(INT8, 10, 0, 2000))
    assert judge(content, Limits(max_increase_harmful_flips=0.0), earlier=content).exit_code == 2


def test_a_further_drop_is_a_smaller_change():
    limits = Limits(max_increase_accuracy_drop=0.01)
    worse = audit(claim("net_accuracy_change", INT8, -0.05, -0.055, -0.045))
    before = audit(claim("net_accuracy_change", INT8, -0.01, -0.012, -0.008))
    assert judge(worse, limits, earlier=before).exit_code == 1
    assert judge(before, limits, earlier=worse).exit_code == 0


def test_sizes_are_compared_directly():
    new, old = (audit(claim("size_bytes", INT8, size, scale="count"), analysis="league") for size in (110, 100))
    assert judge(new, Limits(max_increase_size=10), earlier=old).exit_code == 0
    assert judge(new, Limits(max_increase_size=9), earlier=old).exit_code == 1


def test_a_side_is_found_by_its_name_or_as_the_only_one():
    old = audit(*flips("int8-v1", 100, 0, 2000), sides=("int8-v1",))
    new = audit(*flips("int8-v2", 10, 0, 2000), sides=("int8-v2",))
    assert judge(new, LIMITS, earlier=old).exit_code == 0
    two = audit(*flips("a", 10, 0, 2000), *flips("b", 10, 0, 2000), sides=("a", "b"))
    found = judge(new, LIMITS, earlier=two)
    assert found.verdicts[0].reason == "the earlier report has no side 'int8-v2'"
    assert {verdict.outcome for verdict in judge(two, LIMITS, earlier=old).verdicts} == {"could not tell"}


def test_without_an_earlier_report_nothing_is_told():
    (verdict,) = judge(audit(*flips(INT8, 1, 0, 2000)), LIMITS).verdicts
    assert (verdict.outcome, verdict.reason) == ("could not tell", "no earlier report was given")


def test_an_earlier_report_without_the_claim_or_its_interval_tells_nothing():
    new = audit(*flips(INT8, 1, 0, 2000))
    (verdict,) = judge(new, LIMITS, earlier=audit()).verdicts
    assert verdict.reason.startswith("in the earlier report, the analysis 'mismatches' says nothing")
    (verdict,) = judge(new, LIMITS, earlier=audit(claim("cie_u_rate", INT8, 0.1))).verdicts
    assert (verdict.outcome, verdict.reason) == ("could not tell", "one of the reports gives no interval for it")


def test_the_same_reference_and_data_are_comparable():
    assert comparable(audit(inputs=SAME), audit(inputs=inputs(labels="cc", int8="other", reference="aa"))) == ()


@pytest.mark.parametrize("changed", [{"reference": "xx"}, {"labels": "xx"}])
def test_another_reference_or_data_is_refused(changed):
    other = inputs(**({"reference": "aa", "int8": "bb", "labels": "cc"} | changed))
    with pytest.raises(ValueError, match="same reference and data, but the files of reference and data"):
        comparable(audit(inputs=SAME), audit(inputs=other))


@pytest.mark.parametrize(
    "facts", [{"num_examples": 999}, {"dataset": "other"}, {"classes": ["a"]}, {"recipe": {"epochs": 3}}]
)
def test_other_facts_are_refused(facts):
    first = audit(dataset="digits", classes=["b"], recipe={"epochs": 2})
    second = audit(**({"dataset": "digits", "classes": ["b"], "recipe": {"epochs": 2}} | facts))
    with pytest.raises(ValueError, match=f"`{next(iter(facts))}` is .* here and .* there"):
        comparable(first, second)


def test_a_warning_says_that_files_are_not_known(tmp_path):
    new = write(tmp_path / "new.json", audit(*flips(INT8, 1, 0, 2000), inputs=SAME))
    old = write(tmp_path / "old.json", audit(*flips(INT8, 100, 0, 2000)))
    found = gate(new, baseline=old, max_increase_harmful_flips="0.5pt")
    assert found.exit_code == 0
    assert "do not both say from which files" in found.warnings[0]


def test_an_earlier_report_without_a_limit_on_an_increase_is_refused(tmp_path):
    path = write(tmp_path / "report.json", audit(*flips(INT8, 1, 0, 2000)))
    with pytest.raises(ValueError, match="limit on an increase beside `baseline`"):
        gate(path, baseline=path, max_flips="1%")
