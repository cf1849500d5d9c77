"""Whether the examples that compression changes lean on single, atypical training examples."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from remnant.analyses import long_tail_tables as tables
from remnant.analyses.panels import SERIES, panels, short
from remnant.analyses.subset_trials import SubsetTrials, reference_subsets
from remnant.finding import Analysis, Claim, Finding, NotApplicable
from remnant.population import schemes
from remnant.stats.influence_null import orders

QUESTION = "Are the examples that compression changes in the long tail: influenced by single training examples?"
PAPER = "dam2023understanding, algorithm 1"


def run(
    population: xr.Dataset,
    *,
    scheme: str | None = None,
    memorized: float = 0.25,
    top: int = 5,
    permutations: int = 100,
    gallery: int = 24,
    seed: int = 0,
) -> Finding:
    """Compression-impacted exemplars (CIEs) against other examples by their influences: the paper's test, and one
    that holds up.

    The primary statistic of the calibrated test is the mean of the `top` largest influences of training examples
    of the same class, with the share of pairs of models that differ on an example as its weight.

    Parameters
    ----------
    scheme
        Whose trials on random training subsets give the influences; default "dense" if it has some.
    memorized
        Memorization from which on a training example counts as memorized.
    top
        Number of largest influences that are averaged.
    permutations
        Random orders of the trials that calibrate the tests.
    gallery
        Number of examples to show.
    """
    label, trials = reference_subsets(population, scheme)
    compared, unpaired = _compared(population)
    data = SubsetTrials.of(label, trials, memorized)
    order = orders(np.random.default_rng(seed), data.num_trials, permutations)
    found, fixed = tables.statistics(data, order, top)
    tests = tables.test_table(data, found, compared)
    means = tables.mean_table(data, found, fixed)
    counts = tables.count_table(compared)
    most = max(compared, key=lambda scheme: scheme.kinds["cie"].sum())
    parameters = {"scheme": label, "memorized": memorized, "top": top, "permutations": permutations}
    return Finding(
        analysis="long_tail",
        question=QUESTION,
        parameters=parameters | {"gallery": gallery, "seed": seed},
        claims=tuple(_mean_claims(means, data) + [c for s in compared for c in _claims(tests, s, top, permutations)]),
        tables={
            "tests": tests,
            "counts": counts,
            "mean_influence": means,
            "mean_influence_histogram": tables.histogram_table(data),
        },
        caveats=_caveats(data, tests, found, fixed, unpaired),
        galleries={
            f"Changed by {most.scheme}, with the training example of the highest influence": tables.gallery(
                data, most, gallery
            )
        },
        cites=ANALYSIS.cites,
    )


def _compared(population: xr.Dataset) -> tuple[list[tables.Mismatches], list[str]]:
    """Mismatches of each scheme, and the schemes without a seed in common with the dense models."""
    others = [label for label in schemes(population) if label != "dense"]
    found = {label: tables.Mismatches.of(population, label) for label in others}
    compared = [mismatches for mismatches in found.values() if mismatches is not None]
    if not compared:
        raise NotApplicable(
            "Needs models trained on the whole training set: dense ones and compressed ones of the same seeds. "
            "Give the study `schemes` and `seeds`."
        )
    return compared, [label for label, mismatches in found.items() if mismatches is None]


def _claims(tests: Any, scheme: tables.Mismatches, top: int, permutations: int) -> list[Claim]:
    of_scheme = tests[(tests["scheme"] == scheme.scheme) & (tests["type"] == "CIE")]
    claims = []
    paper = of_scheme[of_scheme["statistic"] == tables.MEAN]
    paper = paper[paper["t"].notna()] if "t" in paper else paper.iloc[:0]
    for row in paper.to_dict(orient="records"):
        n, method = int(row["cases"] + row["controls"]), "first pair of models; Student's t, CIEs against the rest"
        values = [
            ("long_tail_t", row["t"], f"mean influence over all training examples, {method}", "number"),
            ("long_tail_t_p", row["t_p"], f"of that t, {method}; no interval", "p"),
        ]
        if np.isfinite(row.get("t_spread_by_chance", np.nan)):
            method = "standard deviation of that t over random orders of the trials; 1 if Student's t held"
            values.append(("long_tail_t_spread", row["t_spread_by_chance"], method, "number"))
        claims += [
            Claim(name, scheme.scheme, float(value), None, None, n, "example", method, PAPER, scale)
            for name, value, method, scale in values
        ]
    primary = of_scheme[(of_scheme["statistic"] == tables.PRIMARY) & (of_scheme["models"] == tables.ALL_PAIRS)]
    for row in primary[primary["auc"].notna()].to_dict(orient="records"):
        n = int(row["testable_cases"])
        what = (
            f"mean of the {top} highest influences of the same class, as a percentile among random orders of the trials"
        )
        method = f"probability that a CIE has a higher one than another example; {what}; over all pairs of models"
        auc = Claim(
            "long_tail_auc",
            scheme.scheme,
            row["auc"],
            row["auc_low"],
            row["auc_high"],
            n,
            "example",
            method,
            "delong1988comparing",
            "number",
        )
        method = f"of that probability against 0.5, from {permutations} random orders of the trials"
        claims.append(auc)
        claims.append(Claim("long_tail_p", scheme.scheme, row["p"], None, None, n, "example", method, "", "p"))
        method = f"{method}; Benjamini-Hochberg over all tests of the table"
        q = Claim(
            "long_tail_q", scheme.scheme, row["q"], None, None, n, "example", method, "benjamini1995controlling", "p"
        )
        claims.append(q)
    return claims


def _mean_claims(means: pd.DataFrame, data: SubsetTrials) -> list[Claim]:
    """How degenerate the paper's statistic is."""
    row = means.iloc[0]
    claims = []
    largest = row.get("largest", np.nan)
    if np.isfinite(largest):
        text = "largest size of the mean influence over all training examples on a test example"
        claims.append(
            Claim(
                "mean_influence_largest",
                data.label,
                float(largest),
                None,
                None,
                len(data.labels),
                "example",
                text,
                PAPER,
                "number",
            )
        )
    ratio = row.get("spread", np.nan) / row.get("spread_by_chance", np.nan)
    if np.isfinite(ratio):
        text = (
            "standard deviation over test examples of the mean influence, over the same after random orders of the "
            "trials; 1 = nothing but noise"
        )
        claims.append(
            Claim(
                "mean_influence_spread_ratio",
                data.label,
                float(ratio),
                None,
                None,
                len(data.labels),
                "example",
                text,
                PAPER,
                "number",
            )
        )
    return claims


