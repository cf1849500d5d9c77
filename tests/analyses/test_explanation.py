import base64
import io
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from scipy import stats

from remnant.analyses import explanation
from remnant.analyses.explanation import example_columns, plot, run
from remnant.analyses.explanation_gallery import decision_gallery
from remnant.analyses.explanation_measures import Trees, difference, estimate
from remnant.analyses.explanation_tables import matched_leaves
from remnant.analyses.feature_pairs import answers_of
from remnant.finding import Finding
from remnant.population import SchemaError, predictions
from remnant.stats.rates import newcombe, wilson
from tests import simulate

INT8, PRUNED = "static-int8", "magnitude-pruning(sparsity=0.9)"
NUM, CLASSES, DEPTH = 300, 5, 3
LEAVES = 2**DEPTH


def probed(num_seeds=3, fidelity=0.7, follows=0.0, seed=0, shape=(3, 4, 4)):
    """Trees that give their model's answer on a share of the examples, else that of a common tree.

    `follows`: share of the mismatches where the tree of the compressed model surely gives its answer.
    """
    rng = np.random.default_rng(seed)
    found = simulate.population(
        rng, schemes={"dense": 0.0, INT8: 0.0, PRUNED: 0.0}, num_seeds=num_seeds, num_examples=NUM
    )
    logits = found["logits"].values
    logits[num_seeds : 2 * num_seeds] = logits[:num_seeds]
    answers = predictions(found)
    common = rng.integers(0, CLASSES, NUM)
    imitates = rng.random(NUM) < fidelity
    prediction = np.where(imitates, answers, common)
    for row in range(num_seeds, 3 * num_seeds):
        sure = (answers[row] != answers[row % num_seeds]) & (rng.random(NUM) < follows)
        prediction[row, sure] = answers[row, sure]
        prediction[row % num_seeds, sure] = answers[row % num_seeds, sure]
    # Leaf c gives class c; the last ones are other leaves of the class 0.
    leaf = prediction.copy()
    num = len(prediction)
    distribution = np.full((LEAVES, CLASSES), 0.1)
    distribution[np.arange(LEAVES), np.where(np.arange(LEAVES) < CLASSES, np.arange(LEAVES), 0)] = 0.6
    nodes = LEAVES - 1
    variables = {
        "prediction": (("trial", "example"), prediction.astype(np.int16)),
        "leaf_reached": (("trial", "example"), leaf.astype(np.int16)),
        "path_probability": (("trial", "example"), rng.uniform(0.3, 1, (num, NUM)).astype(np.float16)),
        "label_prediction": (("trial", "example"), np.tile(common, (num, 1)).astype(np.int16)),
        "label_leaf_reached": (("trial", "example"), np.tile(common, (num, 1)).astype(np.int16)),
        "leaf_distribution": (("trial", "leaf", "class"), np.tile(distribution, (num, 1, 1)).astype(np.float16)),
        "leaf_picture": (
            ("trial", "leaf", "channel", "height", "width"),
            rng.integers(0, 256, (num, LEAVES, *shape)).astype(np.uint8),
        ),
        "filter": (
            ("trial", "node", "channel", "height", "width"),
            rng.normal(size=(num, nodes, *shape)).astype(np.float16),
        ),
        "label": ("example", found["label"].values),
    }
    coords = {name: found[name] for name in ("trial", "seed", "scheme", "subset", "example", "class")}
    coords |= {"leaf": range(LEAVES), "node": range(nodes)}  # as the store gives them
    found.attrs["probes"] = {"soft-tree": xr.Dataset(variables, coords=coords)}
    return found


def only(found: xr.Dataset, rows: list[int]) -> xr.Dataset:
    chosen = found.isel(trial=rows)
    chosen.attrs = {**found.attrs, "probes": {k: v.isel(trial=rows) for k, v in found.attrs["probes"].items()}}
    return chosen


def trees_of(found: xr.Dataset) -> Trees:
    measured = found.attrs["probes"]["soft-tree"]
    return Trees(measured, answers_of(found, measured))


