"""Leaves and decisions of two trees as pictures side by side."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.explanation_measures import Pair, Trees
from remnant.analyses.explanation_tables import matched_leaves
from remnant.finding import Exhibit

MOST_PICTURES = 24
"""Pictures of this analysis in a report."""
_GAP = 2
_COLOURS = 32
_SIDES = ("reference", "compressed")


def leaf_gallery(trees: Trees, pair: Pair, names: Sequence[str], most: int) -> tuple[Exhibit, ...]:
    """The leaves of the reference's tree that most test examples reach, each beside that of the compressed model."""
    match, pictures = matched_leaves(trees, pair), trees.measured["leaf_picture"].values
    counts = np.bincount(trees.leaf[pair[0]], minlength=len(match))
    ids = trees.measured["example"].values
    exhibits = []
    for leaf in np.argsort(-counts, kind="stable")[: max(most, 0)]:
        if not counts[leaf]:
            break
        both = (int(leaf), int(match[leaf]))
        image = _png(_beside(*(_picture(pictures[row, own]) for row, own in zip(pair, both, strict=True))))
        lines = [
            f"{side}: {_leaf(trees, *of, names)}" for side, of in zip(_SIDES, zip(pair, both, strict=True), strict=True)
        ]
        exhibits.append(
            Exhibit("test", _typical(trees, pair[0], int(leaf), ids), tuple(lines), float(counts[leaf]), image=image)
        )
    return tuple(exhibits)


def decision_gallery(trees: Trees, pair: Pair, names: Sequence[str], most: int) -> tuple[Exhibit, ...]:
    """The filters of the first inner nodes, level by level: grey is 0, each side on its own scale."""
    filters = trees.measured["filter"].values
    ids = trees.measured["example"].values
    exhibits = []
    for node in range(min(max(most, 0), filters.shape[1])):
        one, two = (filters[row, node].astype(float) for row in pair)
        norm = float(np.linalg.norm(one) * np.linalg.norm(two))
        cosine = float((one * two).sum() / norm) if norm else 0.0
        lines = [f"decision: {_place(node)}", f"filters: reference left, compressed right, cosine {cosine:.2f}"]
        lines += [f"{side}: {_sides(trees, row, node, names)}" for side, row in zip(_SIDES, pair, strict=True)]
        image = _png(_beside(_filter(one), _filter(two)))
        example = _typical(trees, pair[0], _first_leaf(trees, node), ids)
        exhibits.append(Exhibit("test", example, tuple(lines), float(-node), image=image))
    return tuple(exhibits)


def _leaf(trees: Trees, row: int, leaf: int, names: Sequence[str]) -> str:
    """Where a leaf is, its likeliest classes, and the share of the test examples that reach it."""
    distribution = trees.measured["leaf_distribution"].values[row, leaf].astype(float)
    likely = [c for c in np.argsort(-distribution, kind="stable")[:2] if distribution[c] >= 0.05]
    share = np.mean(trees.leaf[row] == leaf)
    classes = ", ".join(f"{names[c]} {distribution[c]:.0%}" for c in likely)
    return f"leaf {leaf}, {classes}; {share:.1%} of the examples"


def _sides(trees: Trees, row: int, node: int, names: Sequence[str]) -> str:
    """What a node tells apart: the most frequent answer of the tree on either side."""
    first, last = _leaves_below(trees, node)
    middle = (first + last) // 2
    leaf, tree = trees.leaf[row], trees.tree[row]
    found = []
    for low, high in ((first, middle), (middle, last)):
        here = tree[(leaf >= low) & (leaf < high)]
        found.append(names[int(np.bincount(here).argmax())] if len(here) else "nothing")
    return f"most often {found[0]} on the left, {found[1]} on the right"


def _place(node: int) -> str:
    """The way to an inner node."""
    way = []
    while node:
        way.append("left" if node % 2 else "right")
        node = (node - 1) // 2
    return "first" if not way else f"after {', '.join(reversed(way))}"


def _leaves_below(trees: Trees, node: int) -> tuple[int, int]:
    """First leaf below a node, and the one after the last."""
    size = trees.measured.sizes["leaf"]
    first = last = node
    while first < size - 1:
        first, last = 2 * first + 1, 2 * last + 2
    return first - (size - 1), last - (size - 1) + 1


def _first_leaf(trees: Trees, node: int) -> int:
    return _leaves_below(trees, node)[0]


def _typical(trees: Trees, row: int, leaf: int, ids: NDArray) -> str:
    """Id of the test example that reaches a leaf with the highest probability; of any leaf if none does."""
    probability = trees.measured["path_probability"].values[row].astype(float)
    here = trees.leaf[row] == leaf
    return str(ids[np.argmax(np.where(here, probability, -1) if here.any() else probability)])


def _picture(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(channel, height, width) as (height, width[, 3])."""
    if len(values) == 3:
        return np.moveaxis(values, 0, 2)
    return values[0] if len(values) == 1 else values.mean(axis=0).astype(np.uint8)


def _filter(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A filter as a picture: 0 is grey, its largest magnitude black or white."""
    largest = float(np.abs(values).max()) or 1.0
    return _picture(np.round(127.5 + 127.5 * values / largest).astype(np.uint8))


def _beside(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = np.full((one.shape[0], _GAP, *one.shape[2:]), 255, np.uint8)
    return np.concatenate([one, gap, two], axis=1)


def _png(picture: NDArray[np.uint8]) -> str:
    """Base64 of a PNG of few colours, so that pictures of noise stay small."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    buffer = io.BytesIO()
    image.quantize(_COLOURS).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
