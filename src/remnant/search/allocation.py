"""How much to prune each layer: a front of size against forgetting, by multi-objective search."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant import execute
from remnant.engine import Engine
from remnant.registry import unknown
from remnant.schemes.layerwise import LayerwisePruning
from remnant.search.bench import Bench, Setting, prepared
from remnant.search.intervals import Estimate
from remnant.search.objectives import Budget, Objective
from remnant.search.result import Sample
from remnant.search.spaces import space_of
from remnant.store import Store
from remnant.trial import Recipe

Sampler = Literal["nsga2", "tpe"]
STARTS = (0.5, 0.7, 0.8, 0.9, 0.95)
"""Sparsities of the first candidates: the same in all layers, and by one threshold for all layers."""


@dataclass(frozen=True)
class AllocationResult:
    """The outcome of `search_allocation`."""

    objectives: tuple[Objective, Objective]
    layers: Mapping[str, int]
    """Name of a layer to its number of weights, in the order of `LayerwisePruning.sparsities`."""
    samples: tuple[Sample, ...]
    """All candidates, in the order in which they were tried; `value` is the sparsity of the whole model."""
    front: tuple[Sample, ...]
    """Those that no other candidate beats in one objective without losing in the other, best first in the first."""
    held_out: tuple[Mapping[str, Estimate], ...]
    """For each of the front, quantities on the examples that the search did not look at, with 95 % intervals."""

    def within(self, budget: str | Budget) -> Sample | None:
        """Of the candidates in a budget the best in the first objective; None if none is."""
        limits = budget if isinstance(budget, Budget) else Budget(budget)
        made = [sample for sample in self.samples if not sample.refused and math.isfinite(sample.score)]
        inside = [sample for sample in made if limits.holds(sample.measures)]
        return max(inside, key=lambda sample: sample.score, default=None)

    def to_frame(self) -> pd.DataFrame:
        """One row for each candidate: whether it is in the front, its start, all quantities, a sparsity per layer."""
        front = {sample.scheme for sample in self.front}
        return pd.DataFrame([self._row(sample, front=sample.scheme in front) for sample in self.samples])

    def front_frame(self) -> pd.DataFrame:
        """One row for each of the front, with both objectives on held-out examples where they are plain quantities."""
        rows = []
        for sample, found in zip(self.front, self.held_out, strict=True):
            row = self._row(sample, front=True)
            for objective in self.objectives:
                if (one := found.get(objective.expression.text.strip())) is not None:
                    name = f"held_out_{objective.expression.text.strip()}"
                    row |= {name: one.estimate, f"{name}_low": one.low, f"{name}_high": one.high}
            rows.append(row)
        return pd.DataFrame(rows)

    def _row(self, sample: Sample, *, front: bool) -> dict[str, Any]:
        assert isinstance(sample.scheme, LayerwisePruning)
        sparsities = sample.scheme.sparsities
        own = dict(zip(self.layers, sparsities * (len(self.layers) if len(sparsities) == 1 else 1), strict=True))
        columns = {f"sparsity of {name}": value for name, value in own.items()}
        return {"front": front, "start": sample.phase, "refused": sample.refused, **sample.measures, **columns}


def search_allocation(
    template: LayerwisePruning,
    *,
    store: str | Path | Store,
    recipe: Recipe,
    objectives: tuple[str, str] = ("memory", "cie_u"),
    groups: int | Sequence[Sequence[str]] | None = None,
    sampler: Sampler = "nsga2",
    max_samples: int = 40,
    batch: int = 8,
    strongest: float = 0.98,
    step: float = 0.02,
    starts: Sequence[float] = STARTS,
    seeds: Iterable[int] = range(3),
    sampler_seed: int = 0,
    validation_share: float = 0.5,
    root: str | None = None,
    engine: str | Engine = "processes",
    workers: int | None = None,
    progress: Callable[[execute.Progress], None] | None = None,
    report: Callable[[Sample], None] | None = None,
) -> AllocationResult:
    """Sparsities of groups of layers that are best in two objectives at once, by Optuna's samplers.

    Candidates are trials like any other: those that the store holds are not trained again. The sampler is seeded and
    is told the results in the order in which it asked for them, so that a second call asks for the same candidates,
    computes nothing, and an interrupted search goes on where it stopped. `batch` candidates are trained together.

    The search looks at a random part of the test examples; `held_out` is of the others.

    Parameters
    ----------
    template
        Says how candidates are fine-tuned; its sparsities do not matter.
    objectives
        As in `remnant.search.Objective`: what is small and what is kept.
    groups
        Layers that share a sparsity: names of layers, each layer in one group; a number of groups of neighbouring
        layers; default each layer on its own.
    sampler
        "nsga2" (a genetic algorithm; `batch` is its population) or "tpe" (tree-structured Parzen estimators).
    max_samples
        Candidates in all, the `starts` among them.
    strongest, step
        Sparsities are multiples of `step` up to `strongest`.
    starts
        Sparsities of the first candidates, each the same in all layers, and by one threshold for all layers (mean of
        a group); so the front is never behind these two usual ways.
    seeds, validation_share, root, engine, workers, progress
        As in `remnant.search.search_strength`.
    report
        Called with each candidate.

    Raises
    ------
    ValueError
        For malformed objectives or groups, or if Optuna is not installed.

    References
    ----------
    deb2002fast; ozaki2022multiobjective; akiba2019optuna
    """
    optuna = _optuna()
    if isinstance(objectives, str) or len(objectives) != 2:
        raise ValueError(f"Expected two `objectives`, such as ('memory', 'cie_u'), but got {objectives!r}.")
    first, second = (Objective(text) for text in objectives)
    _check(sampler, max_samples, batch, strongest=strongest, step=step)
    setting = Setting(
        Store.of(store), recipe, tuple(seeds), (*first.expression.names, *second.expression.names), validation_share,
        root=root, engine=engine, workers=workers, progress=progress,
    )  # fmt: skip
    bench = prepared(setting)
    space = space_of(setting, groups, strongest, step)
    samples: list[Sample] = []
    with _quiet(optuna):
        study = optuna.create_study(
            directions=["maximize", "maximize"], sampler=_sampler(optuna, sampler, batch, sampler_seed)
        )
        for levels in space.starts(starts)[:max_samples]:
            study.enqueue_trial(levels)
        while len(samples) < max_samples:
            asked = [study.ask() for _ in range(min(batch, max_samples - len(samples)))]
            schemes = [replace(template, sparsities=space.sparsities(trial)) for trial in asked]
            for trial, found in zip(asked, _measured(bench, schemes, first), strict=True):
                other = math.nan if found.refused else second.score(found.measures)
                defined = math.isfinite(found.score) and math.isfinite(other)
                state = optuna.trial.TrialState.COMPLETE if defined else optuna.trial.TrialState.FAIL
                study.tell(trial, [found.score, other] if defined else None, state=state)
                samples.append(replace(found, phase="start" if trial.number < 2 * len(starts) else ""))
                if report is not None:
                    report(samples[-1])
    front = _front(samples, second)
    held_out = tuple(bench.held_out(sample.scheme) for sample in front)
    return AllocationResult((first, second), space.layers, tuple(samples), front, held_out)


def pareto(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows of shape (candidate, objective) no other row beats, bool; higher is better.

    A row is beaten by one that is at least as high everywhere and higher somewhere. Of equal rows the first counts.
    """
    kept = np.zeros(len(scores), bool)
    for index, row in enumerate(scores):
        above = (scores >= row).all(axis=1)
        same = (scores == row).all(axis=1)
        kept[index] = not (above & ~same).any() and not same[:index].any()
    return kept


