"""Worker processes on this machine. A worker that dies costs its cohort only, which is tried once more."""

import multiprocessing
import platform
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from remnant.engine import Cohort, Outcome, Work

TRIES = 2
"""How often a cohort is handed out whose worker died without saying why (killed, out of memory)."""


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    cohort: Cohort | None = None
    started: float = 0.0


class Processes:
    """A pool of spawned processes, each with a pipe to this one."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, work: Work, cohorts: Sequence[Cohort]) -> Iterator[Outcome]:
        waiting = deque(cohorts)
        tries = dict.fromkeys(cohorts, 0)
        workers = [_start(work) for _ in range(min(self.workers, len(cohorts)))]
        try:
            while waiting or any(worker.cohort for worker in workers):
                for place, worker in enumerate(workers):
                    if worker.cohort is None and waiting:
                        try:
                            worker.pipe.send(waiting[0])
                        except OSError:  # it died between two cohorts
                            _stop(worker)
                            worker = workers[place] = _start(work)
                            worker.pipe.send(waiting[0])
                        worker.cohort, worker.started = waiting.popleft(), time.monotonic()
                        tries[worker.cohort] += 1
                busy = {worker.pipe: worker for worker in workers if worker.cohort}
                for pipe in wait(list(busy)):
                    worker = busy[pipe]  # pyright: ignore[reportArgumentType]
                    cohort, seconds = worker.cohort, time.monotonic() - worker.started
                    assert cohort is not None
                    worker.cohort = None
                    try:
                        error = worker.pipe.recv()
                    except (EOFError, OSError):
                        worker.process.join()
                        code = worker.process.exitcode
                        workers[workers.index(worker)] = _start(work)
                        if tries[cohort] < TRIES:
                            waiting.append(cohort)
                            continue
                        error = (
                            f"The worker process ended with exit code {code} {TRIES} times (killed? out of memory?)."
                        )
                    yield Outcome(cohort, seconds, error)
        finally:
            for worker in workers:
                _stop(worker)


def _start(work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _stop(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.cohort is not None:
        worker.process.terminate()
    worker.process.join(timeout=10)
    if worker.process.is_alive():
        worker.process.kill()
        worker.process.join()


def _serve(work: Work, pipe: Connection) -> None:
    """The life of a worker: cohorts in, None or an error text out, until the pipe closes."""
    while True:
        try:
            cohort = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            work(cohort)
            error = None
        except KeyboardInterrupt:
            return
        except BaseException:
            error = f"On {platform.node()}:\n{traceback.format_exc()}"
        try:
            pipe.send(error)
        except OSError:
            return
