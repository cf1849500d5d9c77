from typing import Any

import numpy as np
import pytest
import xarray as xr

from remnant.analyses.corruption_measures import modal_changes
from remnant.analyses.corruptions import ANALYSIS, example_columns, plot, run
from remnant.finding import Finding
from remnant.population import SchemaError
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"
NAMES = ["fog", "frost", "shot_noise"]


def population(seed=0, *, loss=0.0, num_seeds=6, examples=150, classes=8, schemes=None, **options):
    """Probed models whose accuracy falls with the severity, and by `loss` more in compressed ones."""
    rng = np.random.default_rng(seed)
    found = simulate.population(
        rng, num_seeds=num_seeds, num_examples=200, num_classes=classes, schemes=schemes, **options
    )
    rows = np.sort(rng.permutation(200)[:examples])
    label = found["label"].values[rows]
    fall = np.array([0.9, 1.0, 1.2])[:, None] * np.linspace(0.5, 2, 5)
    logits = found["logits"].values[:, rows, None, None, :] / (1 + fall[:, :, None])
    compressed = (found["scheme"].values != "dense")[:, None, None, None, None]
    logits = logits + rng.normal(0, 1 + loss * compressed, logits.shape)
    true = np.take_along_axis(logits, label[None, :, None, None, None], axis=-1)
    probe = xr.Dataset(
        {
            "prediction": (("trial", "example", "corruption", "severity"), logits.argmax(-1).astype(np.uint8)),
            "rank": (("trial", "example", "corruption", "severity"), (logits > true).sum(-1).astype(np.uint8)),
        },
        coords={
            "trial": found["trial"],
            "scheme": found["scheme"],
            "seed": found["seed"],
            "subset": found["subset"],
            "example": found["example"].values[rows],
            "label": ("example", label),
            "class": found["class"],
            "corruption": NAMES,
            "severity": [1, 2, 3, 4, 5],
        },
        attrs={"probe": {"examples": examples}},
    )
    found.attrs["probes"] = {"corruptions": probe}
    return found


def probe_of(found):
    return found.attrs["probes"]["corruptions"]


def test_relative_accuracy_is_that_of_the_paper_by_hand():
    """Section 4 and Table 3 of Hooker et al. (2019): mean over models and severities, relative to the reference."""
    found = population(loss=0.5)
    ranks = probe_of(found)["rank"].values
    finding = run(found)
    table = finding.tables["corruptions"].set_index("corruption")
    for k in (1, 5):
        dense, pruned = ((side < k).mean(axis=(0, 1, 3)) for side in (ranks[:6], ranks[6:]))
        np.testing.assert_allclose(table[f"reference_top{k}"], dense)
        np.testing.assert_allclose(table[f"top{k}"], pruned)
        np.testing.assert_allclose(table[f"top{k}_relative"], pruned / dense - 1)
        claim = finding.claim(f"corrupted_top{k}_relative")
        assert claim.estimate == pytest.approx(pruned.mean() / dense.mean() - 1)
        assert claim.unit == "pair"
        assert claim.n == 6
    worst = finding.claim("worst_corruption_top1_relative")
    assert worst.detail == table["top1_relative"].idxmin()
    assert worst.estimate == pytest.approx(table["top1_relative"].min())


def test_corruption_errors_are_those_of_hendrycks_by_hand():
    """Equations of section 4.3 of Hendrycks & Dietterich (2019), with the dense models in the place of AlexNet."""
    found = population(loss=0.5)
    probe = probe_of(found)
    errors = (probe["rank"].values > 0).mean(axis=1)
    rows = found.indexes["example"].get_indexer(probe.indexes["example"])
    right = found["logits"].values[:, rows].argmax(-1) == probe["label"].values
    clean = 1 - right.mean(axis=1)
    dense, pruned = errors[:6].sum(axis=(0, 2)), errors[6:].sum(axis=(0, 2))
    finding = run(found)
    assert finding.claim("mean_corruption_error").estimate == pytest.approx((pruned / dense).mean())
    np.testing.assert_allclose(finding.tables["corruptions"]["corruption_error"], pruned / dense)
    dense, pruned = dense - 5 * clean[:6].sum(), pruned - 5 * clean[6:].sum()
    assert finding.claim("relative_mean_corruption_error").estimate == pytest.approx((pruned / dense).mean())


def test_mismatches_by_hand_and_beside_those_of_seeds():
    found = population(loss=0.5)
    answers, label = probe_of(found)["prediction"].values, probe_of(found)["label"].values[:, None, None]
    finding = run(found)
    differ = answers[:6] != answers[6:]
    harmful = differ & (answers[:6] == label)
    assert finding.claim("corrupted_cie_rate").estimate == pytest.approx(differ.mean())
    assert finding.claim("corrupted_cie_u_rate").estimate == pytest.approx(harmful.mean())
    table = finding.tables["severities"]
    np.testing.assert_allclose(table["cie_rate"], differ.mean(axis=(0, 1)).ravel())
    pairs = [(j, k) for j in range(6) for k in range(6) if j != k]
    null = np.mean([answers[j] != answers[k] for j, k in pairs], axis=(0, 1))
    np.testing.assert_allclose(table["cie_rate_null"], null.ravel())
    assert finding.claim("corrupted_cie_rate_null", "dense").estimate == pytest.approx(null.mean())


