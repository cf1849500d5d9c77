"""Tables, and single examples with the reasons in words that the model's numbers give."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from remnant.analyses.mismatch_examples import changed, changed_gallery
from remnant.analyses.mismatch_measures import Part as Mismatches
from remnant.analyses.why_factors import Factor, Influencers, Reference
from remnant.analyses.why_measures import OUTCOMES, Model, Part
from remnant.finding import Exhibit
from remnant.stats.influence import influence_of_pairs

LEAST_FACTOR = 1.25
"""A factor is named as a reason if it multiplies the odds by at least this."""
MOST_REASONS = 3


def factor_table(part: Part) -> pd.DataFrame:
    """One row for each factor of each model: odds ratios of compression, and between two models of the reference."""
    frames = []
    for model in part.models:
        seeds = part.seeds(model.outcome.kind, probed=model.probed) or part.seeds(model.outcome.kind)
        same = {} if seeds is None else {factor.name: place for place, factor in enumerate(seeds.factors)}
        place = np.array([same.get(factor.name, -1) for factor in model.factors])
        between = {
            f"between_seeds_{name}": _taken(None if seeds is None else getattr(seeds.ratios, key), place)
            for name, key in (("odds_ratio", "estimate"), ("low", "low"), ("high", "high"))
        }
        columns = {
            "scheme": part.comparison.scheme,
            "outcome": OUTCOMES[model.outcome.kind],
            "on": "probed examples" if model.probed else "all examples",
            "factor": [factor.name for factor in model.factors],
            "unit": ["yes against no" if f.binary else "one standard deviation" for f in model.factors],
            "standard_deviation": [np.nan if f.binary else s for f, s in zip(model.factors, model.scale, strict=True)],
            "odds_ratio": model.ratios.estimate,
            "odds_ratio_low": model.ratios.low,
            "odds_ratio_high": model.ratios.high,
            "p": model.ratios.p,
            "q": model.q,
            "auc_alone": model.alone,
            **between,
            "known_before": [not factor.of_change for factor in model.factors],
        }
        table = pd.DataFrame(columns)
        frames.append(table.iloc[np.argsort(-np.abs(model.ratios.z), kind="stable")])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _taken(values: NDArray[np.float64] | None, place: NDArray[np.intp]) -> NDArray[np.float64]:
    """Values at these places; NaN at -1."""
    found = np.full(len(place), np.nan)
    if values is not None:
        found[place >= 0] = values[place[place >= 0]]
    return found


def example_table(
    part: Part, reference: Reference, top: Influencers | str, names: Sequence[str], rows: int | None
) -> pd.DataFrame:
    """One row for each example, most forgotten first: what happened to it, and all that is known of it."""
    population, flags = part.comparison.reference, part.flags
    lost = np.count_nonzero(flags.get("cie_u", flags["cie"]), axis=0)
    model = main_model(part)
    risk = np.zeros(len(lost)) if model is None else model.contributions(np.arange(len(lost))).sum(axis=1)
    order = np.lexsort((-risk, -lost))[:rows]
    classes = np.array(names, dtype=object)
    columns: dict[str, Any] = {"scheme": part.comparison.scheme, "example": population["example"].values[order]}
    if part.comparison.label is not None:
        columns["true"] = classes[part.comparison.label[order]]
        columns["right_answers_lost"] = lost[order]
    columns |= {"answers_changed": np.count_nonzero(flags["cie"], axis=0)[order], "pairs": len(flags["cie"])}
    if part.is_pie is not None:
        columns["is_pie"] = part.is_pie[order]
    if model is not None:
        columns["log_odds_of_being_forgotten"] = risk[order]
        columns["reasons"] = ["; ".join(_phrases(found)) for found in reasons(model, order)]
    if reference.confidence is not None:
        columns["reference_confidence"] = reference.confidence[order]
    if reference.quality is not None and reference.suggested is not None:
        columns["label_quality"] = reference.quality[order]
        suggested = reference.suggested[order]
        columns["suggested_label"] = [names[i] if i >= 0 else None for i in suggested]
    columns |= {factor.name: factor.values[order] for factor in part.known.factors}
    if not isinstance(top, str):
        first = top.train_examples[order, 0]
        ids = top.data.trials["train_example"].values
        columns["top_influencer"] = [ids[i] if i >= 0 else None for i in first]
        columns["top_influence"] = top.estimate.value[order]
        columns["top_influence_z"] = top.estimate.z[order]
    return pd.DataFrame(columns)


def influencer_table(part: Part, top: Influencers, examples: Sequence[str]) -> pd.DataFrame:
    """The most influential training examples of some test examples."""
    ids = part.comparison.reference["example"].values
    rows = pd.Index(ids.astype(str)).get_indexer(pd.Index(list(examples)))
    num = top.train_examples.shape[1]
    row, column = np.repeat(rows, num), top.train_examples[rows].ravel()
    rank = np.tile(np.arange(1, num + 1), len(rows))
    row, column, rank = row[column >= 0], column[column >= 0], rank[column >= 0]
    data = top.data
    estimate = influence_of_pairs(data.correct, data.included, row, column)
    return pd.DataFrame(
        {
            "scheme": part.comparison.scheme,
            "test_example": ids[row],
            "rank": rank,
            "train_example": data.trials["train_example"].values[column],
            "train_class": data.names[data.train_labels[column]],
            "influence": estimate.value,
            "standard_error": estimate.standard_error,
            "z": estimate.z,
            "memorization": data.memorization.value[column],
        }
    )


def gallery(part: Part, top: Influencers | str, names: Sequence[str], most: int) -> tuple[Exhibit, ...]:
    """The most forgotten examples with their reasons, the training example of the highest influence beside them."""
    found = Mismatches(part.comparison, part.flags, None, None, None, None)
    rows = changed(found, most)
    model = main_model(part)
    why: list[list[Reason]] = [[] for _ in rows.rows] if model is None else reasons(model, rows.rows)
    exhibits = []
    for exhibit, row, said in zip(changed_gallery(found, rows, names, most), rows.rows, why, strict=True):
        lines = (*exhibit.lines, *(f"because: {phrase}" for phrase in _phrases(said)))
        beside = None if isinstance(top, str) else _beside(top, int(row))
        exhibits.append(replace(exhibit, lines=lines, beside=beside))
    return tuple(exhibits)


Reason = tuple[Factor, float, float, float]
"""A factor, its value, its percentile among the examples, and by what it multiplies the odds."""


def reasons(model: Model, rows: NDArray[np.integer]) -> list[list[Reason]]:
    """For each example, the factors that raise its odds most against those of an average example."""
    parts = np.exp(model.contributions(rows))
    ordered = [np.sort(f.values[np.isfinite(f.values)]) for f in model.factors]
    found: list[list[Reason]] = []
    for row, part in zip(rows, parts, strict=True):
        order = np.argsort(-part, kind="stable")[:MOST_REASONS]
        chosen = []
        for i in order[part[order] >= LEAST_FACTOR]:
            value = float(model.factors[i].values[row])
            share = float(np.searchsorted(ordered[i], value, side="left") / len(ordered[i]))
            chosen.append((model.factors[i], value, share, float(part[i])))
        found.append(chosen)
    return found


def _phrases(found: list[Reason]) -> list[str]:
    if not found:
        return ["no measured factor stands out"]
    return [_phrase(*reason) for reason in found]


def _phrase(factor: Factor, value: float, share: float, times: float) -> str:
    multiplied = f"odds × {times:.3g}" if times < 100 else "odds × over 100"
    if factor.binary:
        return f"{factor.high if value > 0.5 else factor.low} ({multiplied})"
    name = factor.name.replace("_", " ")
    is_high = share >= 0.5
    where = f"above {100 * share:.0f} %" if is_high else f"below {100 * (1 - share):.0f} %"
    return f"{factor.high if is_high else factor.low}: {name} {value:.3g}, {where} of examples ({multiplied})"


def main_model(part: Part) -> Model | None:
    """The model whose reasons are told: of lost right answers, else of changed answers, on all examples."""
    return part.model("cie_u") or part.model("cie")


def _beside(top: Influencers, row: int) -> Exhibit | None:
    place = int(top.train_examples[row, 0])
    value, z = float(top.estimate.value[row]), float(top.estimate.z[row])
    if place < 0 or not value > 0:
        return None
    data = top.data
    # The highest of many influences is large by chance: Bonferroni over the candidates.
    num = int(top.num_candidates[row])
    p = min(1.0, num * float(special.ndtr(-z))) if np.isfinite(z) else 1.0
    verdict = "more than chance" if p <= 0.05 else f"could be chance: the highest of {num:,}"
    return Exhibit(
        "train",
        str(data.trials["train_example"].values[place]),
        (
            f"true: {data.names[data.train_labels[place]]}",
            f"influence: {value:+.2f} ± {top.estimate.standard_error[row]:.2f}, {verdict}",
            f"memorization: {data.memorization.value[place]:.2f}",
        ),
    )
