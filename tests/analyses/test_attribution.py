import base64
import io
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from remnant.analyses.attribution import example_columns, plot, run
from remnant.analyses.attribution_gallery import LIMIT, strip
from remnant.analyses.attribution_measures import same_seed_pairs, seed_pairs
from remnant.finding import Finding, NotApplicable
from remnant.population import SchemaError
from remnant.probes.attribution import ROUTES
from remnant.stats.attribution import normalized, rank_correlation, top_overlap, weighted_jaccard
from tests import simulate

PRUNED = "magnitude-pruning(sparsity=0.9)"
METHODS = ("saliency", "integrated-gradients", "occlusion")
SIDE = 6


def population(
    seed=0, *, num_seeds=4, num_examples=60, noise=0.5, int8=0.0, flips=0.2, schemes=(PRUNED, "static-int8")
):
    """Maps are a pattern of the example and the class that is explained, one of the seed, and the scheme's noise."""
    rng = np.random.default_rng(seed)
    found = simulate.population(rng, schemes=dict.fromkeys(("dense", *schemes), 0.0), num_seeds=num_seeds)
    num = found.sizes["trial"]
    chosen = np.sort(rng.permutation(found.sizes["example"])[:num_examples])
    kinds, seeds = found["scheme"].values, found["seed"].values
    target = np.tile(found["label"].values[chosen], (num, 1))
    for row in range(num):
        away = rng.random(num_examples) < (flips if kinds[row] != "static-int8" else 0.05)
        target[row, away] = (target[row, away] + 1) % 5
    parent = {int(seeds[row]): row for row in np.flatnonzero(kinds == "dense")}
    asked = np.array([target[parent[int(seeds[row])]] for row in range(num)])
    shape = (len(METHODS), SIDE, SIDE)
    of_class = rng.normal(size=(num_examples, 5, *shape))
    own = {int(k): rng.normal(size=(num_examples, 5, *shape)) for k in np.unique(seeds)}
    level = {"dense": 0.0, PRUNED: noise, "static-int8": int8}

    def maps(classes):
        every = np.arange(num_examples)
        return np.stack([
            of_class[every, classes[row]] + own[int(seeds[row])][every, classes[row]] * 0.7
            + level[str(kinds[row])] * np.random.default_rng([9, row]).normal(size=(num_examples, *shape))
            for row in range(num)
        ])  # fmt: skip

    codes = np.array([ROUTES.index("gradients"), ROUTES.index("gradients"), ROUTES.index("occlusion")], np.uint8)
    route = np.tile(codes, (num, num_examples, 1))
    route[kinds == "static-int8", :, :2] = ROUTES.index("straight-through")
    probe = xr.Dataset(
        {
            "attribution": (("trial", "example", "method", "row", "column"), maps(target).astype(np.float16)),
            "same_class": (("trial", "example", "method", "row", "column"), maps(asked).astype(np.float16)),
            "route": (("trial", "example", "method"), route),
            "target": (("trial", "example"), target.astype(np.uint8)),
            "reference_target": (("trial", "example"), asked.astype(np.uint8)),
            "label": (("example",), found["label"].values[chosen]),
        },
        coords={
            **{name: found[name] for name in ("trial", "seed", "scheme", "subset", "class")},
            "example": found["example"].values[chosen],
            "method": list(METHODS),
        },
        attrs={"probe": {"examples": num_examples, "resolution": 32}},
    )
    found.attrs["probes"] = {"attribution": probe}
    return found


def maps_of(found, scheme, seed, method, name="attribution"):
    probe = found.attrs["probes"]["attribution"]
    row = np.flatnonzero((probe["scheme"].values == scheme) & (probe["seed"].values == seed))[0]
    return probe[name].values[row, :, METHODS.index(method)], probe["target"].values[row]


