import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

import remnant
from remnant import manifest
from remnant.finding import Audit, Finding
from remnant.manifest import content, signing
from remnant.manifest.folder import describe, is_inside, tree_sha256

PEM, SSH = serialization.Encoding.PEM, serialization.Encoding.OpenSSH
PRIVATE, PUBLIC = serialization.PrivateFormat, serialization.PublicFormat
OPEN = serialization.NoEncryption()


def audit(**about) -> Audit:
    found = Finding("mismatches", "What?", {"seed": 3, "margin": 0.1}, (), {})
    facts = {"dataset": "digits", "versions": {"numpy": "2.0"}, "machine": "2 cores", "schemes": {"a": 1}}
    return Audit((found,), {"influence": "no subsets"}, facts | about)


@pytest.fixture
def report(tmp_path) -> Path:
    """A folder as `remnant.report.write` leaves it."""
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    for name in ("report.html", "report.md", "report.json", "tables/a.csv", "tables/a.parquet"):
        (folder / name).write_text(f"content of {name}")
    return folder


@pytest.fixture
def keys(tmp_path) -> dict[str, Path]:
    """One pair of keys in both forms, and the public key of somebody else."""
    key, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    raw = {
        "pem": key.private_bytes(PEM, PRIVATE.PKCS8, OPEN),
        "ssh": key.private_bytes(PEM, PRIVATE.OpenSSH, OPEN),
        "secret": key.private_bytes(PEM, PRIVATE.PKCS8, serialization.BestAvailableEncryption(b"word")),
        "pem.pub": key.public_key().public_bytes(PEM, PUBLIC.SubjectPublicKeyInfo),
        "ssh.pub": key.public_key().public_bytes(SSH, PUBLIC.OpenSSH) + b" me@home\n",
        "other.pub": other.public_key().public_bytes(SSH, PUBLIC.OpenSSH),
        "ec": ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PRIVATE.PKCS8, OPEN),
        "ec.pub": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(PEM, PUBLIC.SubjectPublicKeyInfo),
        "none": b"hello",
        "large": b"x" * 100_000,
    }
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, data in raw.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in raw}


def statuses(found: manifest.Verification, kind: str = "report") -> dict[str, str]:
    return {item.name: item.status for item in found.items if item.kind == kind}


def test_a_manifest_holds_what_went_in_and_what_came_out(report):
    inputs = [{"side": "reference", "name": "a.npz", "sha256": "00", "bytes": 3}]
    manifest.write(report, audit(inputs=inputs), command=["remnant", "compare", "a b"])
    data = json.loads((report / "manifest.json").read_bytes())
    # echo -n "content of report.md" | sha256sum
    assert data["files"]["report.md"] == {
        "sha256": "432833bed69bec938cd6be32254002d40f8251631c7349a70f3ffdbe7608c151",
        "bytes": 20,
    }
    assert set(data["files"]) == {"report.html", "report.md", "report.json", "tables/a.csv", "tables/a.parquet"}
    assert data["inputs"] == inputs
    assert data["findings"] == [{"analysis": "mismatches", "parameters": {"seed": 3, "margin": 0.1}}]
    assert data["command"] == ["remnant", "compare", "a b"]
    assert data["versions"]["numpy"] == "2.0"  # of the audit, not of the machine that writes the manifest
    assert {"scipy", "pandas"} <= set(data["versions"])
    assert "pytest" not in data["versions"]
    assert data["machine"] == "2 cores"
    assert data["about"] == {"dataset": "digits", "schemes": {"a": 1}}
    assert len(data["remnant"]["source_sha256"]) == 64


