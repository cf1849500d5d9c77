"""How many trials each estimator of memorization and of high-influence pairs takes: see estimators.md.

    python docs/results/estimators.py STORE --out docs/results/estimators-digits

STORE holds trials of one recipe on random training subsets of the design "fixed". Each repetition makes estimates from
the first trials of a random block of `--block`, and the truth, by the plain 0/1 estimate, from all trials outside the
block. Prints Markdown tables, and writes OUT.json and OUT.png. `--arrays FILE.npz` keeps what was read from the store,
or is read instead of a store if it exists.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from remnant.answers import predicted
from remnant.stats import influence as plain
from remnant.stats.influence_adjustment import Effects, adjustment
from remnant.stats.influence_estimators import (
    adjusted_influence,
    combined_influence,
    margin_similarity,
    probability_above,
    similarity_group,
)
from remnant.stats.memorization_estimators import combined_memorization
from remnant.store import Store

NUMBERS = (50, 100, 200, 400, 800)
GRID = (50, 71, 100, 141, 200, 283, 400, 566, 800, 1131, 1600)
"""Numbers of trials at which the plain estimate is measured, to say how many it takes for what another one reaches."""


@dataclass(frozen=True)
class Trials:
    included: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    margin: NDArray[np.float32]
    train_correct: NDArray[np.bool_]
    train_margin: NDArray[np.float32]
    labels: NDArray[np.integer]
    train_labels: NDArray[np.integer]
    pictures: NDArray[np.float32] | None
    train_pictures: NDArray[np.float32] | None

    def take(self, rows: Any) -> "Trials":
        kept = (self.included, self.correct, self.margin, self.train_correct, self.train_margin)
        rest = (self.labels, self.train_labels, self.pictures, self.train_pictures)
        return Trials(*(array[rows] for array in kept), *rest)  # pyright: ignore[reportCallIssue]

    def first(self, number: int | None) -> "Trials":
        """The first test examples only."""
        pictures = None if self.pictures is None else self.pictures[:number]
        correct, margin = self.correct[:, :number], self.margin[:, :number]
        return replace(self, correct=correct, margin=margin, labels=self.labels[:number], pictures=pictures)

    def __len__(self) -> int:
        return len(self.included)


Blocks = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
"""Test and training examples of each class."""


def main() -> None:
    options = arguments()
    trials = load(options).first(options.tests)
    classes = np.unique(trials.labels)
    blocks = [(np.flatnonzero(trials.labels == c), np.flatnonzero(trials.train_labels == c)) for c in classes]
    found = {"facts": facts(trials, blocks, options), "runs": []}
    for repetition, (used, kept) in enumerate(splits(len(trials), options.block, options.repetitions)):
        truth = trials.take(kept)
        true_pairs = pairs_of(truth, blocks)
        true_memorization = plain.memorization(truth.train_correct, truth.included)
        for number in (n for n in GRID if n <= options.block):
            part = trials.take(used[:number])
            scores = measured(part, blocks, true_pairs, true_memorization, only_plain=number not in NUMBERS)
            found["runs"] += [{"repetition": repetition, "trials": number, **score} for score in scores]
        print(f"{repetition + 1} of {options.repetitions}", flush=True)
    Path(f"{options.out}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(tables(found))
    draw(found, f"{options.out}.png")


def splits(total: int, block: int, repetitions: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Trials that are estimated from, in blocks that do not overlap while there are some, and all others: the truth."""
    found = []
    for order_number in range(repetitions):
        order = np.random.default_rng(order_number).permutation(total)
        for start in range(0, total - block + 1, block):
            found.append((order[start : start + block], np.delete(order, slice(start, start + block))))
    return found[:repetitions]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Curves of estimators against trials.")
    parser.add_argument("store", nargs="?")
    parser.add_argument("--tests", type=int, help="use the first so many test examples only")
    parser.add_argument("--block", type=int, default=1600)
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--arrays", type=Path)
    parser.add_argument("--out", default="estimators")
    return parser.parse_args()


def load(options: argparse.Namespace) -> Trials:
    if options.arrays and options.arrays.exists():
        data = np.load(options.arrays)
    else:
        data = read(Store(options.store))
        if options.arrays:
            np.savez(options.arrays, **data)  # pyright: ignore[reportArgumentType]
    labels, train_labels = data["labels"], data["train_labels"]
    included = np.unpackbits(data["included"], axis=1, count=len(train_labels)).astype(bool)
    margin, train_margin = data["margin"].astype(np.float32), data["train_margin"].astype(np.float32)
    correct = np.unpackbits(data["correct"], axis=1, count=len(labels)).astype(bool)
    train_correct = np.unpackbits(data["train_correct"], axis=1, count=len(train_labels)).astype(bool)
    pictures = [data[name].astype(np.float32) if name in data else None for name in ("test", "train")]
    return Trials(included, correct, margin, train_correct, train_margin, labels, train_labels, *pictures)


