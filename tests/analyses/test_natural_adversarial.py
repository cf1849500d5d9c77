from typing import Any

import numpy as np
import pytest

from remnant.analyses.natural_adversarial import plot, run
from remnant.finding import Finding, NotApplicable
from remnant.population import predictions
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"


def population(seed=0, *, classes=(1, 4, 6, 8, 9, 11, 12), loss=0.0, **options):
    """Examples of 7 of 20 classes, on which all models are weak."""
    schemes = {"dense": 0.0, PRUNED: loss}
    options = {"num_seeds": 5, "num_classes": 20, **options}
    found = simulate.population(np.random.default_rng(seed), schemes=schemes, **options)
    return found.isel(example=np.isin(found["label"].values, classes))


def accuracy(found, rows, classes, k):
    logits = found["logits"].values[:, rows][:, :, classes]
    place = np.searchsorted(classes, found["label"].values[rows])
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :, :k]
    return (order == place[None, :, None]).any(-1).mean(axis=1)


@pytest.mark.parametrize(("convention", "all_classes"), [("class_subset", False), ("all_classes", True)])
def test_both_conventions_by_hand(convention, all_classes):
    found = population(loss=1.0)
    classes = np.arange(20) if all_classes else np.unique(found["label"].values)
    finding = run(found)
    for k in (1, 5):
        right = accuracy(found, slice(None), classes, k)
        dense, pruned = right[:5].mean(), right[5:].mean()
        assert finding.claim(f"reference_natural_top{k}_{convention}").estimate == pytest.approx(dense)
        assert finding.claim(f"natural_top{k}_{convention}").estimate == pytest.approx(pruned)
        claim = finding.claim(f"natural_top{k}_relative_{convention}")
        assert claim.estimate == pytest.approx(pruned / dense - 1)
        assert convention.split("_")[1] in claim.method or "set" in claim.method
    right = accuracy(found, slice(None), classes, 1)[:5]
    apart = np.mean([abs(a / b - 1) for i, a in enumerate(right) for j, b in enumerate(right) if i != j])
    assert finding.claim(f"natural_top1_relative_null_{convention}", "dense").estimate == pytest.approx(apart)


def test_relative_accuracy_is_that_of_table_8():
    """Hooker et al. (2019), Table 8: top-1 .89 -> .36 is -59.80 %, from rounded values."""
    found = population(num_seeds=1, num_examples=2000, classes=(0, 1, 2, 3, 4, 5))
    number = found.sizes["example"]
    found["logits"].values[:] = 0
    for trial, share in enumerate((0.089, 0.036)):
        rows = np.arange(round(share * number))
        found["logits"].values[trial, rows, found["label"].values[rows]] = 1
        rest = np.arange(len(rows), number)
        found["logits"].values[trial, rest, (found["label"].values[rest] + 1) % 6] = 1
    claim: Any = run(found).claim("natural_top1_relative_all_classes")
    assert claim.estimate == pytest.approx(-0.598, abs=0.02)
    assert claim.unit == "example"


def test_the_other_examples_of_the_classes_are_the_clean_ones():
    found = population(loss=1.0, classes=range(20))
    source = np.where(found["label"].values < 6, np.where(np.arange(200) % 40 < 20, "hard", "clean"), "clean")
    found = found.assign_coords(group_source=("example", source))
    finding = run(found, where="source=hard")
    classes = np.unique(found["label"].values[source == "hard"])
    clean = np.flatnonzero((source == "clean") & np.isin(found["label"].values, classes))
    assert len(clean) > 0
    right = accuracy(found, clean, classes, 1)
    claim = finding.claim("natural_clean_top1_relative_class_subset")
    assert claim.estimate == pytest.approx(right[5:].mean() / right[:5].mean() - 1)
    counts: Any = finding.tables["classes"]
    assert counts["examples"].sum() == (source == "hard").sum()
    assert counts["other_examples"].sum() == len(clean)


def test_nothing_changes_against_itself():
    found = population()
    found["logits"].values[5:] = found["logits"].values[:5]
    finding = run(found)
    for convention in ("class_subset", "all_classes"):
        assert finding.claim(f"natural_top1_relative_{convention}").estimate == 0


def test_answers_alone_have_one_convention():
    found = population()
    answers = found.assign(prediction=(("trial", "example"), predictions(found))).drop_vars("logits")
    finding = run(answers)
    assert set(finding.to_frame()["convention"]) == {"all-classes"}
    both = run(found).claim("natural_top1_relative_all_classes")
    assert finding.claim("natural_top1_relative_all_classes").estimate == pytest.approx(both.estimate)
    assert any("no `logits`" in caveat for caveat in finding.caveats)


def test_intervals_cover_when_compression_changes_nothing():
    covered = 0
    for seed in range(80):
        claim: Any = run(population(seed)).claim("natural_top1_relative_class_subset")
        covered += claim.low <= 0 <= claim.high
    assert covered >= 76 - 2.6 * np.sqrt(80 * 0.05 * 0.95)


def test_the_finding_survives_json_and_is_drawn():
    from matplotlib import pyplot

    finding = Finding.from_dict(run(population(loss=1.0)).to_dict())
    axes = plot(finding)
    assert "relative" in axes.get_xlabel()
    pyplot.close(axes.figure)


def test_an_ordinary_test_set_is_refused():
    with pytest.raises(NotApplicable, match="ordinary test set"):
        run(population(classes=range(20)))
    with pytest.raises(NotApplicable, match="at least 2 classes"):
        run(population(classes=(3,)))


def test_unknown_attributes_are_refused():
    with pytest.raises(ValueError, match="'site'"):
        run(population(), where="sites=A")
    with pytest.raises(ValueError, match="'A'"):
        run(population(), where="site=C")
