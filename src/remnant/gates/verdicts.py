"""A verdict for each compressed model and limit."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from remnant.fields import check as expect
from remnant.finding import Audit, Claim
from remnant.gates.decisions import Measured, Outcome, decide, decide_margin, increase, needed
from remnant.gates.earlier import compressed_labels, same_files, same_side
from remnant.gates.limits import KINDS, Kind, Limits, Rules
from remnant.gates.units import shown
from remnant.registry import unknown

_NEED_LABELS = {"cie_u_rate", *(kind.quantity for kind in KINDS.values() if kind.direction in ("drop", "margin"))}
Undecided = Literal["report", "fail", "pass"]
"""What a verdict that could not be told counts as: itself (exit code 2), a failure, or a pass."""


@dataclass(frozen=True)
class Verdict:
    """Whether one compressed model keeps one limit."""

    side: str
    """Name of the compressed side."""
    limit: str
    """Name of the limit, such as "max_harmful_flips"."""
    threshold: float
    """The limit in its unit; shares are in [0, 1]."""
    outcome: Outcome
    measured: str = ""
    """The value with its interval in words; "" where there is none."""
    reason: str = ""
    """Why it could not be told, or what to know about the value."""
    claim: Claim | None = None
    """The claim of the report that was held against the limit."""
    earlier: Claim | None = None
    """That of the earlier report, for limits on an increase."""

    @property
    def wanted(self) -> str:
        """The limit in words, such as "harmful flips at most 1 %"."""
        kind = KINDS[self.limit]
        ends = {"at least": "at least", "margin": "within"}
        return f"{kind.words} {ends.get(kind.direction, 'at most')} {_shown(self.threshold, kind)}"


@dataclass(frozen=True)
class Gate:
    """All verdicts on a report."""

    verdicts: tuple[Verdict, ...]
    undecided: Undecided = "report"
    """What a verdict that could not be told counts as."""
    warnings: tuple[str, ...] = ()
    report: str | None = None
    """Path of the report, as it was given."""
    rules: Rules = field(default_factory=Rules)

    def counts_as(self, verdict: Verdict) -> Outcome:
        """The outcome of a verdict after `undecided`."""
        if verdict.outcome != "could not tell" or self.undecided == "report":
            return verdict.outcome
        return self.undecided

    @property
    def outcome(self) -> Outcome:
        """ "fail" if any verdict counts as that, else "could not tell" if any does, else "pass"."""
        found = {self.counts_as(verdict) for verdict in self.verdicts}
        return next(outcome for outcome in ("fail", "could not tell", "pass") if outcome in found)

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 2 could not tell."""
        return {"pass": 0, "fail": 1, "could not tell": 2}[self.outcome]

    def to_dict(self) -> dict[str, Any]:
        """The gate as plain data, for programs."""
        verdicts = [
            {
                "side": v.side,
                "limit": v.limit,
                "threshold": v.threshold,
                "outcome": v.outcome,
                "counts_as": self.counts_as(v),
                "measured": v.measured,
                "reason": v.reason,
                "claim": asdict(v.claim) if v.claim else None,
                "earlier": asdict(v.earlier) if v.earlier else None,
            }
            for v in self.verdicts
        ]
        return {
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "undecided": self.undecided,
            "report": self.report,
            "warnings": list(self.warnings),
            "verdicts": verdicts,
        }


def judge(
    audit: Audit,
    rules: Rules | Limits,
    *,
    earlier: Audit | None = None,
    undecided: Undecided = "report",
    report: str | None = None,
    warnings: Iterable[str] = (),
) -> Gate:
    """The verdicts on every compressed side of an audit, in the order of sides and limits.

    A limit is failed only if the whole 95 % interval lies beyond it and passed only if the whole interval
    is within it; otherwise it could not be told. Sizes and counts have no interval and are compared directly.

    Parameters
    ----------
    earlier
        Audit to hold limits on increases against; see `remnant.gates.earlier.comparable`.

    Raises
    ------
    ValueError
        If the audit has no compressed side, no limit is set, or limits are set for a side it does not have.
    """
    rules = Rules(rules) if isinstance(rules, Limits) else rules
    expect(undecided in get_args(Undecided), "undecided", f"to be one of {list(get_args(Undecided))}", undecided)
    sides = compressed_sides(audit)
    for side in rules.sides:
        if side not in sides:
            where = f" (limits of {rules.path!r})" if rules.path else ""
            raise ValueError(f"{unknown('compressed side', side, sides)}{where}")
    verdicts = tuple(
        _verdict(audit, side, limit, threshold, earlier)
        for side in sides
        for limit, threshold in rules.of(side).given().items()
    )
    if not verdicts:
        raise ValueError("Expected at least one limit on a compressed side, but got none.")
    return Gate(verdicts, undecided, tuple(warnings), report, rules)


