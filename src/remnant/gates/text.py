"""Names that come from files, made fit to be shown anywhere."""

import unicodedata

MOST_CHARACTERS = 200
"""Longest name shown; the rest is replaced by "..."."""
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: object, most: int = MOST_CHARACTERS) -> str:
    """The text on one line, without characters that cannot be seen or that change others.

    Control, format (such as right-to-left overrides), surrogate and unassigned characters are written as
    escapes, `\\x1b`. The markers by which a CI system takes a printed line for a command ("::", "##[") are
    broken up by a space.
    """
    cut = " ".join(str(text)[: 4 * most].split())
    parts = [_escaped(character) for character in cut]
    found = "".join(parts)
    if len(found) > most or len(str(text)) > 4 * most:
        found = found[: most - 3] + "..."
    while "::" in found:
        found = found.replace("::", ": :")
    return found.replace("##[", "# #[")


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
