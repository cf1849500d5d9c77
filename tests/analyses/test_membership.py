from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from sklearn.metrics import roc_auc_score

from remnant.analyses.membership import ANALYSIS, example_columns, run
from remnant.analyses.membership_measures import signals
from remnant.finding import NotApplicable
from remnant.stats.membership import lira
from tests import simulate

COPY = "static-int8"


def population(seed=0, *, num_trials=20, num_train=300, twin: float | None = None, **options):
    """Dense models on subsets; with `twin`, compressed ones too, whose margins are the dense ones plus noise."""
    rng = np.random.default_rng(seed)
    found = simulate.population(
        rng, num_seeds=3, num_subset_trials=num_trials, num_train=num_train, num_examples=150, **options
    )
    dense = found.isel(trial=found["scheme"].values == "dense")
    if twin is None:
        return dense
    names = [f"c/{name}" for name in dense["trial"].values]
    other = dense.copy(deep=True).assign_coords(trial=names, scheme=("trial", [COPY] * len(names)))
    noise = rng.normal(0, twin, other["train_margin"].shape)
    other["train_margin"] = other["train_margin"] + noise.astype(np.float16)
    return xr.concat([dense, other], "trial", data_vars="minimal", coords="minimal", compat="override", join="override")


def probe(found, *, trials=None, examples=None, seed=0):
    """What the probe "confidence" would have measured: twice the margin."""
    kept = found.isel(trial=slice(None) if trials is None else trials)
    rows = np.arange(found.sizes["train_example"]) if examples is None else examples
    return xr.Dataset(
        {"confidence": (("trial", "example"), 2 * kept["train_margin"].values[:, rows])},
        coords={"trial": kept["trial"].values, "example": found["train_example"].values[rows]},
    )


def test_area_equals_that_of_scikit_learn_target_by_target():
    found = population()
    part = signals(found, "dense", probe=None)
    scores = lira(part.signal, part.signal, part.included)
    finding = run(found, attacks=("loss",))
    table: Any = finding.tables["targets"].set_index("attack")
    known = np.isfinite(scores)
    rows = zip(part.included, scores, known, strict=True)
    areas = [roc_auc_score(own[defined], row[defined]) for own, row, defined in rows]
    np.testing.assert_allclose(table.loc["lira_online", "auc"], areas)
    np.testing.assert_allclose(
        table.loc["loss", "auc"], [roc_auc_score(o, s) for o, s in zip(part.included, part.signal, strict=True)]
    )
    claim = finding.claim("membership_auc", "dense")
    assert claim.estimate == pytest.approx(np.mean(areas))
    expected = stats.t.interval(0.95, 19, np.mean(areas), stats.sem(areas))
    assert (claim.low, claim.high) == pytest.approx(expected)


def test_thresholds_of_other_targets_are_what_an_attacker_has():
    """The median of the other targets' thresholds at 1 % false positives, one target at a time."""
    found = population(num_trials=9)
    found["train_margin"][:] = np.random.default_rng(0).normal(size=found["train_margin"].shape)
    part = signals(found, "dense", probe=None)
    thresholds = []
    for member, row in zip(part.included, part.signal, strict=True):
        others = np.sort(row[~member])[::-1]
        # At most 1 % of the 90 others: none. The threshold is the lowest score of a member above all of them.
        thresholds.append(row[row > others[0]].min(initial=np.inf))
    rates = []
    for k, (member, row) in enumerate(zip(part.included, part.signal, strict=True)):
        called = row >= np.median(np.delete(thresholds, k))
        rates.append((called[member].mean(), called[~member].mean()))
    table: Any = run(found, attacks=("loss",)).to_frame().set_index("attack").loc["loss"]
    found_rates = table["tpr_at_fpr_0.01_threshold_of_others"], table["fpr_0.01_threshold_of_others"]
    assert found_rates == pytest.approx(tuple(np.mean(rates, axis=0)))


def test_rates_come_with_clopper_pearson_intervals():
    """An interval by inverting two binomial tests, by SciPy."""
    table: Any = run(population()).tables["targets"]
    for row in table.head(3).to_dict("records"):
        found = round(row["tpr_at_fpr_0.01"] * row["members"])
        exact = stats.binomtest(found, row["members"]).proportion_ci(method="exact")
        assert row["tpr_at_fpr_0.01_low"] == pytest.approx(exact.low)
        assert row["tpr_at_fpr_0.01_high"] == pytest.approx(exact.high)
        assert row["false_positives_0.01"] <= 0.01 * row["others"]


def test_memorized_examples_are_the_exposed_ones():
    """In the simulation every second training example is memorized, and only these."""
    finding = run(population(num_trials=32))
    examples: Any = finding.tables["examples"]
    assert all(int(name[-5:]) % 2 == 0 for name in examples["train_example"].head(50))
    assert examples["exposure"].is_monotonic_decreasing
    claim: Any = finding.claim("exposure_memorization_correlation", "dense")
    assert claim.low > 0.5
    bins: Any = finding.tables["memorization"]
    assert bins["mean_exposure"].iloc[-1] > 0.05
    assert abs(bins["mean_exposure"].iloc[1]) < 0.02
    shown = next(iter(finding.galleries.values()))
    assert shown[0].split == "train"
    assert shown[0].example == examples["train_example"].iloc[0]


