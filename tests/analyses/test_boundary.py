from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from remnant.analyses import boundary
from remnant.analyses.boundary import example_columns, run
from remnant.analyses.boundary_claims import estimates
from remnant.analyses.boundary_measures import part, sides
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.probes.boundary import FOUND, NOT_FOUND, NOT_MEASURED
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"
INT8 = "static-int8"
LIMIT = 30.0


def probed_population(seed=0, *, schemes=(PRUNED,), num_seeds=3, num_examples=200, spread=0.2, own=0.1):
    """Distances exp(example + seed + scheme noise): the same in all schemes of a seed if `spread` is 0.

    Answers agree on all examples; every second one was probed.
    """
    rng = np.random.default_rng(seed)
    found = simulate.population(
        rng, schemes=dict.fromkeys(("dense", *schemes), 0.0), num_seeds=num_seeds, num_examples=num_examples
    )
    found["logits"].values[:] = 5 * np.eye(5)[found["label"].values]
    rows = np.arange(0, num_examples, 2)
    trials, seeds = found.sizes["trial"], found["seed"].values
    at_all = rng.normal(1, 0.7, (len(rows), 4)) + rng.normal(0, 0.7, (len(rows), 1))
    of_seed = at_all + rng.normal(0, own, (num_seeds, len(rows), 4))
    values = of_seed[seeds].copy()
    compressed = found["scheme"].values != "dense"
    values[compressed] += rng.normal(0, spread, (compressed.sum(), len(rows), 4)) if spread else 0.0
    values = np.minimum(np.exp(values), LIMIT)
    status = np.full((trials, len(rows)), FOUND, np.uint8)
    status[found["scheme"].values == INT8] = NOT_MEASURED
    nearest = np.where(status == FOUND, values[:, :, 3] / 50, 0)
    probe = xr.Dataset(
        {
            "random": (("trial", "example", "direction"), values[:, :, :3].astype(np.float32)),
            "random_found": (("trial", "example", "direction"), values[:, :, :3] < LIMIT),
            "nearest": (("trial", "example"), nearest.astype(np.float32)),
            "nearest_status": (("trial", "example"), status),
            "along_reference": (("trial", "example"), (values[:, :, 3] / 50).astype(np.float32)),
            "along_reference_status": (("trial", "example"), np.full_like(status, FOUND)),
            "label": (("example",), found["label"].values[rows]),
        },
        coords={
            **{name: found[name] for name in ("trial", "seed", "scheme", "subset", "class")},
            "example": found["example"].values[rows],
            "direction": [0, 1, 2],
        },
        attrs={"probe": {"limit": 2.0, "clip": False}},
    )
    found.attrs["probes"] = {"boundary": probe}
    return found, probe


def other_answers(found, scheme, seed, examples):
    """Give another answer on some examples in one model."""
    row = np.flatnonzero((found["scheme"].values == scheme) & (found["seed"].values == seed))[0]
    found["logits"].values[row, examples] = np.roll(found["logits"].values[row, examples], 1, axis=-1)


def test_statistics_of_one_pair_equal_those_by_slow_loops():
    found, probe = probed_population(num_seeds=1, num_examples=80, spread=0.3)
    other_answers(found, PRUNED, 0, np.arange(0, 24, 2))
    first, second = probe["random"].values.astype(float).mean(axis=2)
    same = np.arange(40) >= 12
    ratios = [b / a for a, b, s in zip(first, second, same, strict=True) if s]
    expected: Any = stats.spearmanr(first[same], second[same])
    kept = sum(1 / 1.25 <= ratio <= 1.25 for ratio in ratios)
    nearer = [(a < b) + 0.5 * (a == b) for a in first[~same] for b in first[same]]
    finding = run(found, factor=1.25)

    def value(quantity):
        return finding.claim(quantity, PRUNED).estimate

    assert value("random_distance") == pytest.approx(np.median(second))
    assert finding.claim("random_distance", "dense").estimate == pytest.approx(np.median(first))
    assert value("random_distance_ratio") == pytest.approx(np.exp(np.median(np.log(ratios))))
    assert value("random_distance_correlation") == pytest.approx(expected.statistic)
    assert value("random_distance_preserved") == pytest.approx(kept / 40)
    assert value("random_distance_factor") == pytest.approx(np.exp(np.median(np.abs(np.log(ratios)))))
    assert value("random_cie_nearer") == pytest.approx(np.mean(nearer))
    row = finding.to_frame().set_index("measure").loc["random"]
    assert row["reference_mean"] == pytest.approx(first.mean())
    assert {c.unit for c in finding.claims if c.subject == PRUNED and not c.quantity.endswith("distance")} == {
        "example"
    }
    assert any("one pair" in caveat for caveat in finding.caveats)
    assert not any(c.quantity.endswith("_null") for c in finding.claims)


