import json
import sys
import types
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import special

from remnant.analyses.why import ANALYSIS, plot, run
from remnant.analyses.why_factors import influencers, probe_factors, reference_measures
from remnant.finding import Finding, NotApplicable
from remnant.stats import odds as regression
from remnant.stats.label_issues import label_issues
from tests import simulate
from tests.analyses import file_populations

PRUNED = "magnitude-pruning(sparsity=0.9)"
FAST: dict[str, Any] = {"permutations": 19, "gallery_size": 6}
LOST = "the right answer is lost"


def population(seed=0, **options):
    given: dict[str, Any] = {"num_seeds": 4, "num_examples": 500} | options
    return simulate.population(np.random.default_rng(seed), **given)


def forgets(found, risk, seed=1, scheme=PRUNED):
    """Compressed models give the answers of the reference, but lose each with its own probability."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(found["scheme"].values == scheme)
    dense = np.flatnonzero((found["scheme"].values == "dense") & (found["subset"].values < 0))
    logits = found["logits"].values
    for row, base in zip(rows, dense, strict=True):
        logits[row] = logits[base]
        lost = np.flatnonzero(rng.random(len(risk)) < risk)
        logits[row, lost] = np.roll(logits[base, lost], 1, axis=1)
    return found


def factor(finding, name, outcome=LOST, on="all examples", scheme=PRUNED) -> Any:
    table: Any = finding.tables["factors"]
    chosen = (table["factor"] == name) & (table["outcome"] == outcome) & (table["on"] == on)
    return table[chosen & (table["scheme"] == scheme)].iloc[0]


def test_the_true_odds_ratio_of_a_group_is_within_the_interval():
    """Odds of 0.1 / 0.9 in one group and three times as many in the other, whatever else."""
    found = population(num_examples=1500)
    inside = found["group_site"].values == "A"
    odds = np.where(inside, 3.0, 1.0) / 9
    finding = run(forgets(found, odds / (1 + odds)), **FAST)
    row = factor(finding, "site = A")
    assert row["odds_ratio_low"] <= 3 <= row["odds_ratio_high"]
    assert row["odds_ratio_low"] > 1.5
    assert row["q"] <= 0.01
    assert row["between_seeds_low"] <= 1 <= row["between_seeds_high"]
    assert finding.claim("strongest_odds_ratio").detail == "site = A"
    margin = factor(finding, "reference_margin")
    assert margin["odds_ratio_low"] <= 1.1
    assert margin["odds_ratio_high"] >= 0.9


def test_odds_ratios_equal_statsmodels_on_the_tables_own_columns():
    """One pair, without the penalty's small shift: statsmodels 0.15.0 on the table of all examples."""
    statsmodels = pytest.importorskip("statsmodels.api")
    found = file_populations.population(num_examples=3000, noise=1.5)
    finding = run(found, rows=None, **FAST)
    table = finding.tables["examples"].set_index("example").loc[found["example"].values]
    first, label = found["logits"].values[0].argmax(axis=-1), found["label"].values
    right = first == label
    names = ["reference_margin", "site = A"]
    values = table[names].to_numpy(float)[right]
    values[:, 0] /= values[:, 0].std()
    lost = table["right_answers_lost"].to_numpy()[right]
    expected = statsmodels.Logit(lost, statsmodels.add_constant(values)).fit(disp=0)
    for name, log_ratio in zip(names, expected.params[1:], strict=True):
        assert np.log(factor(finding, name, scheme="net-int8")["odds_ratio"]) == pytest.approx(log_ratio, abs=0.02)


def test_noise_explains_nothing():
    """Answers lost at random: the area is within what permutations give, and intervals hold 1."""
    areas, hits = [], 0
    for seed in range(12):
        found = forgets(population(seed, num_examples=300), np.full(300, 0.15), seed)
        finding = run(found, **FAST)
        assert finding.claim("explained_auc").estimate < 0.62
        areas.append(finding.claim("explained_auc_p").estimate)
        factors: Any = finding.tables["factors"]
        hits += int((factors.loc[factors["outcome"] == LOST, "q"] <= 0.05).any())
    assert np.mean(np.array(areas) <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.0475 / 12)
    assert hits <= 4


def test_factors_come_from_other_models_than_outcomes():
    """With 4 models a side, the margin of the model is that of the first half, the outcomes of the second."""
    found = population(num_examples=400)
    finding = run(found, rows=None, **FAST)
    answers, label = found["logits"].values.argmax(axis=-1), found["label"].values
    lost = ((answers[2:4] == label) & (answers[6:8] != label)).any(axis=0)
    claim = finding.claim("explained_examples")
    assert claim.estimate == lost.sum()
    assert claim.n == (answers[2:4] == label).any(axis=0).sum()
    assert "not among" in claim.method
    few = run(population(num_seeds=3), **FAST)
    assert any("same models whose answers are lost" in caveat for caveat in few.caveats)
    assert "not among" not in few.claim("explained_examples").method


