"""What the files in examples/ci hold does what the page on gating says, by running it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from remnant.gates import KINDS, rules
from remnant.gates.decisions import Measured, needed

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/ci"
PAGE = (ROOT / "docs/how-to/gate-in-ci.md").read_text()


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository as the page describes it, with `remnant` on its path and a job summary."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "remnant"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m remnant.cli "$@"\n')
    program.chmod(0o755)
    shutil.copy(EXAMPLES / "remnant-gate.toml", tmp_path)
    predictions(tmp_path, noise=0.1)
    return tmp_path


def predictions(project: Path, *, noise: float) -> None:
    """3,000 examples, and a compressed model that differs by so much noise."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 3000)
    logits = rng.normal(0, 1, (3000, 4)).astype(np.float32)
    logits[np.arange(3000), label] += 4
    ids = [f"image-{i}" for i in range(3000)]
    compressed = logits + rng.normal(0, noise, logits.shape).astype(np.float32)
    (project / "predictions").mkdir(exist_ok=True)
    np.savez(project / "predictions/reference.npz", ids=ids, logits=logits, labels=label)
    np.savez(project / "predictions/int8.npz", ids=ids, logits=compressed, labels=label)


def run(project: Path, command: str) -> subprocess.CompletedProcess:
    """A `run:` line as a runner of GitHub runs it."""
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "GITHUB_STEP_SUMMARY": str(project / "step-summary.md"), "COLUMNS": "200"}
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    return subprocess.run(shell, cwd=project, env=environment, capture_output=True, text=True, check=False)


def steps() -> dict[str, str]:
    """Name of each step of the workflow to its command."""
    workflow = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text())
    return {step["name"]: step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step}


@pytest.mark.slow
def test_the_workflow_passes_a_good_model_and_fails_a_bad_one(project):
    commands = steps()
    assert commands.pop("Install") == "python -m pip install remnant"
    assert list(commands) == ["Compare", "Gate", "Summary"]
    for name, command in commands.items():
        found = run(project, command)
        assert found.returncode == 0, f"{name}: {found.stdout}{found.stderr}"
    assert {path.name for path in (project / "gate").iterdir()} == {"junit.xml", "gate.sarif", "summary.md"}
    assert "remnant gate: ✅ pass" in (project / "step-summary.md").read_text()
    predictions(project, noise=2.0)
    assert run(project, commands["Compare"]).returncode == 0
    found = run(project, commands["Gate"])
    assert found.returncode == 1, found.stdout + found.stderr
    assert run(project, commands["Summary"]).returncode == 0
    assert "remnant gate: ❌ fail" in (project / "step-summary.md").read_text()


@pytest.mark.slow
def test_the_hooks_pass_a_good_report_and_stop_a_changed_one(project):
    config = yaml.safe_load((EXAMPLES / "pre-commit-config.yaml").read_text())
    hooks = {hook["id"]: hook for repo in config["repos"] for hook in repo["hooks"]}
    assert run(project, steps()["Compare"]).returncode == 0
    for hook in hooks.values():
        found = run(project, hook["entry"])
        assert found.returncode == 0, found.stdout + found.stderr
        assert re.search(hook["files"], "report/report.json")
    (project / "report/report.md").write_text("All is well.")
    found = run(project, hooks["remnant-verify"]["entry"])
    assert found.returncode == 1
    assert "changed" in found.stdout
    shutil.rmtree(project / "report")
    found = run(project, hooks["remnant-gate"]["entry"])
    assert (found.returncode, "error:" in found.stderr, found.stdout) == (2, True, "")


def test_the_limits_of_the_example_are_limits():
    text = (EXAMPLES / "remnant-gate.toml").read_text()
    assert len(tomllib.loads(text)["limits"]) == 4
    assert rules(EXAMPLES / "remnant-gate.toml").line("int8", "max_kl") == 6
    # The part that is commented out is right as well.
    assert set(tomllib.loads(text.replace('# [limits."', '[limits."').replace("# max_size", "max_size"))["limits"]) > {
        "int8"
    }


def test_the_page_lists_every_limit_and_its_claim():
    table = PAGE.partition("## Limits")[2].partition("## Verdicts")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert named >= set(KINDS) | {kind.quantity for kind in KINDS.values() if not kind.increase}


def test_the_page_says_how_many_examples_are_needed():
    found = re.findall(r"^\| ([\d.]+)(?: %)? \| ([\d,]+) \|$", PAGE, flags=re.MULTILINE)
    assert len(found) == 4
    for share, number in found:
        measured = Measured(float(share) / 100, 0, 1, 100)
        assert needed(measured, 0.01, wilson=True) == int(number.replace(",", ""))


@pytest.mark.parametrize("name", ["github-actions.yml", "pre-commit-config.yaml", "remnant-gate.toml"])
def test_the_page_shows_the_files_as_they_are(name):
    assert f"\n{(EXAMPLES / name).read_text()}```\n" in PAGE
