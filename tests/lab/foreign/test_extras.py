"""Packages that only some models need."""

import sys
import tomllib
from pathlib import Path

import pytest

from remnant.lab.foreign import evaluation_data
from remnant.lab.foreign.extras import EXTRAS, needed
from remnant.lab.foreign.opening import open_model


@pytest.mark.parametrize("module", EXTRAS)
def test_a_missing_package_says_how_to_install_it(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf'pip install "remnant\[{EXTRAS[module]}\]"'):
        needed(module, "x")


@pytest.mark.parametrize(
    ("module", "reference"),
    [("onnx", "a.onnx"), ("onnxruntime", "a.onnx"), ("timm", "timm:a@b.pt"), ("transformers", "hf:a")],
)
def test_models_name_the_package_that_they_need(monkeypatch, tmp_path, module, reference):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match=f"Expected the package {module!r} for"):
        open_model(reference)


def test_data_name_the_package_that_they_need(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="Expected the package 'datasets' for 'hf:x'"):
        evaluation_data("hf:x", tmp_path)


def test_every_extra_is_one_of_the_package():
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
