"""An earlier report to hold a new one against: is it on the same reference and data?"""

from typing import Any

from remnant.finding import Audit

_FACTS = ("dataset", "num_examples", "num_classes", "classes")
"""What must be equal in two reports on the same data, where both say it."""


def compressed_labels(audit: Audit) -> list[str]:
    """Labels of all sides but the reference, and the reference run again (`about["floor"]`)."""
    again = audit.about.get("floor")
    return [str(label) for label in audit.about.get("schemes") or {} if label not in (audit.reference, again)]


def comparable(audit: Audit, earlier: Audit) -> tuple[str, ...]:
    """Warnings on how well it is known that two audits have the same reference and data.

    Where both say which files they were made from (`about["inputs"]`), the files of the reference and those of no
    side (labels, data) must have the same SHA-256. Otherwise data set, recipe, and numbers of examples and classes
    must be the same.

    Raises
    ------
    ValueError
        If they are not: limits on an increase would mean nothing.
    """
    for name in _FACTS:
        now, before = audit.about.get(name), earlier.about.get(name)
        if None not in (now, before) and now != before:
            raise ValueError(_differ(f"`{name}` is {_short(now)} here and {_short(before)} there"))
    new, old = _fixed_files(audit), _fixed_files(earlier)
    if new and old:
        if new != old:
            raise ValueError(_differ("the files of reference and data have other SHA-256 sums"))
        return ()
    for name in ("recipe", "reference"):
        now, before = audit.about.get(name), earlier.about.get(name)
        if None not in (now, before) and now != before:
            raise ValueError(_differ(f"`{name}` is {_short(now)} here and {_short(before)} there"))
    return (
        "The reports do not both say from which files they were made: that reference and data are the same is taken "
        "from their names and numbers of examples.",
    )


def same_side(audit: Audit, earlier: Audit, side: str) -> str | None:
    """The side of the earlier audit to compare with: that of the same name, or the only one where both have one."""
    sides, before = compressed_labels(audit), compressed_labels(earlier)
    if side in before:
        return side
    return before[0] if len(sides) == len(before) == 1 else None


def same_files(audit: Audit, earlier: Audit, side: str, other: str) -> bool:
    """Whether both sides are known to be made from the same files."""
    new = _hashes(audit, lambda name: name == side)
    return bool(new) and new == _hashes(earlier, lambda name: name == other)


def _fixed_files(audit: Audit) -> list[str]:
    """SHA-256 of the files of the reference and of those that belong to no compressed side."""
    compressed = compressed_labels(audit)
    return _hashes(audit, lambda name: name not in compressed)


def _hashes(audit: Audit, belongs: Any) -> list[str]:
    inputs = audit.about.get("inputs")
    files = [entry for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
    return sorted(str(entry["sha256"]) for entry in files if entry.get("sha256") and belongs(entry.get("side")))


def _differ(how: str) -> str:
    return (
        f"Expected an earlier report on the same reference and data, but {how}. "
        "Make the earlier report again on today's reference and data."
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
