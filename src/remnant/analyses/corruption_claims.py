"""The numbers of the answers on corrupted images: claims on each scheme, and on the noise between reference models."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.corruption_measures import Noise, Part
from remnant.analyses.mismatch_measures import over_pairs
from remnant.finding import Claim
from remnant.stats.relative import Ratio
from remnant.stats.trial_intervals import mean_interval

_HOOKER = "hooker2019what, section 4"
_HENDRYCKS = "hendrycks2019benchmarking, section 4.3"
_UNITS = {"pair": "pairs of models", "example": "examples of the one pair of models"}


def scheme_claims(part: Part) -> list[Claim]:
    """All claims on one scheme."""
    claims = []
    for k, scores in part.top.items():
        name = f"top-{k} accuracy"
        method = f"{name} over corruptions and severities, of the compressed model over that of the reference, minus 1"
        claims += _ratio(part, f"corrupted_top{k}_relative", scores.overall, method, offset=1)
        if scores.clean_relative is not None:
            method = f"{name} on the same images without corruption, relative to the reference, minus 1"
            claims += _ratio(part, f"clean_top{k}_relative", scores.clean_relative, method, offset=1)
    scores = part.top[1]
    if scores.clean_relative is not None:
        method = (
            "relative top-1 accuracy on corrupted images minus that on clean ones: below 0, compression costs more "
        )
        claims += _ratio(
            part,
            "shift_amplification",
            scores.overall.minus(scores.clean_relative),
            method + "under shift",
            scale="points",
        )
    claims += _worst(part)
    method = "error of the compressed model over that of the reference, each the mean over severities; mean over "
    claims += _ratio(
        part, "mean_corruption_error", scores.error.mean(), method + "corruptions; 100 % = as the reference", _HENDRYCKS
    )
    if scores.relative_error is not None:
        method = "increase of the error over that on clean images, relative to the reference's; mean over corruptions"
        claims += _ratio(part, "relative_mean_corruption_error", scores.relative_error.mean(), method, _HENDRYCKS)
    return [*claims, *_mismatches(part), *_exemplars(part)]


def noise_claims(noise: Noise | None, reference: str) -> list[Claim]:
    """What different models of the reference differ in; no claim with one model."""
    if noise is None:
        return []
    number = len(noise.top1)
    mean, low, high = over_pairs(noise.mismatch.mean(axis=(2, 3)))
    method = f"share of answers on corrupted images that differ between two {reference} models of different seeds; "
    method += "no interval: needs 3 models" if low is None else "jackknife interval over models"
    found = [Claim("corrupted_cie_rate_null", reference, mean, low, high, number, "trial", method, _HOOKER, "share")]
    if (noise.top1 > 0).all():
        apart = np.abs(noise.top1[:, None] / noise.top1 - 1)[~np.eye(number, dtype=bool)].mean()
        method = f"mean size of the relative difference in accuracy on corrupted images between two {reference} models "
        method += "of different seeds; no interval: a baseline"
        found.append(
            Claim("corrupted_top1_relative_null", reference, float(apart), None, None, number, "trial", method, _HOOKER,
                  "share")
        )  # fmt: skip
    if noise.exemplars is not None:
        method = f"share of corrupted images on which the modal labels of two halves of the {reference} models differ "
        method += "(halves are noisier than the whole); no interval: a baseline"
        found.append(
            Claim("corrupted_pie_rate_null", reference, noise.exemplars, None, None, number, "trial", method, _HOOKER,
                  "share")
        )  # fmt: skip
    return found


def ends(found: Ratio, *, level: float = 0.95, offset: float = 0.0) -> tuple[NDArray, NDArray, NDArray]:
    """Estimate and ends of its interval, less `offset`; ends NaN where there is no spread between units.

    With an offset it is a relative change of accuracies, of which nothing lies below -100 %.
    """
    interval = found.interval(level=level)
    flat = ~(interval.standard_error > 0)
    low, high = (np.where(flat, np.nan, end) - offset for end in (interval.low, interval.high))
    return found.estimate - offset, np.maximum(low, -offset) if offset else low, high


def _ratio(
    part: Part,
    quantity: str,
    found: Ratio,
    method: str,
    citation: str = _HOOKER,
    *,
    offset: float = 0.0,
    scale: str = "share",
) -> list[Claim]:
    """The claim, or none where the reference's value is 0 and nothing is relative to it."""
    value, low, high = (float(x) for x in ends(found, offset=offset))
    return [_claim(part, quantity, (value, low, high), method, citation, scale)] if np.isfinite(value) else []


def _claim(
    part: Part, quantity: str, value: tuple[float, float, float], method: str, citation: str, scale: str = "share"
) -> Claim:
    estimate, low, high = value
    known = np.isfinite(low) and np.isfinite(high)
    method += part.comparison.over_pairs
    method += f"; t interval over {_UNITS[part.unit]}" if known else "; no interval: no spread between units"
    return Claim(
        quantity, part.comparison.scheme, estimate, low if known else None, high if known else None,
        len(part.mismatch), part.unit, method, citation, scale,
    )  # fmt: skip


def _worst(part: Part) -> list[Claim]:
    number = len(part.corruptions)
    value, low, high = ends(part.top[1].relative, level=1 - 0.05 / number, offset=1)
    if not np.isfinite(value).any():
        return []
    place = int(np.nanargmin(value))
    method = f"relative top-1 accuracy of the corruption where it is lowest, of {number}, minus 1; the interval allows "
    method += "for the choice (Bonferroni)"
    worst = (float(value[place]), float(low[place]), float(high[place]))
    claim = _claim(part, "worst_corruption_top1_relative", worst, method, _HOOKER)
    return [replace(claim, detail=part.corruptions[place])]


def _mismatches(part: Part) -> list[Claim]:
    rows = [
        ("corrupted_cie_rate", part.mismatch, "share of corrupted images that the two answer differently"),
        ("corrupted_cie_u_rate", part.harmful, "share of corrupted images that only the reference answers right"),
    ]
    if part.clean_mismatch is not None:
        rows.append(("clean_cie_rate", part.clean_mismatch, "share of the same images, clean, answered differently"))
    claims = []
    for quantity, values, method in rows:
        found = mean_interval(values.reshape(len(values), -1).mean(axis=1))
        flat = not float(found.standard_error) > 0
        low, high = (np.nan, np.nan) if flat else (max(float(found.low), 0.0), min(float(found.high), 1.0))
        claims.append(
            _claim(part, quantity, (float(found.estimate), low, high), method, "dam2023understanding, section 2")
        )
    return claims


def _exemplars(part: Part) -> list[Claim]:
    claims, pairs = [], part.comparison.num_second
    for quantity, flags, what in (
        ("corrupted_pie_rate", part.exemplars, "corrupted images"),
        ("clean_pie_rate", part.clean_exemplars, "the same images, clean,"),
    ):
        if flags is not None:
            method = f"share of {what} on which the modal labels of the populations differ (ties to the lowest class); "
            method += "no interval: modal labels of few models are biased, compare with the baseline"
            claims.append(
                Claim(quantity, part.comparison.scheme, float(flags.mean()), None, None, pairs, "trial", method,
                      "hooker2019what, section 2.3", "share")
            )  # fmt: skip
    return claims