def test_the_same_audit_gives_the_same_bytes(report, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    manifest.write(report, audit(b=1, a=(1, 2)))
    first = (report / "manifest.json").read_bytes()
    manifest.write(report, audit(a=(1, 2), b=1))
    assert (report / "manifest.json").read_bytes() == first
    assert b'"created":"1970-01-01T00:00:00Z"' in first
    assert first == content.canonical(json.loads(first))


def test_what_was_not_touched_verifies(report):
    assert set(manifest.write(report, audit())) == {"manifest.json"}
    found = manifest.verify(report)
    assert set(statuses(found).values()) == {"same"}
    assert statuses(found, "signature") == {"manifest.json.sig": "unsigned"}
    assert statuses(found, "code").popitem()[1] == "same"
    assert found.exit_code == 0
    assert json.loads(json.dumps(found.to_dict()))["exit_code"] == 0


def test_every_change_is_found(report):
    manifest.write(report, audit())
    (report / "report.html").write_text("content of report.htmL")
    (report / "report.md").write_text("longer than it was before")
    (report / "tables/a.csv").unlink()
    (report / "tables/b.csv").write_text("")
    found = manifest.verify(report)
    assert statuses(found) == {
        "report.html": "changed",
        "report.json": "same",
        "report.md": "changed",
        "tables/a.csv": "missing",
        "tables/a.parquet": "same",
        "tables/b.csv": "added",
    }
    details = {item.name: item.detail for item in found.items}
    assert details["report.html"] == "same size, other content"
    assert details["report.md"] == "25 instead of 20 bytes"
    assert found.exit_code == 1


@pytest.mark.parametrize("change", ["changed", "missing", "added"])
def test_one_change_alone_is_enough(report, change):
    manifest.write(report, audit())
    if change == "changed":
        (report / "report.md").write_text("x")
    elif change == "missing":
        (report / "report.md").unlink()
    else:
        (report / "more.md").write_text("")
    found = manifest.verify(report)
    assert len(found.with_status(change)) == 1
    assert found.exit_code == 1


@pytest.mark.parametrize("form", ["pem", "ssh"])
@pytest.mark.parametrize("public", ["pem.pub", "ssh.pub"])
def test_a_signature_verifies_with_the_key_in_either_form(report, keys, form, public):
    assert set(manifest.write(report, audit(), key=keys[form])) == {"manifest.json", "manifest.json.sig"}
    found = manifest.verify(report, public_key=keys[public])
    (item,) = found.with_status("signed")
    assert item.detail == f"by {signing.fingerprint(signing.public_key(keys['pem.pub']))}"
    assert found.exit_code == 0


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path):
    """The public key of RFC 8032, section 7.1, test 1; printed by `ssh-keygen -lf key.pub`, OpenSSH 9.2."""
    path = tmp_path / "key.pub"
    path.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea\n")
    assert signing.fingerprint(signing.public_key(path)) == "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8"


def test_signatures_are_those_of_the_standard(tmp_path):
    """RFC 8032, section 7.1, test 2: the message 0x72."""
    raw = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    line = ed25519.Ed25519PublicKey.from_public_bytes(raw).public_bytes(SSH, PUBLIC.OpenSSH)
    (tmp_path / "key.pub").write_bytes(line)
    key = signing.public_key(tmp_path / "key.pub")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert signing.is_signed(signature, b"\x72", key)
    assert not signing.is_signed(signature, b"\x73", key)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_openssl_verifies_the_signature_too(report, keys):
    """What is signed is the file as it lies there: no tool of ours is needed to check it."""
    manifest.write(report, audit(), key=keys["pem"])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys["pem.pub"], "-rawin"]
    command += ["-in", report / "manifest.json", "-sigfile", report / "manifest.json.sig"]
    assert b"Verified Successfully" in subprocess.run(command, capture_output=True, check=True).stdout


def test_white_space_in_the_manifest_does_not_break_the_signature(report, keys):
    manifest.write(report, audit(), key=keys["pem"])
    path = report / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2) + "\n")
    assert manifest.verify(report, public_key=keys["pem.pub"]).exit_code == 0


