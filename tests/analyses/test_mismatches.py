from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from remnant.analyses.mismatches import run
from remnant.finding import NotApplicable
from remnant.population import SchemaError
from remnant.stats.rates import newcombe_paired
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(seed=0, **options):
    return simulate.population(np.random.default_rng(seed), **options)


def quantities(finding, subject=PRUNED) -> dict[str, Any]:
    return {claim.quantity: claim for claim in finding.claims if claim.subject == subject}


def as_copy(found):
    """The same population with every compressed model equal to the dense model of its seed."""
    half = found.sizes["trial"] // 2
    found["logits"][half:] = found["logits"][:half].values
    return found


def test_rates_equal_loops_over_pairs():
    found = population(schemes={"dense": 0.0, PRUNED: 0.5}, num_seeds=4, num_examples=60, num_classes=3)
    predicted, label = found["logits"].values.argmax(axis=-1), found["label"].values
    lost = [np.sum((predicted[k] == label) & (predicted[k + 4] != label)) / 60 for k in range(4)]
    differ = [np.sum(predicted[k] != predicted[k + 4]) / 60 for k in range(4)]
    claims = quantities(run(found))
    assert claims["cie_u_rate"].estimate == pytest.approx(np.mean(lost))
    low, high = stats.t.interval(0.95, 3, np.mean(differ), stats.sem(differ))
    assert (claims["cie_rate"].low, claims["cie_rate"].high) == (pytest.approx(low), pytest.approx(high))
    assert claims["cie_rate"].unit == "pair"
    parts = sum(claims[f"cie_{kind}_rate"].estimate for kind in "ucw")
    assert claims["cie_rate"].estimate == pytest.approx(parts)
    net = claims["cie_c_rate"].estimate - claims["cie_u_rate"].estimate
    assert claims["net_accuracy_change"].estimate == pytest.approx(net)
    accuracy = (predicted == label).mean(axis=1)
    assert net == pytest.approx((accuracy[4:] - accuracy[:4]).mean())
    assert claims["top1_agreement"].estimate == pytest.approx(1 - claims["cie_rate"].estimate)


def test_noise_of_the_seeds_equals_loops():
    found = population(num_seeds=4, num_examples=50)
    predicted = found["logits"].values.argmax(axis=-1)[:4]
    slow = [np.mean(predicted[j] != predicted[k]) for j in range(4) for k in range(j)]
    finding = run(found)
    claim = finding.claim("cie_rate_null", "dense")
    assert claim.estimate == pytest.approx(np.mean(slow))
    assert claim.unit == "trial"
    right = predicted == found["label"].values
    lost = [np.mean(right[j] & ~right[k]) for j in range(4) for k in range(4) if j != k]
    assert finding.claim("cie_u_rate_null").estimate == pytest.approx(np.mean(lost))


def test_kl_equals_that_of_scipy():
    found = population(num_seeds=2, num_examples=40)
    softmax = np.exp(found["logits"].values.astype(float))
    softmax /= softmax.sum(axis=-1, keepdims=True)
    kl = stats.entropy(softmax[:2], softmax[2:], axis=-1)
    finding = run(found)
    assert finding.claim("kl_mean").estimate == pytest.approx(kl.mean())
    assert finding.claim("kl_max").estimate == pytest.approx(kl.max())
    assert finding.claim("kl_p90").estimate == pytest.approx(np.percentile(kl, 90, axis=1).mean())
    back = stats.entropy(softmax[0], softmax[1], axis=-1).mean(), stats.entropy(softmax[1], softmax[0], axis=-1).mean()
    assert finding.claim("kl_mean_null").estimate == pytest.approx(np.mean(back))


def test_no_mismatch_with_itself():
    finding = run(as_copy(population(num_seeds=5)))
    claims = quantities(finding)
    for quantity in ("cie_rate", "cie_u_rate", "net_accuracy_change", "kl_mean", "kl_max"):
        assert claims[quantity].estimate == 0
    # No mismatch among these examples does not mean that none is possible.
    assert claims["cie_rate"].high > 0
    assert claims["cie_rate"].unit == "example"
    assert claims["prediction_distance_p"].estimate == 1
    assert not any("mcnemar" in quantity for quantity in claims)
    assert any("No mismatch at all" in caveat for caveat in finding.caveats)
    assert not finding.galleries