def compressed_sides(audit: Audit) -> list[str]:
    """Labels of all but the reference, in the order of the audit.

    Raises
    ------
    ValueError
        If there is none.
    """
    sides = compressed_labels(audit)
    if not sides:
        raise ValueError(
            f"Expected a report on at least one compressed model beside the reference {audit.reference!r}, "
            "but it has none."
        )
    return sides


def _verdict(audit: Audit, side: str, limit: str, threshold: float, earlier: Audit | None) -> Verdict:
    kind = KINDS[limit]
    claim = _claim(audit, kind, side)
    blank = Verdict(side, limit, threshold, "could not tell", claim=claim)
    if kind.direction == "margin":
        return _equivalence(audit, blank)
    if claim is None:
        return replace(blank, reason=_missing(audit, kind, side))
    blank = replace(blank, measured=_words(claim, kind))
    if kind.increase:
        return _increase(audit, claim, blank, earlier)
    outcome, reason = _held(claim, kind, threshold)
    return replace(blank, outcome=outcome, reason=reason)


def _held(claim: Claim, kind: Kind, threshold: float) -> tuple[Outcome, str]:
    """A claim against a limit: outcome and reason."""
    measured = _measured(claim, kind)
    if measured is None:
        return "could not tell", f"the report gives no interval for it ({claim.method})"
    limit = -threshold if kind.direction == "at least" else threshold
    outcome = decide(measured, limit)
    if outcome == "could not tell":
        wilson = claim.scale == "share" and claim.unit == "example" and kind.direction == "at most"
        return outcome, _how_many(needed(measured, limit, wilson=wilson), claim)
    return outcome, "compared without an interval" if kind.sampled and claim.low is None else ""


def _equivalence(audit: Audit, blank: Verdict) -> Verdict:
    """Equivalent if two one-sided tests at 5 % say so; different if the interval is outside the margin."""
    smallest, margin, drop = blank.claim, blank.threshold, KINDS["max_accuracy_drop"]
    change = _claim(audit, drop, blank.side)
    measured = None if change is None else _measured(change, drop)
    words = [] if change is None else [_words(change, drop)]
    if smallest is not None:
        words.append(f"equivalent within {_shown(smallest.estimate, KINDS[blank.limit], 3)}")
    blank = replace(blank, measured="; ".join(words), claim=smallest or change)
    if smallest is not None and smallest.estimate <= margin:
        return replace(blank, outcome="pass")
    if measured is None:
        missing = _missing(audit, KINDS[blank.limit], blank.side)
        return replace(blank, reason=missing if smallest is None else "not equivalent within this margin")
    outcome = decide_margin(measured, margin)
    if outcome == "fail" or (outcome == "pass" and smallest is None):
        return replace(blank, outcome=outcome)
    nearer = measured if measured.estimate >= 0 else measured.turned()
    return replace(blank, reason=_how_many(needed(nearer, margin), change))


