"""Which column, key or array of a file holds what."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from remnant.ingest.limits import Limits, few, hold, shown

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "ids", "example", "example_id", "sample_id", "image_id", "doc_id"),
    "logits": ("logits", "log_probabilities", "log_probs", "logprobs"),
    "probabilities": ("probabilities", "probability", "probs", "proba"),
    "scores": ("scores", "outputs"),
    "prediction": ("prediction", "predictions", "predicted", "pred", "y_pred"),
    "label": ("label", "labels", "label_ids", "target", "targets", "y_true", "y"),
    "text": ("text", "sentence"),
    "classes": ("classes", "class_names"),
    "options": ("options", "choices"),
    "content": ("content_hash", "doc_hash"),
}
"""Role to the names that mean it, in any case of letters. `scores` are logits or probabilities, told apart by
their values. `content` is a hash of an example's content, which must not differ between files."""

PER_CLASS = re.compile(
    r"(?P<kind>logit|logits|log_prob|log_probability|prob|probs|probability|score)_(?P<name>.+)", re.S
)
"""Columns with one number per class: `logit_0`, `logit_cat`, `prob_cat`, ..."""


@dataclass(frozen=True)
class Roles:
    """The names of a file by what they hold."""

    single: dict[str, str] = field(default_factory=dict)
    """Role to name."""
    per_class: tuple[str, ...] = ()
    """Names of the columns with one number per class, in the order of the classes."""
    classes: tuple[str, ...] | None = None
    """Class names out of the names of these columns; None if they are the numbers 0, 1, ..."""
    kind: str = ""
    """"logits", "probabilities" or "scores": what the columns per class hold."""
    other: tuple[str, ...] = ()
    """All other names: attributes of the examples, as far as they can be."""


def roles(found: Sequence[str], names: Mapping[str, str] | None, limits: Limits) -> Roles:
    """What each name of a file holds.

    Parameters
    ----------
    names
        Role to name, where a file uses names of its own.

    Raises
    ------
    ValueError
        If a name comes twice, two names mean the same, or a name that was asked for is not there.
    """
    if len(found) > limits.columns + limits.classes:
        hold("The columns number", len(found), limits, "columns" if limits.columns > limits.classes else "classes")
    for name in found:
        hold(f"The name {shown(name)} has this many characters:", len(name), limits, "name")
        if not name.isascii() and re.search("[\ud800-\udfff]", name):
            raise ValueError(f"Expected names in Unicode, but {shown(name)} holds half a surrogate pair.")
    if len(set(found)) < len(found):
        twice = sorted({name for name in found if found.count(name) > 1})
        raise ValueError(f"Expected every name once, but these come more than once: {few(twice)}.")
    asked = _asked(found, names or {})
    rest = [name for name in found if name not in asked.values()]
    single = dict(asked)
    for role, known in NAMES.items():
        if role in asked:
            continue
        hits = [name for name in rest if name.strip().lower() in known]
        if len(hits) > 1:
            raise ValueError(
                f"Expected one name for `{role}`, but got {few(hits)}. "
                f"Say which one it is with `names={{{role!r}: {hits[0]!r}}}`."
            )
        if hits:
            single[role] = hits[0]
    taken = set(single.values())
    rest = [name for name in rest if name not in taken]
    per_class = [name for name in rest if PER_CLASS.fullmatch(name)]
    hold("The columns besides one per class number", len(found) - len(per_class), limits, "columns")
    if not per_class or {"logits", "probabilities", "scores"} & set(single):
        return Roles(single, other=tuple(rest))
    ordered, classes, kind = _per_class(per_class, limits)
    return Roles(single, ordered, classes, kind, tuple(name for name in rest if name not in set(per_class)))


def _asked(found: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    for role, name in names.items():
        if role not in NAMES:
            raise ValueError(f"Expected the keys of `names` among {sorted(NAMES)}, but got {shown(role)}.")
        if name not in found:
            raise ValueError(f"Expected {shown(name)} for `{role}`, as `names` says, but the file has {few(found)}.")
    return dict(names)


def _per_class(columns: list[str], limits: Limits) -> tuple[tuple[str, ...], tuple[str, ...] | None, str]:
    hold("The columns per class number", len(columns), limits, "classes")
    matches = [PER_CLASS.fullmatch(name) for name in columns]
    parts = [(m["kind"], m["name"]) for m in matches if m]
    kinds = sorted({_kind(kind) for kind, _ in parts})
    if len(kinds) > 1:
        raise ValueError(f"Expected columns of one kind per class, but got {kinds}. Leave all but one out.")
    names = [name for _, name in parts]
    if not all(re.fullmatch(r"[0-9]{1,9}", name) for name in names):
        if len(set(names)) < len(names):
            raise ValueError("Expected one column per class, but some classes have two.")
        return tuple(columns), tuple(names), kinds[0]
    order = sorted(range(len(names)), key=lambda i: int(names[i]))
    if [int(names[i]) for i in order] != list(range(len(names))):
        raise ValueError(
            f"Expected one column for each of the classes 0 to {len(names) - 1}, but got "
            f"{few([columns[i] for i in order])}. Name the columns after the classes or number them from 0."
        )
    return tuple(columns[i] for i in order), None, kinds[0]


def _kind(word: str) -> str:
    if word.startswith("log"):
        return "logits"
    return "scores" if word == "score" else "probabilities"
