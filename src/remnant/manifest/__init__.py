"""A signed record of an audit: what went in, what came out, with what.

`manifest.json` lies beside the report. It holds the SHA-256 of every file of the report and of the inputs, the
versions and parameters, and the command. `verify` says what has changed since.
"""

import os
import secrets
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from remnant.finding import Audit
from remnant.manifest import content, signing
from remnant.manifest.checking import Item, Verification, verify

__all__ = ["Item", "Verification", "verify", "write"]


def write(
    directory: str | PathLike[str],
    audit: Audit,
    *,
    key: str | PathLike[str] | None = None,
    password: bytes | None = None,
    command: Sequence[str] | None = None,
) -> dict[str, Path]:
    """Write manifest.json for the report of `audit` in `directory`, and sign it if there is a key.

    To be called when everything else is written: what comes later into the folder is "added" to `verify`.
    The signature is Ed25519 over the bytes of manifest.json, in manifest.json.sig (64 bytes);
    `openssl pkeyutl -verify -rawin` can check it as well.

    Parameters
    ----------
    key
        File of an Ed25519 private key, PEM or OpenSSH; without it the manifest is not signed.
    password
        Of the key, if it has one.
    command
        What was run, to be recorded.

    Returns
    -------
    Paths by name: "manifest.json" and, if signed, "manifest.json.sig".

    Raises
    ------
    ValueError
        If the key is none, of another kind than Ed25519, or needs a password.
    OSError
        If a file cannot be read or written.
    """
    directory = Path(directory)
    signer = None if key is None else signing.private_key(key, password)
    manifest = content.describe(directory, audit, command)
    signature_path = directory / content.SIGNATURE
    written = {content.NAME: directory / content.NAME}
    if signer is not None:
        manifest["signed_by"] = signing.fingerprint(signer.public_key())
    text = content.canonical(manifest)
    # In this order no moment has an old signature beside a new manifest.
    signature_path.unlink(missing_ok=True)
    _replace(written[content.NAME], text)
    if signer is not None:
        _replace(signature_path, signer.sign(text))
        written[content.SIGNATURE] = signature_path
    return written


def _replace(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
