"""Tasks of a Ray cluster, on this machine or on many. What a lost worker or machine computed is handed out again."""

import os
import platform
import socket
import time
import traceback
import uuid
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remnant.engine import Cohort, Outcome, Work, num_cores

TRIES = 3
"""How often a cohort is handed out whose worker was lost without saying why. One more than on one machine: machines
that are taken back at any moment are usual on clusters."""

_LOOK_AGAIN = 10.0
"""After so many seconds without an outcome, see whether the cluster has grown."""

_OBJECT_STORE_BYTES = 100 * 2**20
"""Ray's shared memory in a cluster of our own. Nothing but names and error texts goes through it."""


class Ray:
    """Cohorts as tasks of a Ray cluster that is running, or of one that is started here and ended afterwards.

    Parameters
    ----------
    workers
        At most so many cohorts at once. Default: one per core of this machine, or with an address as many as the
        cluster has room for, also when it grows.
    address
        "auto" on a machine of the cluster, "HOST:6379", or "ray://HOST:10001" from outside. Default: the environment
        variable RAY_ADDRESS; without it a cluster on this machine is started.
    cpus, gpus
        What one cohort takes of a machine. `gpus=0.25` lets four cohorts share a GPU.
    """

    def __init__(
        self, workers: int | None = None, *, address: str | None = None, cpus: float = 1, gpus: float = 0
    ) -> None:
        for name, value in (("cpus", cpus), ("gpus", gpus)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"Expected `{name}` to be a number >= 0, but got {value!r}.")
        if cpus == gpus == 0:
            raise ValueError("Expected `cpus` or `gpus` to be above 0, but got 0 for both.")
        self.address, self.cpus, self.gpus = address, cpus, gpus
        self._most = workers
        self._end: weakref.finalize | None = None

    @property
    def workers(self) -> int:
        """How many cohorts the cluster computes at once, now."""
        room = self._room(self._connected())
        return min(self._most or room, room)

    def map(self, work: Work, cohorts: Sequence[Cohort]) -> Iterator[Outcome]:
        if not cohorts:
            return
        ray = self._connected()
        # A worker that has used a GPU would be ended after each task otherwise.
        remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0, max_calls=0)(_serve)
        waiting, tries = deque(cohorts), Counter()
        running: dict[Any, tuple[Cohort, float]] = {}
        with _setting(work) as setting:
            try:
                while waiting or running:
                    room = self._most or 2 * self._room(ray)
                    while waiting and len(running) < room:
                        cohort = waiting.popleft()
                        tries[cohort] += 1
                        running[remote.remote(work, cohort, setting)] = (cohort, time.monotonic())
                    done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_AGAIN)
                    for task in done:
                        cohort, since = running.pop(task)
                        seconds, error, lost = _answer(ray, task)
                        if lost and tries[cohort] < TRIES:
                            waiting.append(cohort)
                            continue
                        if lost:
                            error = f"The worker was lost {TRIES} times (killed? out of memory? machine gone?): {error}"
                        yield Outcome(cohort, time.monotonic() - since if seconds is None else seconds, error)
            finally:
                for task in running:
                    ray.cancel(task, force=True)

    def _connected(self) -> Any:
        """The module ray, connected; a connection that the program had before is used and left as it is."""
        try:
            import ray
        except ImportError as error:
            raise ValueError("The engine 'ray' needs Ray. Install it with: pip install 'remnant[ray]'") from error
        if not ray.is_initialized():
            address = self.address or os.environ.get("RAY_ADDRESS") or "local"
            if address == "local":
                self._start(ray)
            else:
                _connect(ray, address)
            self._end = weakref.finalize(self, _disconnect, ray)
        if slots(ray.nodes(), self.cpus, self.gpus) == 0:
            raise ValueError(
                f"Expected a Ray cluster with a machine that has {self.cpus:g} CPU and {self.gpus:g} GPU for a cohort, "
                f"but it has {ray.cluster_resources().get('CPU', 0):g} CPU and "
                f"{ray.cluster_resources().get('GPU', 0):g} GPU in all. Add such a machine, or ask for less."
            )
        return ray

    def _room(self, ray: Any) -> int:
        # Not 0, though all machines may be gone for a while.
        return max(1, slots(ray.nodes(), self.cpus, self.gpus))

    def _start(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        workers = self._most or num_cores()
        ray.init(
            address="local",
            num_cpus=max(1, round(workers * self.cpus)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
            _system_config={"worker_niceness": 0},  # else 15: next to any other program, workers would stand still
        )


def slots(nodes: Sequence[Mapping[str, Any]], cpus: float, gpus: float) -> int:
    """How many tasks that take `cpus` and `gpus` run at once on the nodes that live, as `ray.nodes()` lists them."""
    total = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            asked = [(has.get("CPU", 0), cpus), (has.get("GPU", 0), gpus)]
            # The small number: ten tasks of 0.1 fit into 1, though 1 // 0.1 is 9.
            total += min(int(have / want + 1e-6) for have, want in asked if want)
    return total


@dataclass(frozen=True)
class _Setting:
    """What a worker takes over from the process that hands out cohorts."""

    folder: str
    """Relative paths count from here, if the worker's machine has it."""
    variables: Mapping[str, str]
    """Environment variables of remnant."""
    store: str = ""
    marker: str | None = None
    """A folder in the store that shows whether the worker sees the same one; None if the store has a URL."""


@contextmanager
def _setting(work: Work) -> Iterator[_Setting]:
    variables = {name: value for name, value in os.environ.items() if name.startswith("REMNANT_")}
    store = str(getattr(work, "keywords", {}).get("store", ""))
    if store.startswith("memory:"):
        raise ValueError(
            f"Expected a store that all workers can write, but {store!r} is in the memory of one process. "
            "Take a shared folder, or a URL such as s3://BUCKET/FOLDER."
        )
    if not store or "://" in store:
        yield _Setting(os.getcwd(), variables, store)
        return
    # Named as an unfinished trial of this process, so that `Store.sweep` removes it should this process die.
    name = f"{uuid.uuid4().hex[:12]}-{os.getpid()}@{platform.node()}"
    marker = Path(store, ".partial", name).absolute()
    marker.mkdir(parents=True)
    try:
        yield _Setting(os.getcwd(), variables, store, str(marker))
    finally:
        marker.rmdir()


def _serve(work: Work, cohort: Cohort, setting: _Setting) -> tuple[float, str | None]:
    """Seconds and the text of the error, if any, of one cohort; runs on a worker."""
    start = time.monotonic()
    try:
        os.environ.update(setting.variables)
        if os.path.isdir(setting.folder):
            os.chdir(setting.folder)
        if setting.marker is not None and not os.path.isdir(setting.marker):
            raise ValueError(
                f"Expected the store {setting.store!r} to be one folder on all machines, but {platform.node()} does "
                "not see it. Take a shared folder under one path, or a URL such as s3://BUCKET/FOLDER."
            )
        work(cohort)
    except (Exception, SystemExit):
        return time.monotonic() - start, f"On {platform.node()}:\n{traceback.format_exc()}"
    return time.monotonic() - start, None


def _answer(ray: Any, task: Any) -> tuple[float | None, str | None, bool]:
    """Seconds, error text, and whether the worker was lost."""
    try:
        seconds, error = ray.get(task)
        return seconds, error, False
    except ray.exceptions.RayTaskError as error:  # the worker could not even take the task
        text = str(error)
        if "ModuleNotFoundError" in text:
            text += "\nInstall the same version of remnant, and what your study names, on every machine of the cluster."
        return None, text, False
    except ray.exceptions.RayError as error:
        return None, " ".join(str(error).split()), True


def _disconnect(ray: Any) -> None:
    """End the connection, and a cluster that was started for it."""
    with suppress(ImportError):  # the program is ending, and Ray's own shutdown, which imports, is under way
        ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Nothing, if the cluster answers.

    Raises
    ------
    ConnectionError
        Saying what to do.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        if port.isdigit():
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would try for minutes
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        cause = " ".join(str(error).split())[:500]
        raise ConnectionError(
            f"Cannot connect to a Ray cluster at {address!r}: {cause}. Start one with `ray start --head`, and run this "
            "on one of its machines with --address auto, or from outside with --address ray://HOST:10001."
        ) from error
