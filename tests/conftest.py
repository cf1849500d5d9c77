"""Settings of all tests."""

import os
import sys

import pytest
from hypothesis import settings

# Machines under load miss deadlines; in CI the same examples are drawn each time, at home new ones.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def close_pictures():
    """No picture outlives its test: matplotlib warns of many, and warnings are errors."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")
