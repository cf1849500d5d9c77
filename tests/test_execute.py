import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from remnant import plan
from remnant.execute import RunError, cohorts, run
from remnant.lab.cohort import rules
from remnant.schemes import Compose, DynamicInt8, Float16, MagnitudePruning, OneShotPruning, StaticInt8
from remnant.store import Store
from remnant.trial import Recipe, Trial

RECIPE = Recipe("digits", "mlp", epochs=1, learning_rate=0.05)
SCHEMES = [MagnitudePruning(0.5), Float16(), StaticInt8(20), Compose((MagnitudePruning(0.5), DynamicInt8()))]
TRIALS = [*plan.grid(RECIPE, SCHEMES, range(2)), *plan.subsets(RECIPE, 3)]


def same(a: Store, b: Store, trials=TRIALS) -> bool:
    """Bit for bit the same arrays, predictions and weights."""
    return all(
        np.array_equal(array, b.read(trial, file)[name])
        for trial in trials
        for file in ("predictions", "weights")
        for name, array in a.read(trial, file).items()
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Store:
    store = Store(tmp_path_factory.mktemp("reference"))
    assert run(TRIALS, store, engine="serial") == len(TRIALS)
    return store


def test_a_second_run_computes_nothing(reference):
    assert run(TRIALS, reference, engine="serial") == 0


def test_results_do_not_depend_on_engine_and_number_of_workers(reference, tmp_path):
    store = Store(tmp_path)
    run(reversed(TRIALS), store, engine="processes", workers=2)
    assert same(reference, store)


def test_post_training_schemes_start_from_the_stored_weights(reference):
    dense = reference.read(Trial(RECIPE), "weights")
    halved = reference.read(Trial(RECIPE, Float16()), "weights")
    first = next(name for name in dense if name.endswith("weight"))
    assert np.array_equal(dense[first].astype(np.float16).astype(np.float32), halved[first])


def test_missing_parents_are_run_too(tmp_path):
    store = Store(tmp_path)
    assert run([Trial(RECIPE, Float16(), 5)], store, engine="serial") == 2
    assert Trial(RECIPE, seed=5) in store


def test_progress_counts_up_to_the_whole_plan(tmp_path):
    states = []
    run(TRIALS[:4], Store(tmp_path), engine="serial", progress=states.append)
    assert [s.finished for s in states] == sorted(s.finished for s in states)
    assert states[-1].finished == states[-1].total == 4
    assert all(0 <= s.accuracy <= 1 for s in states)


def test_failures_name_trial_and_cause_and_keep_the_rest(tmp_path):
    store = Store(tmp_path)
    good, bad = Trial(RECIPE), Trial(Recipe("digits", "mlp", learning_rate=1e30))
    with pytest.raises(RunError, match=rf"1 trials are not finished(.|\n)*DivergedError(.|\n)*{bad.key}"):
        run([good, bad], store, engine="serial")
    assert good in store
    assert bad not in store


def test_a_trial_that_fails_in_a_cohort_costs_no_other(tmp_path, monkeypatch):
    from remnant.lab import models

    build = models.build

    def broken(architecture, input_shape, num_classes, rng):
        model = build(architecture, input_shape, num_classes, rng)
        if next(model.parameters()).flatten()[0].item() == first:
            next(model.parameters()).data.fill_(np.inf)
        return model

    trials = plan.subsets(RECIPE, 16)
    bad = trials[5]
    first = next(build("mlp", (1, 8, 8), 10, bad.rng("init")).parameters()).flatten()[0].item()
    monkeypatch.setattr(models, "build", broken)
    store, seen = Store(tmp_path), []
    with pytest.raises(
        RunError, match=rf"1 trials are not finished; 15 are stored(.|\n)*DivergedError(.|\n)*{bad.key} "
    ):
        run(trials, store, engine="serial", progress=seen.append)
    assert [trial in store for trial in trials] == [trial != bad for trial in trials]
    assert [len(state.outcome.cohort) for state in seen] == [4, 4, 4, 4]
    assert seen[-1].finished == 15


def test_a_mistake_of_the_user_is_told_without_a_traceback_and_once(tmp_path):
    seen = []
    trials = plan.grid(Recipe("arrays:absent.npz", "mlp"), [], range(9))
    with pytest.raises(RunError, match=r"9 trials are not finished; 0 are stored(.|\n)*3 x FileNotFoundError") as error:
        run(trials, Store(tmp_path), engine="serial", root=str(tmp_path), progress=seen.append)
    assert "Traceback" not in str(error.value)
    assert len(seen) == 3


def test_cohorts_share_a_recipe_and_keep_all_workers_busy():
    trials = plan.subsets(RECIPE, 40)
    groups = cohorts(trials, workers=2)
    assert [t for group in groups for t in group] == trials
    assert max(map(len, groups)) == 5
    assert max(map(len, cohorts(plan.subsets(RECIPE, 400), workers=2))) == rules.MOST
    assert len(cohorts([*trials, Trial(Recipe("digits", "cnn"))], workers=2)[-1]) == 1
    assert max(map(len, cohorts(plan.subsets(Recipe("digits", "cnn"), 40), workers=2))) == 1
    assert cohorts([], workers=2) == []


def test_a_post_training_scheme_with_fine_tuning_runs(tmp_path):
    store = Store(tmp_path)
    trial = Trial(RECIPE, OneShotPruning(0.8, epochs=1))
    run([trial], store, engine="serial")
    footprint = store.manifest(trial)["footprint"]
    assert footprint["nonzeros"] < 0.3 * footprint["parameters"]


SCRIPT = """
import sys
from remnant.execute import run
from remnant.store import Store
from tests.test_execute import TRIALS
print("ready", flush=True)
run(TRIALS, Store(sys.argv[1]), engine="serial")
"""


def interrupted(root: Path, delay: float) -> bool:
    """Run the plan, kill -9 the process after `delay` seconds; whether it was killed before it ended."""
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    return process.wait() == -signal.SIGKILL


def check_kill_and_resume(reference: Store, root: Path, delay: float) -> bool:
    killed = interrupted(root, delay)
    store = Store(root)
    before = {t: store.manifest(t)["seconds"] for t in TRIALS if t in store}
    newly = run(TRIALS, store, engine="serial")
    assert newly == len(TRIALS) - len(before)
    assert all(store.manifest(t)["seconds"] == seconds for t, seconds in before.items())  # nothing was recomputed
    assert same(reference, store)
    assert not list(root.glob(".partial/*"))
    return killed


def test_a_killed_run_continues_to_the_same_bits(reference, tmp_path):
    assert check_kill_and_resume(reference, tmp_path, delay=1.0)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_continues_to_the_same_bits(reference, tmp_path):
    start = time.monotonic()
    interrupted(tmp_path / "timing", 1000)
    whole = time.monotonic() - start
    moments = random.Random(0)
    killed = [check_kill_and_resume(reference, tmp_path / str(k), moments.uniform(0, whole)) for k in range(20)]
    assert sum(killed) >= 5


def test_importing_the_runner_does_not_import_torch():
    code = "import remnant.execute, remnant.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_worker_that_trains_imports_no_library_of_analyses():
    code = "import remnant.lab.run, sys; sys.exit(len({'pandas', 'xarray', 'scipy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
