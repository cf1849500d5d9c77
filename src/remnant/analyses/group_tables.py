"""Tables and claims of the analysis of groups."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from remnant.analyses.group_measures import Part, Rate, gap_null, null_p
from remnant.analyses.group_representation import KINDS, Represented
from remnant.finding import Claim

WORDS = {
    "error": "error",
    "false_positive_rate": "false positive rate",
    "false_negative_rate": "false negative rate",
}


def scheme_row(part: Part, found: list[Represented]) -> dict[str, Any]:
    """The main table: the group that pays most, the widest gap and the most over-represented group."""
    row: dict[str, Any] = {"scheme": part.comparison.scheme, "pairs": part.num_pairs}
    for name, rate in part.rates.items():
        worst, gap = _largest(rate.change, rate.tested), _largest(rate.gap_change)
        row[f"{name}_worst_group"] = None if worst is None else part.groups.name(worst)
        row[f"{name}_rise_points"] = np.nan if worst is None else 100 * rate.change[worst]
        row[f"{name}_rise_low"] = np.nan if worst is None else 100 * _highest(rate.simultaneous)[0]
        row[f"{name}_rise_high"] = np.nan if worst is None else 100 * _highest(rate.simultaneous)[1]
        row[f"{name}_widest_gap"] = None if gap is None else part.groups.slicings[gap].column
        row[f"{name}_gap_change_points"] = np.nan if gap is None else 100 * rate.gap_change[gap]
        row[f"harmed_groups_{name}"] = int(_harmed(rate).sum())
    for kind in found:
        row[f"over_represented_groups_{kind.chosen.kind}"] = int(kind.over.sum())
    return row


def rate_table(part: Part) -> pd.DataFrame:
    """One row for each group and rate, the largest rises first, those too small to be tested last."""
    frames = []
    for name, rate in part.rates.items():
        columns = {
            "scheme": part.comparison.scheme,
            "measure": WORDS[name],
            "attribute": part.groups.column,
            "level": part.groups.level,
            "examples": rate.size,
            "reference_rate": rate.before,
            "compressed_rate": rate.after,
            "change_points": 100 * rate.change,
            "change_low": 100 * rate.each[0],
            "change_high": 100 * rate.each[1],
            "p": rate.p,
            "q": rate.q,
            "harmed": _harmed(rate),
            "too_small": ~rate.tested,
            "difference_between_seeds_points": 100 * rate.between_seeds,
            "simultaneous_low_points": 100 * rate.simultaneous[0],
            "simultaneous_high_points": 100 * rate.simultaneous[1],
        }
        frames.append(pd.DataFrame(columns).loc[rate.size > 0])
    table = pd.concat(frames, ignore_index=True)
    keys = table.assign(fall=-table["change_points"]).sort_values(["too_small", "fall"], kind="stable").index
    return table.loc[keys].reset_index(drop=True)


def gap_table(part: Part) -> pd.DataFrame:
    """One row for each attribute (or pair of them) and rate: largest minus smallest rate of its groups."""
    frames = []
    for name, rate in part.rates.items():
        null = gap_null(rate, part)
        p = [np.nan if null is None else null_p(c, null[:, i], part) for i, c in enumerate(rate.gap_change)]
        columns = {
            "scheme": part.comparison.scheme,
            "measure": WORDS[name],
            "attribute": [slicing.column for slicing in part.groups.slicings],
            "groups": _tested_of(part, rate),
            "reference_gap_points": 100 * rate.gap[0],
            "compressed_gap_points": 100 * rate.gap[1],
            "change_points": 100 * rate.gap_change,
            "change_low": 100 * rate.gap_interval[0],
            "change_high": 100 * rate.gap_interval[1],
            "widening_p": p,
        }
        frames.append(pd.DataFrame(columns).loc[~np.isnan(rate.gap_change)])
    return pd.concat(frames, ignore_index=True)


def amplification_table(part: Part) -> pd.DataFrame:
    """Directional bias amplification by attribute before and after."""
    found = part.amplification
    change = found.after - found.before
    null = None if found.null is None else found.null[1] - found.null[0]
    return pd.DataFrame(
        {
            "scheme": part.comparison.scheme,
            "attribute": found.columns,
            "reference_amplification": found.before,
            "compressed_amplification": found.after,
            "amplification_change": change,
            "amplification_change_low": found.interval[0],
            "amplification_change_high": found.interval[1],
            "between_seeds": found.between_seeds,
            "rise_p": [np.nan if null is None else null_p(c, null[:, i], part) for i, c in enumerate(change)],
        }
    )


def representation_table(part: Part, found: list[Represented]) -> pd.DataFrame:
    """One row for each kind of changed examples and group, largest odds ratios first."""
    frames = []
    for kind in found:
        columns = {
            "scheme": kind.scheme,
            "among": KINDS[kind.chosen.kind],
            "attribute": part.groups.column,
            "level": part.groups.level,
            "examples": kind.size,
            "changed": kind.count,
            "expected_changed": kind.each.expected,
            "odds_ratio": kind.each.odds_ratio,
            "odds_ratio_low": kind.each.low,
            "odds_ratio_high": kind.each.high,
            "odds_ratio_null": kind.odds_ratio_null,
            "p": kind.each.p,
            "q": kind.q,
            "represented": np.where(kind.over, "over", np.where(kind.under, "under", "")),
            "too_small": ~kind.tested,
        }
        table = pd.DataFrame(columns).loc[kind.size > 0]
        order = np.lexsort((-np.nan_to_num(table["odds_ratio"].to_numpy(), nan=-1.0), table["too_small"].to_numpy()))
        frames.append(table.iloc[order])
    return pd.concat(frames, ignore_index=True)


def rate_claims(part: Part) -> list[Claim]:
    """The group that pays most, the groups that are harmed and the gap that widens most, for each rate."""
    claims = []
    for name, rate in part.rates.items():
        num, worst = int(rate.tested.sum()), _largest(rate.change, rate.tested)
        if worst is None:
            continue
        over = "examples" if part.num_pairs == 1 else "pairs and examples"
        what, interval = WORDS[name], f"paired bootstrap over {over}"
        rise = f"{what} of the compressed models minus that of the reference in the group where it rises most; "
        rise += f"{interval}, simultaneous over all {num} tested groups: that of the largest rise, wherever it is"
        size = int(rate.size[worst])
        claims.append(
            _claim(part, f"worst_group_{name}_rise", rate.change[worst], _highest(rate.simultaneous), size, rise)
            | {"detail": part.groups.name(worst)}
        )
        claims += _null_claims(
            part, f"worst_group_{name}_rise", f"largest rise of the {what} of any group", *_rise_null(rate)
        )
        highest = _largest(rate.after, rate.tested)
        if highest is not None:
            ends = rate.after_simultaneous[0][highest], rate.after_simultaneous[1][highest]
            method = f"highest {what} of any group under the compressed models; bootstrap over {over}, simultaneous "
            method += f"over all {num} tested groups"
            size = int(rate.size[highest])
            claims.append(
                _claim(part, f"worst_group_{name}", rate.after[highest], ends, size, method)
                | {"detail": part.groups.name(highest), "scale": "share"}
            )
        test = "exact McNemar tests" if part.num_pairs == 1 else "t tests over pairs and examples"
        names = [part.groups.name(int(place)) for place in np.flatnonzero(_harmed(rate))]
        method = f"tested groups whose {what} rises with q <= 0.05: {test}, Benjamini-Hochberg over groups; a count"
        claims.append(
            _claim(part, f"harmed_groups_{name}", len(names), None, num, method)
            | {"detail": _few(names), "scale": "count", "unit": "group", "citation": "benjamini1995controlling"}
        )
        claims += _gap_claims(part, name, rate, interval)
    return [Claim(**claim) for claim in claims]


def _gap_claims(part: Part, name: str, rate: Rate, interval: str) -> list[dict[str, Any]]:
    place = _largest(rate.gap_change)
    if place is None:
        return []
    what = WORDS[name]
    method = f"largest minus smallest {what} of the groups of an attribute, compressed minus reference, for the "
    method += f"attribute whose gap widens most; {interval}, simultaneous over attributes (Bonferroni)"
    ends = float(rate.gap_simultaneous[0][place]), float(rate.gap_simultaneous[1][place])
    num = int(_tested_of(part, rate)[place])
    null = gap_null(rate, part)
    widest = None if null is None else np.nanmax(null[:, ~np.isnan(rate.gap_change)], axis=1)
    claim = _claim(part, f"{name}_gap_change", rate.gap_change[place], ends, num, method)
    return [
        claim | {"detail": part.groups.slicings[place].column, "unit": "group"},
        *_null_claims(part, f"{name}_gap_change", f"widening of the gap in {what}", rate.gap_change[place], widest),
    ]


def amplification_claims(part: Part) -> list[Claim]:
    """Change of the bias amplification by the attribute where it rises most."""
    found = part.amplification
    change = found.after - found.before
    place = int(change.argmax())
    over = "examples" if part.num_pairs == 1 else "pairs and examples"
    method = "directional bias amplification from an attribute to the predicted class, compressed minus reference, for "
    method += f"the attribute where it rises most; paired bootstrap over {over}, simultaneous over attributes"
    ends = float(found.simultaneous[0][place]), float(found.simultaneous[1][place])
    num = part.comparison.first.shape[1]
    null = None if found.null is None else (found.null[1] - found.null[0]).max(axis=1)
    claim = _claim(part, "bias_amplification_change", change[place], ends, num, method)
    claims = [
        claim | {"detail": found.columns[place], "scale": "number", "citation": "wang2021directional"},
        *_null_claims(part, "bias_amplification_change", "largest rise of bias amplification", change[place], null),
    ]
    return [Claim(**({**c, "scale": "number"} if c["scale"] == "points" else c)) for c in claims]


def representation_claims(part: Part, found: list[Represented]) -> list[Claim]:
    """Numbers of over- and under-represented groups, and the largest odds ratio, for each kind of changed examples."""
    claims = []
    for kind in found:
        if kind.chosen.kind == "cie":  # in the table; those whose right answer is lost are a part of them
            continue
        words, num = KINDS[kind.chosen.kind], int(kind.tested.sum())
        for side, flags in (("over", kind.over), ("under", kind.under)):
            names = [part.groups.name(int(place)) for place in np.flatnonzero(flags)]
            method = f"tested groups that are {side}-represented among {words} with q <= 0.05: Fisher's exact test, "
            method += "Benjamini-Hochberg over groups; a count"
            claims.append(
                _claim(part, f"{side}_represented_groups_{kind.chosen.kind}", len(names), None, num, method)
                | {"detail": _few(names), "scale": "count", "unit": "group", "citation": "fisher1935design"}
            )
        place = kind.strongest
        if place is None:
            continue
        high, low = float(kind.simultaneous.high[place]), float(kind.simultaneous.low[place])
        method = f"odds of being among {words} in the group over the odds outside, for the group where they are "
        method += f"largest; exact mid-p interval, simultaneous over all {num} tested groups (Bonferroni)"
        name = f"largest_odds_ratio_{kind.chosen.kind}"
        ends = (low, high) if np.isfinite(high) else None
        more = {"detail": part.groups.name(place), "scale": "number", "citation": "agresti2001small, section 4"}
        ratio = float(kind.each.odds_ratio[place])
        claims.append(_claim(part, name, ratio, ends, int(kind.size[place]), method) | more)
        if np.isfinite(kind.odds_ratio_null[place]):
            method = f"the same odds ratio among {kind.chosen.chance}; no interval: they share models"
            by_chance = float(kind.odds_ratio_null[place])
            claims.append(_claim(part, f"{name}_null", by_chance, None, int(kind.size[place]), method) | more)
    return [Claim(**claim) for claim in claims]


def _claim(
    part: Part, quantity: str, value: float, ends: tuple[float, float] | None, n: int, method: str
) -> dict[str, Any]:
    known = ends is not None and bool(np.isfinite(ends).all())
    low, high = (float(ends[0]), float(ends[1])) if ends is not None and known else (None, None)
    return {
        "quantity": quantity,
        "subject": part.comparison.scheme,
        "estimate": float(value),
        "low": low,
        "high": high,
        "n": n,
        "unit": "example",
        "method": method,
        "citation": "owen2007pigeonhole",
        "scale": "points",
    }


def _null_claims(
    part: Part, quantity: str, words: str, observed: float, null: NDArray[np.float64] | None
) -> list[dict[str, Any]]:
    """Mean and middle 95 % of what rearranged models give, and the share of them with at least as much."""
    if null is None or part.exchange is None:
        return []
    low, high = np.quantile(null, [0.025, 0.975])
    how = f"{part.exchange.method}, {part.exchange.reason}"
    mean = f"mean {words} with {how}; the middle 95 % of the rearrangements"
    share = f"share of rearrangements with at least as large a {words}: {how}"
    source = {"n": len(null), "unit": "permutation", "citation": "phipson2010permutation"}
    p = null_p(observed, null, part)
    return [
        _claim(part, f"{quantity}_null", float(null.mean()), (float(low), float(high)), 0, mean) | source,
        _claim(part, f"{quantity}_p", p, None, 0, share) | source | {"scale": "p"},
    ]


def _rise_null(rate: Rate) -> tuple[float, NDArray[np.float64] | None]:
    """Largest change of the tested groups, and the same under each rearrangement."""
    observed = float(rate.change[rate.tested].max())
    return observed, None if rate.null is None else (rate.null[1] - rate.null[0])[:, rate.tested].max(axis=1)


def _highest(span: tuple[NDArray[np.float64], NDArray[np.float64]]) -> tuple[float, float]:
    """Interval of the largest true change: if all intervals hold, it lies between the largest ends."""
    return float(np.nanmax(span[0])), float(np.nanmax(span[1]))


def _largest(values: NDArray[np.float64], kept: NDArray[np.bool_] | None = None) -> int | None:
    """Place of the largest value that is known (and kept)."""
    known = ~np.isnan(values) if kept is None else ~np.isnan(values) & kept
    return int(np.where(known, values, -np.inf).argmax()) if known.any() else None


def _harmed(rate: Rate) -> NDArray[np.bool_]:
    return (np.nan_to_num(rate.q, nan=1) <= 0.05) & (rate.change > 0)


def _tested_of(part: Part, rate: Rate) -> NDArray[np.int64]:
    """Number of tested groups of each partition."""
    return np.bincount(part.groups.partition, weights=rate.tested, minlength=len(part.groups.slicings)).astype(int)


def _few(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
