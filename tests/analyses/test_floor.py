from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.floor import plot, run
from remnant.analyses.floor_measures import Sums
from remnant.finding import Finding, NotApplicable
from remnant.registry import UnknownNameError
from remnant.stats.equivalence import tango_interval
from remnant.stats.rates import wilson
from tests import simulate
from tests.analyses import file_sides


def noisy(seed=0, again=(0.01, 0.02), **options):
    found = file_sides.population(np.random.default_rng(seed), {"again": again, "small": (0.1, 0.1)}, **options)
    return found.assign_attrs(floor="again")


def test_rates_equal_loops():
    found = noisy(num_examples=3000)
    first, again, small = found["prediction"].values
    label = found["label"].values
    finding = run(found)
    flips = {
        "cie": first != again,
        "cie_u": (first == label) & (again != label),
        "cie_c": (first != label) & (again == label),
        "cie_w": (first != again) & (first != label) & (again != label),
    }
    for kind, flag in flips.items():
        claim = finding.claim(f"floor_{kind}_rate", "reference")
        assert claim.estimate == pytest.approx(flag.mean())
        assert (claim.low, claim.high) == pytest.approx(tuple(map(float, wilson(flag.sum(), 3000))))
    own = first != small
    excess = finding.claim("excess_cie_rate", "small")
    assert excess.estimate == pytest.approx(own.mean() - flips["cie"].mean())
    expected = tango_interval((flips["cie"] & ~own).sum(), (own & ~flips["cie"]).sum(), 3000)
    assert (excess.low, excess.high) == pytest.approx(tuple(map(float, expected)))
    assert excess.low is not None
    assert excess.low > 0
    assert "floor_kl_mean" not in {claim.quantity for claim in finding.claims}


def test_divergence_equals_that_of_scipy():
    found = simulate.population(
        np.random.default_rng(0), schemes={"dense": 0.0, "again": 0.0, "int8": 0.5}, num_seeds=1, num_examples=80
    )
    finding = run(found, floor="again")
    softmax = np.exp(found["logits"].values.astype(float))
    softmax /= softmax.sum(axis=-1, keepdims=True)
    floor, own = (stats.entropy(softmax[0], softmax[k], axis=-1) for k in (1, 2))
    claim = finding.claim("floor_kl_mean", "dense")
    assert claim.estimate == pytest.approx(floor.mean())
    half = 1.959964 * stats.sem(floor)
    assert (claim.low, claim.high) == pytest.approx((floor.mean() - half, floor.mean() + half), rel=1e-6)
    excess = finding.claim("excess_kl_mean", "int8")
    assert excess.estimate == pytest.approx((own - floor).mean())
    half = 1.959964 * stats.sem(own - floor)
    assert (excess.low, excess.high) == pytest.approx((excess.estimate - half, excess.estimate + half), rel=1e-6)


def test_a_deterministic_reference_is_called_so():
    finding = run(noisy(again=(0.0, 0.0)))
    assert finding.claim("floor_cie_rate").estimate == 0
    high = finding.claim("floor_cie_rate").high
    assert high is not None
    assert high > 0
    assert any("is deterministic" in caveat for caveat in finding.caveats)
    assert not any("is deterministic" in caveat for caveat in run(noisy()).caveats)
    rate = finding.claim("excess_cie_u_rate").estimate
    found = noisy(again=(0.0, 0.0))
    right = found["prediction"].values == found["label"].values
    assert rate == pytest.approx((right[0] & ~right[2]).mean())


def test_same_answers_from_other_outputs_are_not_called_deterministic():
    found = simulate.population(np.random.default_rng(0), schemes={"dense": 0.0, "again": 0.0}, num_seeds=1)
    found["logits"][1] = found["logits"][0].values * 1.001
    finding = run(found, floor="again")
    assert any("from slightly other outputs" in caveat for caveat in finding.caveats)
    found["logits"][1] = found["logits"][0].values
    assert any("the same probabilities" in caveat for caveat in run(found, floor="again").caveats)


def test_the_same_file_twice_says_nothing():
    found = noisy(again=(0.0, 0.0))
    found.attrs["inputs"] = [
        {"side": side, "name": f"{side}.csv", "sha256": hashed}
        for side, hashed in (("reference", "ab"), ("again", "ab"), ("small", "cd"))
    ]
    assert "says nothing" in run(found).caveats[0]
    found.attrs["inputs"][1]["sha256"] = "ef"
    assert not any("says nothing" in caveat for caveat in run(found).caveats)


def test_several_runs_are_averaged():
    found = noisy(files=3, num_examples=2000)
    finding = run(found)
    first = found["prediction"].values[0]
    flips = (found["prediction"].values[1:4] != first).mean(axis=1)
    assert finding.claim("floor_cie_rate").estimate == pytest.approx(flips.mean())
    assert finding.claim("floor_cie_rate").unit == "pair"
    own = (found["prediction"].values[4:] != first).mean(axis=0) - (found["prediction"].values[1:4] != first).mean(
        axis=0
    )
    claim = finding.claim("excess_cie_rate")
    assert claim.estimate == pytest.approx(own.mean())
    half = 1.959964 * stats.sem(own)
    assert (claim.low, claim.high) == pytest.approx((own.mean() - half, own.mean() + half), rel=1e-6)


def test_excess_of_a_third_run_is_covered():
    """Another run of the reference has no excess over the floor: 95 % of intervals hold 0."""
    rng = np.random.default_rng(0)
    num, covered = 400, 0
    again, other = rng.random((2, num, 800)) < 0.05
    for floor, own in zip(again, other, strict=True):
        low, high = Sums().plus(own.astype(float), floor.astype(float)).interval(flags=True) or (1, 1)
        covered += low <= 0 <= high
    assert stats.binom.ppf(0.01, num, 0.95) <= covered <= stats.binom.ppf(0.995, num, 0.97)


def test_answers_without_labels_have_a_floor_too():
    found = noisy().drop_vars("label")
    finding = run(found)
    assert {claim.quantity for claim in finding.claims} == {"floor_cie_rate", "excess_cie_rate"}


def test_blocks_do_not_change_the_result(monkeypatch):
    found = simulate.population(
        np.random.default_rng(0), schemes={"dense": 0.0, "again": 0.0, "int8": 0.5}, num_seeds=1
    )
    whole = run(found, floor="again")
    monkeypatch.setattr("remnant.analyses.floor_measures._LOGITS", 100)
    for claim, other in zip(whole.claims, run(found, floor="again").claims, strict=True):
        assert claim.estimate == pytest.approx(other.estimate)
        assert claim.low == pytest.approx(other.low)


def test_without_a_second_run_it_says_what_to_do():
    found = noisy()
    del found.attrs["floor"]
    with pytest.raises(NotApplicable, match="run the reference twice"):
        run(found)
    with pytest.raises(UnknownNameError, match="'againn'"):
        run(found, floor="againn")


def test_findings_survive_json_and_can_be_drawn():
    finding = Finding.from_dict(run(noisy()).to_dict())
    table: Any = finding.tables["floor"]
    assert table["measure"].tolist() == ["cie_rate", "cie_u_rate", "cie_c_rate", "cie_w_rate"]
    assert "test examples" in plot(finding).get_xlabel()
    alone = run(noisy().isel(trial=[0, 1]))
    assert set(alone.tables) == {"floor"}
    plot(alone)
