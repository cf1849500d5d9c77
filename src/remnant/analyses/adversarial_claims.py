"""Claims on accuracy under attack and on attacks that transfer."""

from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from remnant.analyses.adversarial_measures import BLACK_BOX, GRADIENT, Pairs, Side, Transfer
from remnant.analyses.comparison import mean_claim
from remnant.finding import Claim
from remnant.stats.equivalence import tango_interval
from remnant.stats.rates import wilson
from remnant.stats.trial_intervals import mean_interval

_ZHAO = "zhao2018compress, section 3"
_STRONG = "croce2020reliable, section 6"
_MASKED = "athalye2018obfuscated, section 3.1"


def budget_text(budget: float) -> str:
    """A budget as reports print it, such as "2/255"."""
    return f"{budget:g}/255"


def accuracy_claims(found: Pairs, place: int) -> list[Claim]:
    """Accuracy of both sides under the strongest attack at one budget, its change, and the mean over budgets."""
    first, second = found.right()
    budget, scheme = budget_text(found.reference.budgets[place]), found.scheme
    attacks = ", ".join(found.attacks)
    how = f"still right within {budget} under each of {attacks}"
    of_side = "share of examples that {} models are " + how
    claims = [
        _share("attacked_accuracy_reference", scheme, first[..., place], of_side.format("reference")),
        _share("attacked_accuracy", scheme, second[..., place], of_side.format("compressed")),
        change_claim("attacked_accuracy_change", scheme, first[..., place], second[..., place], how, budget),
        change_claim(
            "clean_accuracy_change", scheme, first[..., 0], second[..., 0], "right on the unchanged images probed", ""
        ),
        _mean_change(scheme, first[..., 1:], second[..., 1:], attacks),
    ]  # fmt: skip
    return claims


def change_claim(
    quantity: str, scheme: str, first: NDArray[np.bool_], second: NDArray[np.bool_], how: str, detail: str
) -> Claim:
    """Share of (pair, example) that the compressed models are right minus that of the reference models, in points."""
    method = f"share of examples that compressed models are {how}, minus that of the reference model of the same seed"
    changes = second.mean(axis=1) - first.mean(axis=1)
    if len(changes) > 1:
        claim = mean_claim(quantity, scheme, changes, "pair", method=method, citation=_ZHAO, scale="points")
        return replace(claim, detail=detail)
    lost, gained = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = tango_interval(lost, gained, first.size)
    method += "; one pair: Tango's score interval over examples, which does not hold the noise of training"
    ends = float(low), float(high)
    return Claim(quantity, scheme, float(changes[0]), *ends, first.size, "example", method, _ZHAO, "points", detail)


def _mean_change(scheme: str, first: NDArray[np.bool_], second: NDArray[np.bool_], attacks: str) -> Claim:
    """Mean change over budgets, which depends on no choice of one."""
    method = f"change of accuracy under the strongest of {attacks}, mean over the budgets probed"
    by_example = second.mean(axis=2) - first.mean(axis=2)
    values, unit = (by_example.mean(axis=1), "pair") if len(by_example) > 1 else (by_example[0], "example")
    return mean_claim("attacked_accuracy_mean_change", scheme, values, unit, method=method, scale="points")


def _share(quantity: str, scheme: str, right: NDArray[np.bool_], method: str) -> Claim:
    if len(right) > 1:
        return mean_claim(quantity, scheme, right.mean(axis=1), "pair", method=method, citation=_STRONG)
    low, high = wilson(int(right.sum()), right.size)
    method += "; one pair: Wilson's interval over examples"
    return Claim(
        quantity, scheme, float(right.mean()), float(low), float(high), right.size, "example", method, _STRONG, "share"
    )


def transfer_claims(scheme: str, found: dict[str, Transfer], place: int, budget: float) -> list[Claim]:
    """Share of attacks on one model of a pair that fool the other, both ways."""
    claims = []
    for direction, counts in found.items():
        source, other = ("reference", "compressed") if direction == "from reference" else ("compressed", "reference")
        method = f"of the examples that both models get right and PGD within {budget_text(budget)} breaks on the "
        method += f"{source} model, share that the {other} model of the same seed gets wrong on the same images"
        quantity = f"transfer_{direction.replace(' ', '_')}"
        claims += rate_claim(quantity, scheme, counts, place, method)
    return claims


