from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from remnant.analyses import features
from remnant.analyses.features import example_columns, plot, run
from remnant.finding import Finding
from remnant.population import SchemaError, predictions
from remnant.stats.representation import linear_cka, procrustes_distance
from tests import simulate

INT8, PRUNED = "static-int8", "magnitude-pruning(sparsity=0.9)"
NUM = 120


def probed(num_seeds=4, noise=None, forgotten=0.0, seed=0, size=6):
    """Features of the same origin, turned by every seed, with noise of the scheme and of the seed."""
    rng = np.random.default_rng(seed)
    noise = {INT8: 0.05, PRUNED: 1.0} if noise is None else noise
    found = simulate.population(
        rng, schemes={"dense": 0.0, **dict.fromkeys(noise, 0.0)}, num_seeds=num_seeds, num_examples=NUM
    )
    origin = rng.normal(size=(NUM, size))
    by_seed = {s: origin + 0.5 * rng.normal(size=origin.shape) for s in range(num_seeds)}
    values = []
    for scheme, s in zip(found["scheme"].values, found["seed"].values, strict=True):
        extra = np.full(NUM, noise.get(str(scheme), 0.0))
        extra[: round(forgotten * NUM)] *= 6
        own = by_seed[int(s)] + extra[:, None] * rng.normal(size=origin.shape)
        turn = stats.ortho_group.rvs(size, random_state=rng)
        values.append((own @ turn + rng.normal(size=size)).astype(np.float16))
    measured = found[["label"]].drop_dims("train_example", errors="ignore")
    measured = measured.assign(features=(("trial", "example", "feature"), np.stack(values)))
    coords = {name: found[name] for name in ("trial", "seed", "scheme", "subset", "class")}
    measured = measured.assign_coords(coords).isel(example=slice(None, None, 1))
    found.attrs["probes"] = {"features": measured}
    return found


def only(found: xr.Dataset, rows: list[int]) -> xr.Dataset:
    chosen = found.isel(trial=rows)
    chosen.attrs = {**found.attrs, "probes": {k: v.isel(trial=rows) for k, v in found.attrs["probes"].items()}}
    return chosen


def test_claims_are_means_over_pairs_of_the_same_seed():
    found = probed()
    finding = run(found)
    values = found.attrs["probes"]["features"]["features"].values.astype(float)
    cka = np.array([linear_cka(values[s], values[8 + s]) for s in range(4)])
    claim: Any = finding.claim("feature_cka", PRUNED)
    assert claim.estimate == pytest.approx(cka.mean())
    np.testing.assert_allclose((claim.low, claim.high), stats.t.interval(0.95, 3, cka.mean(), stats.sem(cka)))
    assert (claim.n, claim.unit) == (4, "pair")
    distance = np.mean([procrustes_distance(values[s], values[8 + s]) for s in range(4)])
    assert finding.claim("feature_procrustes", PRUNED).estimate == pytest.approx(distance)
    between = [linear_cka(values[a], values[b]) for a in range(4) for b in range(a)]
    assert finding.claim("feature_cka_seeds").estimate == pytest.approx(np.mean(between))
    assert finding.claim("feature_cka_seeds").subject == "dense"
    assert finding.claim("feature_neighbours_chance").estimate == pytest.approx(10 / 119)


def test_a_copy_agrees_wholly_and_seeds_do_not():
    finding = run(probed(noise={INT8: 0.0}))
    assert finding.claim("feature_cosine", INT8).estimate == pytest.approx(1, abs=1e-4)
    assert finding.claim("feature_procrustes", INT8).estimate == pytest.approx(0, abs=1e-4)
    assert finding.claim("feature_change_over_seeds", INT8).estimate == pytest.approx(0, abs=1e-3)
    assert finding.claim("feature_cosine_seeds").estimate < 0.95


def test_a_model_as_far_as_another_seed_has_a_change_of_1():
    """Compressed models with the noise of a seed of their own: sqrt(0.5) each, as two seeds are apart."""
    ratios = []
    for seed in range(6):
        found = probed(num_seeds=5, noise={PRUNED: 0.5 * np.sqrt(2)}, seed=seed)
        claim: Any = run(found, gallery=0).claim("feature_change_over_seeds")
        ratios.append(claim.estimate)
        assert claim.low < claim.estimate < claim.high
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)


def test_examples_whose_features_changed_come_first():
    finding = run(probed(forgotten=0.1, noise={PRUNED: 0.3}), rows=12)
    table = finding.tables["examples"]
    assert len(table) == 12
    assert {f"test-{i:05}" for i in range(12)} == set(table["example"])
    assert table["feature_cosine"].is_monotonic_increasing
    gallery = finding.galleries[f"Features changed most: {PRUNED}"]
    assert [e.example for e in gallery] == table["example"].tolist()
    assert gallery[0].lines[1].startswith("cosine: ")


