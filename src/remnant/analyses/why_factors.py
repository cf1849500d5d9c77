"""What is known of each test example that might explain why compression forgets it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from remnant.analyses.comparison import MOST_LEVELS, attributes, stream
from remnant.analyses.slice_columns import FEW_VALUES
from remnant.analyses.subset_trials import SubsetTrials, reference_subsets
from remnant.finding import NotApplicable
from remnant.population import SchemaError, groups
from remnant.stats import influence_tiles as tiled
from remnant.stats.agreement import log_softmax
from remnant.stats.groups import disagreement_by_example
from remnant.stats.influence import Estimate, influence_of_pairs
from remnant.stats.influence_null import orders
from remnant.stats.label_issues import NOT_CONFIDENT, class_thresholds, label_issues
from remnant.stats.long_tail import levels, same_class_tops

LEAST_IN_LEVEL = 20
MOST_IN_FACTORS = 12
"""Levels of an attribute that become factors; of more, the largest ones."""
_VALUES = 2**22
"""Logits held at a time."""
_MEMORIZED = 0.25
_ORDERS = 20
"""Random orders of the trials that say how high influences are by chance."""
_OF_THE_ANSWER = ("attribution_similarity_own_class",)
"""Measures that differ because the answer does, which they cannot explain."""
_OF_THE_REFERENCE = ("boundary_distance", "worst_case_boundary_distance")
"""Measures of probes that do not look at the compressed model."""


@dataclass(frozen=True)
class Factor:
    """A measure of every test example."""

    name: str
    values: NDArray[np.float64]
    """Shape (example,); NaN where it was not measured."""
    high: str
    """What a high value says, in words."""
    low: str
    binary: bool = False
    of_change: bool = False
    """Measured on the compressed models too: it describes the change, and was not known before."""


@dataclass(frozen=True)
class Influencers:
    """The most influential training examples of each test example, from trials on random training subsets.

    Among the memorized ones of its class, where single examples decide answers; among all of its class if none is
    memorized.
    """

    data: SubsetTrials
    train_examples: NDArray[np.intp]
    """Shape (example, rank); -1 where there are fewer."""
    num_candidates: NDArray[np.int64]
    """Among how many the first is the highest, shape (example,)."""
    estimate: Estimate
    """Of the first of them, shape (example,)."""
    percentile: NDArray[np.float64]
    """Of the mean of the five highest influences of the example's class among the same after random orders of the
    trials, in [0, 1]: the raw influences are largest where answers are least certain. 0.5 where no trial differs."""


@dataclass(frozen=True)
class Reference:
    """What the reference models know of each example; arrays of shape (example,), None without logits."""

    disagreement: NDArray[np.float64] | None
    """Share of pairs of reference models that answer differently; None with one model."""
    confidence: NDArray[np.float64] | None
    """Highest mean probability of a class."""
    margin: NDArray[np.float64] | None
    """Mean probability of the true class minus the highest other one; without labels, the first minus the second."""
    quality: NDArray[np.float64] | None
    """Mean probability of the given label; None without labels."""
    suggested: NDArray[np.int64] | None
    issue: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Known:
    """All factors of one compressed side, and what could not be had."""

    factors: tuple[Factor, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def reference_measures(models: xr.Dataset, predictions: NDArray[np.integer]) -> Reference:
    """Disagreement, confidence, margin and label issues by some models of the reference, in blocks of examples."""
    disagreement = disagreement_by_example(predictions) if len(predictions) >= 2 else None
    if "logits" not in models:
        return Reference(disagreement, None, None, None, None, None)
    num_examples, num_classes = models.sizes["example"], models.sizes["class"]
    if "label" not in models:
        ordered = [np.sort(block, axis=1)[:, -2:] for _, block in _mean_probabilities(models)]
        top = np.concatenate(ordered)
        return Reference(disagreement, top[:, 1], top[:, 1] - top[:, 0], None, None, None)
    label = models["label"].values.astype(np.int64)
    own, confidence = np.empty(num_examples), np.empty(num_examples)
    for rows, block in _mean_probabilities(models):
        own[rows] = np.take_along_axis(block, label[rows, None], axis=1)[:, 0]
        confidence[rows] = block.max(axis=1)
    thresholds = class_thresholds(own, label, num_classes)
    margin, suggested = np.empty(num_examples), np.empty(num_examples, np.int64)
    for rows, block in _mean_probabilities(models):
        found = label_issues(block, label[rows], thresholds)
        margin[rows], suggested[rows] = found.margin, found.suggested
    issue = (suggested != NOT_CONFIDENT) & (suggested != label)
    return Reference(disagreement, confidence, margin, own, suggested, issue)


def _mean_probabilities(models: xr.Dataset) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Blocks of examples with the mean softmax probabilities over the models, shape (example, class)."""
    logits = models["logits"]
    num_models, num_examples, num_classes = logits.shape
    size = max(1, _VALUES // (num_models * num_classes))
    for start in range(0, num_examples, size):
        rows = slice(start, min(start + size, num_examples))
        block = np.exp(log_softmax(logits[:, rows].values)).mean(axis=0)
        yield rows, np.minimum(block, 1.0)


def influencers(population: xr.Dataset, top: int = 3, seed: int = 0) -> Influencers | str:
    """The most influential training examples of each test example, or why they are not known."""
    needed = ("included", "train_correct", "train_label", "logits", "label")
    if any(name not in population for name in needed):
        return "influence needs models trained here on random training subsets"
    try:
        scheme, trials = reference_subsets(population, None)
    except NotApplicable:
        return "influence needs trials on random training subsets: `[subsets] trials = 200` in the study"
    data = SubsetTrials.of(scheme, trials, _MEMORIZED)
    num = len(data.labels)
    best, candidates = np.full((num, top), -1, np.intp), np.zeros(num, np.int64)
    for label in np.unique(data.labels):
        rows = np.flatnonzero(data.labels == label)
        own = data.train_labels == label
        columns = np.flatnonzero(own & data.memorized if (own & data.memorized).any() else own)
        tiles = tiled.tiles(data.correct, data.included, examples=rows, train_examples=columns)
        found = tiled.fold(tiles, {"top": partial(tiled.top_k, num_examples=num, k=top)})["top"]
        candidates[rows] = len(columns)
        if found is not None:
            best[rows] = found.train_examples[rows]
    estimate = influence_of_pairs(data.correct, data.included, np.arange(num), np.maximum(best[:, 0], 0))
    return Influencers(data, best, candidates, estimate, _percentile(data, seed))


def _percentile(data: SubsetTrials, seed: int) -> NDArray[np.float64]:
    found = np.full(len(data.labels), 0.5)
    varies = np.flatnonzero(data.correct.any(axis=0) & ~data.correct.all(axis=0))
    order = orders(stream(seed, "why", "orders"), data.num_trials, _ORDERS)
    tops = same_class_tops(
        data.correct[:, varies],
        data.included,
        order,
        labels=data.labels[varies],
        train_labels=data.train_labels,
        memorized=data.memorized,
    )["top"]
    known = ~np.isnan(tops[0])
    if known.any():
        found[varies[known]] = levels(tops[:, known])[0] / (2 * (len(order) - 1))
    return found


def find_factors(population: xr.Dataset, scheme: str, found: Reference, top: Influencers | str) -> Known:
    """The factors that the population allows, those that vary; constant ones are left out."""
    factors, left_out = [*reference_factors(found)], {}
    if isinstance(top, str):
        left_out["influence"] = top
    else:
        words = "training examples of its class decide it", "no training example decides it"
        factors.append(Factor("influence_beyond_chance", top.percentile, *words))
    factors += [*_frequency(population), *_text_length(population), *_group_factors(population)]
    probed, reasons = probe_factors(population, scheme)
    factors += probed
    kept = [factor for factor in factors if _varies(factor.values)]
    constant = {factor.name: "the same for all examples" for factor in factors if not _varies(factor.values)}
    return Known(tuple(kept), left_out | reasons | constant)


def reference_factors(found: Reference) -> Iterator[Factor]:
    """Those that the models of the reference give."""
    if found.margin is not None:
        yield Factor("reference_margin", found.margin, "clear for the reference", "a close call for the reference")
    if found.disagreement is not None:
        yield Factor("seed_disagreement", found.disagreement, "reference models disagree", "reference models agree")
    if found.issue is not None:
        yield Factor(
            "label_issue", found.issue.astype(float), "the label is in doubt", "the label is not in doubt", True
        )


def _frequency(population: xr.Dataset) -> Iterator[Factor]:
    """How often the class of an example occurs among the training examples; else among the test examples."""
    if "label" not in population:
        return
    label = population["label"].values
    counted = population["train_label"].values if "train_label" in population else label
    sizes = np.bincount(counted, minlength=int(label.max(initial=0)) + 1)
    yield Factor("class_frequency", np.log2(np.maximum(sizes, 1))[label], "a frequent class", "a rare class")


def _text_length(population: xr.Dataset) -> Iterator[Factor]:
    if "text" in population:
        texts = population["text"].values.tolist()
        lengths = np.fromiter((len(str(text)) for text in texts), np.float64, len(texts))
        yield Factor("text_length", np.log2(np.maximum(lengths, 1)), "a long text", "a short text")


def _group_factors(population: xr.Dataset) -> Iterator[Factor]:
    """Measurements as they are, and the levels of attributes against the most frequent level."""
    measured = set()
    for name, values in groups(population).items():
        if values.dtype.kind in "iuf" and len(np.unique(values)) > FEW_VALUES:
            measured.add(name)
            finite = np.where(np.isfinite(values), values, np.nan).astype(float)
            yield Factor(name, finite, f"high {name}", f"low {name}")
    for group in attributes(population):
        if group.name in measured or len(group.levels) > MOST_LEVELS:
            continue
        sizes = np.bincount(group.index, minlength=len(group.levels))
        order = np.argsort(-sizes, kind="stable")[1 : MOST_IN_FACTORS + 1]
        for place in order[sizes[order] >= LEAST_IN_LEVEL]:
            name = f"{group.name} = {group.levels[place]}"
            yield Factor(name, (group.index == place).astype(float), f"of the group {name}", f"not of {name}", True)


def probe_factors(population: xr.Dataset, scheme: str) -> tuple[list[Factor], dict[str, str]]:
    """Measures per example of the analyses of what was probed, and why some give none."""
    factors, reasons = [], {}
    ids = pd.Index(population["example"].values)
    for kind in population.attrs.get("probes") or {}:
        module = f"remnant.analyses.{kind.replace('-', '_')}"
        try:
            offered = getattr(import_module(module), "example_columns", None)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        if offered is None:
            continue
        try:
            columns: Mapping[str, tuple[NDArray, NDArray]] = offered(population, scheme)
        except (NotApplicable, SchemaError) as error:
            reasons[kind] = str(error).rstrip(".")
            continue
        placed = {name: _placed(ids, *c) for name, c in columns.items() if name not in _OF_THE_ANSWER}
        measured = np.any([np.isfinite(column) for column in placed.values()], axis=0)
        for name, column in placed.items():
            if np.isfinite(column).sum() < 0.95 * measured.sum():
                reasons[name] = "not defined on all probed examples, so that its presence would say what happened"
                continue
            words, of_change = name.replace("_", " "), name not in _OF_THE_REFERENCE
            factors.append(Factor(name, column, f"high {words}", f"low {words}", of_change=of_change))
    return factors, reasons


def _placed(ids: pd.Index, examples: NDArray, values: NDArray) -> NDArray[np.float64]:
    """Values of some examples as a column of all; NaN elsewhere and where they are not finite."""
    place = ids.get_indexer(pd.Index(examples))
    column = np.full(len(ids), np.nan)
    column[place[place >= 0]] = np.asarray(values, float)[place >= 0]
    return np.where(np.isfinite(column), column, np.nan)


def _varies(values: NDArray[np.float64]) -> bool:
    known = values[~np.isnan(values)]
    return len(known) > 0 and bool(np.ptp(known) > 0)
