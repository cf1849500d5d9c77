"""What a study will cost and how certain its answers will be, before anything is trained: `remnant plan`.

    forecast = plan_study(read("study.toml"), accuracy=0.9, rate=2.5)
    forecast.certainty.false_pairs, forecast.seconds, forecast.bytes

With a store that holds some trials of the study, accuracies, durations and sizes are measured on them, and `reached`
says what they already tell.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from remnant import plan
from remnant.planner.certainty import DEFAULT_ACCURACY, Certainty, Setting, Target, certainty, needed
from remnant.planner.cost import Cost, Sizes, bytes_of_trial, costs
from remnant.planner.reached import Outcomes, Reached, outcomes, reached
from remnant.schemes import Dense
from remnant.stats.planning import AccuracyDistribution
from remnant.store import Store
from remnant.study import Study, SubsetPlan
from remnant.trial import Trial

__all__ = [
    "Certainty", "Cost", "Forecast", "Reached", "Setting", "Sizes", "Target", "bytes_of_trial", "certainty", "measure",
    "needed", "plan_study",
]  # fmt: skip


@dataclass(frozen=True)
class Forecast:
    """What a study will cost and how certain its memorization and influence will be."""

    sizes: Sizes
    accuracy: AccuracyDistribution
    accuracy_from: str
    """Where `accuracy` comes from: "assumed", "given", or the number of finished trials that it was measured on."""
    target: Target
    costs: tuple[Cost, ...]
    """One for each scheme."""
    workers: int
    design: str | None = None
    """Of the random training subsets; None if the study has none. Then there is no certainty to predict."""
    fraction: float | None = None
    certainty: Certainty | None = None
    needed: dict[str, int | None] | None = None
    """Number of trials at which each target is met: see `remnant.planner.certainty.needed`."""
    reached: Reached | None = None
    """What the finished trials tell; None without at least 4."""

    @property
    def trials(self) -> int:
        """Trials of the study, parents included."""
        return sum(cost.trials for cost in self.costs)

    @property
    def finished(self) -> int:
        """Of these, in the store."""
        return sum(cost.finished for cost in self.costs)

    @property
    def seconds(self) -> float | None:
        """Time for what is not finished, on all workers; None if the rate is not known."""
        parts = [cost.seconds_left for cost in self.costs]
        return None if None in parts else math.fsum(part for part in parts if part is not None) / self.workers

    @property
    def bytes(self) -> float:
        """Disk that the whole study takes, without data sets and what probes measure."""
        return math.fsum(cost.bytes * cost.trials for cost in self.costs)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        totals = {"trials": self.trials, "finished": self.finished, "seconds": self.seconds, "bytes": self.bytes}
        return totals | {name: _plain(value) for name, value in asdict(self).items()}


def plan_study(
    study: Study,
    *,
    store: str | Path | Store | None = None,
    target: Target | None = None,
    trials: int | None = None,
    accuracy: float | None = None,
    rate: float | None = None,
    sizes: Sizes | None = None,
    workers: int = 1,
    root: str | None = None,
) -> Forecast:
    """What a study will cost and how certain its memorization and influence will be; nothing is trained.

    Parameters
    ----------
    store
        With finished trials of the study, from which accuracies, durations and sizes are taken.
    target
        What is asked of the high-influence pairs; default `Target()`.
    trials
        Number of random subsets in place of the study's.
    accuracy
        Expected test accuracy. What is measured on finished trials comes first; without both, 0.8.
    rate
        Seconds of one dense training on one worker, where the store does not tell.
    sizes
        Of the data set; default from the store, or from the data set itself, which is then loaded.
    workers
        Trials that run at the same time.
    root
        Folder of the data sets; default the environment variable REMNANT_DATA.

    Raises
    ------
    ValueError
        If a number is out of range, or the data set cannot be loaded and `sizes` are not given.
    """
    if rate is not None and not rate > 0:
        raise ValueError(f"Expected `rate` > 0 seconds, but got {rate!r}.")
    if workers < 1:
        raise ValueError(f"Expected `workers` >= 1, but got {workers!r}.")
    store = None if store is None else Store.of(store)
    target = target or Target()
    study = _with_trials(study, trials)
    asked = study.trials()
    seen = _seen(asked, store)
    known = sizes or (None if seen is None else _measured_sizes(seen, store)) or _described(study, root)
    distribution, source = _accuracy(seen, accuracy)
    every = [trial for wave in plan.waves(asked) for trial in wave]
    forecast = Forecast(
        sizes=known,
        accuracy=distribution,
        accuracy_from=source,
        target=target,
        costs=tuple(costs(every, known, store=store, rate=rate)),
        workers=workers,
    )
    if study.subsets is None:
        return forecast
    pairs = known.train * known.test / known.classes if seen is None else seen.outcomes.same_class_pairs
    setting = Setting(study.subsets.design, study.subsets.fraction, known.train, pairs, distribution)
    enough = seen is not None and seen.on_subsets and len(seen.outcomes.correct) >= 4
    return replace(
        forecast,
        design=study.subsets.design,
        fraction=study.subsets.fraction,
        certainty=certainty(setting, target, study.subsets.trials),
        needed=needed(setting, target),
        reached=reached(seen.outcomes, setting, target) if seen is not None and enough else None,
    )


def measure(study: Study, store: Store, *, number: int = 2, root: str | None = None) -> int:
    """Train the first dense trials of the study that the store lacks, so that it holds `number`; how many were trained.

    They are trials of the study: nothing is trained in vain.
    """
    from remnant import execute

    return execute.run(_dense(study.trials())[:number], store, engine="serial", root=root)


@dataclass(frozen=True)
class _Seen:
    """Finished dense trials."""

    trials: list[Trial]
    outcomes: Outcomes
    on_subsets: bool


def _with_trials(study: Study, trials: int | None) -> Study:
    if trials is None:
        return study
    return replace(study, subsets=replace(study.subsets or SubsetPlan(trials), trials=trials))


def _dense(trials: Sequence[Trial]) -> list[Trial]:
    """Dense trials of one kind: those on random subsets, or all if there are none."""
    dense = [trial for trial in trials if trial.scheme == Dense()]
    return [trial for trial in dense if trial.subset is not None] or dense


def _seen(trials: Sequence[Trial], store: Store | None) -> _Seen | None:
    if store is None:
        return None
    wanted = _dense(trials)
    missing = set(store.missing(wanted))
    done = [trial for trial in wanted if trial not in missing]
    if not done:
        return None
    return _Seen(done, outcomes(store, done), done[0].subset is not None)


def _measured_sizes(seen: _Seen, store: Store | None) -> Sizes:
    assert store is not None
    files = store.manifest(seen.trials[0])["files"]
    weights = files["weights"]["bytes"] if "weights" in files else None
    found = seen.outcomes
    return Sizes(len(found.train_labels), len(found.labels), found.num_classes, weights)


def _described(study: Study, root: str | None) -> Sizes:
    """Sizes of the data set and the model themselves. Loads them, without training."""
    from remnant.lab import models
    from remnant.lab.run import data_of

    trial = study.trials()[0]
    data = data_of(study.recipe, root)
    model = models.build(study.recipe.architecture, data.input_shape, data.num_classes, trial.rng("init"))
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return Sizes(len(data.train.labels), len(data.test.labels), data.num_classes, weights)


def _accuracy(seen: _Seen | None, given: float | None) -> tuple[AccuracyDistribution, str]:
    if seen is not None and len(seen.trials) >= 2:
        return seen.outcomes.accuracy, f"{len(seen.trials)} finished trials"
    if given is not None:
        return AccuracyDistribution(given, DEFAULT_ACCURACY.concentration), "given"
    return DEFAULT_ACCURACY, "assumed"


def _plain(value: Any) -> Any:
    """Without NaN, which JSON has not."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
