"""Claims on the agreement of features."""

import numpy as np

from remnant.analyses.feature_measures import (
    BY_EXAMPLE,
    MEASURES,
    Agreement,
    Models,
    change_over_seeds,
    contrast,
)
from remnant.finding import Claim

_WHAT = {
    "cka": "debiased linear CKA of the penultimate features of two models",
    "procrustes": "squared Procrustes distance (0 to 2) of the penultimate features of two models, each centred and of "
    "norm 1",
    "cosine": "mean over examples of the cosine of an example's features in two models, after a rotation fitted to the "
    "other examples",
    "neighbours": "mean over examples of the share of its nearest neighbours that two models have in common",
}
_SOURCE = {
    "cka": "kornblith2019similarity, section 3; song2012feature",
    "procrustes": "ding2021grounding",
    "cosine": "schonemann1966generalized",
    "neighbours": "",
}
_SCALE = {"cka": "number", "procrustes": "number", "cosine": "number", "neighbours": "share"}


def agreement_claims(scheme: str, found: Agreement, models: Models) -> list[Claim]:
    """Each measure on the pairs of a scheme; with "_seeds" behind its name on pairs of reference models."""
    claims = []
    for measure in MEASURES:
        value = found.mean(measure) if found.pairs else np.nan
        if np.isfinite(value):
            quantity = f"feature_{measure}{'_seeds' if found.share_models else ''}"
            ends = found.interval(measure)
            if ends and measure == "neighbours":
                ends = max(ends[0], 0.0), min(ends[1], 1.0)
            what = f"{_WHAT[measure]}{f' ({models.k} neighbours)' if measure == 'neighbours' else ''}"
            method = f"{what}; {_who(found)}; {_how(found, ends, measure)}"
            if measure in BY_EXAMPLE and len(found.pairs) == 1 and not found.share_models:
                number, unit = len(models.order), "example"
            else:
                number, unit = len(found.pairs), "pair"
            claims.append(
                Claim(
                    quantity, scheme, value, *(ends or (None, None)), number, unit, method, _SOURCE[measure],
                    _SCALE[measure],
                )
            )  # fmt: skip
    return claims


def change_claims(scheme: str, found: Agreement, between: Agreement) -> list[Claim]:
    """How far features moved, as a multiple of how far they lie apart between reference models."""
    ratio = change_over_seeds(found, between) if between.pairs else None
    if ratio is None:
        return []
    value, ends = ratio
    method = (
        "1 - mean cosine of an example's features in reference and compressed model, over the same between two "
        "reference models of different seeds; 0: nothing moved, 1: as far as another seed; "
    )
    method += "jackknife over reference models" if ends else "no interval: fewer than 3 reference models"
    return [
        Claim(
            "feature_change_over_seeds", scheme, value, *(ends or (None, None)), len(found.pairs), "pair", method,
            "schonemann1966generalized", "number",
        )
    ]  # fmt: skip


def contrast_claims(scheme: str, found: Agreement) -> list[Claim]:
    """Difference of the measures between examples that two models answer differently and alike."""
    claims = []
    for measure in BY_EXAMPLE:
        part = contrast(found, measure) if found.pairs else None
        if part is None:
            continue
        who = "two reference models of different seeds" if found.share_models else "reference and compressed model"
        how = _how(found, part.interval, measure, kept=part.pairs)
        method = f"{_WHAT[measure].replace('mean over examples of the ', '')}: mean of the examples that {who} answer "
        method += f"differently, minus that of those they answer alike; {how}"
        claims.append(
            Claim(
                f"feature_{measure}_cie_difference{'_seeds' if found.share_models else ''}",
                scheme,
                part.difference,
                *(part.interval or (None, None)),
                part.examples if part.pairs == 1 and not found.share_models else part.pairs,
                "example" if part.pairs == 1 and not found.share_models else "pair",
                method,
                "dam2023understanding",
                "points" if measure == "neighbours" else "number",
            )
        )
    return claims


def _who(found: Agreement) -> str:
    if found.share_models:
        return "mean over pairs of reference models of different seeds"
    return "mean over pairs of the same seed" if len(found.pairs) > 1 else "one pair of the same seed"


def _how(found: Agreement, ends: tuple[float, float] | None, measure: str, *, kept: int | None = None) -> str:
    """How an interval was made, or why there is none."""
    pairs = len(found.pairs) if kept is None else kept
    if found.share_models:
        return "jackknife over models" if ends else "no interval: fewer than 3 models, or no spread"
    if pairs > 1:
        return "t interval over pairs" if ends else "no interval: no spread between pairs"
    if ends is None:
        return "no interval: too few examples, or no spread between them"
    if measure not in BY_EXAMPLE:
        return "jackknife over blocks of examples"
    return "t interval over examples" if kept is None else "Welch's interval over examples"
