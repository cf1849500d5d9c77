from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import brier_score_loss, log_loss

from remnant.analyses.calibration import example_columns, run
from remnant.finding import NotApplicable
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(seed=0, **options):
    return simulate.population(np.random.default_rng(seed), **{"num_seeds": 5, "num_examples": 300, **options})


def probabilities(logits):
    p = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def test_scores_equal_those_of_scikit_learn():
    found = population()
    table: Any = run(found).to_frame().set_index("scheme")
    label = found["label"].values
    for scheme, rows in (("dense", range(5)), (PRUNED, range(5, 10))):
        p = [probabilities(found["logits"].values[row]) for row in rows]
        assert table.loc[scheme, "nll"] == pytest.approx(np.mean([log_loss(label, q) for q in p]), rel=1e-5)
        options: Any = {"scale_by_half": False}
        brier = [brier_score_loss(label, q, **options) for q in p]
        assert table.loc[scheme, "brier"] == pytest.approx(np.mean(brier), rel=1e-5)
        confidence, right = [q.max(axis=1) for q in p], [q.argmax(axis=1) == label for q in p]
        assert table.loc[scheme, "mean_confidence"] == pytest.approx(np.mean(confidence), rel=1e-6)
        assert table.loc[scheme, "overconfidence"] == pytest.approx(np.mean(confidence) - np.mean(right))


def test_change_has_the_t_interval_over_pairs():
    found = population()
    claim = run(found).claim("nll_change", PRUNED)
    label = found["label"].values
    nll = np.array([log_loss(label, probabilities(row)) for row in found["logits"].values])
    difference = nll[5:] - nll[:5]
    assert claim.estimate == pytest.approx(difference.mean(), rel=1e-3)
    low, high = stats.t.interval(0.95, 4, difference.mean(), stats.sem(difference))
    assert (claim.low, claim.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_sharper_logits_are_overconfident_with_the_same_answers():
    found = population(num_examples=600)
    found["logits"].values[5:] = 3 * found["logits"].values[:5]
    finding = run(found)
    for quantity in ("mean_confidence_change", "overconfidence_change", "ece_change", "nll_change"):
        claim: Any = finding.claim(quantity, PRUNED)
        assert claim.low > 0, quantity
    changes: Any = finding.tables["changes"].set_index("measure")
    assert changes.loc["accuracy", "change"] == 0
    assert not [claim for claim in finding.claims if claim.quantity.startswith(("flipped_confidence_shift", "lost_"))
                and claim.subject == PRUNED]  # fmt: skip
    assert finding.claim("ece", PRUNED).estimate > 2 * finding.claim("ece_if_calibrated", PRUNED).estimate


def test_nothing_changes_against_itself():
    found = population()
    found["logits"].values[5:] = found["logits"].values[:5]
    finding = run(found)
    changes = [claim for claim in finding.claims if claim.quantity.endswith("_change")]
    assert len(changes) == 7
    assert all(claim.estimate == 0 and claim.low is None for claim in changes)


def test_confidence_on_flips_by_hand():
    """One pair, two examples of two classes: the right answer of the second is lost, 0.8 to 0.6 for the other."""
    found = population(num_seeds=1, num_examples=2, num_classes=2)
    p = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4]]])
    found["logits"].values[:] = np.log(p)
    finding = run(found)
    table: Any = finding.tables["flips"].set_index("kind")
    row = table.loc["cie_u"]
    assert row["examples"] == 1
    assert row["reference_confidence"] == pytest.approx(0.8)
    assert row["compressed_confidence"] == pytest.approx(0.6)
    assert row["true_probability_change"] == pytest.approx(-0.4)
    assert table.loc["same", "confidence_shift"] == pytest.approx(0, abs=1e-7)
    claim = finding.claim("lost_answer_confidence_shift", PRUNED)
    assert claim.estimate == pytest.approx(-0.2)
    assert claim.low is None
    assert claim.unit == "example"


