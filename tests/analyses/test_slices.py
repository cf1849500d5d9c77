from typing import Any

import numpy as np
import pytest
from scipy import stats

from remnant.analyses.answer_pairs import compressed_sides
from remnant.analyses.slice_columns import TEXT_LENGTH, Slicing, slicings
from remnant.analyses.slice_measures import Counts, count, examine
from remnant.analyses.slices import plot, run
from remnant.finding import Finding
from remnant.registry import UnknownNameError
from remnant.stats.multiplicity import benjamini_hochberg
from tests import simulate
from tests.analyses import file_sides


def harmed_class(seed=0, **options):
    """Class 2 loses a tenth of its right answers; nothing else changes in truth."""
    num = options.pop("num_examples", 2000)
    lost = np.where(np.arange(num) % 5 == 2, 0.15, 0.02)
    return file_sides.population(np.random.default_rng(seed), {"small": (lost, 0.08)}, num_examples=num, **options)


def test_rows_equal_loops_over_slices():
    found = harmed_class()
    site = np.random.default_rng(1).choice(["a", "b"], 2000)
    found = found.assign_coords(group_site=("example", site))
    right = found["prediction"].values == found["label"].values
    finding = run(found)
    for name, column, values in (("classes", "class", found["label"].values), ("groups", "level", site)):
        table: Any = finding.tables[name].set_index(column)
        p = []
        for level in table.index:
            own = values == (int(level.split()[1]) if name == "classes" else level)
            lost, gained = (right[0] & ~right[1] & own).sum(), (~right[0] & right[1] & own).sum()
            row = table.loc[level]
            assert row["examples"] == own.sum()
            assert row["net_change_points"] == pytest.approx(100 * (right[1][own].mean() - right[0][own].mean()))
            measure = "recall" if name == "classes" else "accuracy"
            assert row[f"reference_{measure}"] == pytest.approx(right[0][own].mean())
            assert row[f"compressed_{measure}"] == pytest.approx(right[1][own].mean())
            assert row["harmful_flip_rate"] == pytest.approx(lost / own.sum())
            p.append(stats.binomtest(int(lost), int(lost + gained)).pvalue)
        np.testing.assert_allclose(table["net_p"], p)
        np.testing.assert_allclose(table["net_q"], benjamini_hochberg(p))


def test_the_harmed_class_is_found():
    finding = run(harmed_class())
    worst = finding.claim("worst_class_net_change", "small")
    assert worst.detail == "class 2"
    assert worst.high is not None
    assert worst.high < 0
    assert worst.n == 400
    harmed = finding.claim("harmed_classes_q")
    assert (harmed.estimate, harmed.detail, harmed.n) == (1, "class 2", 5)
    row: Any = finding.tables["classes"].iloc[0]
    assert row["class"] == "class 2"
    # Simultaneous intervals are wider than those of one class.
    assert row["simultaneous_low_points"] < row["net_low"]
    assert 100 * worst.high == pytest.approx(row["simultaneous_high_points"])


def test_a_class_that_gains_is_not_harmed():
    gained = np.where(np.arange(2000) % 5 == 2, 0.9, 0.08)
    finding = run(file_sides.population(np.random.default_rng(0), {"small": (0.02, gained)}, num_examples=2000))
    table: Any = finding.tables["classes"].set_index("class")
    assert table.loc["class 2", "net_q"] < 0.001
    assert not table["harmed"].any()
    assert finding.claim("harmed_classes_q").estimate == 0