def _caveats(
    data: SubsetTrials, tests: Any, found: dict[str, Any], fixed: list[str], unpaired: list[str]
) -> tuple[str, ...]:
    caveats = [
        "The t test of the paper treats test examples as independent and mean influence as their property. All of "
        "them share the same trials, and CIEs have accuracies at which estimates are noisier: read the calibrated "
        "test, which ranks each example among random orders of its own outcomes.",
        "Test examples on which all trials are right, or all wrong, have no influence to test and are not compared.",
    ]
    if tables.MEAN in fixed:
        caveats.append(
            "All training subsets have one size, so the mean influence over all training examples is 0 but for the "
            "unequal numbers of subsets that hold an example: the paper's statistic carries no signal here."
        )
    if tables.MEAN not in found:
        caveats.append(
            "Every example is in as many subsets, too, so that mean is exactly 0 and the paper's test is undefined."
        )
    if tables.SAME_CLASS_MEAN in fixed:
        caveats.append(
            "Subsets hold a fixed number of every class, so the mean influence of the same class carries no signal "
            "either and is not tested."
        )
    if not data.memorized.any():
        caveats.append("No training example is memorized: statistics over memorized examples are undefined.")
    if unpaired:
        caveats.append(f"No seed in common with the dense models, so not compared: {', '.join(unpaired)}.")
    primary = tests[(tests["statistic"] == tables.PRIMARY) & (tests["models"] == tables.ALL_PAIRS)]
    if few := primary[(primary["type"] == "CIE") & primary["auc"].isna()]["scheme"].tolist():
        caveats.append(
            f"Too few testable examples that compression changes, or that it leaves, for a test: {', '.join(few)}."
        )
    return tuple(caveats)


