"""What the engine for Ray promises beyond every engine. A real cluster is in the slow tests only."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from remnant import execute
from remnant.cli.populations import _engine
from remnant.engine.ray import TRIES, Ray, slots
from remnant.engine.ray import _serve as serve
from remnant.engine.ray import _Setting as Setting
from remnant.schemes import Float16
from remnant.store import Store
from remnant.trial import Recipe, Subset, Trial

COHORTS = [(seed,) for seed in range(6)]


class Lost(Exception):
    pass


class Failed(Exception):
    pass


class Cluster:
    """Stands for the module ray: computes a task when its answer is asked for, and loses those that `loses` names."""

    exceptions = SimpleNamespace(RayTaskError=Failed, RayError=Lost)

    def __init__(self) -> None:
        self.loses = lambda cohort, times: False
        self.tasks, self.times, self.cancelled, self.most = {}, Counter(), [], 0

    def nodes(self) -> list:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, **options):
        self.options = options
        return lambda function: SimpleNamespace(remote=partial(self.submit, function))

    def submit(self, function, work, cohort, setting) -> object:
        task = object()
        self.tasks[task] = partial(function, work, cohort, setting)
        self.most = max(self.most, len(self.tasks))
        return task

    def wait(self, tasks, **_):
        return tasks[-1:], tasks[:-1]

    def get(self, task):
        computed = self.tasks.pop(task)
        cohort = computed.args[1]
        self.times[cohort] += 1
        if self.loses(cohort, self.times[cohort]):
            raise Lost("the worker\ndied")
        return computed()

    def cancel(self, task, force) -> None:
        self.cancelled.append(self.tasks[task].args[1])


@pytest.fixture(autouse=True)
def own_folder(monkeypatch):
    """Work of the fake cluster changes the working folder of this process: afterwards it is as before."""
    monkeypatch.chdir(os.getcwd())


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster()
    monkeypatch.setattr("remnant.engine.ray.Ray._connected", lambda self: made)
    return made


def fail_on_four(cohort, **_) -> None:
    if cohort[0] == 4:
        raise RuntimeError("four is not allowed")


def test_the_engine_is_made_without_importing_ray():
    code = "import sys; from remnant.engine import engine; engine('ray'); print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_lost_worker_costs_its_cohort_only_and_it_is_computed_again(cluster):
    cluster.loses = lambda cohort, times: cohort == (4,) and times == 1
    outcomes = list(Ray().map(lambda cohort: None, COHORTS))
    assert sorted(o.cohort for o in outcomes) == COHORTS
    assert all(o.error is None for o in outcomes)
    assert cluster.times == {cohort: 2 if cohort == (4,) else 1 for cohort in COHORTS}


def test_a_cohort_that_is_lost_again_and_again_is_given_up(cluster):
    cluster.loses = lambda cohort, times: cohort == (4,)
    outcomes = {o.cohort: o.error for o in Ray().map(lambda cohort: None, COHORTS)}
    assert f"lost {TRIES} times (killed? out of memory? machine gone?): the worker died" in (outcomes.pop((4,)) or "")
    assert set(outcomes.values()) == {None}
    assert cluster.times[4,] == TRIES


def test_errors_of_the_work_come_back_with_the_host_and_are_not_tried_again(cluster):
    outcomes = {o.cohort: o.error for o in Ray().map(fail_on_four, COHORTS)}
    assert "four is not allowed" in (outcomes[4,] or "")
    assert (outcomes[4,] or "").startswith(f"On {os.uname().nodename}:")
    assert cluster.times[4,] == 1


def test_the_number_of_tasks_in_flight_is_bounded(cluster):
    assert len(list(Ray().map(fail_on_four, [(k,) for k in range(50)]))) == 50
    assert cluster.most == 4, "two for each of two cores"
    cluster.most = 0
    list(Ray(workers=3).map(fail_on_four, [(k,) for k in range(50)]))
    assert cluster.most == 3


def test_tasks_ask_for_the_resources_of_a_cohort(cluster):
    list(Ray(cpus=2, gpus=0.25).map(fail_on_four, COHORTS))
    assert cluster.options == {"num_cpus": 2, "num_gpus": 0.25, "max_retries": 0, "max_calls": 0}


def test_leaving_early_cancels_what_is_in_flight(cluster):
    outcomes = Ray().map(fail_on_four, COHORTS)
    next(outcomes)
    outcomes.close()  # pyright: ignore
    assert sorted(cluster.cancelled) == [(0,), (1,), (2,)]


def test_a_store_that_a_worker_does_not_see_is_named(cluster, tmp_path):
    setting = Setting(str(tmp_path), {}, "runs", str(tmp_path / "absent"))
    _, error = serve(fail_on_four, (0,), setting)
    assert "Expected the store 'runs' to be one folder on all machines, but" in (error or "")
    assert "s3://BUCKET/FOLDER" in (error or "")


def test_relative_paths_and_settings_are_those_of_the_process_that_hands_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REMNANT_DATA", raising=False)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    _, error = serve(lambda cohort: Path("here").touch(), (0,), Setting(str(folder), {"REMNANT_DATA": "x"}))
    assert error is None
    assert (folder / "here").exists()
    assert os.environ["REMNANT_DATA"] == "x"


def test_the_marker_in_the_store_is_taken_away(cluster, tmp_path):
    store = Store(tmp_path)
    outcomes = Ray().map(partial(fail_on_four, store=store.root), COHORTS)
    next(outcomes)
    assert len(list(tmp_path.glob(".partial/*"))) == 1
    assert store.sweep() == 0, "its owner lives"
    list(outcomes)
    assert not list(tmp_path.glob(".partial/*"))


def test_a_store_in_memory_is_refused(cluster):
    with pytest.raises(ValueError, match="in the memory of one process. Take a shared folder, or a URL"):
        list(Ray().map(partial(fail_on_four, store="memory://x"), COHORTS))


def test_slots_count_what_fits_on_each_machine():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert slots(nodes, 1, 0) == 12
    assert slots(nodes, 3, 0) == 3, "2 on the first, 1 on the second"
    assert slots(nodes, 1, 0.5) == 4
    assert slots(nodes, 0, 0.1) == 20
    assert slots(nodes, 1, 1) == 2
    assert slots(nodes, 16, 0) == 0


@pytest.mark.parametrize(("options", "message"), [({"gpus": -1}, "`gpus`"), ({"cpus": 0}, "for both")])
def test_resources_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Ray(**options)


def test_an_address_that_does_not_answer_is_named():
    pytest.importorskip("ray", reason="Ray is not installed (extra 'ray')")
    with pytest.raises(ConnectionError, match=r"Cannot connect .*'127.0.0.1:1': .*refused.*`ray start --head`"):
        list(Ray(address="127.0.0.1:1").map(fail_on_four, COHORTS))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'remnant\[ray\]'"):
        list(Ray().map(fail_on_four, COHORTS))


def _busy_workers() -> list[int]:
    """Processes below this one that compute a task of Ray now."""
    parents, titles = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, titles[int(folder.name)] = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])

    def below(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return [pid for pid, title in titles.items() if title.startswith(b"ray::_serve") and below(pid)]


@pytest.mark.slow
def test_a_killed_worker_leaves_the_same_bits_as_a_serial_run(ray_engine, tmp_path):
    recipe = Recipe("digits", "mlp", epochs=2)
    trials = [Trial(recipe, seed=seed, subset=Subset(seed)) for seed in range(8)]
    trials += [Trial(recipe, Float16(), seed) for seed in range(2)]
    ours, serial = Store(tmp_path / "ray"), Store(tmp_path / "serial")
    killed = []

    def kill_one(state) -> None:
        if not killed and state.finished < state.total - 2:
            for pid in _busy_workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    assert execute.run(trials, ours, engine=ray_engine, progress=kill_one) == 12  # with 2 dense parents
    assert killed
    execute.run(trials, serial, engine="serial")
    assert set(ours.trials()) == set(serial.trials())
    for trial in serial.trials():
        for file in ("predictions", "weights"):
            expected, found = serial.read(trial, file), ours.read(trial, file)
            assert all(np.array_equal(expected[name], found[name]) for name in expected)
            assert set(expected) == set(found)
    assert not list(Path(ours.root).glob(".partial/*"))


def sleep_or_note(cohort, *, folder: str) -> None:
    if cohort[0] == 0:
        Path(folder, "began").touch()
        time.sleep(600)


@pytest.mark.slow
def test_leaving_early_ends_tasks_on_the_cluster(ray_engine, tmp_path):
    outcomes = ray_engine.map(partial(sleep_or_note, folder=str(tmp_path)), COHORTS)
    next(outcomes)
    while not (tmp_path / "began").exists():
        time.sleep(0.05)
    assert _busy_workers()
    outcomes.close()
    deadline = time.monotonic() + 60
    while _busy_workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _busy_workers()


def die_on_four(cohort) -> None:
    if cohort[0] == 4:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_cohort_that_kills_its_workers_is_given_up(ray_engine):
    outcomes = {o.cohort: o.error for o in ray_engine.map(die_on_four, COHORTS)}
    assert f"lost {TRIES} times" in (outcomes.pop((4,)) or "")
    assert set(outcomes.values()) == {None}


def test_the_command_line_takes_address_and_gpus_for_ray_only():
    made = _engine("ray", 3, address="auto", gpus=0.5)
    assert isinstance(made, Ray)
    assert (made.address, made.gpus, made._most) == ("auto", 0.5, 3)
    assert _engine("serial", None, address=None, gpus=0.0)
    with pytest.raises(ValueError, match="takes no options besides `workers`, but got 'address'"):
        _engine("processes", None, address="auto", gpus=0.0)