def test_permuted_membership_is_the_null():
    finding = run(population(num_trials=32))
    assert finding.claim("membership_auc_null", "dense").estimate == pytest.approx(0.5, abs=0.02)
    assert finding.claim("membership_auc", "dense").estimate > 0.7


def test_nothing_is_found_where_membership_leaves_no_trace():
    """Margins unrelated to membership: intervals of the area cover 1/2."""
    covered = 0
    for seed in range(20):
        found = population(seed, num_trials=16, num_train=80)
        found["train_margin"][:] = np.random.default_rng(seed).normal(size=found["train_margin"].shape)
        claim: Any = run(found, attacks=()).claim("membership_auc", "dense")
        covered += claim.low <= 0.5 <= claim.high
    assert covered >= 16


def test_a_copy_protects_nobody():
    found = population(twin=0.0)
    finding = run(found)
    for quantity in ("membership_auc", "membership_tpr_at_1_percent_fpr"):
        for suffix in ("_change", "_change_from_reference_models"):
            assert finding.claim(quantity + suffix, COPY).estimate == 0
        assert finding.claim(quantity, COPY).estimate == finding.claim(quantity, "dense").estimate


def test_compression_that_blurs_margins_protects():
    finding = run(population(twin=3.0))
    for suffix in ("_change", "_change_from_reference_models"):
        claim: Any = finding.claim(f"membership_auc{suffix}", COPY)
        assert claim.high < 0
        assert claim.unit == "pair"
    table = finding.to_frame()
    assert set(table["shadow_models"]) == {"own", "reference", "permuted"}


def test_models_on_other_subsets_are_not_compared():
    found = population(twin=0.0)
    rows = found["scheme"].values == COPY
    found["included"].values[rows] = found["included"].values[rows][:, ::-1]
    finding = run(found)
    assert not [claim for claim in finding.claims if "change" in claim.quantity]
    assert "reference" not in set(finding.to_frame()["shadow_models"])


def test_the_probe_is_used_where_it_measured_all_trials():
    found = population()
    by_margin = run(found)
    assert by_margin.parameters["signal"] == "margin"
    assert any("it was not measured" in caveat for caveat in by_margin.caveats)
    found.attrs["probes"] = {"confidence": probe(found)}
    by_probe = run(found)
    assert by_probe.parameters["signal"] == "confidence"
    assert not any("margin" in caveat for caveat in by_probe.caveats)
    # Twice the margin orders examples as the margin does.
    one, two = (f.claim("membership_auc", "dense").estimate for f in (by_margin, by_probe))
    assert one == pytest.approx(two)
    found.attrs["probes"] = {"confidence": probe(found, trials=slice(0, 10))}
    partly = run(found)
    assert partly.parameters["signal"] == "margin"
    assert any("not measured on all subset trials of dense" in caveat for caveat in partly.caveats)


def test_a_probe_of_some_examples_covers_these():
    found = population()
    rows = np.arange(0, 300, 3)
    found.attrs["probes"] = {"confidence": probe(found, examples=rows)}
    examples: Any = run(found).tables["examples"]
    assert set(examples["train_example"]) <= set(found["train_example"].values[rows])


def test_training_examples_that_compression_forgets():
    found = population(twin=0.0)
    rows = np.flatnonzero((found["scheme"].values == COPY) & (found["subset"].values < 0))
    forgotten = np.arange(0, 40, 2)
    found["train_prediction"].values[np.ix_(rows, forgotten)] += 1
    table: Any = run(found).tables["forgotten"].set_index("train_examples_with")
    assert table.loc["modal label changed", "train_examples"] == 20
    # They are among the memorized ones.
    assert table.loc["modal label changed", "mean_exposure"] > table.loc["modal label kept", "mean_exposure"]


def test_without_scores_on_test_examples_rmia_is_left_out():
    found = population().drop_vars("logits")
    finding = run(found)
    assert "rmia" not in set(finding.to_frame()["attack"])
    assert any("RMIA was not run" in caveat for caveat in finding.caveats)


def test_alike_targets_have_an_interval_all_the_same():
    """No member is found at all: 0 with an upper end (Clopper-Pearson), not an interval of width 0."""
    found = population()
    found["train_margin"][:] = np.where(found["included"].values, -1.0, 1.0)
    claim: Any = run(found, attacks=("loss",)).claim("membership_tpr_at_1_percent_fpr_loss", "dense")
    assert claim.estimate == 0
    assert claim.low == 0
    assert claim.high == pytest.approx(1 - 0.025 ** (1 / claim.n))


def test_exposure_of_each_training_example():
    found = population()
    columns = example_columns(found, "dense")
    table: Any = run(found, rows=None).tables["examples"].set_index("train_example")
    ids, values = columns["exposure"]
    np.testing.assert_allclose(table.loc[ids[np.isfinite(values)], "exposure"], values[np.isfinite(values)])
    assert ANALYSIS.needs[0] == "included"


def test_too_few_models_and_unknown_attacks_are_refused():
    with pytest.raises(NotApplicable, match="at least 8 trials"):
        run(population(num_trials=6))
    with pytest.raises(ValueError, match="Expected `attacks` to be among"):
        run(population(), attacks=("guess",))
    found = population(num_trials=8)
    found["included"].values[found["subset"].values >= 0] = True
    with pytest.raises(NotApplicable, match="both in and out of each subset"):
        run(found)
