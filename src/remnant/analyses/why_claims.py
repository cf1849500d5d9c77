"""Claims, main table and caveats of the analysis of why examples are forgotten."""

from typing import Any

import numpy as np

from remnant.analyses.why_measures import FEWEST_FOR_HALVES, LEAST_EVENTS, OUTCOMES, Model, Part
from remnant.analyses.why_words import main_model
from remnant.finding import Claim

_NAMED = (
    "reference_margin",
    "seed_disagreement",
    "label_issue",
    "influence_beyond_chance",
    "class_frequency",
    "text_length",
)
"""Factors whose odds ratios are claims; those of columns and probes of the user's are in the table."""


def scheme_rows(part: Part) -> list[dict[str, Any]]:
    """The main table: one row for each outcome."""
    rows = []
    for kind, words in OUTCOMES.items():
        model, seeds, probed = part.model(kind), part.seeds(kind), part.model(kind, probed=True)
        if model is None:
            continue
        best = _strongest(model)
        permuted = model.auc_permuted
        rows.append(
            {
                "scheme": part.comparison.scheme,
                "outcome": words,
                "examples": len(model.rows),
                "examples_with_it": model.num_events,
                "factors": len(model.factors),
                "auc": model.auc.estimate,
                "auc_low": model.auc.low,
                "auc_high": model.auc.high,
                "auc_permuted": float(permuted.mean()) if len(permuted) else np.nan,
                "auc_between_seeds": np.nan if seeds is None else seeds.auc.estimate,
                "auc_between_seeds_low": np.nan if seeds is None else seeds.auc.low,
                "auc_between_seeds_high": np.nan if seeds is None else seeds.auc.high,
                "auc_probed_examples": np.nan if probed is None else probed.auc.estimate,
                "strongest_factor": model.factors[best].name,
                "odds_ratio": float(model.ratios.estimate[best]),
                "odds_ratio_low": float(model.ratios.low[best]),
                "odds_ratio_high": float(model.ratios.high[best]),
            }
        )
    return rows


def claims_of(part: Part) -> list[Claim]:
    model = main_model(part)
    if model is None:
        return []
    scheme, what = part.comparison.scheme, OUTCOMES[model.outcome.kind]
    num, events = len(model.rows), model.num_events
    fitted = "logistic regression with Firth's penalty on what is known of each example"
    curve = f"how often {fitted} ranks an example on which {what} over one on which it does not, cross-validated"
    auc = "delong1988comparing"
    claims = [
        Claim(
            "explained_examples",
            scheme,
            events,
            None,
            None,
            num,
            "example",
            f"examples on which {what} in at least one pair{_which(part)}; a count",
        ),
        Claim(
            "explained_auc",
            scheme,
            *_ends(model),
            num,
            "example",
            f"{curve}; interval over examples by DeLong's variance",
            auc,
            "number",
        ),
    ]
    if len(model.auc_permuted):
        low, high = np.quantile(model.auc_permuted, [0.025, 0.975])
        mean, many = float(model.auc_permuted.mean()), len(model.auc_permuted)
        method = "the same with outcomes permuted among examples of as many pairs; the middle 95 % of the permutations"
        reached = int(np.count_nonzero(model.auc_permuted >= model.auc.estimate))
        claims += [
            Claim("explained_auc_null", scheme, mean, low, high, many, "permutation", method, auc, "number"),
            Claim(
                "explained_auc_p",
                scheme,
                (1 + reached) / (1 + many),
                None,
                None,
                many,
                "permutation",
                "share of permutations of the outcome with at least such an area, the true order included",
                "phipson2010permutation",
                "p",
            ),
        ]
    seeds = part.seeds(model.outcome.kind)
    if seeds is not None:
        method = f"the same for what differs between two models of the reference: how often {fitted} ranks right"
        claims.append(
            Claim("explained_auc_seeds", scheme, *_ends(seeds), len(seeds.rows), "example", method, auc, "number")
        )
    return [*claims, *_probed_claims(part, model), *_factor_claims(part, model)]


def _ends(model: Model) -> tuple[float, float, float]:
    return model.auc.estimate, model.auc.low, model.auc.high


def _which(part: Part) -> str:
    return " of those whose reference model is not among the ones that factors come from" if part.halves else ""


