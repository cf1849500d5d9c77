"""What recipes reach and cost, and what they do to memorization: see recipes.md.

    python docs/results/recipes.py measure STORE RECIPE... [--trials 16] [--whole] [--data DIR]
    python docs/results/recipes.py memorization STORE RECIPE... [--trials 200]   # a recipe named twice: other subsets
    python docs/results/recipes.py step ARCHITECTURE...
    python docs/results/recipes.py workers RECIPE [--trials 6]

RECIPE is the name of a preset, with changes if wanted: digits-memorizing:epochs=5,weight_decay=5e-4 or
cifar10-lean:dataset=arrays:cifar10.npz. Seconds are processor seconds, but those of `workers`.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from remnant import plan
from remnant.answers import predicted
from remnant.execute import run
from remnant.recipes import recipe as preset
from remnant.stats import influence
from remnant.store import Store
from remnant.trial import Recipe, Trial


def main() -> None:
    options = arguments()
    {"measure": measure, "memorization": memorization, "step": step, "workers": workers}[options.task](options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What recipes reach and cost.")
    tasks = parser.add_subparsers(dest="task", required=True)
    for task, trials in (("measure", 16), ("memorization", 200), ("workers", 6)):
        found = tasks.add_parser(task)
        if task != "workers":
            found.add_argument("store")
        found.add_argument("recipes", nargs="+", type=recipe)
        found.add_argument("--trials", type=int, default=trials)
        found.add_argument("--whole", action="store_true", help="train on all examples instead of random 70 %% subsets")
        found.add_argument("--data", help="folder of the data sets")
    tasks.add_parser("step").add_argument("architectures", nargs="+")
    return parser.parse_args()


def recipe(text: str) -> Recipe:
    """A preset and its changes."""
    name, _, changes = text.partition(":")
    found = preset(name)
    given: dict[str, Any] = dict(change.split("=", 1) for change in changes.split(",") if change)
    for key, value in given.items():
        kind = type(getattr(found, key))
        given[key] = () if kind is tuple and not value else (value,) if kind is tuple else kind(value)
    return replace(found, **given)


def trials_of(chosen: Recipe, options: argparse.Namespace, turn: int = 0) -> list[Trial]:
    """Trials number `turn` times `--trials` and those that follow."""
    if options.whole:
        return plan.grid(chosen, (), range(options.trials))
    first, last = turn * options.trials, (turn + 1) * options.trials
    return plan.subsets(chosen, max(2, last))[first:last]


def trained(chosen: Recipe, options: argparse.Namespace, turn: int = 0) -> tuple[list[dict[str, np.ndarray]], float]:
    """(answers, labels and subset of each trial, processor seconds of one that was trained now)."""
    store = Store(options.store)
    trials = trials_of(chosen, options, turn)
    start = time.process_time()
    new = run(trials, store, engine="serial", root=options.data)
    seconds = (time.process_time() - start) / new if new else float("nan")
    found = []
    for trial in trials:
        arrays = store.read(trial)
        _, examples = store.dataset(store.manifest(trial)["dataset"])
        count = len(examples["train_labels"])
        found.append(
            {
                "train": arrays["train_prediction"] == examples["train_labels"],
                "test": predicted(arrays) == examples["test_labels"],
                "included": np.unpackbits(arrays["included"], count=count).astype(bool),
            }
        )
    return found, seconds


def measure(options: argparse.Namespace) -> None:
    print("| recipe | models | training examples: mean, lowest | all right | held out | test | core-seconds |")
    print("|---|---|---|---|---|---|---|")
    for chosen in options.recipes:
        found, seconds = trained(chosen, options)
        inside = [one["train"][one["included"]].mean() for one in found]
        held_out = [] if options.whole else [one["train"][~one["included"]].mean() for one in found]
        test = [one["test"].mean() for one in found]
        spread = f" (sd {statistics.stdev(test):.4f})" if len(test) > 1 else ""
        right = sum(share == 1.0 for share in inside)
        print(
            f"| {described(chosen)} | {len(found)} | {np.mean(inside):.4f}, {min(inside):.4f} | {right} | "
            f"{np.mean(held_out) if held_out else np.nan:.4f} | {np.mean(test):.4f}{spread} | {seconds:.3g} |",
            flush=True,
        )


def memorization(options: argparse.Namespace) -> None:
    """Memorization under each recipe beside that under the first: the same subsets, others for a recipe named again."""
    print("| recipe | training examples | held out | mean memorization | >= 0.25 | of the first's found | rank corr. |")
    print("|---|---|---|---|---|---|---|")
    first: np.ndarray | None = None
    for number, chosen in enumerate(options.recipes):
        found, _ = trained(chosen, options, options.recipes[:number].count(chosen))
        correct, included = (np.stack([one[name] for one in found]) for name in ("train", "included"))
        value = influence.memorization(correct, included).value
        first = value if first is None else first
        of_first = np.mean(value[first >= 0.25] >= 0.25)
        alike: Any = spearmanr(first, value)
        print(
            f"| {described(chosen)} | {correct[included].mean():.4f} | {correct[~included].mean():.4f} | "
            f"{mean_and_error(correct, included)} | {np.mean(value >= 0.25):.2%} | {of_first:.0%} | "
            f"{alike.statistic:.2f} |",
            flush=True,
        )


def mean_and_error(correct: np.ndarray, included: np.ndarray) -> str:
    """Mean memorization, and its standard error over trials by ten groups of them."""
    whole = influence.memorization(correct, included).value.mean()
    groups = np.arange(len(correct)) % 10
    each = [influence.memorization(correct[groups != g], included[groups != g]).value.mean() for g in range(10)]
    return f"{whole:.4f} (se {np.sqrt(0.9 * np.sum((np.array(each) - np.mean(each)) ** 2)):.4f})"


def described(chosen: Recipe) -> str:
    return (
        f"{chosen.dataset}, {chosen.architecture}, {chosen.epochs:g} epochs, weight decay {chosen.weight_decay:g}"
        f"{', ' + ' + '.join(chosen.augmentation) if chosen.augmentation else ''}"
    )


def step(options: argparse.Namespace) -> None:
    """Milliseconds of a core for a training step of 128 pictures of 32x32, each network in turn, eight rounds."""
    import torch

    from remnant.lab.data import Dataset, Split
    from remnant.lab.footprint import measure as cost
    from remnant.lab.models import build
    from remnant.lab.train import train

    torch.set_num_threads(1)
    images = torch.randint(0, 256, (2048, 3, 32, 32), dtype=torch.uint8)
    split = Split(images, torch.arange(2048) % 10, np.arange(2048).astype(str))
    moments = torch.full((3,), 0.5), torch.full((3,), 0.25)
    noise = Dataset("noise", split, split, tuple("0123456789"), *moments)
    times: dict[str, list[float]] = {name: [] for name in options.architectures}
    for turn in range(9):
        for name, found in times.items():
            chosen = Recipe("cifar10", name, steps=12, precision="bfloat16", augmentation=("crop", "flip"))
            model = build(name, (3, 32, 32), 10, np.random.default_rng(turn))
            start = time.process_time()
            train(model, chosen, noise, np.arange(2048), Trial(chosen).rng)
            if turn:  # the first round warms up
                found.append((time.process_time() - start) / 12 * 1e3)
    print("| network | weights | million products for a picture | step, ms: median (lowest to highest) |")
    print("|---|---|---|---|")
    for name, found in times.items():
        size = cost(build(name, (3, 32, 32), 10, np.random.default_rng(0)), (3, 32, 32))
        middle = f"{statistics.median(found):.0f} ({min(found):.0f} to {max(found):.0f})"
        print(f"| {name} | {size['parameters']:,} | {size['flops'] / 2e6:.1f} | {middle} |")


def workers(options: argparse.Namespace) -> None:
    """Wall-clock and processor seconds for a model, by the number of workers and threads, in alternating rounds."""
    ways = ((1, 1), (1, 2), (2, 1), (2, 2))
    found: dict[tuple[int, int], list[tuple[float, float]]] = {way: [] for way in ways}
    trials = trials_of(options.recipes[0], options)
    for _ in range(3):
        for way in ways:
            found[way].append(timed(trials, way, options.data))
    print("| workers | threads of each | wall-clock seconds for a model | processor seconds |")
    print("|---|---|---|---|")
    for (number, threads), times in found.items():
        wall, core = (f"{statistics.median(values):.3g}" for values in zip(*times, strict=True))
        print(f"| {number} | {threads} | {wall} | {core} |")


def timed(trials: list[Trial], way: tuple[int, int], data: str | None) -> tuple[float, float]:
    """(wall-clock, processor seconds) for a model, once every worker has trained one."""
    number, threads = way
    context = get_context("spawn")
    with context.Pool(number, set_threads, (threads,)) as pool:
        parts = [(trials[k::number], data) for k in range(number)]
        pool.map(train_all, [(part[:1], root) for part, root in parts], chunksize=1)
        start = time.perf_counter()
        used = pool.map(train_all, parts, chunksize=1)
        return (time.perf_counter() - start) / len(trials), sum(used) / len(trials)


def set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def train_all(given: tuple[list[Trial], str | None]) -> float:
    """Processor seconds in which the trials are trained and stored."""
    from remnant.lab import run as lab

    trials, root = given
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for trial in trials:
            lab.run_trial(trial, Store(folder), root)
    return time.process_time() - start


if __name__ == "__main__":
    main()