def seed_transfer_claims(reference: str, counts: Transfer | None, place: int, budget: float) -> list[Claim]:
    """Share of attacks on a reference model that fool the reference model of another seed."""
    if counts is None:
        return []
    method = (
        f"of the examples that both reference models get right and PGD within {budget_text(budget)} breaks on one, "
    )
    method += "share that the one of another seed gets wrong on the same images"
    return rate_claim("transfer_between_seeds", reference, counts, place, method)


def rate_claim(quantity: str, subject: str, counts: Transfer, place: int, method: str) -> list[Claim]:
    """The mean over pairs of a transfer rate as a claim; none where no example is eligible."""
    rates = counts.rates(place)
    if not len(rates):
        return []
    if len(rates) > 1:
        return [mean_claim(quantity, subject, rates, "pair", method=method, citation=_ZHAO)]
    fooled, eligible = int(counts.fooled[:, place].sum()), int(counts.eligible[:, place].sum())
    low, high = wilson(fooled, eligible)
    method += "; one pair: Wilson's interval over examples"
    ends = float(low), float(high)
    return [Claim(quantity, subject, float(rates[0]), *ends, eligible, "example", method, _ZHAO, "share")]


def seed_claims(base: Side, right: NDArray[np.bool_], place: int) -> list[Claim]:
    """How much the accuracy under attack of two reference models differs: what a change has to be held against."""
    if len(right) < 2:
        return []
    accuracy = right[..., place].mean(axis=1)
    differences = [abs(a - b) for a, b in combinations(accuracy.tolist(), 2)]
    budget = budget_text(base.budgets[place])
    method = f"mean absolute difference of two reference models of different seeds in their accuracy within {budget} "
    method += "under the strongest attack; no interval: models are in several of these pairs"
    quantity, estimate = "attacked_accuracy_seed_difference", float(np.mean(differences))
    return [Claim(quantity, base.scheme, estimate, None, None, len(accuracy), "trial", method, "", "points", budget)]


def masked_claims(found: Pairs) -> list[Claim]:
    """Whether gradients are masked: models whose own could not be followed, and what attacks without them find."""
    side, check = found.compressed, found.check
    count = int((side.gradient > 1).any(axis=1).sum())
    method = "models whose gradients do not say how answers change, so that attacks followed others; a count"
    followed = ", ".join(name for name in check.followed if name != "own")
    claims = [
        Claim(
            "masked_gradient_models",
            side.scheme,
            count,
            None,
            None,
            len(side.seeds),
            "trial",
            method,
            _MASKED,
            "count",
            followed,
        )
    ]
    if np.isfinite(check.p).any():
        claims.append(_black_box_claim(found))
    return claims


def _black_box_claim(found: Pairs) -> Claim:
    """What attacks without gradients break at the budget where they outdo attacks with gradients the most."""
    side, check = found.compressed, found.check
    place = int(np.nanargmax(np.where(np.isfinite(check.p), check.black_box_only - check.gradients_only, np.nan)))
    size = len(side.seeds) * len(side.label)
    black_box, along = (" and ".join(name for name in names if side.has(name)) for names in (BLACK_BOX, GRADIENT))
    method = f"share of examples that {black_box} break within {budget_text(side.budgets[place])} but {along} do not, "
    method += f"beside {check.gradients_only[place] / size:.2%} the other way round; McNemar's exact "
    method += f"p = {check.p[place]:.2g} over examples of all models; no interval: a check of the attacks"
    outdone = "gradients are outdone" if check.outdone[place] else ""
    share = float(check.black_box_only[place] / size)
    return Claim("black_box_only", side.scheme, share, None, None, size, "example", method, _MASKED, "share", outdone)


def interval_of(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Change of the share right (pair, example) with its interval: over pairs, of one pair over examples."""
    changes = second.mean(axis=1) - first.mean(axis=1)
    if len(changes) > 1:
        found = mean_interval(changes)
        return float(found.estimate), float(found.low), float(found.high)
    low, high = tango_interval(int((first & ~second).sum()), int((second & ~first).sum()), first.size)
    return float(changes[0]), float(low), float(high)