def by_hand(found, scheme, method, num_seeds=4):
    """Mean over seeds and examples of the three measures."""
    values = []
    for seed in range(num_seeds):
        (a, _), (b, _) = maps_of(found, "dense", seed, method), maps_of(found, scheme, seed, method)
        one, two = normalized(a), normalized(b)
        values.append([weighted_jaccard(one, two), rank_correlation(a, b), top_overlap(one, two, share=0.1)])
    return np.mean(values, axis=(0, 2))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", [PRUNED, "static-int8"])
def test_table_holds_means_over_pairs_of_the_same_seed(scheme, method):
    found = population()
    table = run(found, num_permutations=19, most=0).to_frame().set_index(["scheme", "method"])
    row: Any = table.loc[(scheme, method)]
    np.testing.assert_allclose(
        [row["similarity"], row["rank_correlation"], row["top_overlap"]], by_hand(found, scheme, method)
    )
    assert row["pairs"] == 4
    assert row["similarity_low"] < row["similarity"] < row["similarity_high"]


def test_the_null_is_the_mean_over_models_of_different_seeds():
    found = population(num_seeds=3)
    finding = run(found, num_permutations=19, most=0)
    expected = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        one, two = (normalized(maps_of(found, "dense", k, "integrated-gradients")[0]) for k in (a, b))
        expected.append(weighted_jaccard(one, two).mean())
    claim: Any = finding.claim("attribution_similarity_null", "dense")
    assert claim.estimate == pytest.approx(np.mean(expected))
    assert claim.unit == "trial"
    assert claim.n == 3
    assert claim.low < claim.estimate < claim.high
    assert np.isfinite(finding.to_frame()["similarity_null"].to_numpy(float)).all()


def test_equal_maps_agree_wholly():
    finding = run(population(int8=0.0, schemes=("static-int8",), flips=0.0), num_permutations=19, most=0)
    alone = finding.claim("attribution_similarity", "static-int8").estimate
    found = population(schemes=("static-int8",))
    probe = found.attrs["probes"]["attribution"]
    for name in ("attribution", "target", "same_class", "reference_target"):
        probe[name].values[4:] = probe[name].values[:4]
    finding = run(found, num_permutations=19, most=0)
    for measure in ("similarity", "rank_correlation", "top_overlap"):
        assert finding.claim(f"attribution_{measure}", "static-int8").estimate == pytest.approx(1)
    assert alone < 1  # 5 % of its answers changed
    assert not [c for c in finding.claims if c.subject == "static-int8" and "cie" in c.quantity]


def test_changed_answers_lower_similarity_only_through_the_class_that_is_explained():
    """int8 maps are those of the reference for the same class: with it, examples whose answer changed are as alike."""
    finding = run(population(num_examples=120), num_permutations=199, most=0)
    assert finding.claim("attribution_cie_difference", "static-int8").estimate < -0.3
    assert finding.claim("attribution_cie_difference_p", "static-int8").estimate < 0.02
    same = finding.tables["changed_answers"].set_index(["scheme", "method", "class_explained"])
    row: Any = same.loc[("static-int8", "integrated-gradients", "reference")]
    assert row["similarity_changed"] == pytest.approx(1)
    assert abs(row["difference"]) < 1e-6
    # Two seeds that disagree explain different classes too: the difference is there without compression.
    assert finding.claim("attribution_cie_difference_null", "dense").estimate < -0.03


def test_evidence_that_moves_where_answers_change_is_found():
    found = population(num_examples=120, noise=0.3)
    probe = found.attrs["probes"]["attribution"]
    differ = probe["target"].values != probe["reference_target"].values
    rng = np.random.default_rng(1)
    for name in ("attribution", "same_class"):
        probe[name].values[differ] = rng.normal(size=probe[name].values[differ].shape)
    finding = run(found, num_permutations=199, most=0)
    claim: Any = finding.claim("attribution_cie_difference_same_class", PRUNED)
    assert claim.high < 0
    assert finding.claim("attribution_cie_difference_same_class_p", PRUNED).estimate < 0.02


