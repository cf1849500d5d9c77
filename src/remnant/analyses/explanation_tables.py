"""Tables on distilled trees."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.explanation_measures import Pair, TreePairs, Trees, estimate


def scheme_row(
    scheme: str, trees: Trees, rows: list[int], found: TreePairs | None, between: TreePairs
) -> dict[str, Any]:
    """One row: how the trees imitate the models of a scheme, and how they differ from those of the reference."""
    tree, answers, label = trees.tree[rows], trees.answers[rows], trees.label
    faithful = estimate(list(tree == answers), "trial")
    low, high = (faithful.ends if faithful else None) or (np.nan, np.nan)
    row: dict[str, Any] = {
        "scheme": scheme,
        "models": len(rows),
        "fidelity": float((tree == answers).mean()),
        "fidelity_low": low,
        "fidelity_high": high,
        "fidelity_of_labels_tree": float((trees.labels_tree[rows] == answers).mean()),
        "model_accuracy": float((answers == label).mean()),
        "tree_accuracy": float((tree == label).mean()),
        "labels_tree_accuracy": float((trees.labels_tree[rows] == label).mean()),
        "effective_depth_bits": float(np.mean([trees.effective_depth(r) for r in rows])),
        "leaves_reached": float(np.mean([len(np.unique(trees.leaf[r])) for r in rows])),
        "path_probability": float(trees.measured["path_probability"].values[rows].mean(dtype=float)),
    }
    for name, part in (("", found), ("_seeds", between)):
        row |= {f"{measure}{name}": value for measure, value in _pair_means(part).items()}
    return row


def pair_table(trees: Trees, scheme: str, found: TreePairs) -> pd.DataFrame:
    """One row for each pair: the seeds of the two models, and the shares that `scheme_row` averages."""
    seed = trees.measured["seed"].values
    return pd.DataFrame(
        {
            "scheme": scheme,
            "reference_seed": [int(seed[a]) for a, _ in found.rows],
            "seed": [int(seed[b]) for _, b in found.rows],
            "agreement": [float(own.mean()) for own in found.agree],
            "same_leaf": [float(own.mean()) for own in found.same_leaf],
            "answers_differ": [int(np.count_nonzero(own)) for own in found.differ],
            "change_cie": [_mean(own) for own in found.changes_on_differing],
            "change_other": [_mean(own) for own in found.changes_on_alike],
            "reproduced_cie": [_mean(own) for own in found.reproduced],
        }
    )


def leaf_table(trees: Trees, scheme: str, pair: Pair, names: Sequence[str]) -> pd.DataFrame:
    """One row for each leaf of the reference's tree in one pair, with the leaf of the other tree that matches it.

    Shares are those of test examples; classes with their probability in the leaf.
    """
    match = matched_leaves(trees, pair)
    share = [np.bincount(trees.leaf[row], minlength=len(match)) / trees.leaf.shape[1] for row in pair]
    table = pd.DataFrame({"scheme": scheme, "leaf": np.arange(len(match)), "share": share[0]})
    for row, prefix, order in ((pair[0], "", np.arange(len(match))), (pair[1], "compressed_", match)):
        own = trees.measured["leaf_distribution"].values[row].astype(float)[order]
        table[f"{prefix}class"] = np.asarray(names, object)[own.argmax(axis=1)]
        table[f"{prefix}probability"] = own.max(axis=1)
    table["compressed_leaf"] = match
    table["compressed_share"] = share[1][match]
    return table.sort_values(["share", "leaf"], ascending=[False, True], ignore_index=True)


def matched_leaves(trees: Trees, pair: Pair) -> NDArray[np.intp]:
    """For each leaf of one tree, the leaf of the other: one to one, with the most test examples in common.

    A leaf that stands for nothing in common keeps its number where it can.
    """
    from scipy.optimize import linear_sum_assignment  # takes long to import

    size = trees.measured.sizes["leaf"]
    first, second = (trees.leaf[row].astype(np.int64) for row in pair)
    common = np.bincount(first * size + second, minlength=size * size).reshape(size, size)
    return linear_sum_assignment(common + 0.5 * np.eye(size), maximize=True)[1]


def example_table(trees: Trees, scheme: str, found: TreePairs, names: Sequence[str]) -> pd.DataFrame:
    """One row for each probed example whose answer or tree changes in some pair: those of most changes first."""
    differ, change = np.sum(found.differ, axis=0), len(found.rows) - np.sum(found.agree, axis=0)
    kept = np.flatnonzero((differ > 0) | (change > 0))
    classes = np.asarray(names, object)
    first, second = found.rows[0]
    table = pd.DataFrame(
        {
            "scheme": scheme,
            "example": trees.measured["example"].values[kept],
            "true": classes[trees.label[kept]],
            "answer_changes": differ[kept],
            "tree_changes": change[kept],
            "reproduced": np.sum([e & d for e, d in zip(found.explained, found.differ, strict=True)], axis=0)[kept],
            "reference_answer": classes[trees.answers[first, kept]],
            "reference_tree": classes[trees.tree[first, kept]],
            "compressed_answer": classes[trees.answers[second, kept]],
            "compressed_tree": classes[trees.tree[second, kept]],
        }
    )
    order = ["answer_changes", "reproduced", "tree_changes", "example"]
    return table.sort_values(order, ascending=[False, False, False, True], ignore_index=True)


def _pair_means(found: TreePairs | None) -> dict[str, float]:
    empty: list[NDArray] = []
    parts = {
        "agreement": found.agree if found else empty,
        "same_leaf": found.same_leaf if found else empty,
        "change_cie": found.changes_on_differing if found else empty,
        "change_other": found.changes_on_alike if found else empty,
        "reproduced_cie": found.reproduced if found else empty,
    }
    means = {name: estimate(values, "pair") for name, values in parts.items()}
    return {name: np.nan if mean is None else mean.value for name, mean in means.items()}


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else np.nan
