"""Noise of memorization and influence by the design of the random subsets: see estimators.md.

    python docs/results/estimator_designs.py docs/results/estimators-digits.toml STORE

Trains the study's recipe on 400 subsets of each design, if STORE does not hold them yet. Each block of 50 trials is a
population of its own; the variance of its estimates between blocks needs no truth.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

import remnant
from remnant.answers import predicted
from remnant.schemes import Dense
from remnant.stats import influence as stats
from remnant.study import read
from remnant.trial import Subset, Trial

DESIGNS = (("fixed", 0.7), ("balanced", 0.7), ("doubly-balanced", 0.7), ("fixed", 0.5), ("pairs", 0.5))
SIZE = 50


def main() -> None:
    parser = argparse.ArgumentParser(description="Noise by design.")
    parser.add_argument("study")
    parser.add_argument("store")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    recipe = read(options.study).recipe
    store = remnant.Store(options.store)
    print("| design | fraction | variance of influence | of memorization | over fixed: influence | memorization |")
    print("|---|---|---|---|---|---|")
    compared: dict[float, tuple[NDArray, NDArray]] = {}
    for design, fraction in DESIGNS:
        blocks = [population(recipe, design, fraction, block) for block in range(options.blocks)]
        remnant.run([trial for block in blocks for trial in block], store, workers=options.workers)
        found = [estimates(block, store) for block in blocks]
        pairs, own = (np.stack([part[place] for part in found]) for place in range(2))
        base = compared.setdefault(fraction, (pairs, own))
        cells = [f"{np.nanvar(value, axis=0, ddof=1).mean():.2e}" for value in (pairs, own)]
        cells += [ratio(value, other) for value, other in zip((pairs, own), base, strict=True)]
        print(f"| {design} | {fraction} | " + " | ".join(cells) + " |", flush=True)


def population(recipe: remnant.Recipe, design: str, fraction: float, block: int) -> list[Trial]:
    """50 trials. A "balanced" design has a seed for each block; others are cut into blocks."""
    first = block * SIZE
    if design == "balanced":
        rows = [Subset(k, "balanced", fraction, block, SIZE) for k in range(SIZE)]
    else:
        rows = [Subset(first + k, design, fraction) for k in range(SIZE)]  # pyright: ignore[reportArgumentType]
    return [Trial(recipe, Dense(), first + k, row) for k, row in enumerate(rows)]


def estimates(trials: list[Trial], store: remnant.Store) -> tuple[NDArray, NDArray]:
    """Influence of all pairs of one class, and memorization."""
    _, examples = store.dataset(store.manifest(trials[0])["dataset"])
    labels, train_labels = examples["test_labels"], examples["train_labels"]
    arrays = [store.read(trial) for trial in trials]
    correct = np.stack([predicted(a) == labels for a in arrays])
    train_correct = np.stack([a["train_prediction"] == train_labels for a in arrays])
    included = np.stack([np.unpackbits(a["included"], count=len(train_labels)).astype(bool) for a in arrays])
    blocks = [
        stats.influence(correct[:, labels == c], included[:, train_labels == c]).value.ravel()
        for c in np.unique(labels)
    ]
    return np.concatenate(blocks), stats.memorization(train_correct, included).value


def ratio(values: NDArray, base: NDArray) -> str:
    """Mean variance over that of the baseline, with an interval from leaving out one block of both at a time."""

    def of(rows: list[int]) -> float:
        return float(
            np.log(np.nanvar(values[rows], axis=0, ddof=1).mean() / np.nanvar(base[rows], axis=0, ddof=1).mean())
        )

    if values is base:
        return "1"
    every = list(range(len(values)))
    left = np.array([of([row for row in every if row != out]) for out in every])
    error = np.sqrt((len(every) - 1) / len(every) * ((left - left.mean()) ** 2).sum())
    return f"{np.exp(of(every)):.2f} ({np.exp(of(every) - 2.4 * error):.2f} to {np.exp(of(every) + 2.4 * error):.2f})"


if __name__ == "__main__":
    main()
