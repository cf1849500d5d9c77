from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.text import Annotation, Text
from scipy import stats

from remnant.analyses.league import plot, run
from remnant.analyses.league_measures import Cost, on_front
from remnant.analyses.league_plot import named
from remnant.analyses.panels import panels
from remnant.finding import Finding, NotApplicable
from remnant.stats.paired_bootstrap import patterns, resampled_means
from remnant.stats.ranking import rank_intervals, smaller_probability
from tests import simulate
from tests.analyses import file_sides

SIDES = {"worse": (0.3, 0.05), "best": (0.02, 0.02), "middle": (0.1, 0.1)}


def three(seed=0, **options):
    return file_sides.population(np.random.default_rng(seed), SIDES, **options)


def with_costs(found, sizes, seconds):
    found["bytes"] = (("trial", "encoding"), np.array(sizes, float)[:, None])
    found["latency"] = ("trial", np.array(seconds, float))
    return found.assign_coords(encoding=["file"])


def test_sides_are_in_order_of_harm():
    found = three()
    finding = run(found)
    table: Any = finding.tables["schemes"].set_index("scheme")
    assert table.index.tolist() == ["best", "middle", "worse"]
    assert table["rank"].tolist() == [1, 2, 3]
    right = found["prediction"].values == found["label"].values
    for row, scheme in enumerate(SIDES, start=1):
        assert table.loc[scheme, "harmful_flip_rate"] == pytest.approx((right[0] & ~right[row]).mean())
        assert table.loc[scheme, "net_change_points"] == pytest.approx(100 * (right[row].mean() - right[0].mean()))
    assert finding.claim("probability_best", "best").estimate == 1
    rank = finding.claim("rank", "worse")
    assert (rank.estimate, rank.low, rank.high) == (3, 3, 3)
    pairs: Any = finding.tables["pairwise"].set_index(["scheme", "other_scheme"])
    assert pairs.loc[("best", "worse"), "harms_less_probability"] == 1
    assert pairs.loc[("worse", "best"), "harms_less_probability"] == 0
    assert len(pairs) == 6


def test_order_by_net_accuracy_may_be_another():
    rng = np.random.default_rng(0)
    found = file_sides.population(rng, {"swaps": (0.2, 0.9), "loses": (0.1, 0.0)}, num_examples=4000, accuracy=0.7)
    assert run(found).to_frame()["scheme"].tolist() == ["loses", "swaps"]
    assert run(found, by="net").to_frame()["scheme"].tolist() == ["swaps", "loses"]
    with pytest.raises(ValueError, match="`by`"):
        run(found, by="kl")  # pyright: ignore[reportArgumentType]


def test_probabilities_equal_those_of_resampled_examples():
    """Against resampling whole examples, with the same examples for all sides."""
    found = file_sides.population(
        np.random.default_rng(3), {"a": (0.10, 0.1), "b": (0.11, 0.1), "c": (0.13, 0.1)}, num_examples=400
    )
    right = found["prediction"].values == found["label"].values
    harm = right[0] & ~right[1:]
    rng = np.random.default_rng(0)
    means = np.array([harm[:, rng.integers(0, 400, 400)].mean(axis=1) for _ in range(8000)])
    table: Any = run(found, num_resamples=8000).tables["pairwise"].set_index(["scheme", "other_scheme"])
    for (i, a), (j, b) in combinations(enumerate("abc"), 2):
        expected = np.mean(means[:, i] < means[:, j]) + np.mean(means[:, i] == means[:, j]) / 2
        assert table.loc[(a, b), "harms_less_probability"] == pytest.approx(expected, abs=0.02)


def test_equal_methods_have_any_probability():
    """Two methods that harm alike: the probability is uniform over test sets, and both may hold both places."""
    found, sure = [], 0
    rng = np.random.default_rng(0)
    num = 150
    for _ in range(num):
        harm = -(rng.random((2, 1000)) < 0.12).astype(np.int8)
        counted = patterns([harm])
        resampled = -resampled_means(counted, rng, num=400)
        found.append(smaller_probability(resampled)[0, 1])
        low, high = rank_intervals(-counted.means, resampled)
        sure += low[0] == high[0]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert sure <= stats.binom.ppf(0.99, num, 0.06)


def test_order_is_stable_over_seeds_of_the_bootstrap():
    found = three(num_examples=3000)
    ones = [run(found, seed=seed).claim("rank", "middle") for seed in range(3)]
    assert {(one.estimate, one.low, one.high) for one in ones} == {(2, 2, 2)}
    assert run(found).claims == run(found).claims


def test_several_models_are_resampled_too():
    """Models of one method that vary much make its place unsure, however many examples there are."""
    rng = np.random.default_rng(0)
    found = file_sides.population(rng, {"a": (0.0, 0.0), "b": (0.1, 0.0)}, files=3, num_examples=6000)
    label, right = found["label"].values, found["prediction"].values[0] == found["label"].values
    for row, rate in enumerate((0.0, 0.05, 0.2), start=1):
        lost = right & (rng.random(6000) < rate)
        found["prediction"][row, lost] = (label[lost] + 1) % 5
    one: Any = run(found).tables["pairwise"].iloc[0]
    assert 0.05 < one["harms_less_probability"] < 0.95
    first: Any = run(found.isel(trial=[0, 1, 4])).tables["pairwise"].iloc[0]
    assert first["harms_less_probability"] == 1


