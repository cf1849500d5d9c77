"""What models cost."""

import numpy as np
import pytest

from remnant.analyses.footprint import ANALYSIS, lossless, run
from remnant.finding import Finding
from remnant.schemes import Compose, Restored, StaticInt8
from remnant.stats.trial_intervals import mean_interval
from tests.simulate import population

PRUNED = "magnitude-pruning(sparsity=0.9)"
SCHEMES = {"dense": 0.0, PRUNED: 1.0, "static-int8": 0.2, "float16": 0.0}
BYTES = {
    "dense": [4000, 2000, 1000, 4125, 8100],
    PRUNED: [4000, 2000, 1000, 525, 900],
    "static-int8": [4000, 2000, 1000, 4125, 8100],
    "float16": [4000, 2000, 1000, 4125, 8100],
}


@pytest.fixture(scope="module")
def simulated():
    found = population(np.random.default_rng(0), num_seeds=6, schemes=SCHEMES)
    return found.assign(bytes=(("trial", "encoding"), np.array([BYTES[s] for s in found["scheme"].values])))


@pytest.fixture(scope="module")
def finding(simulated):
    return run(simulated)


def test_size_is_that_of_the_smallest_encoding_that_keeps_the_weights(finding):
    """int8 would be smaller for all, but changes the weights of all but the quantized scheme."""
    ratios = {label: finding.claim("size_ratio", label).estimate for label in SCHEMES}
    assert ratios == {"dense": 1, PRUNED: 4000 / 525, "static-int8": 4, "float16": 2}
    assert "float32 bitmask" in finding.claim("size_ratio", PRUNED).method
    assert finding.to_frame()["smallest_encoding"].tolist() == ["float32", "float32 bitmask", "int8", "float16"]


@pytest.mark.parametrize(
    ("encoding", "label", "expected"),
    [
        ("float32", "dense", True),
        ("float32 csr", "static-int8(calibration=10)", True),
        ("float16", "dense", False),
        ("int8", PRUNED, False),
        ("int8", f"{PRUNED} + dynamic-int8", True),
        ("float16", "float16", True),
        ("own", "weight-only(bits=4)", True),
        ("int8", "weight-only(bits=4)", False),
        ("int8", Compose((StaticInt8(), Restored(("1",)))).label, False),
    ],
)
def test_lossless(encoding, label, expected):
    assert lossless(encoding, label) is expected


def test_costs_are_means_over_trials(simulated, finding):
    table = finding.to_frame().set_index("scheme")
    rows = simulated["scheme"].values == PRUNED
    assert table.loc[PRUNED, "nonzeros"] == 100
    assert table.loc[PRUNED, "latency_microseconds"] == pytest.approx(1e6 * simulated["latency"].values[rows].mean())
    assert finding.claim("effective_flops_ratio", PRUNED).estimate == 10
    assert finding.claim("effective_flops_ratio", PRUNED).low is None
    assert finding.claim("parameters", "dense").estimate == 1000


def test_latency_ratio_is_paired_by_seed(simulated, finding):
    scheme, latency = simulated["scheme"].values, simulated["latency"].values
    logs = np.log(latency[scheme == "dense"] / latency[scheme == PRUNED])
    interval = mean_interval(logs)
    claim = finding.claim("latency_ratio", PRUNED)
    assert claim.estimate == pytest.approx(np.exp(logs.mean()))
    assert (claim.low, claim.high) == pytest.approx((np.exp(interval.low), np.exp(interval.high)))
    assert finding.claim("latency_ratio", "dense").estimate == 1


def test_accuracy_and_changes_stand_beside_the_costs(simulated, finding):
    guess = simulated["logits"].values.argmax(-1)
    scheme = simulated["scheme"].values
    table = finding.to_frame().set_index("scheme")
    assert table.loc["dense", "cie_rate"] == 0
    assert table.loc[PRUNED, "cie_rate"] == pytest.approx((guess[scheme == "dense"] != guess[scheme == PRUNED]).mean())
    right = guess[scheme == PRUNED] == simulated["label"].values
    assert table.loc[PRUNED, "test_accuracy"] == pytest.approx(right.mean())


def test_varying_sizes_have_an_interval(simulated):
    size = simulated["bytes"].values.astype(float)
    rows = np.flatnonzero(simulated["scheme"].values == PRUNED)
    size[rows, 3] += np.arange(6)
    claim = run(simulated.assign(bytes=(("trial", "encoding"), size))).claim("size_ratio", PRUNED)
    assert claim.estimate == pytest.approx(4000 / 527.5)
    low, high = claim.low or np.nan, claim.high or np.nan
    assert low < claim.estimate < high


def test_encodings_that_are_not_stated_do_not_count(simulated):
    size = simulated["bytes"].values.astype(float)
    size[simulated["scheme"].values == PRUNED, 3] = np.nan
    found = run(simulated.assign(bytes=(("trial", "encoding"), size)))
    assert found.claim("size_ratio", PRUNED).estimate == pytest.approx(4000 / 900)


def test_without_dense_there_are_no_ratios(simulated):
    found = run(simulated.isel(trial=simulated["scheme"].values == PRUNED))
    assert {claim.quantity for claim in found.claims} == {"parameters", "nonzeros", "bytes", "effective_flops"}
    assert any("No dense trials" in caveat for caveat in found.caveats)
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))


def test_measured_extras_are_optional(simulated):
    found = run(simulated.drop_vars(["flops", "effective_flops", "latency", "logits"]))
    assert found.claim("size_ratio", PRUNED)
    assert not [claim for claim in found.claims if claim.quantity in ("latency_ratio", "effective_flops_ratio")]
    ANALYSIS.plot(Finding.from_dict(found.to_dict()))


def test_subset_trials_stand_in_for_the_whole_training_set():
    found = run(population(np.random.default_rng(1), num_seeds=0, num_subset_trials=5))
    assert found.to_frame()["trials"].tolist() == [5]


def test_picture_is_drawn_from_the_stored_finding(finding):
    axes = ANALYSIS.plot(Finding.from_dict(finding.to_dict()))
    assert axes.get_ylabel() == "test accuracy"