def test_a_changed_manifest_or_another_key_is_a_bad_signature(report, keys):
    manifest.write(report, audit(), key=keys["pem"])
    assert manifest.verify(report, public_key=keys["other.pub"]).with_status("bad signature")
    path = report / "manifest.json"
    path.write_text(path.read_text().replace('"digits"', '"cifar"'))
    found = manifest.verify(report, public_key=keys["pem.pub"])
    assert statuses(found, "signature") == {"manifest.json.sig": "bad signature"}
    assert found.exit_code == 1


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 65, None])
def test_a_spoilt_or_removed_signature_is_a_bad_one(report, keys, signature):
    manifest.write(report, audit(), key=keys["pem"])
    if signature is None:
        (report / "manifest.json.sig").unlink()
    else:
        (report / "manifest.json.sig").write_bytes(signature)
    assert manifest.verify(report, public_key=keys["pem.pub"]).with_status("bad signature")


def test_a_longer_signature_is_not_cut_to_fit(report, keys):
    manifest.write(report, audit(), key=keys["pem"])
    path = report / "manifest.json.sig"
    path.write_bytes(path.read_bytes() + b"x")
    assert manifest.verify(report, public_key=keys["pem.pub"]).exit_code == 1


def test_without_a_key_a_signature_is_not_checked_but_missed(report, keys):
    manifest.write(report, audit(), key=keys["pem"])
    (item,) = [item for item in manifest.verify(report).items if item.kind == "signature"]
    assert (item.status, manifest.verify(report).exit_code) == ("not checked", 0)
    assert "SHA256:" in item.detail
    (report / "manifest.json.sig").unlink()
    found = manifest.verify(report)
    assert (statuses(found, "signature"), found.exit_code) == ({"manifest.json.sig": "missing"}, 1)


def test_a_manifest_written_anew_without_a_key_drops_the_old_signature(report, keys):
    manifest.write(report, audit(), key=keys["pem"])
    manifest.write(report, audit())
    assert not (report / "manifest.json.sig").exists()
    assert manifest.verify(report).exit_code == 0


def test_a_key_with_a_password_signs_with_it(report, keys):
    manifest.write(report, audit(), key=keys["secret"], password=b"word")
    assert manifest.verify(report, public_key=keys["pem.pub"]).exit_code == 0
    for wrong in (None, b"other"):
        with pytest.raises(ValueError, match="If it has a password, give it"):
            manifest.write(report, audit(), key=keys["secret"], password=wrong)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ec", "another kind of key.*ssh-keygen -t ed25519"),
        ("none", "cannot be read"),
        ("pem.pub", "cannot be read"),
        ("large", "larger than any"),
    ],
)
def test_what_is_no_private_key_is_refused_and_nothing_is_written(report, keys, name, message):
    with pytest.raises(ValueError, match=message):
        manifest.write(report, audit(), key=keys[name])
    assert not (report / "manifest.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ec.pub", "another kind of key"),
        ("none", "cannot be read"),
        ("pem", "is a private one. Give the file that ends in .pub"),
        ("ssh", "is a private one"),
        ("large", "larger than any"),
    ],
)
def test_what_is_no_public_key_is_refused(report, keys, name, message):
    manifest.write(report, audit())
    with pytest.raises(ValueError, match=message):
        manifest.verify(report, public_key=keys[name])


def test_a_key_that_is_not_there_is_named(report, tmp_path):
    with pytest.raises(FileNotFoundError, match="a private key.*nowhere"):
        manifest.write(report, audit(), key=tmp_path / "nowhere")