def test_one_pair_is_judged_over_its_examples():
    finding = run(population(schemes={"dense": 0.0, PRUNED: 1.0}, num_seeds=1))
    claims = quantities(finding)
    assert claims["cie_rate"].unit == claims["net_accuracy_change"].unit == "example"
    assert claims["net_accuracy_change"].low < claims["net_accuracy_change"].estimate
    pairs: Any = finding.tables["pairs"]
    b, c = pairs["cie_u"][0], pairs["cie_c"][0]
    assert claims["mcnemar_p"].estimate == pytest.approx(stats.binomtest(int(b), int(b + c)).pvalue)
    assert claims["mcnemar_p"].n == b + c
    assert not {"cie_rate_null", "cie_excess", "prediction_distance"} & set(claims)
    assert any("one dense model" in caveat for caveat in finding.caveats)
    assert np.isfinite(finding.tables["classes"]["net_p"]).any()


def test_forgotten_examples_come_first():
    finding = run(population(forgotten=0.05, num_examples=200), gallery=10)
    (exhibits,) = finding.galleries.values()
    assert len(exhibits) == 10
    assert int(exhibits[0].example.removeprefix("test-")) < 10
    values: list[Any] = [exhibit.value for exhibit in exhibits]
    assert values == sorted(values, reverse=True)
    assert exhibits[0].lines[0].startswith("true: class")
    assert exhibits[0].lines[1].startswith("dense: ")
    assert exhibits[0].lines[2].startswith(f"{PRUNED}: class")


def test_forgetting_is_beyond_the_noise_of_the_seeds():
    claims = quantities(run(population(forgotten=0.05, num_examples=400)))
    assert claims["prediction_distance_p"].estimate <= 0.005
    assert claims["cie_excess"].low > 0
    assert claims["net_accuracy_change"].high < 0


def test_intervals_cover_under_the_null():
    """Dense and compressed models of one process: the net change and the excess are 0."""
    covered = {"net_accuracy_change": 0, "cie_excess": 0}
    p = []
    for seed in range(80):
        claims = quantities(run(population(seed, num_seeds=6, num_examples=80), num_permutations=99))
        for quantity in covered:
            covered[quantity] += claims[quantity].low <= 0 <= claims[quantity].high
        p.append(claims["prediction_distance_p"].estimate)
    assert all(66 <= count <= 80 for count in covered.values()), covered
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_classes_and_groups_add_up():
    finding = run(population(schemes={"dense": 0.0, PRUNED: 0.5}))
    total = finding.claim("cie_rate", PRUNED).estimate
    for name in ("classes", "groups"):
        table: Any = finding.tables[name]
        assert (table["cie_rate"] * table["examples"]).sum() / table["examples"].sum() == pytest.approx(total)
    assert list(finding.tables["groups"]["level"]) == ["A", "B"]


def test_other_seeds_are_refused():
    with pytest.raises(SchemaError, match="same seeds on both sides"):
        run(population(num_seeds=3).isel(trial=[0, 1, 2, 3, 4]))
    with pytest.raises(NotApplicable, match="compressed scheme"):
        run(population(schemes={"dense": 0.0}))


