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

    Values are numbers, true and false, or words; items of a list are joined with /, and a nested scheme stands in
    parentheses.

    Parameters
    ----------
    assumed
        Values of required fields that the text may leave out.

    Raises
    ------
    ValueError
        If the text cannot be read, or names something that does not exist.
    """
    parts = [_one(part, assumed or {}) for part in pieces(text, "+")]
    return scheme_from_dict(parts[0] if len(parts) == 1 else {"kind": "compose", "parts": parts})


def _one(text: str, assumed: Mapping[str, Any]) -> dict[str, Any]:
    match = re.fullmatch(r"\s*([a-z0-9][\w.-]*)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"Expected a scheme as {_FORM}, but got {text.strip()!r}.")
    kind, inner = match.groups()
    given: dict[str, str] = {}
    for item in pieces(inner or "", ","):
        name, equals, value = item.partition("=")
        if not item.strip():
            continue
        if not equals:
            raise ValueError(f"Expected `field=value` in the scheme {kind!r}, but got {item.strip()!r}.")
        given[name.strip().replace("-", "_")] = value.strip()
    cls = find("scheme", kind, SCHEMES)
    types = {f.name: f.type for f in fields(cls)}
    values = {name: _typed(text, types.get(name)) for name, text in given.items()}
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    return {"kind": kind} | {name: assumed[name] for name in required if name in assumed} | values


def _typed(text: str, annotation: Any) -> Any:
    """A value of the field with this annotation: words stay words, and lists are joined with /."""
    if getattr(annotation, "__origin__", None) is tuple:
        return tuple(_typed(item.strip(), annotation.__args__[0]) for item in text.split("/") if item.strip())
    return text if annotation is str else _value(text)


def _value(text: str) -> Any:
    if text.startswith("(") and text.endswith(")"):
        return scheme_to_plain(text[1:-1])
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def scheme_to_plain(text: str) -> dict[str, Any]:
    """A nested scheme as plain data."""
    parts = [_one(part, {}) for part in pieces(text, "+")]
    return parts[0] if len(parts) == 1 else {"kind": "compose", "parts": parts}


def pieces(text: str, separator: str) -> list[str]:
    """The pieces between separators that stand outside of parentheses. A + counts between spaces only.

    Raises
    ------
    ValueError
        If parentheses do not come in pairs.
    """
    found, depth, start = [], 0, 0
    for position, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth < 0:
            raise ValueError(f"Expected brackets in pairs, but {text!r} closes one too many.")
        alone = separator != "+" or text[position - 1 : position + 2] == " + "
        if sign == separator and depth == 0 and alone:
            found.append(text[start:position])
            start = position + 1
    if depth:
        raise ValueError(f"Expected brackets in pairs, but {text!r} leaves one open.")
    return [*found, text[start:]]
