import json
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from remnant.analyses.groups import ANALYSIS, plot, run, to_metric_frame
from remnant.finding import Finding, NotApplicable
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"
FAST: dict[str, Any] = {"num_permutations": 100, "num_bootstrap": 200}


def population(seed=0, *, sexes=("f", "m"), **options):
    found = simulate.population(np.random.default_rng(seed), **options)
    num = found.sizes["example"]
    return found.assign_coords(group_sex=("example", np.array(sexes)[(np.arange(num) // 7) % len(sexes)]))


def harmed(found, members, seed=1, noise=4.0, scheme=PRUNED):
    """The compressed models lose the answers of some examples."""
    rows, columns = np.flatnonzero(found["scheme"].values == scheme), np.flatnonzero(members)
    shape = (len(rows), len(columns), found.sizes["class"])
    found["logits"].values[np.ix_(rows, columns)] += np.random.default_rng(seed).normal(0, noise, shape)
    return found


def right(found, num):
    answers = found["logits"].values.argmax(axis=-1)
    return answers[:num], answers[num:], found["label"].values


def table_of(finding, name, **chosen) -> Any:
    table: Any = finding.tables[name]
    for column, value in chosen.items():
        table = table[table[column] == value]
    return table


def test_rates_and_tests_of_one_pair_equal_a_loop():
    found = population(num_seeds=1, num_examples=600, num_classes=2, schemes={"dense": 0.0, PRUNED: 1.0})
    first, second, label = right(found, 1)
    finding = run(found, **FAST)
    for column in ("site", "sex"):
        values = found[f"group_{column}"].values
        for level in np.unique(values):
            here = values == level
            for measure, counted, is_wrong in (
                ("error", here, lambda p: p != label),
                ("false positive rate", here & (label == 0), lambda p: p == 1),
                ("false negative rate", here & (label == 1), lambda p: p == 0),
            ):
                row = table_of(finding, "rates", attribute=column, level=level, measure=measure).iloc[0]
                before, after = is_wrong(first[0])[counted], is_wrong(second[0])[counted]
                assert row["examples"] == counted.sum()
                assert row["reference_rate"] == pytest.approx(before.mean())
                assert row["compressed_rate"] == pytest.approx(after.mean())
                assert row["change_points"] == pytest.approx(100 * (after.mean() - before.mean()))
                lost, gained = int((after & ~before).sum()), int((before & ~after).sum())
                assert row["p"] == pytest.approx(stats.binomtest(min(lost, gained), lost + gained).pvalue)
                assert row["change_low"] <= row["change_points"] <= row["change_high"]


def test_intersections_are_all_pairs_of_columns():
    found = population(num_seeds=2, num_examples=400)
    rates = run(found, **FAST).tables["rates"]
    crossed: Any = rates[rates["attribute"] == "site × sex"]
    assert sorted(crossed["level"]) == ["A × f", "A × m", "B × f", "B × m"]
    here = (found["group_site"].values == "A") & (found["group_sex"].values == "m")
    assert crossed.set_index("level").loc["A × m", "examples"] == here.sum()
    assert set(run(found, intersections=[], **FAST).tables["rates"]["attribute"]) == {"site", "sex"}


def test_the_group_that_pays_is_the_worst_beyond_chance():
    found = population(num_seeds=6, num_examples=900)
    members = (found["group_site"].values == "A") & (found["group_sex"].values == "m")
    finding = run(harmed(found, members), **FAST)
    claim = finding.claim("worst_group_error_rise", PRUNED)
    assert claim.detail == "site × sex = A × m"
    assert claim.low is not None
    assert claim.low > 0
    assert finding.claim("worst_group_error_rise_p").estimate <= 0.05
    assert finding.claim("worst_group_error_rise_null").estimate < claim.estimate / 2
    assert finding.claim("error_gap_change").detail == "site × sex"
    assert finding.claim("error_gap_change_p").estimate <= 0.05
    assert "site × sex = A × m" in finding.claim("harmed_groups_error").detail
    over: Any = table_of(finding, "representation", represented="over", among="examples whose right answer is lost")
    assert "A × m" in over["level"].tolist()
    assert finding.claim("largest_odds_ratio_cie_u").detail == "site × sex = A × m"
    assert (
        finding.claim("largest_odds_ratio_cie_u").estimate > 2 * finding.claim("largest_odds_ratio_cie_u_null").estimate
    )
    assert finding.claim("over_represented_groups_pie").estimate >= 1


def test_representation_equals_fishers_test():
    found = harmed(population(num_seeds=4, num_examples=600), np.arange(600) % 3 == 0)
    finding = run(found, **FAST)
    first, second, label = right(found, 4)
    usual = 2 * (first != second).sum(axis=0) >= 4
    here = found["group_sex"].values == "f"
    row = table_of(finding, "representation", among="examples whose answer changes", attribute="sex", level="f").iloc[0]
    cells = [[(usual & here).sum(), (~usual & here).sum()], [(usual & ~here).sum(), (~usual & ~here).sum()]]
    assert row["changed"] == cells[0][0]
    assert row["p"] == pytest.approx(stats.fisher_exact(cells)[1])
    assert row["expected_changed"] == pytest.approx(usual.sum() * here.mean())
    others = [(first[i], first[j]) for i in range(4) for j in range(4) if i != j]
    for words, chance in (
        ("examples whose answer changes", np.mean([one != two for one, two in others], axis=0)),
        (
            "examples whose right answer is lost",
            np.mean([(one == label) & (two != label) for one, two in others], axis=0),
        ),
    ):
        row = table_of(finding, "representation", among=words, attribute="sex", level="f").iloc[0]
        inside, outside = chance[here].mean(), chance[~here].mean()
        assert row["odds_ratio_null"] == pytest.approx(inside / (1 - inside) / (outside / (1 - outside)))


def test_nothing_changes_against_itself():
    found = population(num_seeds=3, num_examples=400, num_classes=2)
    found["logits"][3:] = found["logits"][:3].values
    finding = run(found, **FAST)
    for quantity in ("worst_group_error_rise", "worst_group_false_positive_rate_rise", "bias_amplification_change"):
        assert finding.claim(quantity).estimate == 0
    rates: Any = finding.tables["rates"]
    assert (rates["p"] == 1).all()
    # No answer changed, but others may: the interval is that of Tango, not empty.
    assert (rates["change_high"] > 0).all()
    gaps: Any = finding.tables["gaps"]
    assert (gaps["change_points"] == 0).all()
    represented: Any = finding.tables["representation"]
    assert represented["p"].isna().all()
    assert finding.claim("over_represented_groups_pie").estimate == 0
    finding.to_json()


def test_bias_amplification_is_found():
    """Site and class hang together, and the compressed model answers by site alone where it is unsure."""
    found = population(num_seeds=4, num_examples=800, num_classes=2)
    rng = np.random.default_rng(0)
    site = np.where(rng.random(800) < 0.75, np.where(found["label"].values == 1, "A", "B"), rng.choice(["A", "B"], 800))
    found = found.assign_coords(group_site=("example", site))
    rows = np.flatnonzero(found["scheme"].values == PRUNED)
    found["logits"].values[np.ix_(rows, np.flatnonzero(site == "A"), np.array([1]))] += 1.5
    found["logits"].values[np.ix_(rows, np.flatnonzero(site == "B"), np.array([0]))] += 1.5
    finding = run(found, **FAST)
    claim = finding.claim("bias_amplification_change")
    assert claim.detail == "site"
    assert claim.low is not None
    assert claim.low > 0
    assert finding.claim("bias_amplification_change_p").estimate < 0.2


def test_chance_alone_is_not_called_harm():
    """Under the null, permutation p-values of the worst group hold their level, and few groups are called harmed."""
    p, harmed_groups = [], []
    for seed in range(30):
        found = population(seed, num_seeds=4, num_examples=240)
        finding = run(found, null="free", num_permutations=69, num_bootstrap=100)
        p.append(finding.claim("worst_group_error_rise_p").estimate)
        harmed_groups.append(finding.claim("harmed_groups_error").estimate > 0)
    for level in (0.05, 0.2):
        assert np.mean(np.array(p) <= level) <= level + 2.5 * np.sqrt(level * (1 - level) / 30)
    assert 0.3 < np.mean(p) < 0.75
    assert np.mean(harmed_groups) <= 0.05 + 2.5 * np.sqrt(0.0475 / 30)


def test_one_pair_of_files_is_enough_and_says_what_it_cannot():
    finding = run(file_populations.population(), **FAST)
    assert finding.to_frame()["pairs"].tolist() == [1]
    assert finding.claim("worst_group_error_rise").n > 0
    quantities = {claim.quantity for claim in finding.claims}
    assert not any(quantity.endswith(("_null", "_p", "pie")) for quantity in quantities)
    assert any("one reference model" in caveat for caveat in finding.caveats)
    assert any("more than 2 classes" in caveat for caveat in finding.caveats)
    one, two = (run(file_populations.population(logits=found), **FAST) for found in (True, False))
    assert one.claims == two.claims


def test_several_files_against_one_reference():
    finding = run(file_populations.population(sides={"net": 1, "a": 3, "b": 3}), **FAST)
    assert finding.to_frame()["scheme"].tolist() == ["a", "b"]
    assert finding.to_frame()["pairs"].tolist() == [3, 3]
    assert any("fewer than 5 pairs" in caveat for caveat in finding.caveats)


def test_a_positive_class_can_be_named_among_many():
    found = population(num_seeds=2, num_examples=400)
    finding = run(found, positive="class 3", **FAST)
    label, first = found["label"].values, right(found, 2)[0]
    here = (found["group_site"].values == "A") & (label != 3)
    row = table_of(finding, "rates", attribute="site", level="A", measure="false positive rate").iloc[0]
    assert row["reference_rate"] == pytest.approx((first[:, here] == 3).mean())
    with pytest.raises(ValueError, match=r"`positive` to be one of .* Did you mean 'class 3'"):
        run(found, positive="class3", **FAST)


def test_small_groups_are_shown_but_not_tested():
    found = population(num_seeds=2, num_examples=300, sexes=("f",) * 30 + ("x",))
    finding = run(found, least_examples=30, intersections=[], **FAST)
    row = table_of(finding, "rates", attribute="sex", level="x").iloc[0]
    assert row["too_small"]
    assert np.isnan(row["q"])
    assert any("too few examples" in caveat and "sex" in caveat for caveat in finding.caveats)


def test_populations_without_columns_are_told_what_they_need():
    found = simulate.population(np.random.default_rng(0), num_seeds=2).drop_vars("group_site")
    with pytest.raises(NotApplicable, match="no attribute columns"):
        run(found)
    with pytest.raises(NotApplicable, match="cuts the examples into groups"):
        run(found.assign_coords(group_site=("example", np.full(found.sizes["example"], "A"))))


def test_parameters_are_checked():
    found = population(num_seeds=2)
    with pytest.raises(ValueError, match="`least_examples` >= 2"):
        run(found, least_examples=0)
    with pytest.raises(ValueError, match="`num_bootstrap` >= 100"):
        run(found, num_bootstrap=5)
    with pytest.raises(ValueError, match="`intersections`"):
        run(found, intersections=[("site", "sx")])


def test_finding_is_restored_and_drawn():
    finding = run(population(num_seeds=3, num_examples=400, num_classes=2), **FAST)
    axes = plot(Finding.from_dict(json.loads(finding.to_json())))
    labels = [axis.get_xlabel() for axis in axes.figure.axes]
    assert labels[:3] == [f"rise of the {m} (points)" for m in ("error", "false positive rate", "false negative rate")]
    assert labels[3].startswith("odds ratio among")
    import matplotlib.pyplot as pyplot

    pyplot.close(axes.figure)
    small = {"rates": finding.tables["rates"].assign(too_small=True)}
    with pytest.raises(NotApplicable, match="No group"):
        plot(replace(finding, tables={**finding.tables, **small}))
    assert ANALYSIS.needs == ("label",)


def test_metric_frame_has_the_rates_of_the_table():
    """fairlearn 0.15.0 counts the same examples, and gives the same gap."""
    pytest.importorskip("fairlearn")
    found = population(num_seeds=1, num_examples=500, num_classes=2, schemes={"dense": 0.0, PRUNED: 1.0})
    finding = run(found, **FAST)
    frame = to_metric_frame(found, PRUNED, columns=["site"])
    for name, measure in (
        ("error", "error"),
        ("false_positive_rate", "false positive rate"),
        ("false_negative_rate", "false negative rate"),
    ):
        rows: Any = table_of(finding, "rates", attribute="site", measure=measure).set_index("level")
        expected = rows["compressed_rate"]
        pd.testing.assert_series_equal(
            frame.by_group[name].sort_index(), expected.sort_index(), check_names=False, check_dtype=False
        )
        gap = table_of(finding, "gaps", attribute="site", measure=measure)["compressed_gap_points"].iloc[0]
        assert 100 * frame.difference()[name] == pytest.approx(gap)
    assert frame.by_group["count"].sum() == 500
    both = to_metric_frame(found, positive="class 0")
    assert list(both.by_group.index.names) == ["site", "sex"]


def test_metric_frame_of_many_classes_has_the_error():
    pytest.importorskip("fairlearn")
    found = population(num_seeds=2)
    frame = to_metric_frame(found, model=1)
    assert list(frame.by_group.columns) == ["count", "error"]
    wrong = found["logits"].values[1].argmax(axis=-1) != found["label"].values
    assert frame.overall["error"] == pytest.approx(wrong.mean())


def test_metric_frame_errors(monkeypatch):
    found = population(num_seeds=2)
    pytest.importorskip("fairlearn")
    with pytest.raises(ValueError, match="`scheme` to be one of"):
        to_metric_frame(found, "prunned")
    with pytest.raises(ValueError, match=r"`model` in \[0, 2\)"):
        to_metric_frame(found, model=2)
    with pytest.raises(ValueError, match="`columns` to be one of"):
        to_metric_frame(found, columns=["sexx"])
    with pytest.raises(NotApplicable, match="no `label`"):
        to_metric_frame(found.drop_vars("label"))
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    with pytest.raises(ValueError, match=r'pip install "remnant\[fair\]"'):
        to_metric_frame(found)