def test_intervals_of_one_pair_are_over_its_examples():
    """Wilson's by statsmodels, the t interval of the mean and the order statistics by SciPy."""
    population = file_populations.population(num_examples=1000)
    predicted, label = population["logits"].values.argmax(axis=-1), population["label"].values
    claims = quantities(run(population), "net-int8")
    lost = int(((predicted[0] == label) & (predicted[1] != label)).sum())
    wilson: Any = proportion_confint(lost, 1000, method="wilson")
    assert (claims["cie_u_rate"].low, claims["cie_u_rate"].high) == (pytest.approx(wilson[0]), pytest.approx(wilson[1]))
    kl = stats.entropy(*special.softmax(population["logits"].values.astype(float), axis=-1), axis=-1)
    low, high = stats.t.interval(0.95, 999, kl.mean(), stats.sem(kl))
    assert (claims["kl_mean"].low, claims["kl_mean"].high) == (pytest.approx(low), pytest.approx(high))
    for percent in (50, 90, 99):
        expected: Any = stats.quantile_test(kl, p=percent / 100)
        interval = expected.confidence_interval()
        claim = claims[f"kl_p{percent}"]
        assert (claim.low, claim.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
        assert claim.citation.startswith("wilks1948order")
    assert {claims[name].n for name in ("kl_mean", "kl_p50", "kl_max", "net_accuracy_change")} == {1000}
    assert claims["net_accuracy_change"].text().count("points") == 3


def test_too_few_examples_for_a_percentile_leave_its_interval_out():
    claims = quantities(run(file_populations.population(num_examples=100)), "net-int8")
    assert claims["kl_p99"].low is claims["kl_p99"].high is None
    assert "too few examples" in claims["kl_p99"].method
    assert claims["kl_p50"].low is not None


def test_intervals_of_one_pair_cover_under_the_null():
    """Two models of one process: the net change is 0; the true shares are those of a very large test set."""
    truth = quantities(run(file_populations.population(99, num_examples=100_000)), "net-int8")
    names = ("cie_rate", "cie_u_rate", "cie_w_rate", "kl_mean", "kl_p50", "kl_p90", "gross_accuracy_change")
    covered, p = dict.fromkeys((*names, "net_accuracy_change"), 0), []
    for seed in range(60):
        claims = quantities(run(file_populations.population(seed)), "net-int8")
        for name in names:
            covered[name] += claims[name].low <= truth[name].estimate <= claims[name].high
        covered["net_accuracy_change"] += claims["net_accuracy_change"].low <= 0 <= claims["net_accuracy_change"].high
        p.append(claims["mcnemar_p"].estimate)
    assert all(count >= 51 for count in covered.values()), covered
    assert np.mean(np.array(p) <= 0.05) <= 0.1


def test_tables_of_one_pair_hold_the_intervals_of_its_claims():
    finding = run(file_populations.population())
    claims, row = quantities(finding, "net-int8"), finding.to_frame().iloc[0]
    for kind in ("cie", "cie_u", "cie_c", "cie_w"):
        claim = claims[f"{kind}_rate"]
        assert (row[f"{kind}_rate_low"], row[f"{kind}_rate_high"]) == (claim.low, claim.high)
    net = claims["net_accuracy_change"]
    assert (row["net_accuracy_change"], row["net_low"], row["net_high"]) == (net.estimate, net.low, net.high)
    accuracies = [finding.claim("test_accuracy", side).estimate for side in ("net-int8", "net")]
    assert accuracies[0] - accuracies[1] == pytest.approx(net.estimate)


def test_classes_and_groups_of_one_pair_equal_loops():
    population = file_populations.population(noise=1.5)
    predicted, label = population["logits"].values.argmax(axis=-1), population["label"].values
    right = predicted == label
    finding = run(population)
    for table, index in (
        (finding.tables["classes"], label),
        (finding.tables["groups"], (population["group_site"].values == "B").astype(int)),
    ):
        for place, row in enumerate(table.to_dict("records")):
            a, b = right[:, index == place]
            table_of_pair = [(a & b).sum(), (b & ~a).sum(), (a & ~b).sum(), (~a & ~b).sum()]
            low, high = newcombe_paired(*table_of_pair)
            assert (row["net_low"], row["net_high"]) == (pytest.approx(low), pytest.approx(high))
            assert row["net_accuracy_change"] == pytest.approx(b.mean() - a.mean())
            assert row["compressed_accuracy"] == pytest.approx(b.mean())
            assert row["cie_w_rate"] == pytest.approx(
                ((predicted[0] != predicted[1]) & ~right.any(axis=0))[index == place].mean()
            )
            lost, gained = table_of_pair[2], table_of_pair[1]
            assert row["net_p"] == pytest.approx(stats.binomtest(int(lost), int(lost + gained)).pvalue)


@pytest.mark.parametrize("sides", [{"net": 1, "a": 1}, {"net": 1, "a": 3}, {"net": 3, "a": 3}])
def test_answers_alone_give_the_same_flips(sides):
    whole = run(file_populations.population(sides=sides))
    alone = run(file_populations.population(sides=sides, logits=False))
    assert [c for c in whole.claims if not c.quantity.startswith("kl")] == list(alone.claims)
    assert not any("kl" in column for table in alone.tables.values() for column in table)
    assert any("no `logits`" in caveat for caveat in alone.caveats)


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("sides", [{"net": 1, "a": 1}, {"net": 1, "a": 3}, {"net": 3, "a": 3}])
def test_without_labels_it_is_known_what_changes(sides, logits):
    population = file_populations.population(sides=sides, logits=logits)
    labelled, finding = run(population), run(population.drop_vars("label"))
    known = {
        "cie_rate",
        "top1_agreement",
        "cie_rate_null",
        "cie_excess",
        "prediction_distance",
        "prediction_distance_p",
    }
    expected = [c for c in labelled.claims if c.quantity in known or c.quantity.startswith("kl")]
    assert list(finding.claims) == expected
    assert "classes" not in finding.tables
    rates = [found.tables["groups"]["cie_rate"].tolist() for found in (finding, labelled)]
    assert rates[0] == rates[1]
    assert any("not which are right" in caveat for caveat in finding.caveats)
    assert finding.plot().get_legend_handles_labels()[1][0] in ("another answer", "two models of the reference")
    finding.to_json()


def test_one_reference_file_stands_against_every_file():
    population = file_populations.population(sides={"net": 1, "a": 3})
    predicted, label = population["logits"].values.argmax(axis=-1), population["label"].values
    lost = ((predicted[0] == label) & (predicted[1:] != label)).mean(axis=1)
    finding = run(population)
    claim: Any = finding.claim("cie_u_rate", "a")
    low, high = stats.t.interval(0.95, 2, lost.mean(), stats.sem(lost))
    assert (claim.estimate, claim.low, claim.high) == tuple(pytest.approx(x) for x in (lost.mean(), low, high))
    kl = [quantities(run(population.isel(trial=[0, k])), "a")["kl_mean"].estimate for k in (1, 2, 3)]
    assert finding.claim("kl_mean", "a").estimate == pytest.approx(np.mean(kl))
    assert finding.tables["pairs"]["file"].tolist() == [0, 1, 2]
    assert any("one reference model" in caveat for caveat in finding.caveats)
    assert not any("seed" in caveat.replace("other seeds of", "") for caveat in finding.caveats)


def test_files_as_pairs_give_what_a_store_gives():
    """The same numbers in a store and in files: only words differ."""
    store = population(schemes={"dense": 0.0, "theirs": 0.5}, num_seeds=4)
    files = store.assign_attrs(reference="dense")
    one, two = (quantities(run(found), "theirs") for found in (store, files))
    assert {name: (c.estimate, c.low, c.high) for name, c in one.items()} == {
        name: (c.estimate, c.low, c.high) for name, c in two.items() if name in one
    }
    assert set(two) - set(one) == {"test_accuracy"}
    assert "same seed" in one["cie_rate"].method
    assert "seed" not in two["cie_rate"].method


def test_a_single_pair_says_what_it_cannot_tell():
    caveats = " ".join(run(file_populations.population()).caveats)
    for words in ("PIEs", "several models a side", "calibration sets", "checkpoints", "one model of net"):
        assert words in caveats


def test_results_do_not_depend_on_other_schemes():
    both = population(schemes={"dense": 0.0, PRUNED: 0.3, "float16": 0.0})
    alone = both.isel(trial=both["scheme"].values != "float16")
    assert quantities(run(both)) == quantities(run(alone))
