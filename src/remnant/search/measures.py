"""From stored trials to the numbers that objectives and budgets are about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remnant.answers import predicted
from remnant.probes.attribution import ROUTES, Attribution
from remnant.schemes import Scheme
from remnant.search.quantities import DENSE, OF_DENSE
from remnant.stats.agreement import mismatches
from remnant.stats.attribution import normalized, weighted_jaccard
from remnant.stats.rates import rate_by_group
from remnant.store import Store, measurement_name
from remnant.stored_array import unpack_text
from remnant.trial import Trial

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

MOST_GROUPS = 100
"""Attributes with more distinct values are not groups but measurements."""
LEAST_EXAMPLES = 20
"""Groups with fewer examples do not count: their accuracy is mostly noise."""


@dataclass(frozen=True)
class Split:
    """Test examples that a search looks at, and those that report what it found; together all, none in both."""

    validation: Rows
    held_out: Rows


def split(labels: NDArray[np.integer], share: float, *, seed: int = 0) -> Split:
    """Test examples in two parts at random, each class divided as evenly as can be.

    A strength that was chosen on the examples that report it would look better than it is. Trials keep what models
    answer on test examples; so the search reads `share` of these, and the rest is read once, at the end.

    Raises
    ------
    ValueError
        If `share` is not in (0, 1), or a part would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"Expected `validation_share` in (0, 1), but got {share!r}.")
    mixed = np.random.default_rng(seed).permutation(len(labels))
    order = mixed[np.argsort(labels[mixed], kind="stable")]
    # Spread over the order, so that each class, however small, gives about its share.
    steps = np.floor(np.arange(len(order) + 1) * share + 0.5)
    chosen = np.diff(steps) > 0
    if chosen.all() or not chosen.any():
        raise ValueError(f"Expected test examples for both parts, but {len(labels)} with a share of {share} are few.")
    return Split(np.sort(order[chosen]), np.sort(order[~chosen]))


@dataclass(frozen=True)
class Answers:
    """What models of one scheme answer on test examples, and what they cost."""

    scheme: Scheme
    prediction: NDArray[np.integer]
    """Shape (seed, example)."""
    footprints: Sequence[Mapping[str, Any]]
    """One for each seed, as `remnant.lab.footprint.measure` gives it."""


@dataclass(frozen=True)
class Examples:
    """What is known of the test examples."""

    label: NDArray[np.integer]
    groups: Mapping[str, NDArray[np.integer]]
    """Attribute to the group of each example."""

    def take(self, rows: Rows) -> "Examples":
        """Some of the examples."""
        return Examples(self.label[rows], {name: index[rows] for name, index in self.groups.items()})


def examples(store: Store, trial: Trial) -> Examples:
    """Labels and groups of the test examples of a finished trial."""
    arrays = store.dataset(store.manifest(trial)["dataset"])[1]
    found = {}
    for name in arrays:
        if name.startswith("test_group_"):
            levels, index = np.unique(unpack_text(arrays[name]), return_inverse=True)
            if 2 <= len(levels) <= MOST_GROUPS:
                found[name.removeprefix("test_group_")] = index
    return Examples(arrays["test_labels"].astype(np.intp), found)


def answers(store: Store, trials: Sequence[Trial]) -> Answers:
    """Predictions and costs of finished trials of one scheme, in their order."""
    prediction = np.stack([predicted(store.read(trial)) for trial in trials]).astype(np.intp)
    return Answers(trials[0].scheme, prediction, [store.manifest(trial)["footprint"] for trial in trials])


def behaviour(compressed: NDArray, dense: NDArray, given: Examples) -> dict[str, Array]:
    """Measures of what models answer, each of shape (seed,): accuracy, cie_u, worst_class_drop, group_gap, ...

    Parameters
    ----------
    compressed, dense
        Predicted classes of models of the same seeds, shape (seed, example).
    """
    right, base = compressed == given.label, dense == given.label
    kinds = mismatches(dense, compressed, given.label)
    num_classes = int(given.label.max()) + 1
    recall, before = (rate_by_group(side, given.label, num_classes) for side in (right, base))
    found = {
        "accuracy": right.mean(axis=1),
        "accuracy_drop": base.mean(axis=1) - right.mean(axis=1),
        "cie": kinds["cie"].mean(axis=1),
        "cie_u": kinds["cie_u"].mean(axis=1),
        "worst_class_recall": np.nanmin(recall, axis=1),
        "worst_class_drop": np.nanmax(before - recall, axis=1),
        "dense_accuracy": base.mean(axis=1),
        "dense_worst_class_recall": np.nanmin(before, axis=1),
    }
    tables = [(_group_rates(right, index), _group_rates(base, index)) for index in given.groups.values()]
    if tables := [(one, two) for one, two in tables if one.shape[1] >= 2]:
        found["group_gap"] = np.max([np.ptp(one, axis=1) for one, _ in tables], axis=0)
        found["dense_group_gap"] = np.max([np.ptp(two, axis=1) for _, two in tables], axis=0)
        found["worst_group_drop"] = np.max([(two - one).max(axis=1) for one, two in tables], axis=0)
    return found


