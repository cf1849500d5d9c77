"""What compression does to each behaviour of the models: one table of effects with verdicts, from other findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from remnant.analyses.panels import WIDTH, short
from remnant.finding import Analysis, Claim, Finding, NotApplicable, format_value

QUESTION = "Which behaviours does each compression harm or help, and where is there no evidence?"
_SOURCE = "anonymous2023model, table 1"

Verdict = Literal["harms", "helps", "kept", "no evidence"]


@dataclass(frozen=True)
class Behaviour:
    """A behaviour, and the claim that measures what compression does to it."""

    name: str
    quantity: str
    """Of the claim on each compressed scheme."""
    harm: Literal["rise", "fall"]
    """Which direction of the quantity is harm."""
    baseline: str = ""
    """The claim that holds what another seed of the reference does; "" where no effect is a known value."""
    none: float = 0.0
    """The value of no effect, where there is no baseline."""
    survey: str = ""
    """What the survey's table says of it."""


BEHAVIOURS: tuple[Behaviour, ...] = (
    Behaviour("accuracy", "net_accuracy_change", "fall"),
    Behaviour("changed answers", "cie_rate", "rise", baseline="cie_rate_null"),
    Behaviour("cost of mistakes", "mistake_cost_change", "rise"),
    Behaviour("calibration error", "ece_debiased_change", "rise"),
    Behaviour(
        "overfitting (generalization gap)", "generalization_gap_change", "rise",
        survey="all damage it, except slight pruning",
    ),
    Behaviour("features", "feature_cosine", "fall", baseline="feature_cosine_seeds"),
    Behaviour(
        "attribution", "attribution_similarity", "fall", baseline="attribution_similarity_null",
        survey="pruning and distillation damage it",
    ),
    Behaviour("explanation by a soft tree", "tree_fidelity_change", "fall", survey="distillation improves it"),
    Behaviour(
        "bias: worst class", "worst_class_change", "fall", survey="all exacerbate existing bias",
    ),
    Behaviour("bias: gap between groups", "error_gap_change", "rise", survey="all exacerbate existing bias"),
    Behaviour("boundary, random directions", "random_distance_preserved", "fall", "random_distance_preserved_null"),
    Behaviour("boundary, worst case", "nearest_distance_ratio", "fall", none=1.0),
    Behaviour("corrupted images", "corrupted_top1_relative", "fall"),
    Behaviour("corrupted beyond clean images", "shift_amplification", "fall"),
    Behaviour(
        "adversarial attacks", "attacked_accuracy_mean_change", "fall",
        survey="distillation helps, pruning and quantization do not",
    ),
    Behaviour("membership inference", "membership_auc_change", "rise", survey="pruning can help"),
)  # fmt: skip
"""The rows of the table, in order; a row appears where a finding has the claim."""


def run(findings: Sequence[Finding], *, reference: str = "dense") -> Finding:
    """The effect of each compressed scheme on each measured behaviour, with a verdict.

    An effect is the claim of the analysis that measured it, compressed minus reference, so that 0 is no effect;
    similarities are held against those of two reference models of different seeds. "harms" and "helps" where the 95 %
    interval lies on one side of no effect ("kept" where a model is more like its reference than another seed is),
    "no evidence" otherwise and where there is no interval. With m behaviours
    of a scheme, verdicts that hold for all m together (Bonferroni) have intervals that are wider by the ratio of the
    normal quantiles at 1 - 0.025 / m and 0.975.

    Raises
    ------
    NotApplicable
        If no finding holds the claim of any behaviour.
    """
    found = {(c.quantity, c.subject, c.detail): (f.analysis, c) for f in findings for c in f.claims}
    rows = [row for behaviour in BEHAVIOURS for row in _rows(behaviour, found, reference)]
    if not rows:
        raise NotApplicable("No analysis measured what compression does to a behaviour; ask for some of them too.")
    table: Any = pd.DataFrame(rows)
    count = table.groupby("scheme")["behaviour"].transform("size")
    table["holds_together"] = [
        _verdict(row, _widened(row, int(m))) == row["verdict"] != "no evidence"
        for row, m in zip(table.to_dict("records"), count, strict=True)
    ]
    names, schemes = list(dict.fromkeys(table["behaviour"])), list(dict.fromkeys(table["scheme"]))
    cells = table.set_index(["behaviour", "scheme"])["cell"].unstack().reindex(index=names, columns=schemes)
    cells = cells.fillna("not measured").reset_index()
    cells.columns.name = None
    survey = {b.name: b.survey for b in BEHAVIOURS}
    cells["survey"] = [
        next((said for known, said in survey.items() if name.startswith(known)), "") for name in cells["behaviour"]
    ]
    return Finding(
        analysis="consequences",
        question=QUESTION,
        parameters={"reference": reference},
        claims=tuple(claim for scheme in schemes for claim in _claims(scheme, table[table["scheme"] == scheme])),
        tables={"behaviours": cells, "effects": table.drop(columns=["cell", "seeds"])},
        caveats=_CAVEATS,
        cites=ANALYSIS.cites,
    )


