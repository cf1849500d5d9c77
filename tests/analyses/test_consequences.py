"""Effects on behaviours, put together from claims of other findings."""

from typing import Any

import numpy as np
import pytest

from remnant.analyses import audit, consequences
from remnant.finding import Claim, Finding, NotApplicable
from tests import simulate

PRUNED, INT8 = "magnitude-pruning(sparsity=0.9)", "static-int8"


def claim(quantity, subject, estimate, low=None, high=None, detail=""):
    return Claim(quantity, subject, estimate, low, high, 5, "pair", "made up", "", "points", detail)


def finding(*claims):
    return Finding("made-up", "?", {}, claims, {})


def effects(*claims) -> tuple[Finding, Any]:
    found = consequences.run([finding(*claims)])
    table: Any = found.tables["effects"]
    return found, table.set_index(["behaviour", "scheme"])["verdict"]


def test_verdicts_follow_the_interval_and_the_direction_of_harm():
    _, verdict = effects(
        claim("net_accuracy_change", PRUNED, -0.02, -0.03, -0.01),
        claim("net_accuracy_change", INT8, 0.02, 0.01, 0.03),
        claim("generalization_gap_change", PRUNED, 0.02, 0.01, 0.03),
        claim("generalization_gap_change", INT8, -0.02, -0.04, 0.01),
    )
    assert verdict["accuracy", PRUNED] == "harms"
    assert verdict["accuracy", INT8] == "helps"
    assert verdict["overfitting (generalization gap)", PRUNED] == "harms"
    assert verdict["overfitting (generalization gap)", INT8] == "no evidence"


def test_no_interval_is_no_evidence():
    found, verdict = effects(claim("net_accuracy_change", PRUNED, -0.5))
    assert verdict["accuracy", PRUNED] == "no evidence"
    assert found.claim("behaviours_harmed", PRUNED).estimate == 0


def test_an_effect_at_the_end_of_its_interval_is_no_evidence():
    _, verdict = effects(claim("net_accuracy_change", PRUNED, -0.5, -1.0, 0.0))
    assert verdict["accuracy", PRUNED] == "no evidence"


def test_similarities_are_held_against_another_seed(monkeypatch):
    likeness = consequences.Behaviour("likeness", "likeness", "fall", baseline="likeness_seeds")
    monkeypatch.setattr(consequences, "BEHAVIOURS", (likeness,))
    _, verdict = effects(
        claim("likeness", PRUNED, 0.5, 0.45, 0.55),
        claim("likeness", INT8, 0.9, 0.85, 0.95),
        claim("likeness_seeds", "dense", 0.7, 0.6, 0.8),
    )
    assert verdict["likeness", PRUNED] == "harms"
    assert verdict["likeness", INT8] == "kept"
    with pytest.raises(NotApplicable):
        consequences.run([finding(claim("likeness", PRUNED, 0.5, 0.45, 0.55))])


def test_several_measurements_of_a_behaviour_are_rows_of_their_own():
    found, verdict = effects(
        claim("net_accuracy_change", PRUNED, -0.02, -0.03, -0.01, "clean"),
        claim("net_accuracy_change", PRUNED, -0.02, -0.03, 0.01, "noisy"),
    )
    assert verdict["accuracy: clean", PRUNED] == "harms"
    assert verdict["accuracy: noisy", PRUNED] == "no evidence"
    assert len(found.to_frame()) == 2


def test_verdicts_that_hold_together_need_wider_intervals():
    """With two behaviours, intervals widen by z(0.9875) / z(0.975) = 2.2414 / 1.9600, normal quantiles of any table."""
    sure, thin = -1.01 * 2.2414 / 1.96, -0.99 * 2.2414 / 1.96
    for estimate, expected in ((sure, True), (thin, False)):
        found, _ = effects(
            claim("net_accuracy_change", PRUNED, estimate, estimate - 1, estimate + 1),
            claim("generalization_gap_change", PRUNED, 0, -1, 1),
        )
        assert found.tables["effects"]["holds_together"].tolist() == [expected, False]


def test_without_any_behaviour_it_is_not_run():
    with pytest.raises(NotApplicable, match="ask for some of them too"):
        consequences.run([])


def test_an_audit_asks_it_of_what_the_others_found():
    population = simulate.population(np.random.default_rng(0), num_subset_trials=4)
    found = audit(population, ["consequences", "mismatches", "generalization"])
    assert [f.analysis for f in found.findings] == ["consequences", "mismatches", "generalization"]
    effect: Any = found.findings[0].tables["effects"]
    table = effect.set_index(["behaviour", "scheme"])
    change = found.findings[1].claim("net_accuracy_change", PRUNED)
    assert table["effect"]["accuracy", PRUNED] == change.estimate
    assert found.findings[0].plot() is not None


def test_under_the_null_one_behaviour_in_twenty_is_said_to_change():
    """500 simulated t intervals over 6 pairs without effect: 5 % of them have a verdict, either way."""
    from remnant.analyses.comparison import mean_claim

    rng = np.random.default_rng(0)
    said = 0
    for _ in range(500):
        made = mean_claim("net_accuracy_change", PRUNED, rng.normal(0, 1, 6), "pair", method="?", scale="points")
        said += effects(made)[1].iloc[0] != "no evidence"
    assert 12 <= said <= 40  # binomial(500, 0.05) within 3 standard deviations