def _measured(bench: Bench, schemes: Sequence[LayerwisePruning], objective: Objective) -> list[Sample]:
    refused = bench.run(schemes)
    found = []
    for scheme in schemes:
        if scheme in refused:
            found.append(Sample(scheme, math.nan, {}, -math.inf, math.nan, refused=refused[scheme]))
            continue
        measures = bench.measured(scheme)
        found.append(Sample(scheme, measures["sparsity"], measures, math.nan, objective.score(measures)))
    return found


def _front(samples: Sequence[Sample], second: Objective) -> tuple[Sample, ...]:
    made = [sample for sample in samples if not sample.refused]
    scores = np.array([(sample.score, second.score(sample.measures)) for sample in made]).reshape(-1, 2)
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    scores = np.where(finite[:, None], scores, -np.inf)
    front = [sample for sample, kept in zip(made, pareto(scores) & finite, strict=True) if kept]
    return tuple(sorted(front, key=lambda sample: -sample.score))


def _check(sampler: str, max_samples: int, batch: int, *, strongest: float, step: float) -> None:
    if sampler not in get_args(Sampler):
        raise unknown("sampler", sampler, get_args(Sampler))
    for name, value in (("max_samples", max_samples), ("batch", batch)):
        if value < 1:
            raise ValueError(f"Expected `{name}` >= 1, but got {value!r}.")
    if sampler == "nsga2" and batch < 2:
        raise ValueError(f"Expected `batch` >= 2 with sampler='nsga2', whose population it is, but got {batch}.")
    if not 0 < step <= strongest < 1:
        raise ValueError(f"Expected 0 < `step` <= `strongest` < 1, but got {step!r} and {strongest!r}.")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            f"Expected the package 'optuna' for a search over layers, but it is not installed ({error}). "
            'Install it with: pip install "remnant[search]"'
        ) from error
    return optuna


def _sampler(optuna: Any, name: Sampler, batch: int, seed: int) -> Any:
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=batch, seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's messages about studies, and with its own setting again afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