def read(store: Store) -> dict[str, NDArray]:
    """Answers, margins and subsets of all trials of the design "fixed"; pictures where the store has them."""
    trials = [t for t in store.trials() if t.subset is not None and t.subset.design == "fixed"]
    fingerprint = store.manifest(trials[0])["dataset"]
    _, examples = store.dataset(fingerprint)
    labels, train_labels = examples["test_labels"], examples["train_labels"]
    rows: dict[str, list] = {name: [] for name in ("included", "margin", "correct", "train_margin", "train_correct")}
    every = np.arange(len(labels))
    for trial in sorted(trials, key=lambda trial: trial.seed):
        arrays = store.read(trial)
        logits = arrays["logits"]
        others = logits.copy()
        others[every, labels] = -np.inf
        rows["included"].append(arrays["included"])
        rows["margin"].append((logits[every, labels] - others.max(axis=1)).astype(np.float16))
        rows["correct"].append(np.packbits(predicted(arrays) == labels))
        rows["train_margin"].append(arrays["train_margin"])
        rows["train_correct"].append(np.packbits(arrays["train_prediction"] == train_labels))
    found = {name: np.stack(values) for name, values in rows.items()}
    found |= {"labels": labels, "train_labels": train_labels}
    pictures = {split: store.pictures(fingerprint, split) for split in ("test", "train")}
    return found | {split: flat(images) for split, images in pictures.items() if images is not None}


def flat(images: NDArray) -> NDArray[np.float16]:
    return (images.reshape(len(images), -1) / 255).astype(np.float16)


def pairs_of(trials: Trials, blocks: Blocks) -> NDArray[np.float64]:
    """Plain influence of all pairs of one class, one after the other."""
    return joined(blocks, lambda j, i: plain.influence(trials.correct[:, j], trials.included[:, i]).value)


def joined(blocks: Blocks, function: Callable[[NDArray, NDArray], NDArray]) -> NDArray[np.float64]:
    return np.concatenate([function(j, i).ravel() for j, i in blocks])


def measured(
    part: Trials, blocks: Blocks, true_pairs: NDArray, truth: plain.Estimate, *, only_plain: bool
) -> list[dict[str, Any]]:
    """Each estimator's errors on one set of trials."""
    own = plain.memorization(part.train_correct, part.included)
    by_answers = pairs_of(part, blocks)
    found = [{"estimator": "plain", **memorization_scores(own.value, truth), **pair_scores(by_answers, true_pairs)}]
    if only_plain:
        return found
    memorization = combined_memorization(part.train_correct, part.train_margin, part.included).value
    found.append({"estimator": "answers and margins", **memorization_scores(memorization, truth)})
    effects = [combined_influence(part.correct[:, j], part.margin[:, j], part.included[:, i]) for j, i in blocks]
    found[-1] |= pair_scores(flat_values(effects), true_pairs)
    given = adjustment(part.included, memorization)
    adjusted = [adjusted_influence(part.correct[:, j], part.margin[:, j], given, i) for j, i in blocks]
    found.append({"estimator": "adjusted", **pair_scores(flat_values(adjusted), true_pairs)})
    clipped = np.clip(part.margin, -5, 5)
    z = joined(blocks, lambda j, i: np.nan_to_num(plain.influence(clipped[:, j], part.included[:, i]).z))
    found.append({"estimator": "plain x z of margins", **ranking_scores(by_answers * np.maximum(z, 0), true_pairs)})
    none: Callable[[NDArray, NDArray], NDArray | None] = lambda j, i: None  # noqa: E731
    margins = lambda j, i: similarity_group(margins_alike(part, j, i))  # noqa: E731
    pictures = lambda j, i: similarity_group(pictures_alike(part, j, i))  # noqa: E731
    posteriors = [("posterior", effects, none), ("posterior, adjusted", adjusted, none)]
    posteriors += [("posterior, adjusted, similar margins", adjusted, margins)]
    if part.pictures is not None:
        posteriors += [("posterior, adjusted, similar pictures", adjusted, pictures)]
    for name, effect, group in posteriors:
        groups = [group(j, i) for j, i in blocks]
        found.append({"estimator": name, **posterior_scores(effect, groups, memorization, blocks, true_pairs)})
    return found