def costs(compressed: Answers, dense: Answers) -> dict[str, Array]:
    """Measures of what models cost, each of shape (seed,), and those of the dense models as `dense_...`.

    `memory` follows Condensa: the values that are not 0, in the smallest number format that keeps them, and nothing
    for their places. `memory_index` is the smallest stated encoding that keeps the weights, with their places.
    """
    found, base = _costs(compressed), _costs(dense)
    found["sparsity"] = 1 - found["nonzeros"] / base["parameters"]
    return found | {DENSE + name: value for name, value in base.items() if name in OF_DENSE}


def attribution_iou(store: Store, trials: Sequence[Trial], references: Sequence[Trial], probe: Attribution) -> Array:
    """Weighted Jaccard index of the maps of probed examples, dense to compressed, shape (seed, probed example).

    Of the first method of `probe`, on the part of a map that speaks for the class. NaN where a map is 0 everywhere.

    Raises
    ------
    ValueError
        If a model gives no maps by this method.
    """
    part = probe.parts()[0]
    found = []
    for trial, reference in zip(trials, references, strict=True):
        maps = []
        for one in (reference, trial):
            arrays = store.item("probes", measurement_name(one, part), "measured")[1]
            if (arrays["route"] == ROUTES.index("none")).any():
                raise ValueError(
                    f"Expected attribution maps for `attribution_iou`, but {one.scheme.label!r} has none by "
                    f"{probe.methods[0]!r}. Take a method that needs no gradients, such as 'occlusion'."
                )
            maps.append(normalized(arrays["attribution"][:, 0]))
        found.append(weighted_jaccard(*maps))
    return np.stack(found)


def probed_rows(store: Store, trial: Trial, probe: Attribution) -> Rows:
    """Test examples that the probe looked at, shape (probed example,)."""
    return store.item("probes", measurement_name(trial, probe.parts()[0]), "measured")[1]["rows"].astype(np.intp)


def _group_rates(right: NDArray[np.bool_], index: NDArray[np.integer]) -> Array:
    """Accuracy of the groups with enough examples, shape (seed, group)."""
    sizes = np.bincount(index)
    return rate_by_group(right, index, len(sizes))[:, sizes >= LEAST_EXAMPLES]


def _costs(side: Answers) -> dict[str, Array]:
    names = ("parameters", "nonzeros", "flops", "effective_flops", "latency")
    found = {name: np.array([float(one[name]) for one in side.footprints]) for name in names}
    keeping = formats(side.scheme)
    sizes = [_lossless(one["bytes"], keeping) for one in side.footprints]
    return found | {
        # Trials of older versions say no more than the number of non-zeros.
        "memory": np.array(
            [float(one.get("nonzero_bytes", one["nonzeros"] * min(keeping.values()) / 8)) for one in side.footprints]
        ),
        "memory_index": np.array([float(min(one.values())) for one in sizes]),
        "throughput": 1 / found["latency"],
    }


def _lossless(sizes: Mapping[str, int], keeping: Mapping[str, int]) -> dict[str, int]:
    """Sizes in encodings that keep the weights: of models with rounded weights, float32 and their own formats."""
    kept = ("float32", "own") if "own" in sizes else tuple(keeping)
    return {name: size for name, size in sizes.items() if name.split()[0] in kept}


def formats(scheme: Scheme) -> dict[str, int]:
    """Number formats that keep the weights of a scheme, with their bits: float32, and what the scheme rounds to."""
    found = {"float32": 32}
    parts = [*getattr(scheme, "parts", ()), getattr(scheme, "scheme", None)]
    for part in parts:
        if isinstance(part, Scheme):
            found |= formats(part)
    if scheme.kind == "float16":
        found["float16"] = 16
    bits = getattr(scheme, "bits", 8 if scheme.kind.endswith("int8") else None)
    if bits is not None:
        found |= {f"int{size}": size for size in (8, bits)}
    return found