def test_inputs_are_found_by_name_and_content(report, tmp_path):
    folder = tmp_path / "inputs"
    (folder / "deep").mkdir(parents=True)
    files = {"same.npz": b"same", "moved.npz": b"moved", "changed.npz": b"changed", "missing.npz": b"missing"}
    entries = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        facts = describe(tmp_path / name)
        entries.append({"side": "int8", "name": name, **facts})
    (folder / "same.npz").write_bytes(b"same")
    (folder / "a-copy.npz").write_bytes(b"same")
    (folder / "deep" / "other-name.npz").write_bytes(b"moved")
    (folder / "changed.npz").write_bytes(b"Changed")
    entries.append({"name": "array", "rows": 3})
    manifest.write(report, audit(inputs=entries))
    found = manifest.verify(report, inputs=folder)
    assert statuses(found, "input") == {
        "int8: same.npz": "same",
        "int8: moved.npz": "same",
        "int8: changed.npz": "changed",
        "int8: missing.npz": "missing",
        "array": "not checked",
    }
    details = {item.name: item.detail for item in found.items}
    assert (details["int8: same.npz"], details["int8: moved.npz"]) == ("", "as 'other-name.npz'")
    assert found.exit_code == 1
    unchecked = manifest.verify(report)
    assert set(statuses(unchecked, "input").values()) == {"not checked"}
    assert unchecked.exit_code == 0
    with pytest.raises(FileNotFoundError, match="folder with the inputs"):
        manifest.verify(report, inputs=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "a/../../b", "..", "", ".", "a//b", "./a", "C:/x", "a\\..\\b", "a\0b", "a\nb", "a/"],
)
def test_names_that_lead_out_are_refused(report, name):
    manifest.write(report, audit())
    path = report / "manifest.json"
    data = json.loads(path.read_bytes())
    data["files"][name] = {"sha256": "00", "bytes": 1}
    path.write_bytes(content.canonical(data))
    with pytest.raises(ValueError, match="Refused: .* leads out of the report's folder"):
        manifest.verify(report)


@given(st.lists(st.sampled_from(["a", "..", ".", "", "/", "tables", "b.csv"]), max_size=5))
def test_names_inside_stay_inside(parts):
    name = "/".join(parts)
    if is_inside(name):
        assert os.path.normpath(os.path.join("/folder", name)) == f"/folder/{name}"


def test_links_are_not_followed(report, tmp_path):
    """Neither a file nor a folder that was replaced by a link to the same content passes."""
    manifest.write(report, audit())
    shutil.copytree(report / "tables", tmp_path / "elsewhere")
    shutil.copy(report / "report.md", tmp_path / "report.md")
    shutil.rmtree(report / "tables")
    (report / "tables").symlink_to(tmp_path / "elsewhere")
    (report / "report.md").unlink()
    (report / "report.md").symlink_to(tmp_path / "report.md")
    found = manifest.verify(report)
    assert statuses(found) == {
        "report.html": "same",
        "report.json": "same",
        "report.md": "changed",
        "tables": "added",
        "tables/a.csv": "missing",
        "tables/a.parquet": "missing",
    }
    assert "a symbolic link to" in next(item.detail for item in found.items if item.name == "report.md")


def test_a_link_that_was_there_is_recorded_as_one(report, tmp_path):
    (report / "link").symlink_to("report.md")
    manifest.write(report, audit())
    assert manifest.verify(report).exit_code == 0
    (report / "link").unlink()
    (report / "link").symlink_to(tmp_path)
    assert manifest.verify(report).exit_code == 1


def test_pipes_are_not_opened(report):
    manifest.write(report, audit())
    (report / "report.md").unlink()
    os.mkfifo(report / "report.md")
    found = manifest.verify(report)
    assert [(item.name, item.detail) for item in found.with_status("changed")] == [("report.md", "no regular file")]