def test_changed_answers_are_held_against_others():
    found = probed(forgotten=0.2, noise={PRUNED: 0.4}, num_seeds=5)
    logits = found["logits"].values
    logits[5:] = logits[:5]
    logits[5:, :24] = np.roll(logits[:5, :24], 1, axis=-1)
    finding = run(found)
    claim: Any = finding.claim("feature_cosine_cie_difference", PRUNED)
    assert claim.high < 0
    assert claim.n == 5
    row = finding.to_frame().set_index("measure").loc["cosine"]
    assert row["value_cie"] < row["value_other"]
    assert row["cie_minus_other"] == pytest.approx(claim.estimate)
    assert np.mean(finding.tables["examples"]["answer_changes"].to_numpy()[:24] == 5) > 0.9
    # Between reference models, features do not know on which examples answers differ.
    null: Any = finding.claim("feature_cosine_cie_difference_seeds")
    assert abs(null.estimate) < abs(claim.estimate) / 3


def test_one_pair_has_intervals_over_examples():
    found = probed()
    finding = run(only(found, [1, 5]))
    claim: Any = finding.claim("feature_cosine", INT8)
    assert (claim.n, claim.unit) == (NUM, "example")
    assert "over examples" in claim.method
    cka: Any = finding.claim("feature_cka", INT8)
    assert cka.low < cka.estimate < cka.high
    assert cka.method.endswith("jackknife over blocks of examples")
    _, cosine = example_columns(only(found, [1, 9]), PRUNED)["feature_cosine"]
    differ = predictions(found)[1] != predictions(found)[9]
    beside: Any = run(only(found, [1, 9])).claim("feature_cosine_cie_difference")
    assert beside.estimate == pytest.approx(cosine[differ].mean() - cosine[~differ].mean())
    ends: Any = stats.ttest_ind(cosine[differ], cosine[~differ], equal_var=False)
    np.testing.assert_allclose((beside.low, beside.high), ends.confidence_interval())
    assert not any("_seeds" in c.quantity for c in finding.claims)
    assert any("one probed dense model" in caveat for caveat in finding.caveats)
    assert any("one pair" in caveat for caveat in finding.caveats)
    plot(finding)


def test_the_jackknife_over_examples_covers():
    """x and x + noise of 2 features of variance 1 and noise of variance s^2 have a CKA of 1 / (1 + s^2)."""
    covered, found = 0, only(probed(num_seeds=1, size=2), [0, 1])
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(NUM, 2))
        both = np.stack([x, x + 0.7 * rng.normal(size=x.shape)])
        found.attrs["probes"]["features"] = found.attrs["probes"]["features"].assign(
            features=(("trial", "example", "feature"), both)
        )
        claim: Any = run(found, gallery=0, seed=seed).claim("feature_cka")
        # HSIC of the two is the squared norm of their covariance: 2, and 2 (1 + s^2)^2 of the second with itself.
        covered += claim.low <= 1 / (1 + 0.7**2) <= claim.high
    assert covered >= 34


def test_columns_are_means_over_pairs_by_example():
    found = probed()
    columns = example_columns(found, PRUNED)
    table = run(found, rows=NUM).tables["examples"]
    own = table.loc[table["scheme"] == PRUNED].set_index("example")
    assert set(columns) == {"feature_cosine", "feature_neighbours"}
    for name, (ids, values) in columns.items():
        np.testing.assert_allclose(values, own.loc[ids, name])
    assert example_columns(found, "another") == {}


def test_classes_average_their_examples():
    finding = run(probed(), rows=NUM)
    examples, classes = finding.tables["examples"], finding.tables["classes"]
    expected: Any = examples.groupby(["scheme", "true"])["feature_cosine"].mean()
    for row in classes.to_dict("records"):
        assert row["cosine"] == pytest.approx(expected[row["scheme"], row["class"]])


def test_probed_examples_may_be_a_part():
    found = probed()
    found.attrs["probes"]["features"] = found.attrs["probes"]["features"].isel(example=slice(5, 100, 2))
    finding = run(found)
    assert len(finding.tables["examples"]) == 2 * 48
    assert finding.claim("feature_neighbours_chance").estimate == pytest.approx(10 / 47)


def test_many_features_are_rotated_onto_components():
    found = probed(size=8)
    plain, reduced = run(found), run(found, components=5)
    assert plain.claim("feature_cka", INT8) == reduced.claim("feature_cka", INT8)
    assert plain.claim("feature_cosine", INT8) != reduced.claim("feature_cosine", INT8)
    assert any("principal components" in caveat for caveat in reduced.caveats)
    assert not any("principal components" in caveat for caveat in plain.caveats)


def test_features_that_do_not_vary_are_left_out():
    found = probed(num_seeds=2, noise={PRUNED: 0.3})
    found.attrs["probes"]["features"]["features"].values[2:] = 1.0
    finding = run(found)
    assert not any(c.quantity == "feature_cka" for c in finding.claims)
    assert any("undefined" in caveat for caveat in finding.caveats)
    assert finding.galleries == {}
    finding.to_json()


def test_a_finding_survives_json_and_is_drawn():
    finding = run(probed())
    again = Finding.from_dict(finding.to_dict())
    assert again.claims == finding.claims
    axes = plot(again)
    assert len(axes.get_yticklabels()) == 2


def test_not_probed_is_an_error_that_says_what_to_run():
    with pytest.raises(SchemaError, match="remnant probe STORE features"):
        run(simulate.population(np.random.default_rng(0)))
    assert features.ANALYSIS.needs == ("features",)