def test_ratios_are_reference_over_side():
    found = with_costs(three(), [100e6, 50e6, 25e6, 10e6], [4e-3, 2e-3, 8e-3, 1e-3])
    finding = run(found)
    assert finding.claim("size_bytes", "best").estimate == 25e6
    assert finding.claim("size_ratio", "best").estimate == 4
    assert finding.claim("latency_ratio", "best").estimate == 0.5
    table: Any = finding.tables["schemes"].set_index("scheme")
    # "worse" is beaten by "middle" in size and harm, and by the reference in nothing.
    assert table["on_size_front"].to_dict() == {"best": True, "middle": True, "worse": False}
    # "best" is slower than the reference, which harms nothing.
    assert table["on_latency_front"].to_dict() == {"best": False, "middle": True, "worse": False}


def test_costs_that_are_not_known_are_left_out():
    found = with_costs(three(), [np.nan, 50e6, np.nan, 10e6], [0.0, 0.0, 0.0, 0.0])
    finding = run(found)
    quantities = {claim.quantity for claim in finding.claims}
    assert "size_ratio" not in quantities
    assert "latency_ratio" not in quantities
    assert {c.subject for c in finding.claims if c.quantity == "size_bytes"} == {"worse", "middle"}
    table: Any = finding.tables["schemes"]
    assert not table.loc[table["scheme"] == "best", "on_size_front"].item()
    plot(finding)
    assert any("Sizes are not known" in caveat for caveat in run(three()).caveats)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8), st.integers(0, 5))
def test_front_equals_loops(points, own):
    cost = Cost(float(own), np.array([float(c) for c, _ in points]))
    every = [*points, (own, 0)]
    slow = [
        not any((c <= a and h <= b) and (c < a or h < b) for c, h in every[:i] + every[i + 1 :])
        for i, (a, b) in enumerate(points)
    ]
    assert on_front(cost, np.array([[float(h) for _, h in points]])).tolist() == [slow]


def test_stores_take_the_smallest_encoding_that_keeps_the_weights():
    found = simulate.population(
        np.random.default_rng(0), schemes={"dense": 0.0, "float16": 0.0, "magnitude-pruning(sparsity=0.9)": 0.5}
    )
    finding = run(found)
    assert finding.claim("size_ratio", "float16").estimate == pytest.approx(4000 / 525)
    assert np.isfinite(finding.tables["schemes"]["kl_mean_nats"]).all()
    claims = {claim.quantity for claim in finding.claims}
    assert {"latency_ratio", "rank", "probability_best"} <= claims


def test_one_side_makes_no_league():
    with pytest.raises(NotApplicable, match="at least 2 compressed sides"):
        run(three().isel(trial=[0, 1]))
    found = with_costs(three(), [100e6, 50e6, 25e6, 10e6], [4e-3, 2e-3, 8e-3, 1e-3]).isel(trial=[0, 1])
    finding = run(found, least_sides=1)
    assert {claim.quantity for claim in finding.claims} == {"size_bytes", "size_ratio", "latency_ratio"}
    assert "pairwise" not in finding.tables
    plot(finding)


def boxes(axes):
    renderer = axes.figure.canvas.get_renderer()
    found = []
    for text in axes.texts:
        assert isinstance(text, Annotation)
        text.update_positions(renderer)
        found.append(Text.get_window_extent(text, renderer))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_names_in_the_picture_do_not_overlap(seed):
    rng = np.random.default_rng(seed)
    (axes,) = panels(3.4)
    cost, harm = rng.random(12), rng.random(12)
    if seed == 3:
        cost[:], harm[:] = 0.5, 0.5
    axes.plot(cost, harm, "o")
    named(axes, cost, harm, [f"method {k} with a rather long name" for k in range(12)])
    axes.figure.savefig("/dev/null", format="png")
    found = boxes(axes)
    assert len(found) >= (4 if seed == 3 else 10)
    assert not any(one.overlaps(other) for one, other in combinations(found, 2))
    frame = axes.get_window_extent()
    assert all(box.x0 >= frame.x0 and box.x1 <= frame.x1 for box in found)
    pyplot.close(axes.figure)


def test_findings_survive_json_and_can_be_drawn():
    found = with_costs(three(), [100e6, 50e6, 25e6, 10e6], [4e-3, 2e-3, 8e-3, 1e-3])
    finding = Finding.from_dict(run(found).to_dict())
    axes = plot(finding)
    assert len(axes.figure.axes) == 2
    assert {text.get_text() for text in axes.texts} == {"best", "middle", "worse", "reference"}
    plot(run(three()))
    plot(run(found, by="net"))
    hostile = found.assign_coords(scheme=("trial", ["reference", "$\\frac{$", "a_b^{", "<b>&"]))
    plot(run(hostile)).figure.savefig("/dev/null", format="png")
    many = {f"m{k}": (0.01 * k, 0.0) for k in range(1, 20)}
    crowd = file_sides.population(np.random.default_rng(0), many)
    crowd = with_costs(crowd, np.linspace(2e7, 1e7, 20), np.linspace(2e-3, 1e-3, 20))
    assert len(run(crowd).to_frame()) == 19
    plot(run(crowd))
