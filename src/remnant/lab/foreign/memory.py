"""A ceiling on memory while a model of unknown origin runs."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def bounded_memory() -> Iterator[None]:
    """This process may take no more memory than the machine has free now; asking for more is an error, not a kill.

    A model can ask for any amount, whatever the size of its file. Only on Linux, and only where no GPU is
    in use, since its driver reserves far more addresses than there is memory.
    """
    limit = _limit()
    if limit is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = min([limit, *(bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def free_memory() -> int | None:
    """Bytes that the machine can still give, by /proc/meminfo; None where there is no such file."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _limit() -> int | None:
    """Bytes of addresses that may be in use in all: those of now and as many as there is free memory."""
    free = free_memory()
    if free is None or not sys.platform.startswith("linux"):
        return None
    import torch

    if torch.cuda.is_available():
        return None
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE") + free
