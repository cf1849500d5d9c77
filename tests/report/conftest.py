import pytest

import remnant.analyses
from tests.report import synthetic


@pytest.fixture
def drawable(monkeypatch):
    """Findings made by hand can be drawn."""
    monkeypatch.setattr(remnant.analyses, "analysis", synthetic.analysis, raising=False)