def test_statistics_of_several_pairs_are_means_over_pairs():
    found, probe = probed_population(num_seeds=4)
    values = probe["random"].values.astype(float).mean(axis=2)
    medians = [np.median(np.log(values[4 + k] / values[k])) for k in range(4)]
    claim: Any = run(found).claim("random_distance_ratio", PRUNED)
    assert claim.estimate == pytest.approx(np.exp(np.mean(medians)))
    reach = stats.t.ppf(0.975, 3) * np.std(medians, ddof=1) / 2
    assert (claim.low, claim.high) == pytest.approx(
        (np.exp(np.mean(medians) - reach), np.exp(np.mean(medians) + reach))
    )
    assert (claim.n, claim.unit) == (4, "pair")


def test_nothing_changes_against_itself():
    found, _ = probed_population(spread=0.0)
    finding = run(found)
    for measure in ("random", "nearest", "along_reference"):
        assert finding.claim(f"{measure}_distance_ratio", PRUNED).estimate == pytest.approx(1)
        assert finding.claim(f"{measure}_distance_correlation", PRUNED).estimate == pytest.approx(1)
        assert finding.claim(f"{measure}_distance_preserved", PRUNED).estimate == 1
        assert finding.claim(f"{measure}_distance_factor", PRUNED).estimate == pytest.approx(1)
    # Without mismatches, nothing can be said on where they lie.
    assert not any("cie_nearer" in claim.quantity for claim in finding.claims)
    assert "Nearer to the boundary: " + PRUNED not in finding.galleries


def test_other_seeds_stand_beside_as_the_null():
    found, probe = probed_population(num_seeds=4, own=0.2, spread=0.0)
    values = probe["random"].values.astype(float).mean(axis=2)[:4]
    pairs = [(j, k) for j in range(4) for k in range(4) if j != k]
    slow = np.mean([np.corrcoef(*map(stats.rankdata, (values[j], values[k])))[0, 1] for j, k in pairs])
    finding = run(found)
    claim: Any = finding.claim("random_distance_correlation_null")
    assert claim.estimate == pytest.approx(slow)
    assert claim.low < claim.estimate < claim.high
    assert claim.subject == "dense"
    apart = np.mean([abs(np.median(np.log(values[k] / values[j]))) for j, k in pairs])
    assert finding.claim("random_distance_ratio_null").estimate == pytest.approx(np.exp(apart))
    kept = np.mean([np.abs(np.log(values[k] / values[j])) <= np.log(1.1) for j, k in pairs])
    assert finding.claim("random_distance_preserved_null").estimate == pytest.approx(kept)
    # Another model was not measured along the worst direction of a seed.
    assert not any(c.quantity.startswith("along_reference") and c.quantity.endswith("_null") for c in finding.claims)
    assert run(probed_population(num_seeds=2)[0]).claim("random_distance_correlation_null").low is None


def test_masked_gradients_leave_the_worst_direction_of_the_reference():
    found, _ = probed_population(schemes=(PRUNED, INT8))
    other_answers(found, INT8, 0, np.arange(0, 20, 2))
    finding = run(found)
    table = finding.to_frame()
    assert table.loc[table["scheme"] == INT8, "measure"].tolist() == ["random", "along_reference"]
    assert table.loc[table["scheme"] == PRUNED, "measure"].tolist() == ["random", "nearest", "along_reference"]
    assert any(f"The gradients of {INT8}" in caveat for caveat in finding.caveats)
    # One of the three pairs has mismatches, so that the interval is over its examples.
    assert finding.claim("nearest_cie_nearer", INT8).unit == "example"
    assert not any(c.subject == INT8 and c.quantity.startswith("nearest_distance") for c in finding.claims)


