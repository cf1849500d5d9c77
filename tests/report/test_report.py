import json
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from remnant.finding import Audit
from remnant.report import read, write
from tests.report import synthetic

pytestmark = pytest.mark.usefixtures("drawable")


@pytest.fixture
def audit():
    """A small audit: one finding."""
    whole = synthetic.audit()
    return replace(whole, findings=whole.findings[1:2])


def contents(directory):
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_report_is_pages_json_and_tables(tmp_path, audit):
    paths = write(audit, tmp_path / "out")
    assert (
        set(contents(tmp_path / "out"))
        == set(paths)
        >= {
            "report.html",
            "report.md",
            "report.json",
            "tables/exemplars.exemplars.csv",
            "tables/exemplars.by_scheme.parquet",
        }
    )
    assert all(path.is_absolute() or path.exists() for path in paths.values())


def test_the_audit_is_read_back_from_its_json(tmp_path, audit):
    paths = write(audit, tmp_path)
    for found in (read(tmp_path), read(paths["report.json"])):
        assert found.to_dict() == audit.to_dict()
        assert isinstance(found, Audit)


def test_tables_hold_the_numbers_of_the_findings(tmp_path, audit):
    write(audit, tmp_path)
    expected = audit.findings[0].tables["exemplars"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables/exemplars.exemplars.csv"), expected)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "tables/exemplars.exemplars.parquet"), expected)


def test_the_same_audit_gives_the_same_bytes(tmp_path, audit):
    write(audit, tmp_path / "a", thumbnails=synthetic.thumbnails)
    first = contents(tmp_path / "a")
    write(audit, tmp_path / "a", thumbnails=synthetic.thumbnails)
    write(read(tmp_path / "a"), tmp_path / "b", thumbnails=synthetic.thumbnails)
    assert contents(tmp_path / "a") == first
    assert contents(tmp_path / "b") == first


def test_tables_that_a_new_report_does_not_have_go_and_other_files_stay(tmp_path, audit):
    write(audit, tmp_path)
    (tmp_path / "tables" / "mine.csv").write_text("x\n")
    (finding,) = audit.findings
    write(replace(audit, findings=(replace(finding, tables={"by_scheme": finding.tables["by_scheme"]}),)), tmp_path)
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {
        "exemplars.by_scheme.csv",
        "exemplars.by_scheme.parquet",
        "mine.csv",
    }


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch, audit):
    write(audit, tmp_path)
    before = contents(tmp_path)

    def full(self, data):
        Path.open(self, "wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write(replace(audit, not_run={}), tmp_path)
    assert contents(tmp_path) == before


def test_a_reader_never_sees_half_a_file(tmp_path, audit):
    paths = write(audit, tmp_path)
    before = paths["report.html"].read_bytes()
    with paths["report.html"].open("rb") as reader:
        write(audit, tmp_path, title="Another title")
        assert reader.read() == before
    assert b"Another title" in paths["report.html"].read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


def test_table_names_cannot_leave_the_directory(tmp_path):
    audit = synthetic.audit()
    finding = replace(
        audit.findings[0], tables={"../../evil": audit.findings[0].to_frame(), "/x y": pd.DataFrame({"a": [1]})}
    )
    paths = write(replace(audit, findings=(finding,)), tmp_path / "out")
    assert all(Path(os.path.abspath(path)).is_relative_to(tmp_path / "out") for path in paths.values())
    assert "tables/mismatches.evil.csv" in paths


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("not json", "but it is not JSON"),
        ("[1]", "but it holds list"),
        ('{"schema_version": 99}', "schema version 1, but got 99"),
    ],
)
def test_what_is_not_a_report_is_refused(tmp_path, text, error):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=error):
        read(tmp_path)


def test_a_missing_report_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json"):
        read(tmp_path)


def test_json_has_no_nan(tmp_path, audit):
    write(audit, tmp_path)
    json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