def _probed_claims(part: Part, model: Model) -> list[Claim]:
    probed = part.model(model.outcome.kind, probed=True)
    if probed is None:
        return []
    method = "the same on the probed examples, with what the probes measured on reference and compressed models as well"
    num = len(probed.rows)
    return [
        Claim(
            "explained_auc_probed",
            part.comparison.scheme,
            *_ends(probed),
            num,
            "example",
            method,
            "delong1988comparing",
            "number",
        )
    ]


def _factor_claims(part: Part, model: Model) -> list[Claim]:
    """The odds ratio of the strongest factor, and of each factor that every population names alike."""
    scheme, ratios = part.comparison.scheme, model.ratios
    outcome = OUTCOMES[model.outcome.kind]
    spread = "sandwich interval over examples" if model.outcome.trials.max() > 1 else "Wald interval over examples"
    chosen = {"strongest_odds_ratio": _strongest(model)}
    chosen |= {f"odds_ratio_{f.name}": place for place, f in enumerate(model.factors) if f.name in _NAMED}
    claims = []
    for quantity, place in chosen.items():
        factor = model.factors[place]
        unit = "yes against no" if factor.binary else "one standard deviation more"
        method = f"factor on the odds that {outcome} of {factor.name.replace('_', ' ')} ({unit}), all other factors "
        method += f"equal; Firth's penalized regression, {spread}; an association"
        values = (float(ratios.estimate[place]), float(ratios.low[place]), float(ratios.high[place]))
        if not np.isfinite(values).all():
            continue
        claims.append(
            Claim(
                quantity,
                scheme,
                *values,
                len(model.rows),
                "example",
                method,
                "firth1993bias",
                "number",
                factor.name.replace("_", " ") if quantity == "strongest_odds_ratio" else "",
            )
        )
    return claims


def _strongest(model: Model) -> int:
    return int(np.abs(model.ratios.z).argmax())


def caveats_of(parts: list[Part]) -> tuple[str, ...]:
    caveats = [
        "Odds ratios describe what goes together in these examples. They do not say what would happen if a factor "
        "were changed; factors that go together share what they explain.",
        "An odds ratio is by one standard deviation of its factor (yes against no for those that are one or the "
        "other), with all others equal. Above 1: more of it, more often forgotten.",
        "The reasons of a single example are the factors by which the model's odds for it exceed those of an average "
        "example: they sum up what is common, and can be wrong for the one.",
    ]
    if any(part.between_seeds for part in parts):
        caveats.append(
            "What also explains the difference between two models of the reference is not special to compression: "
            "compare each odds ratio with the one between seeds."
        )
    else:
        caveats.append(
            "There is no second model of the reference to compare: what is shown may hold of any two models."
        )
    if any(part.halves for part in parts):
        caveats.append(
            "What is measured on the reference comes from one half of its models, and lost answers from the pairs of "
            "the other half: no model explains itself. PIEs need all models and are the exception."
        )
    else:
        caveats.append(
            f"With fewer than {FEWEST_FOR_HALVES} models of the reference, factors are measured on the same models "
            "whose answers are lost: an unsure answer by accident looks like a reason, so that they seem stronger."
        )
    if any(factor.of_change for part in parts for factor in part.known.factors):
        caveats.append(
            "Factors that probes measured on compressed models as well describe the change itself; they cannot have "
            "been known before."
        )
    few = {OUTCOMES[kind]: part.comparison.scheme for part in parts for kind in part.too_few}
    if few:
        what = "; ".join(f"{scheme}: {words}" for words, scheme in few.items())
        caveats.append(f"Fewer than {LEAST_EVENTS} examples with or without it, so no model: {what}.")
    if any(model.num_events < 10 * len(model.factors) for part in parts for model in part.models):
        caveats.append("Some models have fewer than 10 events for each factor: their intervals are rough.")
    if not all(model.converged for part in parts for model in part.models):
        caveats.append(
            "Some models did not reach their maximum: events are too rare for their factors, and odds ratios are rough."
        )
    if any(part.sampled for part in parts):
        caveats.append("Models were fitted on a random sample of the examples.")
    left_out = {name: reason for part in parts for name, reason in part.known.left_out.items()}
    if left_out:
        caveats.append(f"Not used: {'; '.join(f'{name} ({reason})' for name, reason in left_out.items())}.")
    return tuple(caveats)
