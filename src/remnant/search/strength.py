"""The strongest compression that a budget allows, in at most ten samples or so."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

from remnant import execute
from remnant.engine import Engine
from remnant.registry import unknown
from remnant.schemes import Scheme
from remnant.search.axes import Axis, axis
from remnant.search.bench import Bench, Setting, prepared
from remnant.search.objectives import Budget, Objective
from remnant.search.proposals import Method, next_for_objective, next_strength
from remnant.search.result import Sample, SearchResult, best_of
from remnant.store import Store
from remnant.trial import Recipe

REFUSED = -1.0
"""The margin that the search takes a refused candidate to have: as far outside the budget as the limit is large."""


def search_strength(
    template: Scheme,
    budget: str | Budget,
    *,
    store: str | Path | Store,
    recipe: Recipe,
    field: str = "sparsity",
    objective: str | Objective = "memory",
    method: Method = "bisection",
    max_samples: int = 10,
    seeds: Iterable[int] = range(3),
    bounds: tuple[float, float] | None = None,
    resolution: float = 0.01,
    validation_share: float = 0.5,
    root: str | None = None,
    engine: str | Engine = "processes",
    workers: int | None = None,
    progress: Callable[[execute.Progress], None] | None = None,
    report: Callable[[Sample], None] | None = None,
) -> SearchResult:
    """The strength of a scheme with the best objective of those that keep the budget.

    Two phases, as in Condensa: (1) find s_acc, the largest strength in the budget; (2) optimize the objective among the
    weaker ones. The second is left out for objectives that only fall with the strength, such as memory and FLOPs: then
    s_acc is the answer. A sample is one trial for each seed, stored like any other: what the store holds is not
    trained again, so that a second call computes nothing and an interrupted one goes on where it stopped.

    The search looks at a random part of the test examples; the numbers in `SearchResult.held_out` are of the others,
    which it did not look at. Costs are the same for both, and latencies those that were measured when a trial ran.

    A budget that no sample keeps is a result (`reachable` is False), not an error: with the sample nearest to it, and
    the reason. So is a strength that the scheme refuses, or whose training diverges: it counts as outside the budget.

    Parameters
    ----------
    template
        The scheme; the value that `field` has in it does not matter.
    budget
        Limits, such as "cie_u<=0.5% and worst_class_drop<=3 points"; see `Budget` and `QUANTITIES`.
    field
        What is searched: "sparsity", "flops", "share", "energy", "bits", or another field with `bounds`; in
        compositions by its path, such as "parts.0.sparsity".
    objective
        What is wanted, such as "memory", "maximize throughput"; see `Objective`.
    method
        "bisection", "dr-ucb" (Gaussian process, domain-restricted upper confidence bound; reconstructed) or "ei"
        (constrained expected improvement). On simulated
        curves the other two needed more samples and found no more; see `remnant.search.proposals.next_strength`.
    max_samples
        Samples of each phase at most.
    seeds
        Of the dense models that are compressed. Measures are means over them.
    bounds, resolution
        Weakest and strongest value, and the step between; see `remnant.search.axes.axis`.
    validation_share
        Share of the test examples that the search looks at.
    root, engine, workers, progress
        As in `remnant.execute.run`.
    report
        Called with each new sample.

    Raises
    ------
    ValueError
        For a malformed budget, objective or field, or quantities that the data cannot give.
    remnant.execute.RunError
        If trials failed for reasons that have nothing to do with the strength, or the scheme refused every strength.

    References
    ----------
    joseph2020programmable; joseph2020correctness, section II
    """
    limits = budget if isinstance(budget, Budget) else Budget(budget)
    wanted = objective if isinstance(objective, Objective) else Objective(objective)
    if method not in get_args(Method):
        raise unknown("method", method, get_args(Method))
    if max_samples < 1:
        raise ValueError(f"Expected `max_samples` >= 1, but got {max_samples!r}.")
    strengths = axis(template, field, bounds=bounds, resolution=resolution)
    setting = Setting(
        Store.of(store), recipe, tuple(seeds), (*limits.names, *wanted.expression.names), validation_share,
        root=root, engine=engine, workers=workers, progress=progress,
    )  # fmt: skip
    bench = prepared(setting)

    def sample(index: int, phase: str) -> Sample:
        found = sampled(bench, strengths.scheme(index), limits, wanted)
        found = replace(found, value=strengths.values[index], phase=phase)
        if report is not None:
            report(found)
        return found

    tried = _tried(sample, strengths, method, max_samples, limits, monotone=wanted.monotone)
    return _result(bench, strengths, tried, limits, wanted)


def _tried(
    sample: Callable[[int, str], Sample],
    strengths: Axis,
    method: Method,
    most: int,
    budget: Budget,
    *,
    monotone: bool,
) -> dict[int, Sample]:
    """The samples of both phases by their index on the axis, in the order in which they were tried."""
    tried: dict[int, Sample] = {}
    while len(tried) < most:
        # Limits that a stronger compression keeps sooner do not stand in the way of one.
        room = {i: REFUSED if one.refused else _finite(budget.room(one.measures)) for i, one in tried.items()}
        index = next_strength(method, strengths.positions, room)
        if index is None:
            break
        tried[index] = sample(index, "budget")
    first = len(tried)
    while not monotone and len(tried) - first < most:
        scores = {index: one.score for index, one in tried.items() if math.isfinite(one.score)}
        index = next_for_objective(method, strengths.positions, scores, _margins(tried))
        if index is None:
            break
        tried[index] = sample(index, "objective")
    return tried


def sampled(bench: Bench, scheme: Scheme, budget: Budget | None, objective: Objective) -> Sample:
    """One candidate, trained where the store does not hold it, and measured on the validation examples."""
    if refused := bench.run([scheme]).get(scheme):
        return Sample(scheme, math.nan, {}, -math.inf, math.nan, refused=refused)
    measures = bench.measured(scheme)
    margin = 0.0 if budget is None else budget.margin(measures)
    return Sample(scheme, math.nan, measures, margin, objective.score(measures))


def _margins(tried: Mapping[int, Sample]) -> dict[int, float]:
    return {index: _finite(sample.margin) for index, sample in tried.items()}


def _finite(margin: float) -> float:
    return margin if math.isfinite(margin) else REFUSED


def _result(
    bench: Bench, strengths: Axis, tried: Mapping[int, Sample], budget: Budget, objective: Objective
) -> SearchResult:
    samples = tuple(tried.values())
    if all(sample.refused for sample in samples):
        raise execute.RunError(
            f"No strength of {strengths.template.kind!r} could be made: {samples[-1].refused} "
            f"(last tried: {strengths.field} = {samples[-1].value:g})"
        )
    best = best_of(samples)
    strongest = tried[max(inside)] if (inside := [i for i, sample in tried.items() if sample.holds]) else None
    found = SearchResult(budget, objective, strengths.field, samples, best, strongest, bench.held_out(best.scheme))
    return replace(found, reason=_reason(found, strengths))


def _reason(found: SearchResult, strengths: Axis) -> str:
    best, field = found.best, found.path
    number = f"{len(found.samples)} sample{'s' if len(found.samples) > 1 else ''}"
    if not found.reachable:
        broken = " and ".join(
            f"{one.text} ({', '.join(f'{name} = {best.measures[name]:.4g}' for name in one.names)})"
            for one in found.budget.broken(best.measures)
        )
        return (
            f"No strength keeps the budget ({number}). The nearest is {field} = {best.value:g}, which breaks "
            f"{broken}. Loosen the budget, train longer, or take another scheme."
        )
    assert found.strongest is not None
    text = f"The strongest of {number} in the budget is {field} = {found.strongest.value:g}"
    if best is not found.strongest:
        text += f"; the best by {found.objective.text!r} is {field} = {best.value:g}"
    if found.strongest.value == strengths.values[-1]:
        text += ", the strongest that was allowed"
    if not found.confirmed:
        text += ". On the examples that the search did not look at, the budget is broken: take a stricter one"
    return text + "."
