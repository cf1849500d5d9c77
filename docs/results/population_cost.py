"""What large populations cost in time and disk: the tables of docs/explanation/what-a-population-costs.md.

    OMP_NUM_THREADS=1 python docs/results/population_cost.py --data DATA [--store STORE]

DATA holds cifar10.npz, whose training step and evaluation are measured here, in seconds of one core. STORE is a store
filled from docs/results/cifar10.toml, whose files are compared with the formula.
"""

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remnant.answers import bytes_of_answers

TRIALS = {"CIFAR-10": 4_000, "ImageNet": 2_000}
TRAIN = {"CIFAR-10": 50_000, "ImageNet": 1_281_167}
TEST = {"CIFAR-10": 10_000, "ImageNet": 50_000}
CLASSES = {"CIFAR-10": 10, "ImageNet": 1_000}
FRACTION = 0.7


@dataclass(frozen=True)
class Rate:
    """Seconds of one training on the whole training set, as published."""

    dataset: str
    what: str
    seconds: float
    epochs: float | None
    """None where the source does not say: the cost of evaluation is then left out."""


AIRBENCH = "https://github.com/KellerJordan/cifar10-airbench"
FFCV = "https://github.com/libffcv/ffcv-imagenet"
PUBLISHED = [
    Rate("CIFAR-10", f"[airbench94_compiled]({AIRBENCH}), 94.0 %", 3.09, None),
    Rate("CIFAR-10", f"[airbench96]({AIRBENCH}), 96.0 %", 34.7, None),
    Rate("CIFAR-10", f"[ResNet-18, usual training]({AIRBENCH}), 96 %", 7 * 60, None),
    Rate("ImageNet", f"[ResNet-18, 16 epochs]({FFCV}), 66.9 %", 35.0 * 60, 16),
    Rate("ImageNet", f"[ResNet-50, 16 epochs]({FFCV}), 73.8 %", 14.9 * 60 * 8, 16),
    Rate("ImageNet", f"[ResNet-50, 88 epochs]({FFCV}), 78.4 %", 77.2 * 60 * 8, 88),
]


def seconds_per_trial(rate: Rate) -> float:
    """Training on the fraction, and one forward pass over all examples: a third of a training pass."""
    if rate.epochs is None:
        return FRACTION * rate.seconds
    examples = TRAIN[rate.dataset] + TEST[rate.dataset]
    return rate.seconds * (FRACTION + examples / (3 * rate.epochs * TRAIN[rate.dataset]))


def bytes_per_trial(dataset: str, state: int) -> int:
    """Stored logits, and of each training example its prediction, margin in float16 and one bit; the model."""
    prediction = np.min_scalar_type(CLASSES[dataset] - 1).itemsize
    of_test = bytes_of_answers(TEST[dataset], CLASSES[dataset])
    return of_test + (prediction + 2) * TRAIN[dataset] + math.ceil(TRAIN[dataset] / 8) + state


def measured(data: str) -> tuple[float, float]:
    """Seconds of one core for a training step of 128 and for evaluating an example, ResNet-8 with bfloat16."""
    from remnant.lab import models, probe
    from remnant.lab.run import data_of, reproducible
    from remnant.lab.train import train
    from remnant.trial import Recipe, Trial

    def core_seconds(steps: int) -> float:
        recipe = Recipe("arrays:cifar10.npz", "resnet8", steps=steps, precision="bfloat16", batch_size=128)
        trial, dataset = Trial(recipe), data_of(recipe, data)
        model = models.build(recipe.architecture, dataset.input_shape, dataset.num_classes, trial.rng("init"))
        start = time.process_time()
        train(model, recipe, dataset, np.arange(TRAIN["CIFAR-10"]), trial.rng)
        if steps == 20:
            return time.process_time() - start
        step = (time.process_time() - start - short) / (steps - 20)
        start = time.process_time()
        probe.logits(model, dataset, dataset.test)
        evaluation.append((time.process_time() - start) / TEST["CIFAR-10"])
        return step

    evaluation: list[float] = []
    with reproducible():
        core_seconds(20)  # compiles kernels
        short = core_seconds(20)
        step = core_seconds(60)
    return step, evaluation[0]


def states() -> dict[str, int]:
    """Bytes of the stored weights and buffers of some architectures."""
    from torchvision.models import resnet18, resnet50

    from remnant.lab import models

    rng = np.random.default_rng(0)
    made = {
        "ResNet-8 (CIFAR-10)": models.build("resnet8", (3, 32, 32), 10, rng),
        "ResNet-18 (ImageNet)": resnet18(),
        "ResNet-50 (ImageNet)": resnet50(),
    }
    return {n: sum(t.numel() * t.element_size() for t in m.state_dict().values()) for n, m in made.items()}


def print_time(trials: dict[str, int]) -> None:
    print("| trials | one training on all data | GPU hours | 1 GPU | 8 GPUs | 64 GPUs |\n|---|---|---|---|---|---|")
    for rate in PUBLISHED:
        hours = trials[rate.dataset] * seconds_per_trial(rate) / 3600
        walls = " | ".join(_duration(hours / gpus) for gpus in (1, 8, 64))
        each = f"{rate.seconds:.4g} s" if rate.seconds < 600 else f"{rate.seconds / 3600:.2f} h"
        print(f"| {trials[rate.dataset]:,} {rate.dataset}, {rate.what} | {each} | {hours:,.1f} | {walls} |")


def print_cpu(data: str) -> None:
    step, evaluation = measured(data)
    print(
        f"\nResNet-8, bfloat16, one core: {1000 * step:.0f} ms for a step of 128, {1e6 * evaluation:.0f} us to evaluate"
    )
    for epochs in (2, 8, 30):
        seconds = epochs * FRACTION * TRAIN["CIFAR-10"] / 128 * step
        seconds += (TRAIN["CIFAR-10"] + TEST["CIFAR-10"]) * evaluation
        hours = TRIALS["CIFAR-10"] * seconds / 3600
        walls = ", ".join(f"{cores} cores {_duration(hours / cores)}" for cores in (2, 64, 512))
        print(f"{epochs} epochs: {seconds:.0f} core seconds for a trial, 4,000 trials {hours:,.0f} core hours; {walls}")


def print_disk(store: Path | None) -> None:
    print("\n| trial | predictions | model | together | all |\n|---|---|---|---|---|")
    for name, state in states().items():
        dataset = "ImageNet" if "ImageNet" in name else "CIFAR-10"
        whole, few = bytes_per_trial(dataset, state), bytes_per_trial(dataset, 0)
        total = TRIALS[dataset] * whole
        print(
            f"| {name} | {few / 1e6:.2f} MB | {state / 1e6:.2f} MB | {whole / 1e6:.2f} MB | "
            f"{TRIALS[dataset]:,} trials: {total / 1e9:,.1f} GB |"
        )
    if store is not None:
        sizes = {path.stat().st_size for path in store.glob("trials/*/predictions.safetensors")}
        print(f"\npredictions in {store.name}: {sorted(sizes)} bytes; formula {bytes_per_trial('CIFAR-10', 0)}")
        print("data set:", sum(path.stat().st_size for path in store.glob("datasets/*/*")), "bytes")


def _duration(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.1f} days"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    print_time(TRIALS)
    print_disk(arguments.store)
    if arguments.data:
        print_cpu(arguments.data)
