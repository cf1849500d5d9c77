import json

import pytest

from remnant.cli import main


def test_audit_writes_a_report_and_fit_finds_a_setting(store, tmp_path, capsys):
    out = tmp_path / "report"
    main(["data", "audit", "--store", store, "--codecs", "jpeg(quality=20)", "--reestimate", "0", "--out", str(out)])
    assert "jpeg(quali" in capsys.readouterr().out
    assert {"report.html", "report.json", "manifest.json", "tables"} <= {path.name for path in out.iterdir()}
    main(["data", "fit", "--store", store, "--max-drop", "3pt", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["codec"].startswith("jpeg(quality=")
    assert found["change"]["low"] <= found["change"]["estimate"] <= found["change"]["high"]
    main(["data", "fit", "--store", store, "--max-drop", "3pt", "--limit", "100"])
    said = " ".join(capsys.readouterr().out.split())
    assert "images that the search did not read" in said
    assert "headers shared" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit", "--codecs", "jpg"], "Did you mean 'jpeg'"),
        (["audit", "--codecs", "webp"], "cannot store 'digits'"),
        (["fit", "--codec", "png"], "Expected `codec` to be one of"),
        (["fit", "--max-drop", "2"], "Did you mean '2%'"),
        (["fit", "--max-drop", "-1pt"], "max-drop"),
    ],
)
def test_mistakes_end_with_one_message_and_leave_nothing(store, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["data", *words, "--store", store])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_missing_store_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["data", "audit", "--store", str(tmp_path / "no"), "--codecs", "png", "--out", str(tmp_path / "out")])
    assert "dense models" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
