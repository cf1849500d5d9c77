"""Ed25519 signatures of a manifest, with keys in PEM or OpenSSH files."""

import base64
import hashlib
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_MOST_BYTES = 2**16
"""Keys are small; a larger file is not one."""
_MAKE_ONE = "Make a pair with `ssh-keygen -t ed25519 -f remnant-key`."


def private_key(path: str | PathLike[str], password: bytes | None = None) -> "Ed25519PrivateKey":
    """The private key in a PEM (PKCS #8) or OpenSSH file.

    Raises
    ------
    ValueError
        If it is none, of another kind than Ed25519, or needs a password and got none or a wrong one.
    """
    serialization, ed25519 = _cryptography()
    data = _read(path, "a private key")
    load = serialization.load_ssh_private_key if b"OPENSSH" in data else serialization.load_pem_private_key
    try:
        key = load(data, password)
    except Exception as error:  # the library raises many kinds, all of them mean that this is no key for us
        raise ValueError(
            f"Expected {str(path)!r} to be an Ed25519 private key in PEM or OpenSSH form, but it cannot be read: "
            f"{_first_line(error)}. If it has a password, give it. {_MAKE_ONE}"
        ) from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ValueError(f"Expected {str(path)!r} to be an Ed25519 key, but it is another kind of key. {_MAKE_ONE}")
    return key


def public_key(path: str | PathLike[str]) -> "Ed25519PublicKey":
    """The public key in a PEM or OpenSSH (`.pub`) file.

    Raises
    ------
    ValueError
        If it is none, a private one, or of another kind than Ed25519.
    """
    serialization, ed25519 = _cryptography()
    data = _read(path, "a public key")
    if b"PRIVATE KEY" in data:
        raise ValueError(
            f"Expected {str(path)!r} to be a public key, but it is a private one. Give the file that ends in .pub, and "
            "keep the private one to yourself."
        )
    load = serialization.load_ssh_public_key if data.lstrip().startswith(b"ssh-") else serialization.load_pem_public_key
    try:
        key = load(data.strip() + b"\n")
    except Exception as error:  # as above
        raise ValueError(
            f"Expected {str(path)!r} to be an Ed25519 public key in PEM or OpenSSH form, but it cannot be read: "
            f"{_first_line(error)}."
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError(f"Expected {str(path)!r} to be an Ed25519 key, but it is another kind of key.")
    return key


def fingerprint(key: "Ed25519PublicKey") -> str:
    """The key's fingerprint as `ssh-keygen -l` prints it, "SHA256:..."."""
    serialization, _ = _cryptography()
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def is_signed(signature: bytes, content: bytes, key: "Ed25519PublicKey") -> bool:
    """Whether the signature over the content was made with the private half of the key."""
    _cryptography()
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ValueError("Signatures need the package cryptography: pip install 'remnant[sign]'.") from error
    return serialization, ed25519


def _read(path: str | PathLike[str], what: str) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a file with {what}, but {str(path)!r} is none.")
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"Expected {str(path)!r} to be {what}, but it is larger than any.")
    return data


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