def test_reference_measures_equal_a_loop():
    found = population(num_seeds=3, num_examples=80).isel(trial=slice(0, 3))
    logits, label = found["logits"].values.astype(float), found["label"].values
    measured: Any = reference_measures(found, logits.argmax(axis=-1))
    mean = special.softmax(logits, axis=-1).mean(axis=0)
    expected = label_issues(mean, label)
    np.testing.assert_allclose(measured.margin, expected.margin, atol=1e-6)
    np.testing.assert_allclose(measured.confidence, mean.max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(measured.suggested, expected.suggested)
    unlabelled: Any = reference_measures(found.drop_vars("label"), logits.argmax(axis=-1))
    ordered = np.sort(mean, axis=1)
    np.testing.assert_allclose(unlabelled.margin, ordered[:, -1] - ordered[:, -2], atol=1e-6)


def test_wrong_labels_are_named_as_a_reason():
    found = population(num_seeds=4, num_examples=600)
    doubtful = np.arange(600) % 10 == 0
    label = found["label"].values
    found["logits"].values[:, doubtful] = np.eye(5)[(label[doubtful] + 1) % 5] * 4
    # The dense models know better than the label but now and then; compression takes even that.
    dense = found["scheme"].values == "dense"
    rng = np.random.default_rng(0)
    for row in np.flatnonzero(dense):
        lucky = np.flatnonzero(doubtful & (rng.random(600) < 0.3))
        found["logits"].values[row, lucky, label[lucky]] += 4.5
    finding = run(found, **FAST)
    assert factor(finding, "label_issue")["odds_ratio"] > 1
    assert any("label is in doubt" in text for text in finding.tables["examples"]["reasons"])


def test_influential_training_examples_stand_beside():
    found = population(num_subset_trials=80, influential=12, num_seeds=2, num_examples=200, num_train=150)
    top: Any = influencers(found)
    # Candidates are the memorized training examples, which in this simulation have even numbers.
    assert (top.train_examples[:12:2, 0] == np.arange(0, 12, 2)).mean() > 0.8
    assert (top.percentile[:12] > 0.8).mean() > 0.7
    assert 0.4 < top.percentile[12:].mean() < 0.6
    same = top.data.labels == top.data.train_labels[np.maximum(top.train_examples[:, 0], 0)]
    assert same[top.train_examples[:, 0] >= 0].all()
    finding = run(found, gallery_size=200, permutations=0)
    shown = {e.example: e.beside for e in finding.galleries[f"Most forgotten, with reasons: {PRUNED}"]}
    beside: Any = shown["test-00004"]
    assert beside.split == "train"
    assert any(line.startswith("influence: +") for line in beside.lines)
    table: Any = finding.tables["influencers"]
    assert set(table["test_example"]) <= set(shown)
    assert table["rank"].max() == 3
    assert "influence_beyond_chance" in finding.tables["factors"]["factor"].tolist()
    assert "explained_auc_null" not in {claim.quantity for claim in finding.claims}


def test_influence_by_chance_is_no_reason():
    """Raw influence is highest where answers are undecided; its percentile among random orders is not."""
    found = population(num_subset_trials=60, num_seeds=4, num_examples=400)
    row = factor(run(found, **FAST), "influence_beyond_chance")
    assert row["odds_ratio_low"] <= 1.05
    assert row["odds_ratio_high"] >= 0.95


def fake_probe(monkeypatch, found, columns, kind="fake-probe"):
    module = types.ModuleType("remnant.analyses.fake_probe")
    module.example_columns = lambda population, scheme: columns  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "remnant.analyses.fake_probe", module)
    found.attrs["probes"] = {kind: xr.Dataset()}
    return found


def test_measures_of_probes_join_on_the_probed_examples(monkeypatch):
    found = population(num_examples=900)
    ids, rng = found["example"].values, np.random.default_rng(0)
    shift = rng.normal(size=900)
    found = forgets(found, special.expit(-1.5 + 1.2 * shift))
    probed = np.sort(rng.choice(900, 500, replace=False))
    columns = {
        "feature_cosine": (ids[probed][::-1], shift[probed][::-1]),
        "only_unchanged": (ids[probed[:200]], shift[probed[:200]]),
        "attribution_similarity_own_class": (ids[probed], shift[probed]),
        "boundary_distance": (ids[probed], rng.random(500)),
    }
    finding = run(fake_probe(monkeypatch, found, columns), **FAST)
    row = factor(finding, "feature_cosine", on="probed examples")
    scale = shift[probed].std()
    assert row["odds_ratio_low"] <= np.exp(1.2 * scale) <= row["odds_ratio_high"]
    assert not row["known_before"]
    assert factor(finding, "boundary_distance", on="probed examples")["known_before"]
    assert np.isfinite(factor(finding, "boundary_distance", on="probed examples")["between_seeds_odds_ratio"])
    whole: Any = finding.tables["factors"]
    assert "feature_cosine" not in whole[whole["on"] == "all examples"]["factor"].tolist()
    assert not {"only_unchanged", "attribution_similarity_own_class"} & set(whole["factor"])
    assert any("only_unchanged (not defined" in caveat for caveat in finding.caveats)
    assert any("describe the change itself" in caveat for caveat in finding.caveats)
    assert finding.claim("explained_auc_probed").n < 500
    assert finding.claim("explained_auc_probed").estimate > finding.claim("explained_auc").estimate