def posterior_scores(
    effects: list[Effects], groups: list, memorization: NDArray, blocks: Blocks, true_pairs: NDArray
) -> dict[str, float]:
    """Average precision of the ranking by the probability of an influence above the threshold that is asked for."""
    joint = Effects(flat_values(effects), np.concatenate([effect.standard_error.ravel() for effect in effects]))
    scale = joined(blocks, lambda j, i: np.broadcast_to(memorization[i], (len(j), len(i))))
    group = None if groups[0] is None else np.concatenate([part.ravel() for part in groups])
    found = {}
    for measure, threshold in (("precision_high", 0.15), ("precision_tenth", 0.1)):
        score = probability_above(joint, threshold, memorization=scale, group=group)
        found[measure] = ranking_scores(score, true_pairs)[measure]
        if measure == "precision_high":
            likely = np.nan_to_num(score) >= 0.5
            found |= {"likely": int(likely.sum()), "likely_expected": float(score[likely].sum())}
            found["likely_true"] = int((likely & (true_pairs >= threshold)).sum())
    return found


def flat_values(effects: list[Effects]) -> NDArray[np.float64]:
    return np.concatenate([effect.value.ravel() for effect in effects])


def margins_alike(part: Trials, j: NDArray, i: NDArray) -> NDArray:
    return margin_similarity(part.margin[:, j], part.train_margin[:, i], part.included[:, i])


def pictures_alike(part: Trials, j: NDArray, i: NDArray) -> NDArray:
    """Minus the squared Euclidean distance of the pixels, up to what is the same for a test example."""
    assert part.pictures is not None
    assert part.train_pictures is not None
    return 2 * part.pictures[j] @ part.train_pictures[i].T - (part.train_pictures[i] ** 2).sum(axis=1)


def memorization_scores(value: NDArray, truth: plain.Estimate) -> dict[str, float]:
    """Root mean squared error, the noise of the truth taken off, and rank correlation."""
    both = np.isfinite(value) & np.isfinite(truth.value)
    squared = np.mean((value - truth.value)[both] ** 2) - np.mean(truth.standard_error[both] ** 2)
    some = both & (truth.value >= 0.05)
    return {
        "memorization_error": float(np.sqrt(max(squared, 0))),
        "memorization_rank": float(spearmanr(value[both], truth.value[both])[0]),
        "memorization_rank_of_memorized": float(spearmanr(value[some], truth.value[some])[0]),
    }


def pair_scores(value: NDArray, truth: NDArray) -> dict[str, float]:
    high = truth >= 0.15
    value = np.nan_to_num(value)
    return {
        **ranking_scores(value, truth),
        "error_high": float(np.sqrt(np.mean((value - truth)[high] ** 2))),
        "error_all": float(np.sqrt(np.mean((value - truth) ** 2))),
    }


def ranking_scores(score: NDArray, truth: NDArray) -> dict[str, float]:
    score = np.nan_to_num(score)
    return {
        "precision_high": average_precision(score, truth >= 0.15),
        "precision_tenth": average_precision(score, truth >= 0.1),
    }


def average_precision(score: NDArray, true: NDArray[np.bool_]) -> float:
    """Mean over the true pairs of the share of true ones among those ranked as high; equal scores share places."""
    if not true.any():
        return float("nan")
    above = rankdata(-score[true], method="max")
    place = len(score) - np.searchsorted(np.sort(score), score[true], side="left")
    return float(np.mean(above / place))


def facts(trials: Trials, blocks: Blocks, options: argparse.Namespace) -> dict[str, float]:
    """What all trials say, and how well one half of them finds the pairs of the other."""
    pairs, own = pairs_of(trials, blocks), plain.memorization(trials.train_correct, trials.included)
    memorized = joined(blocks, lambda j, i: np.broadcast_to(own.value[i] >= 0.25, (len(j), len(i)))).astype(bool)
    halves = [trials.take(slice(0, None, 2)), trials.take(slice(1, None, 2))]
    first, second = (pairs_of(half, blocks) for half in halves)
    mems = [plain.memorization(half.train_correct, half.included).value for half in halves]
    return {
        "trials": len(trials),
        "trials of a truth": len(trials) - options.block,
        "largest standard error of a true influence": plain.worst_standard_error(
            len(trials) - options.block, float(trials.included.mean())
        ),
        "repetitions": options.repetitions,
        "training examples": len(trials.train_labels),
        "test examples": len(trials.labels),
        "test accuracy": float(trials.correct.mean()),
        "training accuracy": float(trials.train_correct[trials.included].mean()),
        "mean memorization": float(np.nanmean(own.value)),
        "training examples with memorization >= 0.25": int(np.count_nonzero(own.value >= 0.25)),
        "pairs of one class": len(pairs),
        "pairs with influence >= 0.15": int(np.count_nonzero(pairs >= 0.15)),
        "of these with memorization >= 0.25": int(np.count_nonzero((pairs >= 0.15) & memorized)),
        "pairs with influence >= 0.1": int(np.count_nonzero(pairs >= 0.1)),
        "half against half: average precision (0.15)": average_precision(first, second >= 0.15),
        "half against half: average precision (0.1)": average_precision(first, second >= 0.1),
        "half against half: rank correlation of memorization": float(spearmanr(mems[0], mems[1])[0]),
    }


