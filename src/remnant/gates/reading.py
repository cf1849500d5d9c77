"""A report.json from anywhere, as an audit without its tables."""

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

from remnant.finding import Audit

MOST_BYTES = 512 * 2**20
"""Largest report.json that is read."""


def read_report(path: str | PathLike[str]) -> Audit:
    """The claims in a report.json, or in the report.json of a folder; tables and galleries are left out.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is too large, not JSON, not a report, of another schema version, or holds a claim whose numbers are
        none.
    """
    path = Path(path)
    path = path / "report.json" if path.is_dir() else path
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected a report.json or a folder with one, but {str(path)!r} does not exist. "
            "`remnant compare` and `remnant audit` write it."
        ) from error
    if size > MOST_BYTES:
        raise ValueError(f"Expected {str(path)!r} to have at most {MOST_BYTES:,} bytes, but it has {size:,}.")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected {str(path)!r} to be a report.json, but it is not JSON: {error}.") from error
    try:
        return _audit(data)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, KeyError | TypeError) else str(error)
        raise ValueError(f"Expected {str(path)!r} to be a report.json, but it is damaged or none: {what}") from error


def _audit(data: Any) -> Audit:
    """The audit behind parsed JSON, with every claim checked."""
    if not isinstance(data, dict):
        raise ValueError(f"it holds {type(data).__name__}.")
    findings = data.get("findings")
    if isinstance(findings, list):
        data = data | {"findings": [{**finding, "tables": {}, "galleries": {}} for finding in findings]}
    audit = Audit.from_dict(data)
    if not isinstance(audit.about.get("schemes", {}), dict):
        raise ValueError("`schemes` is not a table.")
    for finding in audit.findings:
        for claim in finding.claims:
            ends = [end for end in (claim.low, claim.high) if end is not None]
            numbers = [claim.estimate, claim.n, *ends]
            texts = (claim.quantity, claim.subject, claim.unit, claim.method, claim.scale, claim.detail)
            if not all(_is_number(value) for value in numbers) or not all(isinstance(text, str) for text in texts):
                raise ValueError(f"the claim {claim.quantity!r} on {claim.subject!r} has a value of the wrong type.")
            if len(ends) == 2 and ends[0] > ends[1]:
                raise ValueError(
                    f"the interval of {claim.quantity!r} ends before it begins: {ends[0]!r} to {ends[1]!r}."
                )
    return audit


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
