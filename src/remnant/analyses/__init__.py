"""Questions asked of a population, one per module; each returns a Finding."""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import xarray as xr

from remnant import registry
from remnant.finding import Analysis, Audit, Finding, NotApplicable
from remnant.population import SchemaError, check, predictions, reference_of, schemes, subsets, whole
from remnant.probes import PROBES

ANALYSES: dict[str, str] = {
    "mismatches": "remnant.analyses.mismatches",
    "exemplars": "remnant.analyses.exemplars",
    "classes": "remnant.analyses.classes",
    "memorization": "remnant.analyses.memorization",
    "influence": "remnant.analyses.influence",
    "long_tail": "remnant.analyses.long_tail",
    "generalization": "remnant.analyses.generalization",
    "equivalence": "remnant.analyses.equivalence",
    "slices": "remnant.analyses.slices",
    "floor": "remnant.analyses.floor",
    "league": "remnant.analyses.league",
    "sufficiency": "remnant.analyses.sufficiency",
    "footprint": "remnant.analyses.footprint",
    "consequences": "remnant.analyses.consequences",
    "why": "remnant.analyses.why",
    "groups": "remnant.analyses.groups",
    "cost": "remnant.analyses.cost",
    "calibration": "remnant.analyses.calibration",
    "layers": "remnant.analyses.layers",
    "features": "remnant.analyses.features",
    "attribution": "remnant.analyses.attribution",
    "boundary": "remnant.analyses.boundary",
    "corruptions": "remnant.analyses.corruptions",
    "natural_adversarial": "remnant.analyses.natural_adversarial",
    "adversarial": "remnant.analyses.adversarial",
    "membership": "remnant.analyses.membership",
    "explanation": "remnant.analyses.explanation",
    "decoding": "remnant.analyses.decoding",
}
"""Name to module of each built-in analysis; imported when it is asked for."""

STORE_ANALYSES = (
    "mismatches", "why", "consequences", "exemplars", "classes", "groups", "cost", "calibration", "layers", "features",
    "attribution", "boundary", "corruptions", "adversarial", "memorization", "influence", "long_tail", "membership",
    "generalization", "explanation", "footprint",
)  # fmt: skip
"""What is asked of populations that were trained here, in the order of reports; and `sufficiency`, where models were
trained on chosen examples, and `natural_adversarial`, where test examples are of some classes only."""
FILE_ANALYSES = (
    "mismatches", "why", "equivalence", "slices", "groups", "floor", "exemplars", "classes", "cost", "calibration",
    "league",
)  # fmt: skip
"""What is asked of models made elsewhere, where often each side is a single one."""

_REMEDIES = {
    "logits": "keep the outputs on the test examples",
    "label": "give the true class of each test example",
    "included": "train subset trials, such as `[subsets] trials = 200` in the study",
    "train_margin": "train subset trials, such as `[subsets] trials = 200` in the study",
    "train_correct": "keep which training examples each trial gets right",
    "nonzeros": "measure the models with `remnant run`",
    "bytes": "measure the models with `remnant run`",
}
_PACKAGES = ("remnant", "numpy", "scipy", "pandas", "xarray", "torch")


def analysis(name: str) -> Analysis:
    """The analysis of that name, built in or offered by an installed package (entry point `remnant.analyses`).

    Raises
    ------
    UnknownNameError
        With all names and the nearest one.
    """
    found = registry.find("analysis", name, ANALYSES)
    return import_module(found).ANALYSIS if isinstance(found, str) else found


