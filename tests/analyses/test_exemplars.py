from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.exemplars import run
from remnant.finding import NotApplicable
from remnant.population import SchemaError
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(seed=0, **options):
    return simulate.population(np.random.default_rng(seed), **options)


def quantities(finding, subject=PRUNED) -> dict[str, Any]:
    return {claim.quantity: claim for claim in finding.claims if claim.subject == subject}


def test_count_equals_that_by_the_mode_of_scipy():
    """scipy.stats.mode takes the lowest of tied labels; of negated labels, the highest."""
    found = population(schemes={"dense": 0.0, PRUNED: 1.0}, num_seeds=6, num_classes=4)
    predicted = found["logits"].values.argmax(axis=-1)
    rules: Any = (("lowest", 1), ("highest", -1))
    for tie, sign in rules:
        slow = stats.mode(sign * predicted[:6], axis=0).mode != stats.mode(sign * predicted[6:], axis=0).mode
        finding = run(found, tie=tie)
        assert finding.claim("pie_count", PRUNED).estimate == slow.sum()
        table: Any = finding.tables["tie_rules"].set_index("tie")
        assert table.loc[tie, "pie_count"] == slow.sum()
        assert table["pie_count_without_ties"].nunique() == 1
        shown: Any = finding.tables["examples"]
        assert set(shown[shown["is_pie"]]["example"]) == set(found["example"].values[slow])


def test_no_exemplars_against_itself():
    found = population(num_seeds=5)
    found["logits"][5:] = found["logits"][:5].values
    finding = run(found)
    claims = quantities(finding)
    assert claims["pie_count"].estimate == claims["pie_count_null"].estimate == claims["pie_excess"].estimate == 0
    assert claims["pie_count_p"].estimate == 1
    assert claims["pie_confirmed"].estimate == claims["shifted_examples"].estimate == 0
    assert "accuracy_pie" not in claims
    assert any("No PIE" in caveat for caveat in finding.caveats)
    assert not finding.galleries


def test_accuracy_on_all_is_that_on_pies_and_the_others():
    found = population(schemes={"dense": 0.0, PRUNED: 1.0}, num_classes=7)
    finding = run(found)
    claims, num = quantities(finding), finding.claim("pie_count", PRUNED).estimate
    for prefix in ("accuracy", "top5_accuracy"):
        pie, rest, every = (claims[f"{prefix}_{name}"].estimate for name in ("pie", "non_pie", "all"))
        assert num * pie + (200 - num) * rest == pytest.approx(200 * every)
        assert pie < every < rest
    right = found["logits"].values[:8].argmax(axis=-1) == found["label"].values
    assert claims["accuracy_all"].estimate == pytest.approx(right.mean())
    assert claims["accuracy_all"].unit == "trial"
    assert claims["accuracy_pie_null"].estimate == pytest.approx(claims["accuracy_pie"].estimate, abs=0.15)


def test_forgotten_examples_are_confirmed_and_come_first():
    found = population(forgotten=0.05, num_examples=200)
    finding = run(found)
    (exhibits,) = finding.galleries.values()
    first = [int(exhibit.example.removeprefix("test-")) for exhibit in exhibits[:5]]
    assert max(first) < 10
    assert exhibits[0].lines[0].startswith("true: class")
    assert exhibits[0].lines[1].startswith("dense: class")
    assert "of 8)" in exhibits[0].lines[2]
    table: Any = finding.tables["examples"]
    confirmed = table[table["q"] <= 0.05]["example"]
    assert len(confirmed) >= 5
    assert (confirmed < "test-00010").mean() >= 0.9


def test_examples_are_tested_by_the_exact_tests_of_scipy():
    """q counts only examples whose votes allow p <= 0.05."""
    found = population(schemes={"dense": 0.0, "static-int8": 0.6}, num_seeds=8)
    predicted = found["logits"].values.argmax(axis=-1)
    for null in ("free", "paired"):
        finding = run(found, null=null, tie="lowest")
        shown: Any = finding.tables["examples"].set_index("example")
        slow, testable = [], []
        for i in range(200):
            votes = predicted[:, i] == stats.mode(predicted[:, i]).mode
            first, second = votes[:8], votes[8:]
            if null == "free":
                table = [[first.sum(), 8 - first.sum()], [second.sum(), 8 - second.sum()]]
                total = int(votes.sum())
                extreme = [[min(total, 8), 8 - min(total, 8)], [max(total - 8, 0), 8 - max(total - 8, 0)]]
                p, least = (float(np.asarray(stats.fisher_exact(t))[1]) for t in (table, extreme))
            else:
                lost, either = int((first & ~second).sum()), int((first != second).sum())
                p = stats.binomtest(lost, either).pvalue if either else 1.0
                least = stats.binomtest(0, either).pvalue if either else 1.0
            slow.append(p)
            testable.append(least <= 0.05)
        q = np.full(200, np.nan)
        q[testable] = stats.false_discovery_control(np.array(slow)[testable])
        assert finding.tables["schemes"]["testable_examples"].iloc[0] == sum(testable)
        index = [int(example.removeprefix("test-")) for example in shown.index]
        np.testing.assert_allclose(shown["p"], np.array(slow)[index])
        np.testing.assert_allclose(shown["q"], q[index])


