"""Schemes as people write them: the labels that reports print, read back."""

import ast
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from remnant.registry import find
from remnant.schemes import SCHEMES, Scheme, scheme_from_dict

_FORM = "NAME or NAME(field=value, ...), such as \"one-shot-pruning(sparsity=0.9, epochs=2)\"; several with ' + '"


def parse_scheme(text: str, *, assumed: Mapping[str, Any] | None = None) -> Scheme:
    """The scheme that a label such as "one-shot-pruning(sparsity=0.9) + static-int8" names.

    Values are numbers, true and false, or words; lists stand in brackets, and a nested scheme in parentheses.

    Parameters
    ----------
    assumed
        Values of required fields that the text may leave out.

    Raises
    ------
    ValueError
        If the text cannot be read, or names something that does not exist.
    """
    parts = [_one(part, assumed or {}) for part in _split(text, "+")]
    return scheme_from_dict(parts[0] if len(parts) == 1 else {"kind": "compose", "parts": parts})


def _one(text: str, assumed: Mapping[str, Any]) -> dict[str, Any]:
    match = re.fullmatch(r"\s*([a-z0-9][\w.-]*)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"Expected a scheme as {_FORM}, but got {text.strip()!r}.")
    kind, inner = match.groups()
    given: dict[str, Any] = {}
    for item in _split(inner or "", ","):
        name, equals, value = item.partition("=")
        if not item.strip():
            continue
        if not equals:
            raise ValueError(f"Expected `field=value` in the scheme {kind!r}, but got {item.strip()!r}.")
        given[name.strip().replace("-", "_")] = _value(value.strip())
    cls = find("scheme", kind, SCHEMES)
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {"kind": kind} | {name: assumed[name] for name in required if name in assumed} | given


def _value(text: str) -> Any:
    if text.startswith("(") and text.endswith(")"):
        return scheme_to_plain(text[1:-1])
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    if text.startswith("[") and text.endswith("]"):
        return tuple(_value(item.strip()) for item in _split(text[1:-1], ",") if item.strip())
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def scheme_to_plain(text: str) -> dict[str, Any]:
    """A nested scheme as plain data."""
    parts = [_one(part, {}) for part in _split(text, "+")]
    return parts[0] if len(parts) == 1 else {"kind": "compose", "parts": parts}


def _split(text: str, separator: str) -> list[str]:
    """The pieces between separators that stand outside of brackets. A + counts between spaces only."""
    pieces, depth, start = [], 0, 0
    for position, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth < 0:
            raise ValueError(f"Expected brackets in pairs, but {text!r} closes one too many.")
        alone = separator != "+" or text[position - 1 : position + 2] == " + "
        if sign == separator and depth == 0 and alone:
            pieces.append(text[start:position])
            start = position + 1
    if depth:
        raise ValueError(f"Expected brackets in pairs, but {text!r} leaves one open.")
    return [*pieces, text[start:]]
