"""Names, texts and files of strangers, from reading to every file that is written."""

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remnant import gates, manifest, report
from remnant.cli import main
from remnant.ingest import from_arrays
from remnant.report import html
from remnant.report.characters import visible
from remnant.report.tables import csv_bytes
from remnant.versus import Side, as_side, compare
from tests.hostile import HIDDEN, STRINGS, check_page, compared
from tests.ingest import files
from tests.ingest.test_fuzz import damaged

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The comparison and the folder of its report, with a manifest and the verdicts of a gate."""
    found = compared()
    out = tmp_path_factory.mktemp("hostile") / "deep" / "report"
    found.write(out, title=STRINGS[0])
    manifest.write(out, found.audit, command=["remnant", *STRINGS])
    return found, out


@pytest.fixture(scope="module")
def verdicts(written):
    return gates.gate(written[1], max_harmful_flips="1%", max_worst_class_drop="1pt", max_kl="0.01", max_size="1kB")


def test_the_page_holds_nothing_that_runs_or_leads_away(written):
    page = check_page((written[1] / "report.html").read_text(encoding="utf-8"))
    policy = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert ("html. head. title.", STRINGS[0]) in page.words
    assert len(page.all("svg")) >= 3
    assert "1337" not in page.text()


def test_the_notebook_shows_nothing_that_runs(written):
    check_page(f"<html><body>{written[0]._repr_html_()}</body></html>")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_chromium_runs_nothing_even_without_the_policy(written, tmp_path):
    """The policy alone would stop scripts; without it, the escapes must."""
    source = (written[1] / "report.html").read_text(encoding="utf-8")
    bare = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
    assert bare != source
    ran = bare.replace("</body>", "<script>document.title = 'ran'</script></body>")
    titles = {}
    for name, text in (("kept", source), ("bare", bare), ("ran", ran)):
        (tmp_path / f"{name}.html").write_text(text, encoding="utf-8")
        command = [
            str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", "--virtual-time-budget=3000", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / f"{name}.html").as_uri(),
        ]  # fmt: skip
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        titles[name] = dom.partition("<title>")[2].partition("</title>")[0]
    assert titles["ran"] == "ran"
    assert titles["kept"] == titles["bare"] != "ran"


def test_markdown_shows_names_as_they_are(written, verdicts):
    for text in ((written[1] / "report.md").read_text(encoding="utf-8"), gates.markdown(verdicts)):
        assert not HIDDEN.search(text)
        assert not re.search(r"<(?!!-- -->|/?code>)", text.replace("> <code>", ""))
        assert not re.search(r"(?<!\\)\]\(|://|www\.|@team|&#64;team", text)


def test_the_files_of_a_gate_hold_names_as_text(verdicts):
    found = json.loads(gates.sarif(verdicts))
    messages = [result["message"]["text"] for result in found["runs"][0]["results"]]
    assert messages
    assert not any(HIDDEN.search(text) or re.search(r"(?<!\\)\[", text) for text in messages)
    suites = ElementTree.fromstring(gates.junit(verdicts))
    texts = [value for element in suites.iter() for value in [*element.attrib.values(), element.text or ""]]
    assert {element.tag for element in suites.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "system-out",
    }  # fmt: skip
    assert not any(HIDDEN.search(text) or "::error" in text for text in texts)


def test_json_and_parquet_hold_names_unchanged(written):
    found, out = written
    again, before = (json.loads(json.dumps(audit.to_dict())) for audit in (report.read(out), found.audit))
    assert again == before
    table = pd.read_parquet(out / "tables/slices.classes.parquet")
    assert set(table["class"]) == set(STRINGS)


def test_tables_in_csv_hold_no_formula(written):
    paths = list((written[1] / "tables").glob("*.csv"))
    assert len(paths) > 5
    for path in paths:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        whole = pd.read_parquet(path.with_suffix(".parquet"))
        assert len(table) == len(whole)
        for cell in [*table.columns, *table.to_numpy().ravel().tolist()]:
            for line in re.split("[;\n]", cell):
                assert not re.match(r"[ \"]*[=@\t\r]", line), cell
                assert not re.match(r"[ \"]*[-+](?!([\d.,]+(e[-+]?\d+)?|inf)( to .*)?$)", line), cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=1+1", "'=1+1"), (" @x", " '@x"), ("a;=1", "a;'=1"), ("a\n-x", "a\n'-x"), ("＝1", "'＝1"),
        ("-cmd|x", "'-cmd|x"), ("-1e-05", "-1e-05"), ("a - b", "a - b"), ("a=b", "a=b"),
        ("\t=1", "'\t=1"), ("a\r\nb\rc", "a\nb\nc"), ("-5 to 3", "-5 to 3"),
    ],
)  # fmt: skip
def test_only_what_spreadsheets_compute_gets_an_apostrophe(text, expected):
    made = csv_bytes(pd.DataFrame({"name": [text], "number": [-1.5]}))
    table = pd.read_csv(io.BytesIO(made), dtype={"name": str})
    assert table["name"].tolist() == [expected]
    assert table["number"].tolist() == [-1.5]


def test_nothing_is_written_outside_of_the_folder(written):
    _, out = written
    root = out.parent.parent
    for path in root.rglob("*"):
        assert path.is_relative_to(out) or path in (out, out.parent)
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path
    assert manifest.verify(out).exit_code == 0


def test_the_terminal_gets_no_control_characters(written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, noise in (("\x1b]0;ran\x07[bold]x[red]\u202e$x_{$<b>", 0), ("\udcff\x1b[2J=cmd", 1)):
        rng = np.random.default_rng(noise)
        label = np.arange(200) % 2
        np.savez(tmp_path / f"{name}.npz", logits=np.eye(2)[label] + noise * rng.normal(size=(200, 2)), label=label,
                 ids=np.arange(200), classes=["\x1b[31mred[/nope]", "::error::\u202ered"])  # fmt: skip
    one, two = sorted(os.listdir("."))
    main(["compare", one, two, "--out", "report"])
    with pytest.raises(SystemExit):
        main(["gate", "report", "--max-flips", "1%", "--max-worst-class-drop", "1pt"])
    with pytest.raises(SystemExit) as stopped:
        main(["compare", one, "\x1b[2Jnone.npz"])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "report", "--inputs", "."])
    assert stopped.value.code == 0
    said = capsys.readouterr()
    assert "\\x1b" in said.out
    assert not HIDDEN.search(said.out + said.err)
    assert not HIDDEN.search(str(written[0]))


def test_names_in_all_scripts_stay():
    for text in ("café naïve", "שלום", "猫", "می‌خواهم", "👩‍🔬", "a\tb\n", "ａ－ｂ"):
        assert visible(text) == text
    assert visible("\x1b\u202e\x85\U000e0041") == "\\x1b\\u202e\\x85\\U000e0041"


def test_names_that_cannot_be_written_or_are_too_long_are_told():
    answers = from_arrays(prediction=[0, 1, 1], label=[0, 1, 0], ids=[1, 2, 3])
    for name, error in (("x" * 1_000_000, "characters"), ("\ud800", "Unicode")):
        with pytest.raises(ValueError, match=error):
            compare(Side("a", (answers,)), Side(name, (answers,)))


def test_what_a_pattern_finds_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pickle:evil.npz", "module:function", "plain.npz"):
        Path(name).touch()
    assert as_side("*").sources == ("./module:function", "./pickle:evil.npz", "plain.npz")


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_stay_shut(tmp_path, capsys):
    canary = tmp_path / "canary"
    evil = pickle.dumps(Canary(canary))
    good = tmp_path / "good.npz"
    good.write_bytes(files.npz(files.answers()))
    array = np.array([Canary(canary)] * 12, object)
    np.save(tmp_path / "object.npy", array)
    (tmp_path / "object.npz").write_bytes(files.npz(files.answers() | {"site": array, "label": array}))
    for name in ("raw.npz", "raw.npy", "raw.safetensors", "raw.parquet", "raw.pt", "raw.pkl", "raw.pt2", "raw.onnx"):
        (tmp_path / name).write_bytes(evil)
    with zipfile.ZipFile(tmp_path / "zip.pt2", "w") as made:
        for member in ("archive/data.pkl", "data.pkl", "logits.npy"):
            made.writestr(member, evil)
    shutil.copy(tmp_path / "zip.pt2", tmp_path / "zip.npz")
    shutil.copy(tmp_path / "zip.pt2", tmp_path / "zip.pth")
    opened = [path for path in sorted(tmp_path.iterdir()) if path != good]
    for path in opened:
        with pytest.raises(SystemExit) as stopped:
            main(["compare", str(good), str(path), "--data", "digits", "--out", str(tmp_path / "out")])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.startswith("error:")
    assert len(opened) == 13
    assert not canary.exists()
    assert not (tmp_path / "out").exists()
    pickle.loads(evil)
    assert canary.exists()


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small(noise):
    rng = np.random.default_rng(noise)
    label = np.arange(60) % 3
    made = [
        from_arrays(np.eye(3)[label] + scale * rng.normal(size=(60, 3)), label=label, ids=np.arange(60))
        for scale in (0.1, noise)
    ]
    return compare(Side("a", (made[0],)), Side("b", (made[1],)), analyses=["mismatches"])


@pytest.mark.parametrize("fresh", [True, False])
def test_a_write_that_breaks_leaves_the_report_that_was_there(tmp_path, monkeypatch, fresh):
    """Each write and each renaming fails once; what was renamed before is whole, and the manifest does not fit."""
    out = tmp_path / "out"
    old, new = small(1), small(2)
    calls, breaks = [0], [0]

    def breaking(function):
        def call(*arguments):
            calls[0] += 1
            if calls[0] == breaks[0]:
                raise OSError(28, "No space left on device")
            return function(*arguments)

        return call

    monkeypatch.setattr(html, "render", lambda audit, *_, **__: repr(audit.findings[0].claims))  # quick
    real = {name: getattr(os, name) for name in ("rename", "replace")}
    new.write(tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    old.write(tmp_path / "old")
    manifest.write(tmp_path / "old", old.audit)
    monkeypatch.setattr(Path, "write_bytes", breaking(Path.write_bytes))
    for name, function in real.items():
        monkeypatch.setattr(os, name, breaking(function))
    finished = False
    while not finished:
        breaks[0] += 1
        calls[0] = -(10**9)
        shutil.rmtree(out, ignore_errors=True)
        before = {}
        if not fresh:
            shutil.copytree(tmp_path / "old", out)
            before = contents(out)
        calls[0] = 0
        try:
            new.write(out)
            finished = True
        except OSError:
            after = contents(out) if out.exists() else {}
            assert after.keys() == before.keys()
            assert all(after[name] in (before[name], expected.get(name)) for name in after)
            if calls[0] <= len(expected) or fresh:
                assert after == before
            elif after != before:
                assert manifest.verify(out).exit_code == 1
                assert (
                    report.read(out).to_dict() == old.audit.to_dict() or after["report.json"] == expected["report.json"]
                )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["old", *(["out"] if out.exists() else []), "whole"]
    assert breaks[0] > len(expected)
    assert {name: data for name, data in contents(out).items() if name != "manifest.json"} == expected


def test_a_key_that_is_none_is_told_before_anything_is_written(tmp_path, capsys):
    pytest.importorskip("cryptography")
    (tmp_path / "a.npz").write_bytes(files.npz(files.answers()))
    (tmp_path / "key").write_text("none")
    with pytest.raises(SystemExit) as stopped:
        main(["compare", str(tmp_path / "a.npz"), f"b={tmp_path}/a.npz", "--out", str(tmp_path / "r"), "--sign",
              str(tmp_path / "key")])  # fmt: skip
    assert stopped.value.code == 2
    assert "private key" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


VALID = files.valid()
MALFORMED = int(os.environ.get("REMNANT_FUZZ", "50")) // 2


@settings(
    max_examples=MALFORMED,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(st.data(), st.sampled_from(["id", "position"]), st.sampled_from(["error", "drop"]))
def test_compare_of_malformed_files_is_a_report_or_an_error(tmp_path, capsys, data, match, missing):
    sides = []
    for side in ("one", "two"):
        name = data.draw(st.sampled_from(sorted(VALID)))
        content = VALID[name] if data.draw(st.integers(0, 2)) == 0 else data.draw(damaged(VALID[name]))
        (tmp_path / side).mkdir(exist_ok=True)
        sides.append(str(files.write(tmp_path / side, name, content)))
    out = tmp_path / "report"
    shutil.rmtree(out, ignore_errors=True)
    code = 0
    try:
        main(["compare", *sides, "--match", match, "--missing", missing, "--out", str(out)])
    except SystemExit as stopped:
        code = stopped.code
    said = capsys.readouterr()
    assert not HIDDEN.search(said.out + said.err)
    if code:
        assert code == 2
        assert len(re.findall("^error:", said.err, re.MULTILINE)) == 1
        assert len(said.err) < 3000
        assert not out.exists()
        return
    report.read(out)
    assert manifest.verify(out).exit_code == 0
    assert "document.title" not in (out / "report.html").read_text(encoding="utf-8")
