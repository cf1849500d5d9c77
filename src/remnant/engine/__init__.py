"""Where cohorts of trials run. Results never travel through an engine: workers publish to the store."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter, signature
from typing import Any, Protocol

from remnant.registry import find

Cohort = tuple[Any, ...]
"""Trials, or pairs of a trial and a probe: what is handed out together. Hashable, and small to send."""
Work = Callable[[Cohort], Any]


@dataclass(frozen=True)
class Outcome:
    """What became of one cohort."""

    cohort: Cohort
    seconds: float
    error: str | None = None
    """Traceback and host of the failure; None if all its trials are stored."""


class Engine(Protocol):
    """Hands out cohorts. Every cohort yields exactly one outcome; failures are reported, not raised."""

    def map(self, work: Work, cohorts: Sequence[Cohort]) -> Iterator[Outcome]: ...


ENGINES = {
    "serial": "remnant.engine.serial:Serial",
    "processes": "remnant.engine.processes:Processes",
    "ray": "remnant.engine.ray:Ray",
}


def engine(name: str, *, workers: int | None = None, **options: Any) -> Engine:
    """The engine called `name`.

    Parameters
    ----------
    workers
        How many cohorts at once; default as the engine says, mostly one per core.
    options
        What the engine takes besides, such as `address` of "ray".

    Raises
    ------
    ValueError
        If there is no such engine, or it does not take an option.
    """
    from remnant.registry import user_object

    found = find("engine", name, ENGINES)
    made = user_object(found) if isinstance(found, str) else found
    taken = signature(made).parameters
    if wrong := [option for option in options if option not in taken]:
        others = sorted(set(taken) - {"workers"})
        raise ValueError(
            f"The engine {name!r} takes {others or 'no options'} besides `workers`, but got {wrong[0]!r}. "
            'Do you mean the engine "ray"?'
        )
    if workers:
        options["workers"] = workers
    elif taken["workers"].default is Parameter.empty:
        options["workers"] = num_cores()
    return made(**options)


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