def test_fidelity_accuracy_and_agreement_are_shares_of_examples():
    found = probed()
    finding = run(found)
    tree = found.attrs["probes"]["soft-tree"]["prediction"].values
    answers, label = predictions(found), found["label"].values
    fidelity = (tree == answers).mean(axis=1)
    claim: Any = finding.claim("tree_fidelity", PRUNED)
    assert claim.estimate == pytest.approx(fidelity[6:].mean())
    ends = stats.t.interval(0.95, 2, fidelity[6:].mean(), stats.sem(fidelity[6:]))
    np.testing.assert_allclose((claim.low, claim.high), ends)
    assert finding.claim("tree_accuracy", "dense").estimate == pytest.approx((tree[:3] == label).mean())
    change = finding.claim("tree_fidelity_change", PRUNED)
    assert change.estimate == pytest.approx((fidelity[6:] - fidelity[:3]).mean())
    agreement = (tree[:3] == tree[6:]).mean()
    assert finding.claim("tree_agreement", PRUNED).estimate == pytest.approx(agreement)
    between = [(tree[a] == tree[b]).mean() for a in range(3) for b in range(a)]
    assert finding.claim("tree_agreement_seeds").estimate == pytest.approx(np.mean(between))


def test_the_tree_of_labels_stands_beside():
    found = probed()
    finding = run(found)
    labels = found.attrs["probes"]["soft-tree"]["label_prediction"].values[0]
    right = labels == found["label"].values
    claim: Any = finding.claim("tree_accuracy_of_labels")
    assert claim.estimate == pytest.approx(right.mean())
    np.testing.assert_allclose((claim.low, claim.high), wilson(right.sum(), NUM))
    tree, answers = trees_of(found).tree[:3], predictions(found)[:3]
    gain = (tree == answers).mean() - (labels == answers).mean()
    assert finding.claim("tree_fidelity_over_labels", "dense").estimate == pytest.approx(gain)


def test_a_copy_changes_no_tree():
    found = probed()
    finding = run(found)
    assert finding.claim("tree_agreement", INT8).estimate == 1
    assert finding.claim("tree_fidelity_change", INT8).estimate == 0
    assert not any(c.subject == INT8 and "cie" in c.quantity for c in finding.claims)
    assert any(caveat.startswith(f"No answer changes: {INT8}") for caveat in finding.caveats)


def test_trees_that_follow_their_models_reproduce_mismatches():
    found = probed(follows=0.8, fidelity=0.3)
    finding = run(found)
    answers, tree = predictions(found), trees_of(found).tree
    differ = answers[:3] != answers[6:]
    right = tree == answers
    expected = np.mean([(right[s] & right[6 + s])[differ[s]].mean() for s in range(3)])
    assert finding.claim("tree_reproduces_cie", PRUNED).estimate == pytest.approx(expected)
    assert expected > 0.75
    claim: Any = finding.claim("tree_change_cie_difference", PRUNED)
    changes = tree[:3] != tree[6:]
    shares = [changes[s][differ[s]].mean() - changes[s][~differ[s]].mean() for s in range(3)]
    assert claim.estimate == pytest.approx(np.mean(shares))
    assert claim.low > 0
    assert finding.tables["examples"]["reproduced"].to_numpy().max() == 3


def test_one_pair_has_intervals_over_examples():
    found = only(probed(), [1, 7])
    finding = run(found)
    tree, answers = trees_of(found).tree, predictions(found)
    claim: Any = finding.claim("tree_agreement", PRUNED)
    np.testing.assert_allclose((claim.low, claim.high), wilson((tree[0] == tree[1]).sum(), NUM))
    assert (claim.n, claim.unit) == (NUM, "example")
    differ, change = answers[0] != answers[1], tree[0] != tree[1]
    beside: Any = finding.claim("tree_change_cie_difference", PRUNED)
    ends = newcombe((change & differ).sum(), differ.sum(), (change & ~differ).sum(), (~differ).sum())
    np.testing.assert_allclose((beside.low, beside.high), ends)
    assert not any("_seeds" in c.quantity for c in finding.claims)
    assert any("one probed dense model" in caveat for caveat in finding.caveats)
    assert len(finding.tables["pairs"]) == 1
    plot(finding)