def audit(
    population: xr.Dataset,
    names: Iterable[str] | None = None,
    *,
    skip: Iterable[str] = (),
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Audit:
    """Every question that the population can answer, asked.

    Parameters
    ----------
    population
        As of `remnant.population.SCHEMA`; it is checked first.
    names
        Analyses to run, in this order; default `STORE_ANALYSES`, or `FILE_ANALYSES` for models made elsewhere, and
        those that other packages offer.
    skip
        Analyses to leave out.
    parameters
        Name of an analysis to parameters of its `run`.
    progress
        Called with the number of finished analyses, the number of all, and the name of the next one.

    Raises
    ------
    SchemaError
        If the population breaks its schema.
    UnknownNameError
        If a name in `names`, `skip` or `parameters` is not that of an analysis.
    """
    check(population)
    chosen = _chosen(population, names, skip)
    given = dict(parameters or {})
    for name in given:
        if name not in chosen:
            raise registry.unknown("parameters", name, chosen)
    if "logits" in population and "prediction" not in population:
        # Every analysis asks for it, and the logits of a population may take seconds to read.
        population = population.assign(prediction=(("trial", "example"), predictions(population)))
    findings: list[Finding] = []
    not_run: dict[str, str] = {}
    questions = [(name, analysis(name)) for name in chosen]
    questions.sort(key=lambda item: item[1].asks == "findings")
    for done, (name, question) in enumerate(questions):
        if progress:
            progress(done, len(questions), name)
        reason = _missing(population, question)
        if not reason:
            try:
                findings.append(_ask(question, population, findings, given.get(name, {})))
            except (NotApplicable, SchemaError) as error:
                reason = str(error)
        if reason:
            not_run[name] = reason
    if progress:
        progress(len(questions), len(questions), "")
    findings.sort(key=lambda finding: chosen.index(finding.analysis))
    return Audit(tuple(findings), not_run, about(population))


@dataclass(frozen=True)
class Outlook:
    """What an audit will do."""

    seconds: dict[str, float | None]
    """Name of each analysis that will be asked, to how long it roughly takes; None where that is not known."""
    not_run: dict[str, str]
    """Name of each analysis that cannot be asked, to the reason."""

    @property
    def total(self) -> float:
        """Roughly how many seconds the analyses with a known pace take together."""
        return sum(seconds or 0.0 for seconds in self.seconds.values())


def outlook(population: xr.Dataset, names: Iterable[str] | None = None, *, skip: Iterable[str] = ()) -> Outlook:
    """What `audit` with the same arguments will ask, what it cannot ask and why, and roughly how long it takes.

    Reasons that only an analysis itself can see, such as too few seeds, are not among them.
    """
    seconds: dict[str, float | None] = {}
    not_run: dict[str, str] = {}
    millions = population.sizes.get("trial", 0) * population.sizes.get("example", 0) / 1e6
    for name in _chosen(population, names, skip):
        question = analysis(name)
        if reason := _missing(population, question):
            not_run[name] = reason
        else:
            seconds[name] = None if question.pace is None else question.pace * millions
    return Outlook(seconds, not_run)


def _chosen(population: xr.Dataset, names: Iterable[str] | None, skip: Iterable[str]) -> list[str]:
    """Names of the analyses to ask, each once, in order."""
    chosen = list(dict.fromkeys(_default_names(population) if names is None else names))
    left_out = set(skip)
    for name in left_out:
        if name not in chosen:
            raise registry.unknown("skip", name, chosen)
    return [name for name in chosen if name not in left_out]


def _ask(question: Analysis, population: xr.Dataset, findings: Sequence[Finding], given: Mapping[str, Any]) -> Finding:
    if question.asks == "findings":
        return question.run(findings, **{"reference": reference_of(population), **given})
    return question.run(population, **given)


_TEST_SELECTED = (
    "Checkpoints were chosen by their test accuracy (test-selected, as Dam et al. 2023 did): test accuracies are too "
    "high, and differences between schemes hold the luck of that choice."
)


def about(population: xr.Dataset) -> dict[str, Any]:
    """Plain facts on a population and on where it was audited; see `remnant.finding.Audit.about`."""
    sizes, attrs = population.sizes, population.attrs
    facts: dict[str, Any] = {
        "dataset": attrs.get("dataset"),
        "recipe": attrs.get("recipe"),
        "reference": reference_of(population),
        "inputs": attrs.get("inputs"),
        "matching": attrs.get("matching"),
        "floor": attrs.get("floor"),
        "warning": _TEST_SELECTED if "test-selected" in str(attrs.get("recipe")) else None,
        "num_examples": sizes.get("example"),
        "num_train_examples": sizes.get("train_example"),
        "num_classes": sizes.get("class"),
        "classes": [str(name) for name in population["class"].values] if "class" in population.coords else None,
        "schemes": {
            label: {
                "whole": whole(population, label).sizes["trial"],
                "subsets": subsets(population, label).sizes["trial"],
            }
            for label in schemes(population)
        },
        "damaged": dict(attrs.get("damaged") or {}) or None,
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    }
    return {name: value for name, value in facts.items() if value is not None}


def _default_names(population: xr.Dataset) -> list[str]:
    """Analyses that fit how the population was made, in the order of reports, then those of other packages."""
    offered = [name for name in registry.names("analysis", ANALYSES) if name not in ANALYSES]
    if "inputs" in population.attrs:
        return [*FILE_ANALYSES, *offered]
    kept = any(label.startswith("selected-data") for label in schemes(population))
    some_classes = "label" in population and len(np.unique(population["label"].values)) < population.sizes["class"]
    also = [*(["sufficiency"] if kept else []), *(["natural_adversarial"] if some_classes else [])]
    return [*STORE_ANALYSES, *also, *offered]


def _missing(population: xr.Dataset, question: Analysis) -> str:
    """Which variables the analysis needs and the population lacks, and what to do; "" if none."""
    probes = [name for name in question.needs if name in registry.names("probe", PROBES)]
    if unmeasured := [name for name in probes if name not in population.attrs.get("probes", {})]:
        return f"The models were not probed for it; measure it: `remnant probe STORE {' '.join(unmeasured)}`."
    missing = [name for name in question.needs if name not in population and name not in probes]
    if not missing:
        return ""
    remedies = dict.fromkeys(_REMEDIES[name] for name in missing if name in _REMEDIES)
    todo = f"; {'; '.join(remedies)}" if remedies else ""
    return f"The population has no {', '.join(f'`{name}`' for name in missing)}{todo}."


def _versions() -> dict[str, str]:
    """Installed versions, read without importing the packages."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