def test_mismatches_near_the_boundary_are_seen_as_such():
    found, probe = probed_population(num_seeds=4)
    first = probe["random"].values.mean(axis=2)
    for seed in range(4):
        other_answers(found, PRUNED, seed, 2 * np.argsort(first[seed])[:15])
    finding = run(found)
    assert finding.claim("random_cie_nearer", PRUNED).estimate == pytest.approx(1)
    assert finding.claim("nearest_cie_nearer", PRUNED).estimate > 0.6
    # A changed answer is not preserved, however little the distance changed.
    assert finding.claim("random_distance_preserved", PRUNED).estimate <= 0.85
    table = finding.tables["factors"].query("measure == 'random'")
    assert (table["preserved"].to_numpy() <= 0.85).all()
    assert table["preserved"].is_monotonic_increasing


def estimate(found, name):
    """A statistic of the random directions of the first scheme."""
    both = sides(found)
    return estimates(part(both, both.comparisons[0], "random", (1.1,)), 1.1)[name]


def test_mismatches_anywhere_are_as_near_as_others():
    """Under the null, half of the time; the interval over examples of one pair covers it."""
    covered = 0
    for seed in range(60):
        found, _ = probed_population(seed, num_seeds=1, num_examples=240)
        other_answers(found, PRUNED, 0, 2 * np.random.default_rng(seed).permutation(120)[:25])
        one: Any = estimate(found, "cie_nearer")
        covered += one.low <= 0.5 <= one.high
    assert covered >= 52


def test_intervals_over_the_examples_of_one_pair_cover():
    """All distances of the compressed model are 0.8 of what noise without a trend makes of them."""
    covered = np.zeros(2)
    for seed in range(60):
        found, probe = probed_population(seed, num_seeds=1, num_examples=120, spread=0.3)
        ray = probe["random"].values[:, :, :1] * np.ones(3, np.float32)
        probe["random"].values[:] = ray
        probe["random"].values[1] *= 0.8
        ratio: Any = estimate(found, "ratio")
        covered[0] += ratio.low <= 0.8 <= ratio.high
        # ln ratio is normal with mean ln 0.8 and deviation 0.3: the share between -ln 1.1 and ln 1.1.
        truth = np.diff(stats.norm.cdf(np.array([-1, 1]) * np.log(1.1), np.log(0.8), 0.3)).item()
        kept: Any = estimate(found, "preserved")
        covered[1] += kept.low <= truth <= kept.high
    assert (covered >= 52).all()


def test_what_neither_model_finds_is_left_out_and_named():
    found, probe = probed_population(num_seeds=2)
    probe["random"].values[:, :10] = LIMIT
    probe["random_found"].values[:, :10] = False
    probe["nearest"].values[2, 10:13] = LIMIT
    probe["nearest_status"].values[2, 10:13] = NOT_FOUND
    finding = run(found)
    table = finding.to_frame().set_index("measure")
    assert table.loc["random", "examples"] == 90
    assert table.loc["nearest", "examples"] == 100
    assert table.loc["nearest", "compressed_mean"] < 1
    assert any("within the limit" in caveat for caveat in finding.caveats)
    listed = finding.tables["examples"].set_index("example")
    assert listed.loc[probe["example"].values[:10], "random_ratio"].isna().all()
    finding.to_json()


def test_answers_that_differ_everywhere_leave_distances_alone():
    found, _ = probed_population(num_seeds=1)
    other_answers(found, PRUNED, 0, np.arange(200))
    finding = run(found)
    assert finding.claim("random_distance_preserved", PRUNED).estimate == 0
    assert not any(c.quantity == "random_distance_ratio" for c in finding.claims)
    boundary.plot(Finding.from_dict(finding.to_dict()))
    assert set(example_columns(found, PRUNED)["boundary_distance_change"][0]) == set()


