import pytest

from remnant.engine.ray import Ray


@pytest.fixture(scope="session")
def ray_engine():
    """A Ray cluster of three workers on this machine, started once: that takes most of the time of these tests."""
    pytest.importorskip("ray", reason="Ray is not installed (extra 'ray')")
    return Ray(workers=3)