def test_p_of_changed_answers_is_uniform_where_they_mean_nothing():
    """Same-class maps know nothing of whether the answer changed."""
    found = []
    for seed in range(60):
        one = population(seed, num_seeds=2, num_examples=50, schemes=(PRUNED,))
        one.attrs["probes"]["attribution"] = one.attrs["probes"]["attribution"].isel(method=[0])
        finding = run(one, num_permutations=99, most=0, method="saliency")
        found.append(finding.claim("attribution_cie_difference_same_class_p", PRUNED).estimate)
    for level in (0.1, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 60))


def test_one_pair_has_intervals_over_examples():
    finding = run(population(num_seeds=1), num_permutations=19)
    claim: Any = finding.claim("attribution_similarity", PRUNED)
    assert (claim.unit, claim.n) == ("example", 60)
    assert claim.low < claim.estimate < claim.high
    assert not [c for c in finding.claims if c.quantity.endswith("_null")]
    assert any("one pair" in caveat for caveat in finding.caveats)
    assert any("two seeds" in caveat for caveat in finding.caveats)


def test_maps_without_gradients_are_left_out_and_named():
    found = population()
    route = found.attrs["probes"]["attribution"]["route"].values
    route[found["scheme"].values == "static-int8", :, :2] = ROUTES.index("none")
    finding = run(found, num_permutations=19, most=0)
    assert finding.parameters["method"] == "occlusion"
    table = finding.to_frame().set_index(["scheme", "method"])
    assert np.isnan(table.loc[("static-int8", "saliency"), "similarity"])  # pyright: ignore[reportArgumentType]
    assert table.loc[("static-int8", "saliency"), "compressed_route"] == "none"
    assert np.isfinite(table.loc[("static-int8", "occlusion"), "similarity"])  # pyright: ignore[reportArgumentType]
    assert any("no usable gradients" in caveat and "static-int8" in caveat for caveat in finding.caveats)
    # One model of a scheme without maps is enough.
    one = population()
    one.attrs["probes"]["attribution"]["route"].values[-1, :, 0] = ROUTES.index("none")
    assert run(one, num_permutations=19, most=0).to_frame()["compressed_route"].tolist().count("none") == 1
    route[:] = ROUTES.index("none")
    with pytest.raises(NotApplicable, match="occlusion"):
        run(found)


def test_twins_are_named():
    assert any("twin" in c and "static-int8" in c and PRUNED not in c for c in run(population(), most=0).caveats)


def test_only_models_of_the_same_seed_are_pairs():
    found = population()
    probe = found.attrs["probes"]["attribution"]
    keep = ~((probe["scheme"].values == PRUNED) & (probe["seed"].values == 2))
    found.attrs["probes"]["attribution"] = probe.isel(trial=keep)
    table = run(found, num_permutations=19, most=0).to_frame().set_index(["scheme", "method"])
    assert table.loc[(PRUNED, "saliency"), "pairs"] == 3
    assert table.loc[("static-int8", "saliency"), "pairs"] == 4
    seeds = np.where(probe["scheme"].values == PRUNED, probe["seed"].values + 100, probe["seed"].values)
    found.attrs["probes"]["attribution"] = probe.assign_coords(seed=("trial", seeds))
    with pytest.raises(NotApplicable, match="same seed"):
        run(found)


def test_pairs_by_hand():
    assert same_seed_pairs(np.array([3, 5, 5, 9]), [0, 1], [2, 3]) == ((1, 2),)
    assert seed_pairs([4]) == ()
    assert seed_pairs([4, 7]) == ((4, 7),)
    many = seed_pairs(list(range(10)))
    assert len(set(map(frozenset, many))) == len(many) == 30