def test_columns_are_means_over_pairs():
    found, probe = probed_population(num_seeds=2, schemes=(PRUNED, INT8))
    other_answers(found, PRUNED, 0, np.arange(0, 4, 2))
    columns = example_columns(found, PRUNED)
    values = probe["random"].values.astype(float).mean(axis=2)
    ids, distance = columns["boundary_distance"]
    assert ids.tolist() == probe["example"].values.tolist()
    np.testing.assert_allclose(distance, values[:2].mean(axis=0))
    change = np.log(values[2:4] / values[:2])
    np.testing.assert_allclose(columns["boundary_distance_change"][1][2:], change.mean(axis=0)[2:])
    np.testing.assert_allclose(columns["boundary_distance_change"][1][:2], change[1, :2])
    assert "worst_case_boundary_distance" in columns
    assert "worst_case_boundary_distance" not in example_columns(found, INT8)
    with pytest.raises(NotApplicable, match="No model of 'float16'"):
        example_columns(found, "float16")


def test_gallery_shows_what_moved_most_towards_the_boundary():
    found, probe = probed_population(num_seeds=2)
    probe["random"].values[2:, 7] *= 0.05
    shown = run(found, gallery=3).galleries[f"Nearer to the boundary: {PRUNED}"]
    assert shown[0].example == probe["example"].values[7]
    values = [exhibit.value or 0.0 for exhibit in shown]
    assert values == sorted(values)
    assert len(values) == 3


def test_scatter_shows_two_seeds_and_the_first_pairs():
    found, probe = probed_population(schemes=(PRUNED, INT8))
    finding = run(found)
    table = finding.tables["scatter"]
    assert list(dict.fromkeys(table["scheme"])) == ["another seed of dense", PRUNED, INT8]
    pruned = table.loc[table["scheme"] == PRUNED]
    np.testing.assert_allclose(pruned["reference"], probe["random"].values[0].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(pruned["compressed"], probe["random"].values[3].mean(axis=1), rtol=1e-6)
    axes = boundary.plot(Finding.from_dict(finding.to_dict()))
    assert len([a for a in axes.figure.axes if a.get_visible()]) == 3


def test_only_probed_models_count():
    found, probe = probed_population(schemes=(PRUNED, INT8))
    found.attrs["probes"] = {"boundary": probe.isel(trial=slice(0, 6))}
    assert [c.scheme for c in sides(found).comparisons] == [PRUNED]
    found.attrs["probes"] = {"boundary": probe.isel(trial=[0, 1, 2, 3])}
    with pytest.raises(SchemaError, match="same seeds"):
        run(found)
    found.attrs["probes"] = {"boundary": probe.isel(trial=[0, 1, 2])}
    with pytest.raises(NotApplicable, match="compressed scheme"):
        run(found)


def test_populations_without_the_probe_are_refused():
    found, probe = probed_population()
    with pytest.raises(ValueError, match="Expected `factor` >= 1, but got 0.5"):
        run(found, factor=0.5)
    with pytest.raises(NotApplicable, match="Expected the probed examples among those of the population"):
        run(found.isel(example=slice(0, 50)))
    found.attrs["probes"] = {"boundary": probe.assign_coords(trial=[f"other {k}" for k in range(6)])}
    with pytest.raises(NotApplicable, match="No model of the population was probed"):
        run(found)
    found.attrs["probes"] = {}
    with pytest.raises(SchemaError, match="remnant probe STORE boundary"):
        run(found)


def test_random_directions_alone_are_enough():
    found, probe = probed_population()
    found.attrs["probes"] = {
        "boundary": probe.drop_vars([n for n in probe if "nearest" in str(n) or "along" in str(n)])
    }
    finding = run(found)
    assert set(finding.to_frame()["measure"]) == {"random"}
    assert list(example_columns(found, PRUNED)) == ["boundary_distance", "boundary_distance_change"]


def test_another_reference_has_no_worst_direction_of_its_own():
    """`along_reference` was measured along the directions of the dense models."""
    found, _ = probed_population(schemes=(PRUNED, "float16"))
    finding = run(found, reference="float16")
    assert set(finding.to_frame()["measure"]) == {"random", "nearest"}