def test_probes_that_cannot_say_are_named(monkeypatch):
    found = population()

    def refuse(population, scheme):
        raise NotApplicable("Measured on training examples.")

    module = types.ModuleType("remnant.analyses.fake_probe")
    module.example_columns = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "remnant.analyses.fake_probe", module)
    found.attrs["probes"] = {"fake-probe": xr.Dataset(), "no-such-analysis": xr.Dataset()}
    assert probe_factors(found, PRUNED) == ([], {"fake-probe": "Measured on training examples"})


def test_rare_classes_texts_and_measurements_are_factors():
    found = file_populations.population(num_examples=600, text=True)
    label = np.where(np.arange(600) % 12 == 0, 4, np.arange(600) % 4)
    found["label"].values[:] = label
    found["text"].values[:] = ["x" * (1 + i % 50) for i in range(600)]
    found = found.assign_coords(group_age=("example", np.arange(600) % 40 + 0.5))
    finding = run(found, **FAST)
    factors = set(finding.tables["factors"]["factor"])
    assert factors == {"reference_margin", "label_issue", "class_frequency", "text_length", "age", "site = A"}


def test_one_pair_without_labels_says_what_changes():
    finding = run(file_populations.population(labels=False), **FAST)
    assert finding.to_frame()["outcome"].tolist() == ["the answer changes"]
    assert "right_answers_lost" not in finding.tables["examples"]
    assert finding.claim("odds_ratio_reference_margin").estimate < 1
    assert any("no second model of the reference" in caveat for caveat in finding.caveats)
    quantities = {claim.quantity for claim in finding.claims}
    assert "explained_auc_seeds" not in quantities


def test_a_second_run_of_the_reference_is_the_null_of_one_pair():
    found = file_populations.population(sides={"net": 1, "again": 1, "net-int8": 1})
    found.attrs["floor"] = "again"
    finding = run(found, **FAST)
    assert finding.to_frame()["scheme"].unique().tolist() == ["net-int8"]
    assert finding.claim("explained_auc_seeds").estimate > 0.5
    assert any("not special to compression" in caveat for caveat in finding.caveats)


def test_answers_alone_leave_groups_and_disagreement():
    found = file_populations.population(sides={"net": 3, "a": 3}, logits=False)
    finding = run(found, **FAST)
    assert set(finding.tables["factors"]["factor"]) == {"seed_disagreement", "site = A"}
    with pytest.raises(NotApplicable, match="Nothing is known"):
        run(file_populations.population(logits=False).drop_vars("group_site"))


def test_identical_models_have_nothing_to_explain():
    found = population()
    found["logits"][4:] = found["logits"][:4].values
    finding = run(found, **FAST)
    assert finding.claims == ()
    assert len(finding.tables["examples"]) == 500
    assert any("no model" in caveat for caveat in finding.caveats)
    with pytest.raises(NotApplicable, match="enough examples"):
        plot(finding)
    finding.to_json()


def test_models_that_did_not_reach_their_maximum_are_named(monkeypatch):
    found = forgets(population(), np.full(500, 0.3))
    assert not any("did not reach" in caveat for caveat in run(found, **FAST).caveats)
    monkeypatch.setattr(regression, "_ITERATIONS", 1)
    assert any("did not reach" in caveat for caveat in run(found, **FAST).caveats)


def test_a_sample_is_used_of_many_examples():
    finding = run(population(num_examples=900), most_examples=400, **FAST)
    assert finding.claim("explained_auc").n <= 400
    assert any("random sample" in caveat for caveat in finding.caveats)


def test_reasons_are_told_in_the_order_of_their_odds():
    found = population(num_examples=800)
    finding = run(forgets(found, np.where(found["group_site"].values == "A", 0.4, 0.05)), rows=None, **FAST)
    table = finding.tables["examples"]
    told: Any = table[table["site = A"] == 1]["reasons"]
    assert told.str.contains("of the group site = A").all()
    times = [[float(part.split("odds × ")[1].rstrip(")")) for part in text.split("; ")] for text in told]
    assert all(parts == sorted(parts, reverse=True) for parts in times)
    first = finding.galleries[f"Most forgotten, with reasons: {PRUNED}"][0]
    assert any(line.startswith("because: ") for line in first.lines)


def test_plot_and_json():
    finding = run(population(num_seeds=4, schemes={"dense": 0.0, PRUNED: 0.5, "static-int8": 0.1}), **FAST)
    axes = plot(Finding.from_dict(json.loads(finding.to_json())))
    assert axes.get_xscale() == "log"
    assert axes.get_yticklabels()[0].get_text() == "reference margin"
    import matplotlib.pyplot as pyplot

    pyplot.close(axes.figure)
    assert ANALYSIS.needs == ()


def test_the_same_seed_gives_the_same_finding():
    assert run(population(), **FAST).to_json() == run(population(), **FAST).to_json()


def test_parameters_are_checked():
    for name, value in (("folds", 1), ("permutations", -1), ("top", 0), ("most_examples", 5)):
        given: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"`{name}` >="):
            run(population(), **given)
