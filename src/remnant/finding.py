"""What an analysis returns: claims, tables, caveats and exhibits, independent of how they are shown."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import Any, Literal

import numpy as np
import pandas as pd

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Claim:
    """One number that a report may print. Prose in a report quotes claims only."""

    quantity: str
    """What is measured, snake_case, such as "pie_count"."""
    subject: str
    """What it is measured on: the scheme's label, or "population"."""
    estimate: float
    """The value; NaN is refused."""
    low: float | None
    """Lower end of the 95 % interval; None where there is none, with the reason in `method`."""
    high: float | None
    """Upper end of the 95 % interval."""
    n: int
    """Number of units behind the estimate."""
    unit: str
    """What is counted by `n`: "example", "trial", "pair", "class", ..."""
    method: str
    """How estimate and interval were made."""
    citation: str = ""
    """Key in docs/refs.bib, with the equation or table."""
    scale: str = "count"
    """How to print the value: "count", "share", "points" (a difference of shares), "number", "p"."""
    detail: str = ""
    """Which one it is, where the estimate is that of one of many: the worst class or group, a method, a budget, ..."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.estimate):
            raise ValueError(f"Expected a finite `estimate` for claim {self.quantity!r}, but got {self.estimate!r}.")

    def text(self) -> str:
        """The value with its interval, as prose prints it, such as "216 (95 % interval 190 to 240)"."""
        value = format_value(self.estimate, self.scale)
        if self.low is None or self.high is None:
            return value
        return f"{value} (95 % interval {format_value(self.low, self.scale)} to {format_value(self.high, self.scale)})"


def format_value(value: float, scale: str) -> str:
    """A number as reports print it; `scale` as in `Claim.scale`."""
    if scale == "share":
        return f"{round(100 * value, 2) + 0.0:.2f} %"  # + 0.0: no "-0.00 %"
    if scale == "points":
        return f"{round(100 * value, 2) + 0.0:.2f} points"
    if scale == "p":
        return "< 0.0001" if value < 1e-4 else f"{value:.4f}"
    if scale == "count":
        return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Exhibit:
    """One example to show in a gallery."""

    split: str
    """"test" or "train"."""
    example: str
    """Its stable id."""
    lines: tuple[str, ...]
    """Lines of text below it, such as "true: cat"."""
    value: float | None = None
    """What the gallery is ordered by."""
    beside: "Exhibit | None" = None
    """A second example to show next to it, such as its most influential training example."""
    image: str = ""
    """A picture of its own (PNG in base64), shown instead of the example's."""