def test_examples_have_a_row_for_each_scheme():
    found = population()
    table = run(found, num_permutations=19, most=0).tables["examples"]
    assert len(table) == 120
    ids, values = example_columns(found, PRUNED)["attribution_similarity"]
    own = table.loc[table["scheme"] == PRUNED]
    assert own["example"].tolist() == ids.tolist()
    np.testing.assert_allclose(own["integrated_gradients_similarity_same_class"], values)
    assert set(own["pairs_changed"]) <= set(range(5))
    assert example_columns(found, "nothing") == {}


def test_galleries_show_the_least_alike_first_with_small_pictures():
    found = population(num_examples=100)
    finding = run(found, num_permutations=19)
    assert sum(map(len, finding.galleries.values())) <= 24
    assert set(finding.galleries) == {
        f"{title}: {scheme}"
        for title in ("Same answer, other evidence", "Answer changed")
        for scheme in (PRUNED, "static-int8")
    }
    for title, exhibits in finding.galleries.items():
        for exhibit in exhibits:
            image = Image.open(io.BytesIO(base64.b64decode(exhibit.image)))
            assert image.format == "PNG"
            assert len(exhibit.image) <= LIMIT
            answers = [line.partition(": ")[2] for line in exhibit.lines[1:3]]
            assert (answers[0] == answers[1]) == title.startswith("Same")
    one = finding.galleries[f"Same answer, other evidence: {PRUNED}"]
    table = finding.tables["examples"]
    never = table.loc[(table["scheme"] == PRUNED) & (table["pairs_changed"] == 0)].set_index("example")
    lowest = never["integrated_gradients_similarity"].idxmin()
    assert one[0].example == lowest


def test_noisy_pictures_stay_below_the_limit():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    maps = [rng.random((32, 32)) for _ in range(2)]
    found = strip(picture, maps)
    assert len(found) <= LIMIT
    assert Image.open(io.BytesIO(base64.b64decode(found))).size == (64 * 3 + 4, 64)
    assert strip(picture[..., :1], maps)
    assert strip(None, [np.zeros((32, 32))] * 2)


def test_the_picture_stands_first_and_bright_where_the_map_is_high():
    picture = np.full((4, 4, 3), 40, np.uint8)
    picture[..., 0] = 200
    values = np.zeros((4, 4))
    values[1, 2] = 1
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(strip(picture, [values])))).convert("RGB"), int)
    assert np.abs(image[8, 8] - [200, 40, 40]).max() < 25
    panel = image[:, 66:].sum(axis=2)
    assert panel[24, 40] > 2 * panel[8, 8]


def test_findings_survive_json_and_are_drawn():
    finding = run(population(), num_permutations=19)
    restored = Finding.from_dict(finding.to_dict())
    assert restored.claims == finding.claims
    axes = plot(restored)
    assert axes.get_xlabel() == "weighted Jaccard of attribution maps"
    import matplotlib.pyplot

    matplotlib.pyplot.close(axes.figure)


def test_parts_of_maps_can_be_chosen():
    found = population()
    one, two = (run(found, part=part, num_permutations=19, most=0) for part in ("positive", "absolute"))
    a, b = (f.claim("attribution_similarity", PRUNED).estimate for f in (one, two))
    assert a != b
    (first, _), (second, _) = (maps_of(found, s, 0, "integrated-gradients") for s in ("dense", PRUNED))
    expected = weighted_jaccard(normalized(first, "absolute"), normalized(second, "absolute"))
    assert abs(b - expected.mean()) < 0.05


def test_refusals_say_what_to_do():
    found = population()
    with pytest.raises(ValueError, match="`method` to be one of"):
        run(found, method="grad-cam")
    with pytest.raises(ValueError, match="`share` in"):
        run(found, share=0)
    with pytest.raises(NotApplicable, match="reference 'other'"):
        run(found, reference="other")
    del found.attrs["probes"]
    with pytest.raises(SchemaError, match="remnant probe STORE attribution"):
        run(found)