def test_exemplars_under_shift_equal_a_slow_version():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, (2, 5, 30, 2, 3))
    found = modal_changes(first, second)
    for place in np.ndindex(found.shape):
        modes = [np.bincount(side[(slice(None), *place)], minlength=4).argmax() for side in (first, second)]
        assert found[place] == (modes[0] != modes[1])


def test_nothing_changes_against_itself():
    found = population()
    probe = probe_of(found)
    for name in ("prediction", "rank"):
        probe[name].values[6:] = probe[name].values[:6]
    found["logits"].values[6:] = found["logits"].values[:6]
    finding = run(found)
    for quantity in ("corrupted_top1_relative", "shift_amplification", "corrupted_cie_rate", "corrupted_pie_rate"):
        assert finding.claim(quantity).estimate == 0
        assert finding.claim(quantity).low is None
    assert finding.claim("mean_corruption_error").estimate == 1
    assert "examples" not in finding.tables


def test_intervals_cover_when_compression_changes_nothing():
    covered = {"corrupted_top1_relative": 0, "shift_amplification": 0, "worst_corruption_top1_relative": 0}
    for seed in range(60):
        finding = run(population(seed, examples=60))
        for quantity in covered:
            claim: Any = finding.claim(quantity)
            covered[quantity] += claim.low <= 0 <= claim.high
    assert all(57 - 2.6 * np.sqrt(60 * 0.05 * 0.95) <= number for number in covered.values()), covered


def test_a_loss_under_shift_only_is_an_amplification():
    claim: Any = run(population(loss=2.0)).claim("shift_amplification")
    assert claim.high < 0
    null = run(population(loss=2.0)).claim("corrupted_top1_relative_null", "dense").estimate
    assert -claim.estimate > null


def test_one_pair_has_intervals_over_its_examples():
    finding = run(population(loss=1.0, num_seeds=1))
    claim: Any = finding.claim("corrupted_top1_relative")
    assert (claim.unit, claim.n) == ("example", 150)
    assert claim.low < claim.estimate < claim.high
    assert any("another seed" in caveat for caveat in finding.caveats)
    assert "corrupted_pie_rate" not in {c.quantity for c in finding.claims}
    found = population(loss=1.0, num_seeds=1)
    ranks = probe_of(found)["rank"].values == 0
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 150, (2000, 150))
    one, two = (side.mean(axis=(1, 2)) for side in ranks)
    slow = two[drawn].mean(1) / one[drawn].mean(1) - 1
    np.testing.assert_allclose([claim.low, claim.high], np.quantile(slow, [0.025, 0.975]), atol=0.03)


def test_without_clean_answers_there_is_no_comparison_with_them():
    found = population()
    probe = probe_of(found)
    found.attrs["probes"] = {"corruptions": probe.assign_coords(example=[f"x {i}" for i in range(150)])}
    finding = run(found)
    quantities = {c.quantity for c in finding.claims}
    assert "corrupted_top5_relative" in quantities
    assert not {"clean_top1_relative", "shift_amplification", "relative_mean_corruption_error"} & quantities
    assert any("clean images are not known" in caveat for caveat in finding.caveats)


def test_few_classes_have_no_top_5():
    assert not any("top5" in c.quantity for c in run(population(classes=5)).claims)


def test_a_reference_that_is_never_right_makes_nothing_relative():
    found = population()
    probe = probe_of(found)
    probe["rank"].values[:6, :, 1] = 6
    finding = run(found)
    assert any("never right on some corruption" in caveat for caveat in finding.caveats)
    finding.to_json()


def test_a_reference_that_loses_nothing_has_no_relative_corruption_error():
    found = population()
    probe_of(found)["rank"].values[:6, :, 2] = 0
    finding = run(found)
    assert "relative_mean_corruption_error" not in {c.quantity for c in finding.claims}
    assert any("loses nothing on some corruption" in caveat for caveat in finding.caveats)


def test_no_interval_of_a_relative_change_goes_below_all():
    found = population(num_seeds=2)
    probe_of(found)["rank"].values[2] = 7
    claim: Any = run(found).claim("worst_corruption_top1_relative")
    assert claim.low == -1


def test_examples_are_those_that_lose_most():
    found = population(loss=1.0)
    finding = run(found, listed=10, shown=3)
    table = finding.tables["examples"]
    assert table["harmful_share"].is_monotonic_decreasing
    assert len(table) == 10
    (gallery,) = finding.galleries.values()
    assert [e.example for e in gallery] == table["example"].tolist()[:3]
    columns = example_columns(found, PRUNED)
    ids, values = columns["corruption_mismatch"]
    assert dict(zip(ids, values, strict=True))[table["example"][0]] == table["mismatch_share"][0]
    assert np.abs(columns["corruption_accuracy_change"][1]).max() <= 1
    assert example_columns(found, "unknown") == {}


def test_the_finding_survives_json_and_is_drawn():
    from matplotlib import pyplot

    finding = run(population(loss=0.5))
    again = Finding.from_dict(finding.to_dict())
    axes = plot(again)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fog", "frost", "shot noise"]
    pyplot.close(axes.figure)
    assert all(key in finding.cites for key in ANALYSIS.cites)


def test_models_that_were_not_probed_are_told_what_to_run():
    found = population()
    del found.attrs["probes"]
    with pytest.raises(SchemaError, match="remnant probe STORE corruptions"):
        run(found)
