from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.equivalence import plot, run
from remnant.analyses.equivalence_measures import Change
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.stats.equivalence import tango_interval, tost_p
from remnant.stats.paired_bootstrap import patterns
from remnant.stats.two_way import two_way_mean
from tests import simulate
from tests.analyses import file_sides


def one_pair(seed=0, lost=0.02, gained=0.05, **options):
    return file_sides.population(np.random.default_rng(seed), {"small": (lost, gained)}, **options)


def cells(found, row=1):
    right = found["prediction"].values == found["label"].values
    return int((right[0] & ~right[row]).sum()), int((~right[0] & right[row]).sum())


def test_one_pair_is_tested_over_examples():
    found = one_pair(num_examples=5000)
    lost, gained = cells(found)
    finding = run(found, margin=0.02)
    assert finding.claim("tost_p").estimate == pytest.approx(float(tost_p(lost, gained, 5000, 0.02)))
    assert finding.claim("tost_p").unit == "example"
    assert finding.claim("equivalence_margin", "small").estimate == 0.02
    low, high = tango_interval(lost, gained, 5000, level=0.9)
    assert finding.claim("smallest_noninferiority_margin").estimate == pytest.approx(max(-low, 0))
    assert finding.claim("smallest_equivalence_margin").estimate == pytest.approx(max(-low, high))
    boot = finding.claim("net_accuracy_change_bootstrap")
    assert boot.estimate == pytest.approx((gained - lost) / 5000)
    wide = tango_interval(lost, gained, 5000)
    assert (boot.low, boot.high) == (pytest.approx(wide[0], abs=8e-4), pytest.approx(wide[1], abs=8e-4))
    row: Any = finding.tables["pairs"].iloc[0]
    assert (row["lost_examples"], row["gained_examples"]) == (lost, gained)
    assert row["mcnemar_p"] == pytest.approx(stats.binomtest(lost, lost + gained).pvalue)


def test_methods_of_intervals_agree_for_many_examples():
    table: Any = run(one_pair(num_examples=40_000)).tables["intervals"]
    assert len(table) == 5
    assert np.ptp(table["net_low"]) < 0.02
    assert np.ptp(table["net_high"]) < 0.02


@pytest.mark.parametrize(
    ("lost", "gained", "margin", "verdict"),
    [
        (0.01, 0.04, 0.01, "equivalent within 1 point"),
        (0.10, 0.04, 0.01, "worse by more than 1 point"),
        (0.01, 0.90, 0.02, "better by more than 2 points"),
        (0.01, 0.08, 0.01, "not worse by 1 point or more"),
        (0.03, 0.10, 0.0005, "not shown either way"),
        (0.03, 0.04, 0.016, "not shown either way"),
    ],
)
def test_verdicts(lost, gained, margin, verdict):
    finding = run(one_pair(lost=lost, gained=gained, num_examples=10_000), margin=margin)
    assert finding.to_frame()["verdict"].tolist() == [verdict]
    assert (finding.claim("tost_p").estimate <= 0.05) == verdict.startswith("equivalent")


def test_a_side_equal_to_the_reference_is_equivalent_only_with_enough_examples():
    many = one_pair(lost=0.0, gained=0.0, num_examples=1000)
    assert run(many).to_frame()["verdict"].tolist() == ["equivalent within 1 point"]
    few = run(one_pair(lost=0.0, gained=0.0, num_examples=100))
    assert few.to_frame()["verdict"].tolist() == ["not shown either way"]
    assert few.claim("net_accuracy_change_bootstrap").estimate == 0
    assert few.claim("equivalence_examples_needed").estimate > 100


