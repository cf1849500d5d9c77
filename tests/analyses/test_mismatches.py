from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.mismatches import run
from remnant.finding import NotApplicable
from remnant.population import SchemaError
from tests import simulate

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


def test_results_do_not_depend_on_other_schemes():
    both = population(schemes={"dense": 0.0, PRUNED: 0.3, "float16": 0.0})
    alone = both.isel(trial=both["scheme"].values != "float16")
    assert quantities(run(both)) == quantities(run(alone))