def test_estimates_without_examples_are_none():
    empty, full = np.array([], bool), np.array([True, False])
    assert estimate([empty, empty], "pair") is None
    assert difference([empty], [full]) is None
    two: Any = estimate([full, empty, full], "pair")
    assert (two.value, two.n, two.ends) == (0.5, 2, None)
    assert two.how.startswith("no interval")


def test_effective_depth_is_the_entropy_of_leaves():
    found = probed()
    measured = found.attrs["probes"]["soft-tree"]
    measured["leaf_reached"].values[0] = np.arange(NUM) % 4
    measured["leaf_reached"].values[1] = 7
    trees = trees_of(found)
    assert trees.effective_depth(0) == pytest.approx(2)
    assert trees.effective_depth(1) == 0
    assert trees.effective_depth(2) == pytest.approx(stats.entropy(np.bincount(trees.leaf[2]), base=2))


def test_leaves_are_matched_by_the_examples_they_share():
    found = probed()
    measured = found.attrs["probes"]["soft-tree"]
    moved = np.array([3, 0, 4, 1, 2, 5, 6, 7])
    measured["leaf_reached"].values[6] = moved[measured["leaf_reached"].values[0]]
    assert matched_leaves(trees_of(found), (0, 6)).tolist() == moved.tolist()
    table = run(found).tables["leaves"]
    own = table.loc[table["scheme"] == PRUNED].set_index("leaf")
    assert own.loc[0, "compressed_leaf"] == 3
    np.testing.assert_allclose(own["share"], own["compressed_share"])


def test_pictures_are_small_and_stand_side_by_side():
    finding = run(probed(shape=(3, 16, 16)))
    images = [e.image for exhibits in finding.galleries.values() for e in exhibits]
    assert 0 < len(images) <= 24
    for image in images:
        assert len(image) <= 6000
        picture = Image.open(io.BytesIO(base64.b64decode(image)))
        assert picture.size == (34, 16)
    leaves = finding.galleries[f"Leaves of the trees, reference left: {PRUNED}"]
    assert leaves[0].lines[0].startswith("reference: leaf ")
    values: Any = [e.value for e in leaves]
    assert values == sorted(values, reverse=True)
    decisions = finding.galleries[f"Decisions of the trees, reference left: {PRUNED}"]
    assert [e.lines[0] for e in decisions[:4]] == [
        "decision: first", "decision: after left", "decision: after right", "decision: after left, left",
    ]  # fmt: skip


def test_grey_and_single_row_inputs():
    assert run(probed(shape=(1, 1, 64))).galleries == {}
    assert run(probed(shape=(1, 8, 8))).galleries
    assert decision_gallery(trees_of(probed(shape=(2, 8, 8))), (0, 6), list("abcde"), 1)


def test_columns_are_means_over_pairs_by_example():
    found = probed()
    columns = example_columns(found, PRUNED)
    tree = trees_of(found).tree
    np.testing.assert_allclose(columns["tree_agreement"][1], (tree[:3] == tree[6:]).mean(axis=0))
    np.testing.assert_allclose(columns["tree_fidelity"][1], (tree[6:] == predictions(found)[6:]).mean(axis=0))
    assert example_columns(found, "another") == {}


def test_a_finding_survives_json_and_is_drawn():
    finding = run(probed())
    again = Finding.from_dict(finding.to_dict())
    assert again.claims == finding.claims
    assert len(plot(again).get_yticklabels()) == 3


def test_not_probed_is_an_error_that_says_what_to_run():
    with pytest.raises(SchemaError, match="remnant probe STORE soft-tree"):
        run(simulate.population(np.random.default_rng(0)))
    assert explanation.ANALYSIS.needs == ("soft-tree",)
