"""Where candidates of a search are trained, stored and measured."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remnant import execute
from remnant.engine import Engine
from remnant.probes.attribution import Attribution
from remnant.schemes import Dense, Scheme
from remnant.search import measures
from remnant.search.intervals import Estimate, cost_estimates, estimates, iou_estimate
from remnant.search.measures import Answers, Examples, Split
from remnant.search.quantities import DENSE
from remnant.store import Store
from remnant.trial import Recipe, Trial

IOU = "attribution_iou"
_REFUSALS = ("ValueError:", "remnant.lab.train.DivergedError:")
"""Failures that say something about the candidate, not about the machine."""


@dataclass(frozen=True)
class Setting:
    """What all candidates of a search have in common, and where they are trained."""

    store: Store
    recipe: Recipe
    seeds: tuple[int, ...]
    names: tuple[str, ...]
    """Quantities that will be asked for."""
    validation_share: float = 0.5
    """Share of the test examples that the search looks at."""
    probe: Attribution = field(default_factory=lambda: Attribution(methods=("integrated-gradients",)))
    """Gives attribution maps, if `names` has "attribution_iou"."""
    root: str | None = None
    engine: str | Engine = "processes"
    workers: int | None = None
    progress: Callable[[execute.Progress], None] | None = None

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"Expected one or more different `seeds`, but got {list(self.seeds)}.")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"Expected `validation_share` in (0, 1), but got {self.validation_share!r}.")


@dataclass(frozen=True)
class Bench:
    """Dense models of all seeds, with which candidates are compared; `prepared` makes one."""

    setting: Setting
    dense: Answers
    examples: Examples
    split: Split
    probed: NDArray[np.intp] | None
    """Test examples with attribution maps."""

    def run(self, schemes: Iterable[Scheme]) -> dict[Scheme, str]:
        """Train what the store lacks of these schemes; those that were refused, with the reason.

        Raises
        ------
        remnant.execute.RunError
            If trials failed for other reasons than that a scheme does not fit the model or its training diverged.
        """
        trials = {scheme: _trials(self.setting, scheme) for scheme in schemes}
        refused: dict[Scheme, str] = {}
        # A run gives up after some failures: go on without the schemes that failed.
        while lacking := self.setting.store.missing(
            trial for scheme, group in trials.items() if scheme not in refused for trial in group
        ):
            refused |= _run(self.setting, lacking)
        if self.probed is not None:
            _probe(self.setting, [trial for s, group in trials.items() if s not in refused for trial in group])
        return refused

    def measured(self, scheme: Scheme) -> dict[str, float]:
        """All quantities of a finished scheme on the validation part, means over seeds."""
        answers, rows = self._answers(scheme), self.split.validation
        found = measures.behaviour(
            answers.prediction[:, rows], self.dense.prediction[:, rows], self.examples.take(rows)
        )
        found |= measures.costs(answers, self.dense)
        result = {name: float(values.mean()) for name, values in found.items()}
        if self.probed is not None:
            result[IOU] = iou_estimate(self._iou(scheme, rows)).estimate
        return result

    def held_out(self, scheme: Scheme) -> dict[str, Estimate]:
        """The same on the part that the search does not look at, with 95 % intervals."""
        answers, rows = self._answers(scheme), self.split.held_out
        found = estimates(answers.prediction[:, rows], self.dense.prediction[:, rows], self.examples.take(rows))
        found |= cost_estimates(measures.costs(answers, self.dense))
        if self.probed is not None:
            found[IOU] = iou_estimate(self._iou(scheme, rows))
        return found

    def _answers(self, scheme: Scheme) -> Answers:
        return measures.answers(self.setting.store, _trials(self.setting, scheme))

    def _iou(self, scheme: Scheme, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        assert self.probed is not None
        setting = self.setting
        pairs = _trials(setting, scheme), _trials(setting, Dense())
        return measures.attribution_iou(setting.store, *pairs, setting.probe)[:, np.isin(self.probed, rows)]


def prepared(setting: Setting) -> Bench:
    """The bench of a search, after its dense models were trained.

    Raises
    ------
    ValueError
        If a quantity is asked for that the data cannot give: groups of examples.
    remnant.execute.RunError
        If the dense models cannot be trained.
    """
    dense = _trials(setting, Dense())
    if refused := _run(setting, dense):
        raise execute.RunError(f"The dense models cannot be trained: {next(iter(refused.values()))}")
    given = measures.examples(setting.store, dense[0])
    split = measures.split(given.label, setting.validation_share)
    answers = measures.answers(setting.store, dense)
    known = measures.behaviour(answers.prediction, answers.prediction, given)
    for name in ("group_gap", "worst_group_drop"):
        if {name, DENSE + name} & set(setting.names) and name not in known:
            raise ValueError(
                f"Expected data with groups for {name!r}, but {setting.recipe.dataset!r} has no attribute with two "
                f"or more groups of at least {measures.LEAST_EXAMPLES} test examples."
            )
    probed = None
    if IOU in setting.names:
        _probe(setting, dense)
        probed = measures.probed_rows(setting.store, dense[0], setting.probe)
    return Bench(setting, answers, given, split, probed)


def _trials(setting: Setting, scheme: Scheme) -> list[Trial]:
    return [Trial(setting.recipe, scheme, seed) for seed in setting.seeds]


def _run(setting: Setting, trials: Sequence[Trial]) -> dict[Scheme, str]:
    """Train what is missing; schemes that were refused, with the reason."""
    failed: dict[Trial, str] = {}

    def follow(state: execute.Progress) -> None:
        if state.outcome.error is not None:
            failed.update(dict.fromkeys(state.outcome.cohort, _cause(state.outcome.error)))
        if setting.progress is not None:
            setting.progress(state)

    try:
        execute.run(
            trials, setting.store, engine=setting.engine, workers=setting.workers, root=setting.root, progress=follow
        )
    except execute.RunError:
        found = {trial.scheme: _failure(trial, failed) for trial in trials}
        refused = {scheme: cause for scheme, cause in found.items() if cause is not None}
        if not refused or not all(cause.startswith(_REFUSALS) for cause in failed.values()):
            raise
        return refused
    return {}


def _failure(trial: Trial | None, failed: Mapping[Trial, str]) -> str | None:
    """Why a trial, or one that it starts from, failed; None if none did."""
    while trial is not None:
        if trial in failed:
            return failed[trial]
        trial = trial.parent
    return None


def _cause(error: str) -> str:
    """Type and message of the exception at the end of a traceback."""
    lines = [line for line in error.strip().splitlines() if re.match(r"[A-Za-z_.]+: ", line)]
    return lines[-1] if lines else error.strip().splitlines()[-1]


def _probe(setting: Setting, trials: Sequence[Trial]) -> None:
    execute.probe(
        trials,
        [setting.probe],
        setting.store,
        engine=setting.engine,
        workers=setting.workers,
        root=setting.root,
        progress=setting.progress,
    )
