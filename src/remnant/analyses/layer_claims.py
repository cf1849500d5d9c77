"""Claims on the layers in which answers were lost."""

import numpy as np

from remnant.analyses.feature_pairs import Ends
from remnant.analyses.layer_measures import Part, change_interval, number_interval, share_interval
from remnant.finding import Claim
from remnant.stats.layer_counts import decibels

_CITED = "gluska2020exploring; dam2023understanding"


def scheme_claims(part: Part, top: int) -> list[Claim]:
    """Of one scheme: what is lost, and on its `top` layers what they lose alone and bring back alone."""
    claims = [
        _claim(
            part, "probed_cie_u_rate", part.lost.mean(), share_interval(part.lost),
            "share of the probed examples that the reference answers right and the compressed model wrong",
        )
    ]  # fmt: skip
    known = np.flatnonzero(part.is_known)
    alone, change = part.mean("cie_u_alone"), part.change
    for layer in known[np.argsort(-alone[known], kind="stable")][:top]:
        flags = part.lost_alone(layer)
        what = "share of the probed examples that the reference loses when this layer alone is compressed"
        claims.append(
            _claim(part, "layer_cie_u_rate", flags.mean(), share_interval(flags), what, detail=part.names[layer])
        )
    for layer in known[np.argsort(change[known], kind="stable")][:top]:
        after = part.lost_restored(layer)
        what = (
            "share of the probed examples lost by the compressed model with this layer alone restored, minus that of "
            "the compressed model; < 0: answers come back"
        )
        claims.append(
            _claim(
                part, "restored_cie_u_change", after.mean() - part.lost.mean(), change_interval(part.lost, after), what,
                scale="points", detail=part.names[layer],
            )
        )  # fmt: skip
    return [*claims, *_sum_claims(part), *_noise_claims(part), *_half_claims(part)]


def _sum_claims(part: Part) -> list[Claim]:
    """Whether the layers' harm adds up."""
    whole = part.rates("cie_u")
    if not part.is_known.any() or (whole == 0).any():
        return []
    ratio = part.rates("cie_u_alone")[:, part.is_known].sum(axis=1) / whole
    what = (
        "right answers lost by each layer compressed alone, summed over layers, over those lost by the compressed "
        "model; 1: harm adds up, < 1: layers together lose what none loses alone, > 1: they make up for each other"
    )
    return [_claim(part, "layers_cie_u_sum_ratio", ratio.mean(), number_interval(ratio), what, scale="number")]


def _noise_claims(part: Part) -> list[Claim]:
    """The layer that computes least like its counterpart."""
    ratio = part.ratio("local")
    ratio = np.where(np.isfinite(ratio), ratio, np.inf)
    layer = int(np.argmin(ratio))
    if not np.isfinite(ratio[layer]):
        return []
    of_pairs = decibels(*(part.powers[name][:, layer].sum(axis=1) for name in ("signal", "local")))
    ends = number_interval(of_pairs) if np.isfinite(of_pairs).all() else None
    what = "least local signal-to-noise ratio of a layer in dB, its inputs being those of the reference"
    # The interval is that of the mean over pairs, so the estimate is too.
    estimate = of_pairs.mean() if np.isfinite(of_pairs).all() else ratio[layer]
    return [
        _claim(
            part, "layer_local_snr_least", estimate, ends, what, scale="number", detail=part.names[layer],
            of_pairs=True,
        )
    ]  # fmt: skip


def _half_claims(part: Part) -> list[Claim]:
    claims = []
    for name, answers in part.halves.items():
        flags = (part.reference == part.label) & (answers != part.label)
        what = f"share of the probed examples that are lost if {name} alone are rounded"
        claims.append(_claim(part, f"{name}_only_cie_u_rate", flags.mean(), share_interval(flags), what))
    return claims


def _claim(
    part: Part,
    quantity: str,
    estimate: float,
    ends: Ends,
    what: str,
    *,
    scale: str = "share",
    detail: str = "",
    of_pairs: bool = False,
) -> Claim:
    single = part.num_pairs == 1
    if single:
        how = "interval over examples (Wilson; Newcombe for a change)" if ends else "no interval: one pair of models"
    else:
        how = "t interval over pairs of the same seed" if ends else "no interval: no spread between pairs"
    of_examples = single and scale != "number" and not of_pairs
    number, unit = (part.num_examples, "example") if of_examples else (part.num_pairs, "pair")
    low, high = ends or (None, None)
    return Claim(
        quantity, part.scheme, float(estimate), low, high, number, unit, f"{what}; {how}", _CITED, scale, detail
    )