def audited(rng, num_slices, size, *, pairs=1, spread=0.0):
    """Slices whose accuracy changes by 0 in truth, with as many answers lost as gained; `spread` over pairs."""
    shift = spread * rng.normal(size=(pairs, 1, 1))
    uniform = rng.random((pairs, num_slices, size))
    outcome = np.where(uniform < 0.06 + shift, -1, np.where(uniform > 0.94 + shift, 1, 0))
    counts = Counts(
        np.full(num_slices, size),
        np.full((pairs, num_slices), size // 2),
        (outcome < 0).sum(axis=2),
        (outcome > 0).sum(axis=2),
        (outcome.sum(axis=0) ** 2).sum(axis=1).astype(float),
    )
    levels = tuple(f"class {k}" for k in range(num_slices))
    return examine([Slicing("class", "class", levels, np.zeros(1, int))], [counts], 20)


@pytest.mark.parametrize(
    "design", [{"num_slices": 40, "size": 100}, {"num_slices": 12, "size": 60, "pairs": 4, "spread": 0.01}]
)
def test_nothing_is_harmed_under_the_null(design):
    """At most about 5 % of audits name a harmed slice; simultaneous intervals hold for all slices in 95 %."""
    num, named, covered, worst_plain, worst_simultaneous = 200, 0, 0, 0, 0
    for seed in range(num):
        found = audited(np.random.default_rng(seed), **design)
        named += found.harmed.any()
        (low, high), worst = found.simultaneous, found.worst
        covered += ((low <= 0) & (high >= 0)).all()
        worst_plain += found.each[1][worst] >= 0
        worst_simultaneous += high[worst] >= 0
    assert named <= stats.binom.ppf(0.99, num, 0.05)
    assert covered >= stats.binom.ppf(0.01, num, 0.95)
    # The interval of one slice fails for the slice that was chosen because it looks worst.
    assert worst_plain < worst_simultaneous
    assert worst_simultaneous >= stats.binom.ppf(0.01, num, 0.95)


def test_simultaneous_intervals_are_not_wider_than_needed():
    num = 150
    covered = 0
    for seed in range(num):
        low, high = audited(np.random.default_rng(seed), num_slices=20, size=400).simultaneous
        covered += ((low <= 0) & (high >= 0)).all()
    assert covered <= stats.binom.ppf(0.99, num, 0.97)


def test_small_slices_are_shown_but_not_tested():
    found = harmed_class()
    rare = np.where(np.arange(2000) < 10, "rare", np.where(np.arange(2000) % 2, "odd", "even"))
    found = found.assign_coords(group_kind=("example", rare))
    found["prediction"][1, :10] = (found["label"][:10] + 1) % 5
    finding = run(found, least_examples=20)
    groups: Any = finding.tables["groups"].set_index("level")
    assert groups.loc["rare", "too_small"]
    assert np.isnan(groups.loc["rare", "net_q"])
    assert not groups.loc["rare", "harmed"]
    assert finding.claim("worst_group_net_change").detail != "kind = rare"
    assert finding.claim("harmed_groups_q").n == 2
    assert any("fewer than 20 examples: 1 groups" in caveat for caveat in finding.caveats)
    assert run(found, least_examples=10).claim("worst_group_net_change").detail == "kind = rare"


def test_measurements_and_texts_are_cut_into_bins():
    rng = np.random.default_rng(0)
    found = harmed_class().assign_coords(
        group_age=("example", np.where(np.arange(2000) < 100, np.nan, rng.normal(50, 10, 2000))),
        group_count=("example", rng.integers(0, 40, 2000)),
        group_stars=("example", rng.integers(1, 12, 2000)),
        group_id=("example", [f"x{i}" for i in range(2000)]),
        group_same=("example", ["one"] * 2000),
        group_flat=("example", np.minimum(np.arange(2000), 50)),
    )
    found["text"] = ("example", np.array(["w" * k for k in rng.integers(1, 200, 2000)], object))
    cut = slicings(found, 4)
    by_name = {slicing.column: slicing for slicing in cut.found}
    assert set(by_name) == {"class", "age", "count", "stars", TEXT_LENGTH}
    assert set(cut.left_out) == {"id", "same", "flat"}
    assert by_name["stars"].levels == tuple(str(k) for k in range(1, 12))
    age = by_name["age"]
    assert age.levels[-1] == "missing"
    assert np.bincount(age.index).tolist() == [475] * 4 + [100]
    assert (age.index[:100] == 4).all()
    count = by_name["count"]
    for place, name in enumerate(count.levels):
        own = found["group_count"].values[count.index == place]
        assert name == f"{own.min()} to {own.max()}"
    finding = run(found, num_bins=4)
    assert any("id (" in caveat and "same (" in caveat for caveat in finding.caveats)
    assert TEXT_LENGTH in set(finding.tables["groups"]["attribute"])


def test_missing_and_mixed_levels():
    values = np.array(["a", "b", None, float("nan")] * 500, object)
    found = harmed_class().assign_coords(group_mixed=("example", values))
    (mixed,) = slicings(found, 5).of("group")
    assert set(mixed.levels) <= {"a", "b", "missing"}
    assert np.bincount(mixed.index).sum() == 2000


def test_intersections_are_counted_together():
    found = harmed_class().assign_coords(group_site=("example", np.arange(2000) % 2))
    finding = run(found, intersections=[("class", "site")])
    table: Any = finding.tables["intersections"].set_index("level")
    own = (np.arange(2000) % 5 == 2) & (np.arange(2000) % 2 == 1)
    right = found["prediction"].values == found["label"].values
    assert table.loc["class 2 × 1", "examples"] == own.sum()
    assert table.loc["class 2 × 1", "harmful_flip_rate"] == pytest.approx(
        (right[0] & ~right[1] & own).sum() / own.sum()
    )
    assert finding.claim("worst_intersection_net_change").detail.startswith("class × site = class 2")
    with pytest.raises(UnknownNameError, match="'sites'"):
        run(found, intersections=[("class", "sites")])
    with pytest.raises(ValueError, match="two names of columns"):
        run(found, intersections=["class"])
    many = found.assign_coords(group_a=("example", np.arange(2000) % 97), group_b=("example", np.arange(2000) % 11))
    many["group_a"] = ("example", many["group_a"].values.astype(str))
    with pytest.raises(ValueError, match="at most 1000 slices"):
        run(many, intersections=[("a", "b")])


def test_several_models_are_tested_over_pairs_and_examples():
    found = simulate.population(np.random.default_rng(0), schemes={"dense": 0.0, "int8": 1.0}, num_examples=1000)
    finding = run(found)
    assert finding.claim("harmed_classes_q").estimate == 5
    assert "pairs and examples" in finding.claim("worst_class_net_change").method
    right = found["logits"].values.argmax(axis=-1) == found["label"].values
    table: Any = finding.tables["classes"].set_index("class")
    own = found["label"].values == 3
    net = right[8:][:, own].mean() - right[:8][:, own].mean()
    assert table.loc["class 3", "net_change_points"] == pytest.approx(100 * net)


def test_counts_of_several_models_equal_loops():
    found = file_sides.population(np.random.default_rng(0), {"small": (0.2, 0.2)}, files=3, num_examples=500)
    right = (found["prediction"].values == found["label"].values).astype(int)
    (side,) = compressed_sides(found, None)
    index = np.random.default_rng(1).integers(0, 4, 500)
    (counts,) = count(side, [Slicing("group", "g", ("a", "b", "c", "d"), index)])
    for level in range(4):
        change = right[1:, index == level] - right[0, index == level]
        assert counts.size[level] == (index == level).sum()
        assert counts.lost[:, level].tolist() == (change < 0).sum(axis=1).tolist()
        assert counts.gained[:, level].tolist() == (change > 0).sum(axis=1).tolist()
        assert counts.right_before[:, level].tolist() == [right[0, index == level].sum()] * 3
        assert counts.example_squares[level] == (change.sum(axis=0) ** 2).sum()


def test_models_that_all_lose_a_slice_harm_it():
    """Where all pairs lose all examples nothing varies; the examples of a pair still tell."""
    found = file_sides.population(np.random.default_rng(0), {"small": (0.0, 0.0)}, files=3, accuracy=1.0)
    own = found["label"].values == 1
    found["prediction"][1:, own] = 0
    finding = run(found)
    assert finding.claim("harmed_classes_q").detail == "class 1"
    claim = finding.claim("worst_class_net_change")
    assert claim.estimate == -1
    assert claim.low is not None
    assert claim.high is not None
    assert claim.low == -1 < claim.high < -0.8


def test_without_columns_there_are_classes_only():
    finding = run(harmed_class())
    assert "groups" not in finding.tables
    assert {claim.quantity for claim in finding.claims} == {"worst_class_net_change", "harmed_classes_q"}
    assert any("nothing is said on groups" in caveat for caveat in finding.caveats)


def test_slices_of_one_example():
    found = harmed_class(num_examples=10, files=2)
    finding = run(found, least_examples=1)
    assert finding.tables["classes"]["examples"].tolist() == [2] * 5
    assert run(found).claims == ()


def test_findings_survive_json_and_can_be_drawn():
    found = harmed_class().assign_coords(group_site=("example", np.arange(2000) % 2))
    finding = Finding.from_dict(run(found, intersections=[("class", "site")]).to_dict())
    assert len(plot(finding).figure.axes) == 3
    hostile = found.assign_coords({"class": ["$\\frac{$", "a_b^{", "<b>&", "", "$$"]})
    plot(run(hostile)).figure.savefig("/dev/null", format="png")
    with pytest.raises(ValueError, match="`least_examples`"):
        run(found, least_examples=0)
    with pytest.raises(ValueError, match="`num_bins`"):
        run(found, num_bins=1)


def test_the_table_of_schemes_holds_the_intervals_of_the_claims():
    """A small group seems to lose most, and the large one has the lower upper end: the claim is on the largest loss."""
    small = np.arange(2000) < 40
    sides = {"small": (np.where(small, 0.25, 0.2), 0.02)}
    found = file_sides.population(np.random.default_rng(0), sides, num_examples=2000)
    finding = run(found.assign_coords(group_site=("example", np.where(small, "small", "large"))))
    row: Any = finding.tables["schemes"].iloc[0]
    slices: Any = finding.tables["groups"].set_index("level")
    (worst,) = [claim for claim in finding.claims if claim.quantity == "worst_group_net_change"]
    assert worst.low is not None
    assert worst.high is not None
    assert worst.detail == "site = small"
    assert 100 * worst.high == pytest.approx(slices.loc["large", "simultaneous_high_points"])
    assert [row["worst_group_low"], row["worst_group_high"]] == pytest.approx([100 * worst.low, 100 * worst.high])