def test_the_yardstick_is_what_reference_models_differ_in():
    found = population(num_seeds=4)
    finding = run(found)
    label = found["label"].values
    nll = [log_loss(label, probabilities(row)) for row in found["logits"].values[:4]]
    expected = np.mean([abs(a - b) for i, a in enumerate(nll) for b in nll[:i]])
    assert finding.claim("nll_change_between_seeds").estimate == pytest.approx(expected, rel=1e-3)
    assert "between seeds of the reference" in set(finding.tables["flips"]["scheme"])


def test_changes_of_a_null_population_are_covered():
    covered = total = 0
    for seed in range(20):
        finding = run(population(seed, num_seeds=4, num_examples=150))
        for quantity in ("nll_change", "brier_change", "ece_change", "mean_confidence_change"):
            claim: Any = finding.claim(quantity, PRUNED)
            covered += claim.low <= 0 <= claim.high
            total += 1
    assert covered / total >= 0.88


def test_a_single_pair_of_files_has_intervals_over_examples():
    found = file_populations.population()
    finding = run(found)
    for quantity in ("ece_change", "nll_change", "brier_change", "mean_confidence_change"):
        claim: Any = finding.claim(quantity, "net-int8")
        assert claim.unit == "example"
        assert claim.low < claim.estimate < claim.high
    assert finding.claim("ece_debiased_change", "net-int8").low is None
    assert not [claim for claim in finding.claims if "between_seeds" in claim.quantity]
    assert any("one reference model" in caveat for caveat in finding.caveats)


def test_intervals_over_examples_cover():
    covered = 0
    for seed in range(40):
        claim: Any = run(file_populations.population(seed, num_examples=200)).claim("nll_change", "net-int8")
        covered += claim.low <= 0 <= claim.high
    assert covered >= 34


def test_a_second_run_of_the_reference_is_a_yardstick():
    found = file_populations.population(sides={"net": 1, "again": 1, "net-int8": 1})
    found.attrs["floor"] = "again"
    finding = run(found)
    assert set(finding.to_frame()["scheme"]) == {"net", "net-int8"}
    claim = finding.claim("nll_change_between_seeds")
    label = found["label"].values
    nll = [log_loss(label, probabilities(found["logits"].values[row])) for row in (0, 1)]
    assert claim.estimate == pytest.approx(abs(nll[0] - nll[1]), rel=1e-3)


def test_parts_of_the_brier_score_add_up():
    table = run(population()).tables["decomposition"]
    total = table["reliability"] - table["resolution"] + table["uncertainty"] + table["within"]
    np.testing.assert_allclose(table["brier_of_confidence"], total)


def test_bins_of_the_reliability_diagram_hold_every_example():
    table: Any = run(population(), num_bins=8).tables["reliability"]
    for _, part in table.groupby("scheme"):
        assert part["share"].sum() == pytest.approx(1)
        assert (part["mean_confidence"] > part["confidence_low"]).all()
        assert (part["mean_confidence"] <= part["confidence_high"] + 1e-6).all()


def test_blocks_of_examples_change_nothing(monkeypatch):
    found = file_populations.population()
    whole = run(found)
    monkeypatch.setattr("remnant.analyses.calibration_measures._BLOCK", 35)
    parts = run(found)
    assert [c.quantity for c in parts.claims] == [c.quantity for c in whole.claims]
    np.testing.assert_allclose([c.estimate for c in parts.claims], [c.estimate for c in whole.claims], rtol=1e-6)


def test_columns_of_examples():
    found = population()
    columns = example_columns(found, PRUNED)
    p = probabilities(found["logits"].values)
    ids, value = columns["confidence_change"]
    np.testing.assert_array_equal(ids, found["example"].values)
    np.testing.assert_allclose(value, (p[5:].max(axis=-1) - p[:5].max(axis=-1)).mean(axis=0), atol=1e-6)
    assert set(columns) == {"confidence", "confidence_change", "true_probability_change"}


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(ValueError, match="Expected `num_bins` >= 1, but got 0"):
        run(population(), num_bins=0)
    with pytest.raises(NotApplicable, match="compressed scheme beside"):
        run(population(schemes={"dense": 0.0}))
