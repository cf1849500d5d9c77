import json
import subprocess
import sys
from pathlib import Path

import pytest

from remnant.cli import COMMANDS, main

STUDY = """
schemes = ["float16", {kind = "magnitude-pruning", sparsity = 0.9}]
seeds = 3
[recipe]
dataset = "digits"
architecture = "mlp"
epochs = 2
learning_rate = 0.05
[subsets]
trials = 8
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store and a report that the command line made."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "study.toml").write_text(STUDY)
    main(["run", str(folder / "study.toml"), "--store", str(folder / "store"), "--engine", "serial"])
    main(["audit", str(folder / "store"), "--out", str(folder / "report")])
    return folder


def test_run_and_audit_leave_a_report(finished):
    names = {path.name for path in (finished / "report").iterdir()}
    assert {"report.html", "report.md", "report.json", "tables"} <= names
    report = json.loads((finished / "report" / "report.json").read_text())
    assert {f["analysis"] for f in report["findings"]} >= {"mismatches", "exemplars", "classes", "memorization"}


def test_run_prints_what_a_program_reads(finished, capsys):
    main(["run", str(finished / "study.toml"), "--store", str(finished / "store"), "--json"])
    assert json.loads(capsys.readouterr().out)["finished"] == 0


def test_audit_can_be_limited_to_some_analyses(finished, capsys, tmp_path):
    main(["audit", str(finished / "store"), "--out", str(tmp_path), "--only", "classes", "--json"])
    written = json.loads(capsys.readouterr().out)
    report = json.loads(Path(written["report.json"]).read_text())
    assert [f["analysis"] for f in report["findings"]] == ["classes"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    assert (COMMANDS[command].__doc__ or "").split(".")[0].split()[0] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent.toml"], "absent.toml does not exist"),
        (["audit", "absent-store"], "holds no finished trial"),
        (["audit", "absent-store", "--only", "clases"], "holds no finished trial"),
    ],
)
def test_mistakes_end_with_one_message_and_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = " ".join(capsys.readouterr().err.split())
    assert message in error
    assert "Traceback" not in error


def test_an_unknown_analysis_names_the_nearest(finished, capsys):
    with pytest.raises(SystemExit):
        main(["audit", str(finished / "store"), "--only", "clases"])
    assert "Did you mean 'classes'" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_key_of_a_study_names_the_nearest(tmp_path, capsys):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.replace("seeds", "seed"))
    with pytest.raises(SystemExit):
        main(["run", str(path), "--store", str(tmp_path / "store")])
    assert "Did you mean 'seeds'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "store").exists()


def test_list_names_everything_that_a_study_can_name(capsys):
    main(["list", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert "magnitude-pruning" in found["schemes"]
    assert "digits" in found["datasets"]
    assert any(name.startswith("resnet") for name in found["architectures"])
    assert all(found["analyses"].values())
    main(["list", "schemes"])
    assert "static-int8" in capsys.readouterr().out


def test_doctor_tells_what_the_machine_has(capsys):
    main(["doctor", "--json"])
    assert {"cores", "bfloat16 in hardware", "torch", "GPU"} <= set(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    "module", ["remnant", "remnant.cli", "remnant.analyses", "remnant.report", "remnant.population"]
)
def test_importing_does_not_import_torch(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_auditing_a_store_does_not_import_torch(finished, tmp_path):
    code = (
        "import sys; from remnant.cli import main\n"
        f"main(['audit', {str(finished / 'store')!r}, '--out', {str(tmp_path)!r}, '--json'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_public_names_exist():
    import remnant

    for name in remnant.__all__:
        assert getattr(remnant, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        remnant.nothing  # noqa: B018
