"""Memory, FLOPs and throughput at a limit on accuracy: python docs/results/condensa.py STORE [options]

For each network, structure (single weights, or filters that are really removed) and method, the strongest of a ladder
of sparsities whose loss of accuracy stays within the limit, found by bisection on one half of the test images with the
first seed. What is printed are the other half and all seeds. All methods start from the same dense weights and train
for the same number of epochs:

  fine-tuning   pruning at once, then fine-tuning
  gradual       pruning during the fine-tuning, on a cubic schedule
  l-c           L-C: training and pruning in turn; for filters, removed at the end
  l-c + tuning  L-C for half of the epochs, then fine-tuning for the other half

STORE keeps all trials: an interrupted run goes on where it stopped, and --print prints what is there.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import nn

from remnant.execute import run
from remnant.lab import footprint
from remnant.lab.compress import Context, compress
from remnant.lab.run import cached_dataset, model_of
from remnant.lab.train import accuracy
from remnant.schemes import Compose, Float16, GradualPruning, LearningCompression, OneShotPruning, Scheme
from remnant.stats.trial_intervals import mean_interval
from remnant.store import MissingError, Store
from remnant.trial import Recipe, Trial

COMMON = Recipe("arrays:cifar10.npz", "resnet8", warmup=0.15, precision="bfloat16", augmentation=("flip", "crop"))
RECIPES = {
    "resnet8": replace(COMMON, epochs=15, learning_rate=0.2),
    "vgg11-bn-16": replace(COMMON, architecture="vgg11-bn-16", epochs=10, learning_rate=0.1),
}
LADDERS = {
    "weight": (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98),
    "filter": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
}
METHODS = ("fine-tuning", "gradual", "l-c", "l-c + tuning")
RATE = 0.05
"""First learning rate of all trainings of compressed models."""
CHOOSING, REPORTING = np.arange(0, 10_000, 2), np.arange(1, 10_000, 2)
"""Halves of the test images."""


@dataclass(frozen=True)
class Study:
    """What is asked for."""

    store: Store
    root: str | None
    epochs: float
    seeds: int
    limit: float
    printing: bool
    """Whether only finished trials count, and nothing is trained."""

    def trial(self, network: str, scheme: Scheme | None, seed: int) -> Trial:
        dense = Trial(RECIPES[network], seed=seed)
        return dense if scheme is None else replace(dense, scheme=scheme)

    def finished(self, trial: Trial) -> Trial:
        """The trial, trained now unless the store holds it."""
        if trial not in self.store:
            if self.printing:
                raise MissingError(trial.key)
            start = time.monotonic()
            run([trial], self.store, engine="serial", root=self.root)
            name = f"{trial.recipe.architecture} seed {trial.seed} {trial.scheme.label}"
            print(f"{time.monotonic() - start:.0f} s for {name}", file=sys.stderr, flush=True)
        return trial

    def accuracy(self, trial: Trial, part: np.ndarray) -> float:
        """In percent, on some of the test images."""
        labels = cached_dataset(trial.recipe.dataset, self.root).test.labels.numpy()
        logits = self.store.read(self.finished(trial))["logits"]
        return 100 * float((logits.argmax(1) == labels)[part].mean())

    def loss(self, network: str, scheme: Scheme, seed: int, part: np.ndarray) -> float:
        """Points of accuracy that a scheme costs a seed."""
        dense, small = self.trial(network, None, seed), self.trial(network, scheme, seed)
        return self.accuracy(dense, part) - self.accuracy(small, part)


def scheme_of(method: str, structure: Literal["weight", "filter"], sparsity: float, epochs: float) -> Scheme:
    """A method at a strength."""
    removed = structure == "filter"
    if method == "gradual":
        return GradualPruning(sparsity, structure=structure, physical=removed, epochs=epochs, learning_rate=RATE)
    share = {"fine-tuning": 1.0, "l-c": 0.0, "l-c + tuning": 0.5}[method]
    pruned = OneShotPruning(
        sparsity, structure=structure, physical=removed, epochs=share * epochs, learning_rate=RATE if share else 0.01
    )
    if share == 1:
        return pruned
    inner = OneShotPruning(sparsity, structure=structure, epochs=0)
    learned = LearningCompression(
        inner,
        steps=5,
        mu_init=0.05,
        mu_multiplier=3.0,
        first=0.25,
        decay=0.2,
        epochs=(1 - share) * epochs,
        learning_rate=RATE,
    )
    return Compose((learned, pruned)) if share or removed else learned


def strongest(ladder: Sequence[float], holds: Callable[[float], bool]) -> float | None:
    """The largest value of an ascending ladder that `holds`, by bisection; None if not even the first does."""
    low, high = -1, len(ladder)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(ladder[middle]) else (low, middle)
    return ladder[low] if low >= 0 else None


def row(study: Study, network: str, structure: Literal["weight", "filter"], method: str) -> dict[str, str]:
    """A line of the table."""
    name = {"network": network, "pruned": f"{structure}s", "method": method}

    def made(sparsity: float) -> Scheme:
        return scheme_of(method, structure, sparsity, study.epochs)

    chosen = strongest(LADDERS[structure], lambda s: study.loss(network, made(s), 0, CHOOSING) <= study.limit)
    if chosen is None:
        return {**name, "sparsity": f"none within {study.limit:g} points"}
    pairs = [
        (study.trial(network, None, seed), study.finished(study.trial(network, made(chosen), seed)))
        for seed in range(study.seeds)
    ]
    losses = [study.loss(network, made(chosen), seed, REPORTING) for seed in range(study.seeds)]
    measured = [measure(study, dense, small) for dense, small in pairs]
    columns = {key: [item[key] for item in measured] for key in measured[0]}
    return {
        **name,
        "sparsity": f"{chosen:g}",
        "loss, points": interval(losses),
        "with float16": interval([loss + more for loss, more in zip(losses, columns.pop("more"), strict=True)]),
        "throughput": interval(columns.pop("throughput"), "x", 2),
        **{key: f"{np.mean(values):.1f}x" for key, values in columns.items()},
    }


def measure(study: Study, dense: Trial, small: Trial) -> dict[str, float]:
    """By how much memory, FLOPs and time of a network shrank, and what float16 weights cost it besides in points."""
    data = cached_dataset(dense.recipe.dataset, study.root)
    models = [model_of(trial, study.store, study.root) for trial in (dense, small)]
    before, after = (footprint.measure(model, data.input_shape) for model in models)
    context = Context(dense.recipe, data, np.arange(len(data.train.labels)), small.rng)
    half = compress(Float16(), models[1], context)
    more = accuracy(models[1], data, "test", REPORTING) - accuracy(half, data, "test", REPORTING)
    full = before["bytes"]["float32"]
    stored = {name: bytes_of(half, index, bits=16) for name, index in (("values", 0), ("bitmask", 1), ("csr", 2))}
    return {
        "more": 100 * more,
        "memory: non-zeros alone": full / (4 * after["nonzeros"]),
        "in float16": full / stored["values"],
        "with bitmask": full / min(stored["bitmask"], before["bytes"]["float16"]),
        "with CSR": full / stored["csr"],
        "FLOPs without zeros": before["effective_flops"] / after["effective_flops"],
        "FLOPs": before["flops"] / after["flops"],
        "throughput": seconds(models[0], models[1], data.input_shape),
    }


def bytes_of(model: nn.Module, index: int, *, bits: int) -> float:
    """Bytes of what is not 0, and of an index of it: none, a bit per weight, or 16-bit columns and pointers to rows."""
    total = 0.0
    for parameter in model.parameters():
        kept = int(parameter.count_nonzero())
        total += bits / 8 * (kept if parameter.dim() >= 2 else parameter.numel())
        if parameter.dim() >= 2:
            total += (0, parameter.numel() / 8, 2 * kept + 4 * (len(parameter) + 1))[index]
    return total


@torch.inference_mode()
def seconds(dense: nn.Module, small: nn.Module, shape: tuple[int, ...], *, batch: int = 128, rounds: int = 15) -> float:
    """Time of the dense network over that of the other: median over rounds that run one right after the other."""
    torch.set_num_threads(1)
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    ratios = []
    for turn in range(rounds + 2):  # the first two warm up
        taken = []
        for model in (dense, small):
            start = time.perf_counter()
            model(images)
            taken.append(time.perf_counter() - start)
        if turn >= 2:
            ratios.append(taken[0] / taken[1])
    return float(np.median(ratios))


def interval(values: Sequence[float], unit: str = "", digits: int = 1) -> str:
    """The mean, and its 95 % interval over seeds."""
    found = mean_interval(np.array(values))
    ends = f" ({float(found.low):.{digits}f} to {float(found.high):.{digits}f})" if len(values) > 1 else ""
    return f"{float(found.estimate):.{digits}f}{unit}{ends}"


def dense_row(study: Study, network: str) -> dict[str, str]:
    trials = [study.finished(study.trial(network, None, seed)) for seed in range(study.seeds)]
    costs = study.store.manifest(trials[0])["footprint"]
    return {
        "network": network,
        "accuracy, %": interval([study.accuracy(trial, REPORTING) for trial in trials]),
        "parameters": f"{costs['parameters']:,}",
        "float32, bytes": f"{costs['bytes']['float32']:,}",
        "FLOPs": f"{costs['flops']:,}",
    }


def markdown(rows: list[dict[str, str]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--data", help="folder of cifar10.npz; default the environment variable REMNANT_DATA")
    parser.add_argument("--networks", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--structures", nargs="+", choices=list(LADDERS), default=list(LADDERS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--epochs", type=float, default=1.0, help="of each compression")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--limit", type=float, default=2.0, help="points of accuracy")
    parser.add_argument("--print", action="store_true", dest="printing", help="what is finished, without training")
    given = parser.parse_args()
    study = Study(Store(given.store), given.data, given.epochs, given.seeds, given.limit, given.printing)
    print(markdown(made([partial(dense_row, study, network) for network in given.networks])), end="\n\n")
    lines = [
        partial(row, study, network, structure, method)
        for structure in given.structures
        for network in given.networks
        for method in given.methods
    ]
    print(markdown(made(lines)))


def made(lines: Sequence[Callable[[], dict[str, str]]]) -> list[dict[str, str]]:
    """Lines of a table, without those whose trials are not finished."""
    found = []
    for line in lines:
        with suppress(MissingError):
            found.append(line())
    return found


if __name__ == "__main__":
    main()