def values(found: dict, estimator: str, number: int, measure: str) -> NDArray[np.float64]:
    rows = [run for run in found["runs"] if run["estimator"] == estimator and run["trials"] == number]
    return np.array([row[measure] for row in rows if measure in row])


def estimators(found: dict, measure: str) -> list[str]:
    return list(dict.fromkeys(run["estimator"] for run in found["runs"] if measure in run))


def gain(found: dict, estimator: str, number: int, measure: str) -> tuple[float, float, float, bool]:
    """Trials that the plain estimate takes over those of another one: mean, 95 % interval, and whether it is a bound.

    Plain curves go through the means over orders, between numbers of trials on a logarithmic axis. The interval is
    from resampling orders for both; beyond the last number the ratio counts as that number's.
    """
    grid = [n for n in GRID if len(values(found, "plain", n, measure))]
    curves = np.stack([values(found, "plain", n, measure) for n in grid])
    reached = values(found, estimator, number, measure)
    falling = "error" in measure
    rng = np.random.default_rng(0)
    count = len(reached)
    ratios, bounded = [], False
    for draw_ in [np.arange(count), *(rng.integers(count, size=count) for _ in range(1000))]:
        curve, level = curves[:, draw_].mean(axis=1), reached[draw_].mean()
        if falling:
            curve, level = -curve, -level
        curve = np.maximum.accumulate(curve)
        if not ratios:
            bounded = bool(level > curve[-1])
        ratios.append(np.exp(np.interp(level, curve, np.log(grid))) / number)
    low, high = np.quantile(ratios[1:], (0.025, 0.975))
    return float(ratios[0]), float(low), float(high), bounded


def tables(found: dict) -> str:
    facts_ = "\n".join(f"- {name}: {value:.4g}" for name, value in found["facts"].items())
    parts = [facts_]
    for measure in (
        "precision_high", "precision_tenth", "error_high", "error_all", "memorization_error", "memorization_rank",
        "memorization_rank_of_memorized",
    ):  # fmt: skip
        numbers = [n for n in NUMBERS if len(values(found, "plain", n, measure))]
        lines = [f"| {measure} | " + " | ".join(map(str, numbers)) + " |", "|---" * (len(numbers) + 1) + "|"]
        for estimator in estimators(found, measure):
            cells = []
            for number in numbers:
                sample = values(found, estimator, number, measure)
                text = f"{sample.mean():.3f}" if measure != "memorization_error" else f"{sample.mean():.4f}"
                if estimator != "plain":
                    ratio, low, high, bounded = gain(found, estimator, number, measure)
                    text += f" ({'> ' if bounded else ''}{ratio:.1f}x; {low:.1f} to {high:.1f})"
                cells.append(text)
            lines.append(f"| {estimator} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, calibration(found)])


def calibration(found: dict) -> str:
    """Likely pairs, how many of them the posterior expects to be true, and how many are: means over repetitions."""
    lines = ["| likely pairs: found, expected true, true | " + " | ".join(map(str, NUMBERS)) + " |"]
    lines.append("|---" * (len(NUMBERS) + 1) + "|")
    for estimator in estimators(found, "likely"):
        cells = [
            ", ".join(
                f"{values(found, estimator, number, name).mean():.1f}"
                for name in ("likely", "likely_expected", "likely_true")
            )
            for number in NUMBERS
        ]
        lines.append(f"| {estimator} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(found: dict, path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    names = ("precision_high", "memorization_error")
    titles = ("average precision of pairs with influence >= 0.15", "RMSE of memorization")
    for axis, measure, title in zip(axes, names, titles, strict=True):
        for estimator in estimators(found, measure):
            numbers = [
                n for n in (GRID if estimator == "plain" else NUMBERS) if len(values(found, estimator, n, measure))
            ]
            sample = np.stack([values(found, estimator, n, measure) for n in numbers])
            mean, error = sample.mean(axis=1), sample.std(axis=1, ddof=1)
            width = 2.2 if estimator == "plain" else 1.3
            (line,) = axis.plot(numbers, mean, marker="o", markersize=3, linewidth=width, label=estimator)
            axis.fill_between(numbers, mean - error, mean + error, alpha=0.12, color=line.get_color())
        axis.set_xscale("log")
        if "error" in measure:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_xticks(NUMBERS, [str(n) for n in NUMBERS])
        axis.minorticks_off()
        axis.set_xlabel("trials")
        axis.set_title(title, fontsize=9)
        axis.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
