"""From a plan to a filled store: what is missing, parents before children, on any engine."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from remnant import plan
from remnant.engine import Cohort, Engine, Outcome, engine
from remnant.lab.cohort import rules
from remnant.probes import Probe
from remnant.store import Store, measurement_name
from remnant.trial import Trial

GIVE_UP = 3
"""After so many failures and no success, what is wrong is taken to be wrong for all."""

MISTAKES = ("ValueError:", "FileNotFoundError:", "remnant.registry.UnknownNameError:", "remnant.store.")
"""Errors whose message is for the user: the traceback is left out, unless REMNANT_DEBUG is set."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands, after each cohort."""

    finished: int
    """Trials of the plan that the store holds."""
    total: int
    """Trials of the plan, parents included."""
    outcome: Outcome
    """The cohort that just ended."""
    accuracy: float | None
    """Mean test accuracy of that cohort; None if it failed, or was measured and not trained."""


class RunError(RuntimeError):
    """Some trials failed. The others are stored."""


def run(
    trials: Iterable[Trial],
    store: str | Path | Store,
    *,
    engine: str | Engine = "processes",
    workers: int | None = None,
    root: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> int:
    """Train and compress what the store does not hold yet; the number of newly finished trials.

    Dense parents of compressed trials are added to the plan and run first. An interrupted run is
    continued by calling `run` again: finished trials are never computed twice.

    Parameters
    ----------
    store
        A store, or its folder or URL.
    engine
        "processes" (workers on this machine), "serial" (this process), or an `Engine`.
    workers
        Worker processes; default one per core.
    root
        Folder of the data sets; default the environment variable REMNANT_DATA.

    Raises
    ------
    RunError
        After everything else has run, if trials failed, with the first failures.
    """
    store = Store.of(store)
    store.sweep()
    chosen = _engine(engine, workers)
    waves = plan.waves(trials)
    total = sum(map(len, waves))
    tally = _Tally(total, total - sum(len(store.missing(wave)) for wave in waves), progress)
    for wave in waves:
        lacking = cohorts(store.missing(wave), workers=getattr(chosen, "workers", 1))
        work = partial(_work, store=store.root, root=root)
        tally.follow(chosen.map(work, lacking), partial(_stored, store), partial(_mean_accuracy, store))
        if tally.failures:
            raise RunError(_explain(tally.failures, total - tally.finished, tally.finished))
    return tally.newly


def probe(
    trials: Iterable[Trial],
    probes: Iterable[Probe],
    store: str | Path | Store,
    *,
    engine: str | Engine = "processes",
    workers: int | None = None,
    root: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> int:
    """Measure what the store does not hold yet of the probes on finished trials; the number of new measurements.

    Each measurement is published at once: an interrupted call is continued by calling again. Trials on random
    training subsets are probed only by the probes that are meant for them. Parameters as of `run`.

    Raises
    ------
    RunError
        After everything else was measured, if measurements failed, with the first failures.
    """
    store = Store.of(store)
    store.sweep()
    chosen = _engine(engine, workers)
    trials = list(dict.fromkeys(trials))
    done = set(store.items("probes"))
    total = finished = 0
    work: list[Cohort] = []
    for part in dict.fromkeys(part for one in probes for part in one.parts()):
        eligible = [trial for trial in trials if trial.subset is None or part.on_subsets]
        lacking = [trial for trial in eligible if measurement_name(trial, part) not in done]
        total += len(eligible)
        finished += len(eligible) - len(lacking)
        # Part by part: a worker keeps the inputs that trials share until another part comes.
        work += [((trial, part),) for trial in lacking]
    tally = _Tally(total, finished, progress)
    tally.follow(chosen.map(partial(_measure, store=store.root, root=root), work), lambda cohort: ())
    if tally.failures:
        pairs = [replace(failure, cohort=tuple(trial for trial, _ in failure.cohort)) for failure in tally.failures]
        raise RunError(_explain(pairs, total - tally.finished, tally.finished, what="measurements"))
    return tally.newly


@dataclass
class _Tally:
    """What came of the cohorts that were handed out."""

    total: int
    finished: int
    progress: Callable[[Progress], None] | None
    newly: int = 0
    failures: list[Outcome] = field(default_factory=list)

    def follow(
        self,
        outcomes: Iterable[Outcome],
        stored: Callable[[Cohort], Cohort],
        accuracy: Callable[[Cohort], float] | None = None,
    ) -> None:
        """Count outcomes as they come, until what is wrong is taken to be wrong for all.

        `stored` tells which of a cohort that failed are finished all the same.
        """
        for outcome in outcomes:
            done = outcome.cohort if outcome.error is None else stored(outcome.cohort)
            if outcome.error is not None:
                self.failures.append(replace(outcome, cohort=tuple(one for one in outcome.cohort if one not in done)))
            self.newly += len(done)
            self.finished += len(done)
            reached = accuracy(done) if accuracy is not None and done else None
            if self.progress is not None:
                self.progress(Progress(self.finished, self.total, outcome, reached))
            if len(self.failures) >= GIVE_UP and self.newly == 0:
                break


def cohorts(trials: Iterable[Trial], *, workers: int) -> list[Cohort]:
    """Trials grouped by recipe and kind of scheme, as many as train together and enough groups for all workers."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.recipe, trial.scheme.kind), []).append(trial)
    enough = max(1, sum(map(len, groups.values())) // (4 * max(1, workers)))
    return [cohort for group in groups.values() for cohort in _parts(group, min(rules.size(group[0]), enough))]


def _parts(group: list[Trial], size: int) -> list[Cohort]:
    return [tuple(group[start : start + size]) for start in range(0, len(group), size)]


def _work(cohort: Cohort, *, store: str, root: str | None) -> None:
    # Imported in the worker: the process that hands out cohorts does without torch.
    from remnant.lab.run import run_cohort

    run_cohort(cohort, store=store, root=root)


def _measure(cohort: Cohort, *, store: str, root: str | None) -> None:
    from remnant.lab.probing import run_measurements

    run_measurements(cohort, Store(store), root)


def _engine(chosen: str | Engine, workers: int | None) -> Engine:
    return engine(chosen, workers=workers) if isinstance(chosen, str) else chosen


def _stored(store: Store, cohort: Cohort) -> Cohort:
    return tuple(trial for trial in cohort if trial in store)


def _mean_accuracy(store: Store, cohort: Cohort) -> float:
    return sum(store.manifest(trial)["accuracy"]["test"] for trial in cohort) / len(cohort)


def _cause(error: str) -> str:
    """The last line of a traceback that is not indented: type and message."""
    lines = [line for line in error.strip().splitlines() if line and not line.startswith(" ")]
    return lines[-1] if lines else "no message"


def _explain(failures: list[Outcome], unfinished: int, stored: int, *, what: str = "trials") -> str:
    causes = Counter(_cause(f.error or "") for f in failures)
    lines = [f"{unfinished} {what} are not finished; {stored} are stored. Causes:"]
    lines += [f"  {count} x {cause}" for cause, count in causes.most_common(5)]
    first = failures[0]
    names = ", ".join(f"{t.key} ({t.scheme.label}, seed {t.seed})" for t in first.cohort[:3])
    lines.append(f"The first failure was in trial {names}.")
    if any(not cause.startswith(MISTAKES) for cause in causes) or os.environ.get("REMNANT_DEBUG"):
        lines.append((first.error or "").strip()[-3000:])
    return "\n".join(lines)
