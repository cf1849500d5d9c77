"""Small audits made by hand, for tests of gates and manifests."""

import json
from pathlib import Path
from typing import Any

from remnant.finding import Audit, Claim, Finding
from remnant.stats.rates import newcombe_paired, wilson

INT8 = "int8"
HOSTILE = (
    "</code><script>alert(1)</script>",
    "a | b\n| c |",
    "::error file=x::injected\n::stop-commands::x",
    "##[command]rm -rf",
    "\x1b[31mred\x07\x00\u202egnp.exe",
    "[click](https://example.org) @everyone {0} {{1}}",
    "]]><failure/>&amp;\ud800",
    "x" * 5000,
    "\uffff\u2028\u0085",
)
"""Names that would do harm where they are not escaped."""


def claim(quantity: str, subject: str, estimate: float, *interval: float, **other: Any) -> Claim:
    """A claim with or without an interval, over 1,000 examples unless told."""
    low, high = interval or (None, None)
    settings = {"n": 1000, "unit": "example", "method": "by hand", "scale": "share"} | other
    return Claim(quantity, subject, estimate, low, high, **settings)


def flips(side: str, lost: int, gained: int, n: int) -> list[Claim]:
    """What `mismatches` claims on one pair with so many flips, with its intervals."""
    low, high = wilson(lost, n)
    net_low, net_high = newcombe_paired(n - lost - gained, gained, lost, 0)
    return [
        claim("cie_u_rate", side, lost / n, float(low), float(high), n=n),
        claim("net_accuracy_change", side, (gained - lost) / n, float(net_low), float(net_high), n=n),
    ]


def audit(*claims: Claim, sides: tuple[str, ...] = (INT8,), analysis: str = "mismatches", **about: Any) -> Audit:
    """An audit with one finding."""
    schemes = {label: {"whole": 1, "subsets": 0} for label in ("reference", *sides)}
    facts = {"reference": "reference", "schemes": schemes, "num_examples": 1000, "num_classes": 10} | about
    finding = Finding(analysis, "What?", {"seed": 0}, tuple(claims), {})
    return Audit((finding,), {"slices": "The population has no `label`."}, facts)


def write(path: Path, content: Audit) -> Path:
    """The audit as a report.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content.to_dict()))
    return path