def test_a_manifest_or_signature_that_is_a_link_is_not_read(report, keys, tmp_path):
    manifest.write(report, audit(), key=keys["pem"])
    shutil.move(report / "manifest.json.sig", tmp_path / "sig")
    (report / "manifest.json.sig").symlink_to(tmp_path / "sig")
    assert manifest.verify(report, public_key=keys["pem.pub"]).with_status("bad signature")
    shutil.move(report / "manifest.json", tmp_path / "manifest.json")
    (report / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(FileNotFoundError, match="is no file"):
        manifest.verify(report)


def test_inputs_behind_links_are_not_read(report, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    entry = {"name": "secret", **describe(tmp_path / "secret")}
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "secret").symlink_to(tmp_path / "secret")
    manifest.write(report, audit(inputs=[entry]))
    assert statuses(manifest.verify(report, inputs=folder), "input") == {"secret": "missing"}


def test_a_report_without_a_manifest_is_named(report):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json.*remnant compare"):
        manifest.verify(report)


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_a_truncated_manifest_is_a_clear_error(report, cut):
    manifest.write(report, audit())
    path = report / "manifest.json"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"is damaged: .*Was it cut off\?"):
        manifest.verify(report)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "schema version 1"),
        ('{"schema_version": 2}', "schema version 1, but got 2"),
        ('{"schema_version": 1}', "table `files`"),
        ('{"schema_version": 1, "files": {"a": 3}}', "table `files`"),
        ('{"schema_version": 1, "files": {}, "inputs": {}}', "list `inputs`"),
        ('{"schema_version": 1, "files": {}, "inputs": [3]}', "list `inputs`"),
        ('{"schema_version": 1, "files": {}, "inputs": [], "remnant": 3}', "table `remnant`"),
        ('{"schema_version": 1, "files": {}, "inputs": [], "remnant": {}, "x": 1e999}', "not JSON compliant"),
        ('{"a": 1, "a": 2}', "a key comes twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_manifests_of_another_form_are_refused(report, text, message):
    (report / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        manifest.verify(report)


@settings(max_examples=100)
@given(st.integers(0, 400), st.binary(max_size=3))
def test_a_damaged_manifest_never_verifies_under_its_signature(tmp_path_factory, place, noise):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    if not folder.exists():
        folder.mkdir()
        (folder / "report.json").write_text("{}")
        key = ed25519.Ed25519PrivateKey.generate()
        (folder.parent / "key").write_bytes(key.private_bytes(PEM, PRIVATE.PKCS8, OPEN))
        (folder.parent / "key.pub").write_bytes(key.public_key().public_bytes(SSH, PUBLIC.OpenSSH))
        manifest.write(folder, audit(), key=folder.parent / "key")
        shutil.copy(folder / "manifest.json", folder.parent / "whole.json")
    whole = (folder.parent / "whole.json").read_bytes()
    damaged = whole[:place] + noise + whole[place + len(noise) :]
    (folder / "manifest.json").write_bytes(damaged)
    try:
        code = manifest.verify(folder, public_key=folder.parent / "key.pub").exit_code
    except ValueError:
        code = 2
    assert (code == 0) == (damaged == whole)


def test_a_file_name_that_could_lead_out_elsewhere_is_not_written_down(report):
    (report / "a\\..\\b").write_text("")
    with pytest.raises(ValueError, match="Write the report into a folder of its own"):
        manifest.write(report, audit())


def test_a_folder_of_too_many_files_is_refused(report, monkeypatch):
    monkeypatch.setattr("remnant.manifest.folder.MOST_FILES", 4)
    with pytest.raises(ValueError, match="at most 4 files"):
        manifest.write(report, audit())


def test_the_hash_of_sources_sees_names_and_contents(tmp_path):
    def hashed(**files: str) -> str:
        shutil.rmtree(tmp_path / "p", ignore_errors=True)
        (tmp_path / "p" / "__pycache__").mkdir(parents=True)
        for name, text in files.items():
            (tmp_path / "p" / f"{name}.py").write_text(text)
        (tmp_path / "p" / "__pycache__" / "x.pyc").write_bytes(os.urandom(4))
        return tree_sha256(tmp_path / "p")

    assert hashed(a="1", b="2") == hashed(b="2", a="1")
    assert len({hashed(a="1", b="2"), hashed(a="2", b="1"), hashed(a="1", c="2"), hashed(a="1")}) == 4


def test_other_sources_of_the_same_version_are_said_to_be_that(report, monkeypatch):
    manifest.write(report, audit())
    monkeypatch.setattr(content, "own_code", lambda: {"version": remnant.__version__, "source_sha256": "x"})
    (found,) = [item for item in manifest.verify(report).items if item.kind == "code"]
    assert (found.status, found.detail) == ("other version", "the same number, but other sources")


def test_another_version_of_remnant_is_said_and_is_no_fault(report, monkeypatch):
    manifest.write(report, audit())
    monkeypatch.setattr(content, "own_code", lambda: {"version": "9", "source_sha256": "x"})
    found = manifest.verify(report)
    assert statuses(found, "code").popitem()[1] == "other version"
    assert found.exit_code == 0
