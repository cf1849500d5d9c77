"""Probes: what can be measured on trials beyond their logits. Frozen values without torch."""

from typing import Any

from remnant.fields import build
from remnant.probes.probe import Probe, settings, to_dict, varying
from remnant.registry import find, user_object

__all__ = ["PROBES", "Probe", "from_dict", "probe_type", "settings", "to_dict", "varying"]

PROBES: dict[str, str] = {
    "features": "remnant.probes.features:Features",
    "layers": "remnant.probes.layers:Layers",
    "attribution": "remnant.probes.attribution:Attribution",
    "boundary": "remnant.probes.boundary:Boundary",
    "corruptions": "remnant.probes.corruptions:Corruptions",
    "adversarial": "remnant.probes.adversarial:Adversarial",
    "confidence": "remnant.probes.confidence:Confidence",
    "soft-tree": "remnant.probes.soft_tree:SoftTree",
}
"""Kind to the class of each built-in probe; imported when it is asked for."""


def probe_type(kind: str) -> type[Probe]:
    """The class of a kind of probe, built in or offered by an installed package (entry point `remnant.probes`).

    Raises
    ------
    UnknownNameError
        With all kinds and the nearest one.
    """
    found = find("probe", kind, PROBES)
    return user_object(found) if isinstance(found, str) else found


def from_dict(data: Any, where: str = "probe") -> Probe:
    """A probe from {"kind": name, field: value, ...} or from its bare name.

    Raises
    ------
    ValueError
        Naming the key (as `where`), what was expected and what came.
    """
    data = {"kind": data} if isinstance(data, str) else dict(data)
    if "kind" not in data:
        raise ValueError(f"Expected `{where}` to have a `kind`, but got {data!r}.")
    return build(probe_type(data.pop("kind")), data, where)
