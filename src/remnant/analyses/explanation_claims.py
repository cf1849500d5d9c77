"""Claims on distilled trees."""

from remnant.analyses.explanation_measures import Estimate, TreePairs, Trees, changes, difference, estimate
from remnant.finding import Claim

_SOURCE = "frosst2017distilling"
_TREE = "the soft decision tree distilled from the model"


def model_claims(scheme: str, trees: Trees, rows: list[int]) -> list[Claim]:
    """Fidelity and accuracy of the trees of one scheme, and both beside the tree trained on labels."""
    tree, answers, label = trees.tree[rows], trees.answers[rows], trees.label
    labels_tree = trees.labels_tree[rows]
    fidelity, accuracy = list(tree == answers), list(tree == label)
    over = "share of test examples on which "
    gain = "minus that of the tree of the same shape trained on labels"
    depth = [trees.effective_depth(row) for row in rows]
    claims = [
        _claim("tree_fidelity", scheme, estimate(fidelity, "trial"), f"{over}{_TREE} gives the model's answer"),
        _claim("tree_accuracy", scheme, estimate(accuracy, "trial"), f"{over}{_TREE} is right"),
        _claim(
            "tree_fidelity_over_labels",
            scheme,
            estimate(changes(fidelity, list(labels_tree == answers)), "trial"),
            f"{over}{_TREE} gives the model's answer, {gain}",
            "points",
        ),
        _claim(
            "tree_accuracy_over_labels",
            scheme,
            estimate(changes(accuracy, list(labels_tree == label)), "trial"),
            f"{over}{_TREE} is right, {gain}",
            "points",
        ),
    ]
    mean = sum(depth) / len(depth)
    method = f"entropy in bits of the leaves of {_TREE} that the test examples reach, mean over models; no interval: "
    method += "descriptive"
    depth_claim = Claim("tree_effective_depth", scheme, mean, None, None, len(rows), "trial", method, _SOURCE, "number")
    return [*(c for c in claims if c is not None), depth_claim]


def pair_claims(scheme: str, found: TreePairs) -> list[Claim]:
    """How the trees of pairs differ; of pairs of reference models with "_seeds" behind the name."""
    seeds = "_seeds" if found.shared is not None else ""
    who = "two reference models of different seeds" if seeds else "the reference and the compressed model"
    on = f"among test examples that {who} answer differently"
    beside = difference(found.changes_on_differing, found.changes_on_alike, found.shared)
    claims = [
        _claim(
            f"tree_agreement{seeds}",
            scheme,
            estimate(found.agree, "pair", found.shared),
            f"share of test examples on which the trees distilled from {who} give the same answer",
        ),
        _claim(
            f"tree_change_cie{seeds}",
            scheme,
            estimate(found.changes_on_differing, "pair", found.shared),
            f"share on which the two trees differ too, {on}",
        ),
        _claim(
            f"tree_change_cie_difference{seeds}",
            scheme,
            beside,
            f"share on which the two trees differ, {on}, minus that among those they answer alike",
            "points",
        ),
        _claim(
            f"tree_reproduces_cie{seeds}",
            scheme,
            estimate(found.reproduced, "pair", found.shared),
            f"share on which each of the two trees gives the answer of its model, {on}",
        ),
    ]
    return [c for c in claims if c is not None]


def change_claims(scheme: str, trees: Trees, found: TreePairs) -> list[Claim]:
    """Fidelity and accuracy of the compressed model's tree minus those of the reference's tree, in pairs."""
    first, second = ([pair[side] for pair in found.rows] for side in (0, 1))
    over = "of the tree of the compressed model minus that of the reference model, on the test examples"
    faithful = [trees.tree[rows] == trees.answers[rows] for rows in (first, second)]
    right = [trees.tree[rows] == trees.label for rows in (first, second)]
    claims = [
        _claim(
            "tree_fidelity_change",
            scheme,
            estimate(changes(list(faithful[1]), list(faithful[0])), "pair"),
            f"fidelity {over}",
            "points",
        ),
        _claim(
            "tree_accuracy_change",
            scheme,
            estimate(changes(list(right[1]), list(right[0])), "pair"),
            f"accuracy {over}",
            "points",
        ),
    ]
    return [c for c in claims if c is not None]


def _claim(quantity: str, scheme: str, found: Estimate | None, what: str, scale: str = "share") -> Claim | None:
    if found is None:
        return None
    mean = f", mean over {found.unit}s" if found.unit != "example" and found.n > 1 else ""
    method = f"{what}{mean}; {found.how}"
    low, high = found.ends or (None, None)
    if scale == "share" and low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Claim(quantity, scheme, found.value, low, high, found.n, found.unit, method, _SOURCE, scale)