def plot(finding: Finding) -> Any:
    """Calibrated effect by scheme, the paper's t, counts of CIEs and distributions of mean influence."""
    tests: Any = finding.tables["tests"]
    counts: Any = finding.tables["counts"]
    labels = list(dict.fromkeys(counts["scheme"]))
    height = 0.9 + 0.5 * len(labels)
    upper, middle, lower, bottom = panels(height + 0.2, height, height, 2.4)
    primary = tests[(tests["statistic"] == tables.PRIMARY) & (tests["models"] == tables.ALL_PAIRS)]
    paper = tests[(tests["statistic"] == tables.MEAN) & tests["t"].notna()] if "t" in tests else tests.iloc[:0]
    for place, name in enumerate(tables.TYPES.values()):
        shift = (place - 1) * 0.24
        for axes, frame, draw in ((upper, primary, _effect), (middle, paper, _bars), (lower, counts, _counts)):
            part = frame[frame["type"] == name].set_index("scheme").reindex(labels)
            draw(axes, part, np.arange(len(labels)) + shift, SERIES[place], name)
    for axes in (upper, middle, lower):
        axes.set_yticks(range(len(labels)), [short(label) for label in labels])
        axes.set_ylim(len(labels) - 0.5, -0.5)
    upper.axvline(0.5, color="#777777", linewidth=0.8)
    upper.set_title("Calibrated: more influenced than other examples?", fontsize=9)
    upper.set_xlabel("probability of superiority (0.5: no difference)")
    upper.figure.legend(*upper.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside upper center")
    middle.axvline(0, color="#777777", linewidth=0.8)
    middle.set_title("The paper's way: mean influence over all training examples", fontsize=9)
    middle.set_xlabel("Student's t (* p ≤ 0.05)")
    lower.set_xlabel("examples changed, mean over pairs of models")
    _histograms(bottom, finding.tables["mean_influence_histogram"])
    return upper


def _effect(axes: Any, part: pd.DataFrame, rows: Any, colour: str, name: str) -> None:
    reach = np.nan_to_num(np.stack([part["auc"] - part["auc_low"], part["auc_high"] - part["auc"]]))
    axes.errorbar(
        part["auc"], rows, xerr=reach, linestyle="none", marker="o", markersize=4, color=colour, capsize=2, label=name
    )


def _bars(axes: Any, part: pd.DataFrame, rows: Any, colour: str, name: str) -> None:
    if "t" not in part:
        return
    axes.barh(rows, part["t"].fillna(0), height=0.2, color=colour)
    for row, t, p in zip(rows, part["t"], part["t_p"], strict=True):
        if p <= 0.05:
            axes.text(t, row, "*", va="center", ha="left" if t > 0 else "right", fontsize=11)


def _counts(axes: Any, part: pd.DataFrame, rows: Any, colour: str, name: str) -> None:
    axes.barh(rows, part["mean_per_pair"].fillna(0), height=0.2, color=colour)


def _histograms(axes: Any, frame: pd.DataFrame) -> None:
    for place, (what, part) in enumerate(frame.groupby("over", sort=False)):
        edges = np.append(part["mean_influence_low"].to_numpy(), part["mean_influence_high"].to_numpy()[-1])
        axes.stairs(part["count"], edges, color=SERIES[place], linewidth=1.4, label=f"over {what}")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.5)
    axes.set_xlabel("mean influence")
    axes.set_ylabel("examples")
    axes.legend(frameon=False, fontsize=8)


ANALYSIS = Analysis(
    name="long_tail",
    question=QUESTION,
    run=run,
    plot=plot,
    needs=("included", "train_correct", "train_label", "logits", "label"),
    cites=("dam2023understanding", "feldman2020what", "delong1988comparing", "benjamini1995controlling"),
    pace=18,
)