@dataclass(frozen=True)
class Finding:
    """The answer of one analysis to its question."""

    analysis: str
    question: str
    parameters: dict[str, Any]
    claims: tuple[Claim, ...]
    tables: dict[str, pd.DataFrame]
    """Tidy tables; the first one is the main table. Column names are snake_case with their unit where it has one."""
    caveats: tuple[str, ...] = ()
    """What a reader must know before believing a number; never itself a number that is not a claim."""
    galleries: dict[str, tuple[Exhibit, ...]] = field(default_factory=dict)
    """Title of a gallery to its exhibits."""
    cites: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The main table."""
        return next(iter(self.tables.values()))

    def claim(self, quantity: str, subject: str | None = None, detail: str | None = None) -> Claim:
        """The claim on `quantity` (and `subject` and `detail`, where there are several)."""
        found = [
            c
            for c in self.claims
            if c.quantity == quantity and subject in (None, c.subject) and detail in (None, c.detail)
        ]
        if len(found) != 1:
            known = sorted({(c.quantity, c.subject, c.detail) for c in self.claims})
            raise KeyError(f"Expected one claim {quantity!r} on {subject!r}, but found {len(found)}; claims: {known}.")
        return found[0]

    def plot(self) -> Any:
        """The analysis's picture of this finding: matplotlib Axes."""
        # Findings know no analyses: the one that made this finding is looked up when it is to be drawn.
        return import_module("remnant.analyses").analysis(self.analysis).plot(self)

    def to_json(self) -> str:
        """The finding as JSON; `from_json` restores it."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain data; NaN in tables becomes None."""
        return {
            "analysis": self.analysis,
            "question": self.question,
            "parameters": self.parameters,
            "claims": [asdict(claim) for claim in self.claims],
            "tables": {name: _table_to_dict(table) for name, table in self.tables.items()},
            "caveats": list(self.caveats),
            "galleries": {title: [asdict(e) for e in exhibits] for title, exhibits in self.galleries.items()},
            "cites": list(self.cites),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Finding":
        """The inverse of `to_dict`."""
        return Finding(
            analysis=data["analysis"],
            question=data["question"],
            parameters=dict(data["parameters"]),
            claims=tuple(Claim(**claim) for claim in data["claims"]),
            tables={name: _table_from_dict(table) for name, table in data["tables"].items()},
            caveats=tuple(data["caveats"]),
            galleries={t: tuple(_exhibit(e) for e in exhibits) for t, exhibits in data["galleries"].items()},
            cites=tuple(data["cites"]),
        )


@dataclass(frozen=True)
class Analysis:
    """One question, asked of a population."""

    name: str
    question: str
    run: Callable[..., Finding]
    """`run(population, **parameters) -> Finding`; raises `NotApplicable` when the population cannot answer."""
    plot: Callable[[Finding], Any]
    """`plot(finding)` -> matplotlib Axes, drawn from the finding's tables alone."""
    needs: tuple[str, ...]
    """Variables that the population must have, and kinds of probes that must have been measured."""
    cites: tuple[str, ...]
    asks: Literal["population", "findings"] = "population"
    """What `run` takes; "findings" for what sums up the other findings of an audit: `run(findings, reference=...)`."""
    pace: float | None = None
    """Roughly how many seconds `run` takes for each million answers (trial x test example); None if not measured."""


class NotApplicable(Exception):
    """An analysis cannot be asked of this population; the message says why and what would make it possible."""


def _table_to_dict(table: pd.DataFrame) -> dict[str, Any]:
    columns = {str(name): [_cell(v) for v in table[name].tolist()] for name in table.columns}
    kinds = {str(name): str(table[name].dtype) for name in table.columns}
    # Texts have one dtype or another, depending on how pandas came by them.
    texts = ("str", "string", "object")
    return {"columns": columns, "dtypes": {name: "object" if kind in texts else kind for name, kind in kinds.items()}}


def _table_from_dict(data: Mapping[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(data["columns"])
    for name, dtype in data["dtypes"].items():
        if dtype.startswith("float") or frame.empty:
            frame[name] = frame[name].astype(dtype)
    return frame


def _cell(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _exhibit(data: Mapping[str, Any]) -> Exhibit:
    beside = _exhibit(data["beside"]) if data["beside"] else None
    return Exhibit(data["split"], data["example"], tuple(data["lines"]), data["value"], beside, data.get("image", ""))


@dataclass(frozen=True)
class Audit:
    """All findings on one population: what a report is made of."""

    findings: tuple[Finding, ...]
    not_run: dict[str, str]
    """Name of an analysis that could not be asked, to the reason."""
    about: dict[str, Any]
    """Plain facts on the population: `dataset`, `recipe`, `reference` (label of what the others are compared with),
    `inputs` and `matching` (files of models made elsewhere), `num_examples`, `num_train_examples`, `num_classes`,
    `classes`, `schemes` (label to number of trials on the whole set and on subsets), `versions`, `machine`."""

    @property
    def reference(self) -> str:
        """Label of what the others are compared with."""
        return str(self.about.get("reference", "dense"))

    def finding(self, analysis: str) -> Finding | None:
        """The finding of an analysis, or None if it was not run."""
        return next((f for f in self.findings if f.analysis == analysis), None)

    def to_dict(self) -> dict[str, Any]:
        """The audit as plain data: the content of report.json."""
        return {
            "schema_version": SCHEMA_VERSION,
            "about": self.about,
            "findings": [finding.to_dict() for finding in self.findings],
            "not_run": self.not_run,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Audit":
        """The inverse of `to_dict`."""
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ValueError(f"Expected a report of schema version {SCHEMA_VERSION}, but got {version!r}.")
        return Audit(tuple(Finding.from_dict(f) for f in data["findings"]), dict(data["not_run"]), dict(data["about"]))
