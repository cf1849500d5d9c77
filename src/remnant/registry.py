"""Names to things: built-in dictionaries first, then entry points of other packages."""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any


class UnknownNameError(ValueError):
    """A name that is neither built in nor offered by an installed package."""


@cache
def _offered(group: str) -> dict[str, Any]:
    """Entry points of other packages in `group`; loaded when they are asked for."""
    found: dict[str, Any] = {}
    for point in entry_points(group=group):
        if point.name in found:
            raise ValueError(
                f"Two installed packages offer {point.name!r} in {group!r}: "
                f"{found[point.name].value} and {point.value}. Uninstall one of them."
            )
        found[point.name] = point
    return found


def names(kind: str, built_in: Mapping[str, Any]) -> list[str]:
    """All names of a `kind` ("scheme", "analysis", ...), built in and offered, sorted."""
    return sorted({*built_in, *_offered(_group(kind))})


def find(kind: str, name: str, built_in: Mapping[str, Any]) -> Any:
    """What `name` stands for among the things of a `kind`.

    Raises
    ------
    UnknownNameError
        With all names and the nearest one.
    """
    offered = _offered(_group(kind))
    if name in built_in and name in offered:
        raise ValueError(
            f"The {kind} {name!r} is built in, and {offered[name].value} offers it too. "
            "A built-in name cannot be replaced: rename the other one."
        )
    if name in built_in:
        return built_in[name]
    if name in offered:
        return offered[name].load()
    raise unknown(kind, name, names(kind, built_in))


def unknown(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest one."""
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"Expected `{kind}` to be one of {known}, but got {name!r}.{hint}")


def user_object(reference: str) -> Any:
    """The object behind "package.module:name", imported.

    Raises
    ------
    ValueError
        If the reference is malformed, the module does not import or has no such name.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ValueError(f"Expected a reference such as 'package.module:function', but got {reference!r}.")
    try:
        module = import_module(module_name)
    except ImportError as error:
        first = module_name.split(".")[0]
        here = Path(f"{first}.py").exists() or Path(first).is_dir()
        advice = (
            "It is in this folder: put `PYTHONPATH=.` in front of the command."
            if here
            else "Is its folder on PYTHONPATH or its package installed?"
        )
        raise ValueError(f"Cannot import {module_name!r} for {reference!r}: {error}. {advice}") from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise unknown(f"name in {module_name}", name, public)
    return getattr(module, name)


def _group(kind: str) -> str:
    plural = {"analysis": "analyses", "architecture": "architectures"}.get(kind, f"{kind}s")
    return f"remnant.{plural}"
