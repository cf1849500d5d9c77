"""Pass or fail for CI: the claims of a report against limits, with confidence.

`gate` is what the command does; `judge` does it on an audit in memory. `junit`, `sarif` and `markdown`
write the verdicts for CI systems.
"""

from os import PathLike

from remnant.gates.earlier import comparable
from remnant.gates.junit import junit
from remnant.gates.limits import KINDS, Limits, Rules, rules
from remnant.gates.markdown import headline, markdown, rows
from remnant.gates.reading import read_report
from remnant.gates.sarif import sarif
from remnant.gates.verdicts import Gate, Undecided, Verdict, judge

__all__ = [
    "Gate",
    "KINDS",
    "Limits",
    "Rules",
    "Undecided",
    "Verdict",
    "gate",
    "headline",
    "judge",
    "junit",
    "markdown",
    "read_report",
    "rows",
    "rules",
    "sarif",
]


def gate(
    report: str | PathLike[str],
    *,
    limits: str | PathLike[str] | None = None,
    baseline: str | PathLike[str] | None = None,
    strict: bool = False,
    lenient: bool = False,
    **flags: str | float | None,
) -> Gate:
    """The verdicts on a report: what `remnant gate` prints and exits with.

    Parameters
    ----------
    report
        A report.json or the folder of one.
    limits
        TOML file with limits; see `remnant.gates.rules`.
    baseline
        Earlier report.json, or its folder, for the limits named `max_increase_...`.
    strict
        What could not be told counts as failed.
    lenient
        What could not be told counts as passed.
    flags
        Limits by name, as numbers or as people write them ("1%"); they replace those of the file.

    Raises
    ------
    ValueError
        If a limit, a report or the combination is malformed: nothing was judged.
    FileNotFoundError
        If a file is missing.
    """
    if strict and lenient:
        raise ValueError("Expected `strict` or `lenient`, but got both.")
    wanted = rules(limits, **flags)
    audit = read_report(report)
    earlier = None if baseline is None else read_report(baseline)
    warnings = () if earlier is None else comparable(audit, earlier)
    if earlier is not None and not any(KINDS[name].increase for name in _names(wanted)):
        raise ValueError(
            "Expected a limit on an increase beside `baseline`, such as `--max-increase-harmful-flips 0.5pt`, "
            f"but got only {sorted(_names(wanted))}."
        )
    undecided: Undecided = "fail" if strict else "pass" if lenient else "report"
    return judge(audit, wanted, earlier=earlier, undecided=undecided, report=str(report), warnings=warnings)


def _names(wanted: Rules) -> set[str]:
    return set(wanted.limits.given()) | {name for own in wanted.sides.values() for name in own}