def test_confusion_and_shares_add_up():
    finding = run(population(schemes={"dense": 0.0, PRUNED: 1.0}))
    tables: Any = finding.tables
    count = finding.claim("pie_count", PRUNED).estimate
    assert tables["confusion"]["examples"].sum() == count
    for _, part in tables["shares"].groupby("attribute"):
        assert part["pie_count"].sum() == count
        assert part["pie_count_null"].sum() == pytest.approx(finding.claim("pie_count_null", PRUNED).estimate)


def test_p_and_excess_are_calibrated_under_the_null():
    p, covered, expected, seeds = [], 0, [], []
    for seed in range(80):
        finding = run(population(seed, num_seeds=8, num_examples=120, num_classes=4), num_permutations=99)
        claims = quantities(finding)
        p.append(claims["pie_count_p"].estimate)
        covered += claims["pie_excess"].low <= 0 <= claims["pie_excess"].high
        expected.append(claims["pie_excess"].estimate)
        seeds.append(finding.claim("pie_count_seeds").estimate - claims["pie_count"].estimate)
        assert claims["shifted_examples"].estimate <= 3
    assert np.mean(np.array(p) <= 0.05) <= 0.11
    assert 0.35 <= np.mean(p) <= 0.65
    assert covered >= 72
    assert np.mean(expected) == pytest.approx(0, abs=3 * np.std(expected) / np.sqrt(80))
    # Two dense populations of the same size, extrapolated from their parts.
    assert np.mean(seeds) == pytest.approx(0, abs=0.15 * 30)


def test_post_training_schemes_are_judged_within_pairs():
    """Small noise on each dense model: few PIEs, no more than models exchanged within pairs give."""
    found = population(schemes={"dense": 0.0, "float16": 0.0}, num_seeds=10, num_examples=400)
    noise = np.random.default_rng(1).normal(0, 0.1, found["logits"][10:].shape)
    found["logits"][10:] = found["logits"][:10].values + noise
    finding = run(found)
    claims = quantities(finding, "float16")
    assert finding.tables["schemes"]["null"].tolist() == ["paired"]
    assert claims["pie_count_p"].estimate > 0.05
    assert claims["pie_count_null"].estimate < 0.5 * finding.claim("pie_count_halves").estimate
    free = quantities(run(found, null="free"), "float16")
    assert free["pie_count_p"].estimate == 1


def test_labels_are_not_needed():
    found = population().drop_vars("label")
    finding = run(found)
    assert finding.claim("pie_count", PRUNED).estimate == run(population()).claim("pie_count", PRUNED).estimate
    assert "accuracy" not in finding.tables
    assert any("no `label`" in caveat for caveat in finding.caveats)
    assert all(not line.startswith("true:") for e in next(iter(finding.galleries.values())) for line in e.lines)


def test_sides_of_other_sizes_and_seeds_can_be_compared():
    found = population(num_seeds=6).isel(trial=[0, 1, 2, 3, 6, 7, 8, 9, 10, 11])
    row = run(found).tables["schemes"].iloc[0]
    assert (row["reference_models"], row["compressed_models"], row["null"]) == (4, 6, "free")


def test_too_little_is_refused():
    with pytest.raises(NotApplicable, match="at least 2 models"):
        run(population(num_seeds=1))
    with pytest.raises(ValueError, match="Expected `tie` to be one of"):
        run(population(), tie="first")  # pyright: ignore[reportArgumentType]
    with pytest.raises(SchemaError, match="same seeds"):
        run(population(schemes={"dense": 0.0, "float16": 0.0}, num_seeds=3).isel(trial=[0, 1, 2, 3, 4]))


def test_two_classes_and_two_models_are_enough():
    finding = run(population(num_seeds=2, num_classes=2))
    claims = quantities(finding)
    assert claims["pie_count_p"].estimate >= 1 / 3
    assert not any(quantity.startswith("top") for quantity in claims)


def test_answers_alone_give_the_same_counts_where_no_tie_needs_probabilities():
    whole, alone = (file_populations.population(sides={"net": 5, "a": 5}, logits=found) for found in (True, False))
    one, two = run(whole, tie="highest"), run(alone, tie="highest")
    kept = [claim for claim in one.claims if not claim.quantity.startswith("top4")]
    assert kept == list(two.claims)
    by_default = run(alone)
    assert by_default.parameters["tie"] == "lowest"
    assert by_default.tables["tie_rules"]["tie"].tolist() == ["lowest", "highest"]
    assert any("no `logits`" in caveat for caveat in by_default.caveats)
    with pytest.raises(NotApplicable, match="tie='most-probable' needs"):
        run(alone, tie="most-probable")


def test_files_of_texts_show_the_texts():
    finding = run(file_populations.population(sides={"net": 4, "a": 4}, text=True))
    (exhibit, *_) = finding.galleries["PIEs: a"]
    assert exhibit.lines[0].startswith("text: question")
    assert exhibit.lines[1].startswith("true: class")
    assert ": answer" in exhibit.lines[2]
    assert finding.tables["examples"]["text"].str.startswith("question").all()
    assert not run(file_populations.population(sides={"net": 4, "a": 4})).galleries


def test_models_that_are_all_the_same_have_no_exemplars():
    found = file_populations.population(sides={"net": 2, "a": 2})
    found["logits"][:] = found["logits"][0].values
    finding = run(found)
    assert finding.claim("pie_count").estimate == finding.claim("pie_count_null").estimate == 0
    assert finding.tables["schemes"]["testable_examples"].tolist() == [0]