def _rows(
    behaviour: Behaviour, found: dict[tuple[str, str, str], tuple[str, Claim]], reference: str
) -> list[dict[str, Any]]:
    rows = []
    for (quantity, scheme, detail), (analysis, claim) in found.items():
        if quantity != behaviour.quantity or scheme == reference:
            continue
        none = behaviour.none
        if behaviour.baseline:
            base = found.get((behaviour.baseline, reference, detail)) or found.get((behaviour.baseline, scheme, detail))
            if base is None:
                continue
            none = base[1].estimate
        row = {
            "behaviour": behaviour.name,
            "scheme": scheme,
            "effect": claim.estimate,
            "low": np.nan if claim.low is None else claim.low,
            "high": np.nan if claim.high is None else claim.high,
            "no_effect": none,
            "seeds": bool(behaviour.baseline),
            "harm": behaviour.harm,
            "detail": detail,
            "analysis": analysis,
            "quantity": quantity,
            "n": claim.n,
            "unit": claim.unit,
        }
        row["verdict"] = _verdict(row, (row["low"], row["high"]))
        row["cell"] = _cell(row, claim)
        rows.append(row)
    return _apart(rows)


def _apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Several measurements of one behaviour on one scheme, such as methods of attribution, as rows of their own."""
    schemes = [row["scheme"] for row in rows]
    if len(set(schemes)) < len(schemes) and len({row["detail"] for row in rows}) > 1:
        return [row | {"behaviour": f"{row['behaviour']}: {row['detail']}"} for row in rows]
    return rows


def _verdict(row: dict[str, Any], ends: tuple[float, float]) -> Verdict:
    low, high = ends
    above, below = low > row["no_effect"], high < row["no_effect"]  # False without an interval
    if above if row["harm"] == "rise" else below:
        return "harms"
    if above or below:
        return "kept" if row["seeds"] else "helps"
    return "no evidence"


def _widened(row: dict[str, Any], number: int) -> tuple[float, float]:
    """The interval of a row, wide enough for `number` of them to hold together."""
    from scipy.special import ndtri

    factor = float(ndtri(1 - 0.025 / number) / ndtri(0.975))
    effect = row["effect"]
    return effect - factor * (effect - row["low"]), effect + factor * (row["high"] - effect)


def _cell(row: dict[str, Any], claim: Claim) -> str:
    against = f", another seed: {format_value(row['no_effect'], claim.scale)}" if row["seeds"] else ""
    which = f" ({claim.detail})" if claim.detail else ""
    return f"{row['verdict']}: {claim.text()}{which}{against}"


def _claims(scheme: str, rows: Any) -> list[Claim]:
    method = "behaviours whose 95 % interval lies on the side of {} of no effect; a count of verdicts"
    made = []
    for verdict, what in (("harms", "harm"), ("helps", "help")):
        of_verdict = rows["verdict"] == verdict
        made.append(
            Claim(
                f"behaviours_{what}ed", scheme, float(of_verdict.sum()), None, None, len(rows), "behaviour",
                method.format(what), _SOURCE,
            )
        )  # fmt: skip
    return made


_CAVEATS = (
    "Each verdict is at 95 % for itself: of many behaviours without any effect, about one in 40 is found harmed and "
    "one in 40 helped by chance. Column holds_together of the table of effects marks those that hold for all together.",
    "No evidence is not evidence of no effect: with few seeds, intervals are wide. The equivalence analysis tests that "
    "an effect is small.",
    "Similarities to the reference are never perfect; they count as harm where they are lower than those of two "
    "reference models of different seeds, and as kept where they are higher.",
)
_COLOURS = {"harms": "#c2571f", "helps": "#4f8a5b", "kept": "#2f6690", "no evidence": "#999999"}
_MARKS = {"harms": "v", "helps": "^", "kept": "s", "no evidence": "o"}


def plot(finding: Finding) -> Any:
    """A mark for each behaviour and scheme; hollow where the verdict holds by itself, not for all together."""
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    table: Any = finding.tables["effects"]
    names, schemes = list(dict.fromkeys(table["behaviour"])), list(dict.fromkeys(table["scheme"]))
    figure, axes = pyplot.subplots(figsize=(WIDTH, 1.3 + 0.3 * len(names)), layout="constrained")
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for verdict, mark in _MARKS.items():
        part = table[table["verdict"] == verdict]
        across = [schemes.index(name) for name in part["scheme"]]
        down = [names.index(name) for name in part["behaviour"]]
        sure = part["holds_together"].to_numpy(bool) | (verdict == "no evidence")
        face = [_COLOURS[verdict] if one else "none" for one in sure]
        size = 80 if verdict in ("harms", "helps") else 30
        axes.scatter(across, down, s=size, marker=mark, facecolors=face, edgecolors=_COLOURS[verdict])
    axes.set_xticks(range(len(schemes)), [short(name) for name in schemes])
    axes.set_xlim(-0.5, len(schemes) - 0.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color="#99999944", linewidth=0.6)
    axes.set_axisbelow(True)
    marks = [Line2D([], [], linestyle="none", marker=_MARKS[v], color=_COLOURS[v], label=v) for v in _MARKS]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return axes


ANALYSIS = Analysis(
    name="consequences",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=(),
    cites=("anonymous2023model",),
    asks="findings",
)