def _increase(audit: Audit, claim: Claim, blank: Verdict, earlier: Audit | None) -> Verdict:
    """The verdict on an increase since the earlier report."""
    kind = KINDS[blank.limit]
    if earlier is None:
        return replace(blank, reason="no earlier report was given")
    other = same_side(audit, earlier, blank.side)
    if other is None:
        return replace(blank, reason=f"the earlier report has no side {blank.side!r}")
    before = _claim(earlier, kind, other)
    if before is None:
        return replace(blank, reason=f"in the earlier report, {_missing(earlier, kind, other)}")
    new, old = _measured(claim, kind), _measured(before, kind)
    words = f"{blank.measured}, before {_words(before, kind)}"
    blank = replace(blank, measured=words, earlier=before)
    if new is None or old is None:
        return replace(blank, reason="one of the reports gives no interval for it")
    if new == old and same_files(audit, earlier, blank.side, other):
        return replace(blank, outcome="pass", reason="the same files as before")
    change = increase(new, old)
    outcome = decide(change, blank.threshold)
    if not kind.exact:
        low, high, middle = (_shown(value, kind, 3) for value in (change.low, change.high, change.estimate))
        words = f"{middle} more (95 % interval {low} to {high}): {words}"
    reason = _how_many(needed(change, blank.threshold), claim) if outcome == "could not tell" else ""
    return replace(blank, outcome=outcome, measured=words, reason=reason)


def _claim(audit: Audit, kind: Kind, side: str) -> Claim | None:
    """The claim that a limit is on: of the analysis that makes it, else of any other."""
    ordered = sorted(audit.findings, key=lambda finding: finding.analysis != kind.analysis)
    claims = [claim for finding in ordered for claim in finding.claims if claim.subject == side]
    found = (claim for name in (kind.quantity, kind.other) for claim in claims if name and claim.quantity == name)
    return next(found, None)


def _measured(claim: Claim, kind: Kind) -> Measured | None:
    """The harm that a claim states; None for an estimate without an interval."""
    low, high = claim.low, claim.high
    if low is None or high is None:
        if not kind.exact:
            return None
        low = high = claim.estimate
    found = Measured(claim.estimate, low, high, claim.n)
    return found.turned() if kind.direction in ("drop", "at least") else found


def _words(claim: Claim, kind: Kind) -> str:
    """The claim with its interval and which class or group it is about."""
    if kind.unit in ("bytes", "ratio"):
        value, *ends = (shown(x, kind.unit, 3) for x in (claim.estimate, claim.low, claim.high) if x is not None)
        return f"{value} (95 % interval {ends[0]} to {ends[1]})" if len(ends) == 2 else value
    which = "class " if kind.quantity == "worst_class_net_change" else ""
    return f"{claim.text()}, {which}{claim.detail}" if claim.detail else claim.text()


def _shown(value: float, kind: Kind, digits: int = 6) -> str:
    """A value as verdicts print it; differences of accuracy are in points."""
    text = shown(value, kind.unit, digits)
    if kind.unit != "share" or kind.direction not in ("drop", "margin"):
        return text
    number = text.removesuffix(" %")
    return f"{number} point" if number == "1" else f"{number} points"


def _missing(audit: Audit, kind: Kind, side: str) -> str:
    """Why the report has no claim for a limit."""
    known = {claim.quantity for finding in audit.findings for claim in finding.claims if claim.subject == side}
    if kind.quantity in _NEED_LABELS and "cie_rate" in known and "cie_u_rate" not in known:
        return "the report was made without labels, which tell harm from change"
    if kind.quantity.startswith("kl_") and "cie_rate" in known:
        return "the report was made from answers without scores, which the KL divergence needs"
    if kind.analysis == "league" and "cie_rate" in known:
        return "sizes and speeds are known only where remnant ran the models (`remnant compare ... --data`)"
    if kind.analysis in audit.not_run:
        return f"the analysis {kind.analysis!r} was not run: {audit.not_run[kind.analysis]}"
    if audit.finding(kind.analysis) is None:
        return f"the report has no analysis {kind.analysis!r}"
    return f"the analysis {kind.analysis!r} says nothing on {kind.quantity!r} of {side!r}"


def _how_many(number: int | None, claim: Claim | None) -> str:
    """What would make an undecided verdict clear."""
    if claim is None or number is None or number <= claim.n:
        return "the 95 % interval lies on both sides of the limit"
    plural = f"{claim.unit}s" if number != 1 else claim.unit
    return f"about {number:,} {plural} would tell, if the value stays; the report has {claim.n:,}"