def test_several_files_are_tested_over_pairs_and_examples():
    found = file_sides.population(np.random.default_rng(1), {"small": (0.03, 0.08)}, files=4, num_examples=3000)
    finding = run(found)
    net = [(gained - lost) / 3000 for lost, gained in (cells(found, row) for row in range(1, 5))]
    assert finding.claim("net_accuracy_change_bootstrap").estimate == pytest.approx(np.mean(net))
    assert finding.claim("tost_p").unit == "pair"
    assert finding.claim("tost_p").n == 4
    right = (found["prediction"].values == found["label"].values).astype(int)
    change = right[1:] - right[0]
    squares = (change**2).sum(), (change.sum(axis=0) ** 2).sum()
    expected = two_way_mean(change.sum(axis=1)[:, None], [squares[0]], [squares[1]], [3000])
    assert finding.claim("noninferiority_p").estimate == pytest.approx(1 - expected.below_p(-0.01)[0], abs=1e-12)
    row: Any = finding.to_frame().iloc[0]
    assert 100 * expected.interval()[0][0] == pytest.approx(row["net_low"])
    assert row["interval_over"] == "pairs and examples"
    low, high = stats.t.interval(0.95, 3, np.mean(net), stats.sem(net))
    assert row["net_low"] < 100 * np.mean(net) < row["net_high"]
    table: Any = finding.tables["intervals"]
    over_pairs = table[table["interval"] == "t, over pairs"].iloc[0]
    assert (over_pairs["net_low"], over_pairs["net_high"]) == (pytest.approx(100 * low), pytest.approx(100 * high))


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_size_over_pairs_and_examples(spread):
    """Over other models and other examples, accuracy falls by exactly the margin: 5 % may be called equivalent."""
    rng = np.random.default_rng(0)
    num, shown, p = 300, 0, []
    for _ in range(num):
        by_pair, by_example = spread * rng.normal(size=(4, 1)), np.clip(rng.normal(0.08, 0.02, 1500), 0.04, 0.12)
        lost = rng.random((4, 1500)) < by_pair + by_example
        gained = ~lost & (rng.random((4, 1500)) < 0.02)
        found = patterns([gained.astype(np.int8) - lost])
        change = Change("small", ("a", "b", "c", "d"), found, np.full(4, 1200))
        p.append(change.tost_p(0.08 - 0.92 * 0.02))
        shown += p[-1] <= 0.05
    assert shown <= stats.binom.ppf(0.99, num, 0.06)
    assert shown >= 1
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_populations_of_a_store_are_paired_by_seed():
    found = simulate.population(
        np.random.default_rng(0), schemes={"dense": 0.0, "float16": 0.0, "int8": 1.0}, num_seeds=5
    )
    finding = run(found, margin=0.05)
    verdicts = dict(zip(finding.to_frame()["scheme"], finding.to_frame()["verdict"], strict=True))
    assert verdicts["int8"] == "worse by more than 5 points"
    with pytest.raises(SchemaError, match="same seeds"):
        run(found.isel(trial=[0, 1, 2, 5, 6]))


def test_the_second_run_of_the_reference_is_no_compressed_side():
    found = file_sides.population(np.random.default_rng(0), {"again": (0.0, 0.0), "small": (0.1, 0.1)})
    found.attrs["floor"] = "again"
    assert run(found).to_frame()["scheme"].tolist() == ["small"]
    with pytest.raises(NotApplicable, match="compressed side"):
        run(found.isel(trial=[0, 1]))


def test_findings_survive_json_and_can_be_drawn():
    finding = run(one_pair())
    again = Finding.from_dict(finding.to_dict())
    assert again.claims == finding.claims
    axes = plot(again)
    assert "change of accuracy" in axes.get_xlabel()


def test_results_do_not_depend_on_other_sides():
    both = file_sides.population(np.random.default_rng(0), {"a": (0.1, 0.1), "b": (0.2, 0.1)})
    alone = both.isel(trial=[0, 1])
    claims = [claim for claim in run(both).claims if claim.subject == "a"]
    assert claims == list(run(alone).claims)


def test_errors_name_the_parameter():
    with pytest.raises(ValueError, match="`margin`"):
        run(one_pair(), margin=1.5)
    with pytest.raises(ValueError, match="`power`"):
        run(one_pair(), power=0.0)
    with pytest.raises(NotApplicable, match="reference 'other'"):
        run(one_pair(), reference="other")
