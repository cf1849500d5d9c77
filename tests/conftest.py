"""Settings of all tests."""

import os

from hypothesis import settings

# Machines under load miss deadlines; in CI the same examples are drawn each time, at home new ones.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")
