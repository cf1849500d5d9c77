"""What every engine promises."""

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from remnant.engine import ENGINES, engine, num_cores
from remnant.registry import UnknownNameError
from remnant.trial import Recipe, Trial

COHORTS = [tuple(Trial(Recipe("digits", "mlp"), seed=s) for s in (2 * k, 2 * k + 1)) for k in range(5)]


def note(cohort, *, folder: str) -> None:
    Path(folder, f"{cohort[0].seed}-{os.getpid()}").touch()


def fail_on_four(cohort) -> None:
    if cohort[0].seed == 4:
        raise RuntimeError("four is not allowed")


def die_once(cohort, *, folder: str) -> None:
    marker = Path(folder, "died")
    if cohort[0].seed == 4 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def die_always(cohort) -> None:
    if cohort[0].seed == 4:
        os.kill(os.getpid(), signal.SIGKILL)


def note_and_die(cohort, *, folder: str) -> None:
    """Finish the first cohort, and die shortly after its outcome is known."""
    note(cohort, folder=folder)
    if cohort[0].seed == 0:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()


@pytest.fixture(params=[pytest.param(n, marks=pytest.mark.slow) if n == "ray" else n for n in sorted(ENGINES)])
def any_engine(request):
    return request.getfixturevalue("ray_engine") if request.param == "ray" else engine(request.param, workers=2)


def test_every_cohort_yields_exactly_one_outcome(any_engine, tmp_path):
    outcomes = list(any_engine.map(partial(note, folder=str(tmp_path)), COHORTS))
    assert sorted(o.cohort[0].seed for o in outcomes) == [0, 2, 4, 6, 8]
    assert all(o.error is None and o.seconds >= 0 for o in outcomes)
    assert len(list(tmp_path.iterdir())) == 5


def test_a_failure_is_reported_and_the_rest_goes_on(any_engine):
    outcomes = {o.cohort[0].seed: o.error for o in any_engine.map(fail_on_four, COHORTS)}
    assert len(outcomes) == 5
    assert "four is not allowed" in (outcomes.pop(4) or "")
    assert set(outcomes.values()) == {None}


def test_a_worker_that_dies_between_two_cohorts_costs_none(tmp_path):
    outcomes = []
    for outcome in engine("processes", workers=1).map(partial(note_and_die, folder=str(tmp_path)), COHORTS):
        outcomes.append(outcome)
        time.sleep(1.0 if len(outcomes) == 1 else 0)
    assert sorted(o.cohort[0].seed for o in outcomes) == [0, 2, 4, 6, 8]
    assert all(o.error is None for o in outcomes)


def test_no_cohorts_give_no_outcomes(any_engine):
    assert list(any_engine.map(fail_on_four, [])) == []


def test_a_killed_worker_costs_nothing(tmp_path):
    outcomes = list(engine("processes", workers=2).map(partial(die_once, folder=str(tmp_path)), COHORTS))
    assert len(outcomes) == 5
    assert all(o.error is None for o in outcomes)
    assert (tmp_path / "died").exists()


def test_a_cohort_that_kills_its_worker_twice_is_given_up():
    outcomes = {o.cohort[0].seed: o.error for o in engine("processes", workers=2).map(die_always, COHORTS)}
    assert "exit code -9 2 times" in (outcomes.pop(4) or "")
    assert set(outcomes.values()) == {None}


def test_leaving_early_ends_the_workers(tmp_path):
    outcomes = engine("processes", workers=2).map(partial(note, folder=str(tmp_path)), COHORTS)
    next(iter(outcomes))
    outcomes.close()  # pyright: ignore
    pids = {int(path.name.split("-")[1]) for path in tmp_path.iterdir()}
    time.sleep(0.2)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_unknown_engine_lists_those_there():
    with pytest.raises(UnknownNameError, match=r"\['processes', 'ray', 'serial'\].*Did you mean 'serial'"):
        engine("serail")


def test_the_default_is_one_worker_per_core():
    assert engine("processes").workers == num_cores() >= 1  # pyright: ignore


def test_an_option_that_an_engine_does_not_take_is_named():
    with pytest.raises(ValueError, match=r"'serial' takes no options besides `workers`, but got 'address'.*\"ray\""):
        engine("serial", address="auto")
