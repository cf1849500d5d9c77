"""The ceiling on memory."""

import sys

import numpy as np
import pytest

from remnant.lab.foreign.memory import bounded_memory, free_memory

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the ceiling is Linux's")


@linux
def test_more_than_there_is_is_an_error_and_the_ceiling_is_lifted_again():
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    free = free_memory()
    assert free is not None
    with bounded_memory():
        assert np.empty(2**20).nbytes == 2**23
        with pytest.raises(MemoryError):
            np.empty(free // 4, np.float64)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@linux
def test_an_error_inside_lifts_it_too():
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(KeyError), bounded_memory():
        raise KeyError
    assert resource.getrlimit(resource.RLIMIT_AS) == before
