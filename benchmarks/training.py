"""Training populations: the loop that a user writes, the published estimator's loop, and remnant, side by side.

Counted on all sides is what a model costs once everything is imported and the data are in memory: of the loops the
training and the answers on the test set; of remnant all that `remnant run` does for a trial, in its worker processes:
training, answers on all training and test examples, size and latency, and the store.

Two measures: wall-clock seconds for a model on all cores (the loops with torch's default threads), left out where other
programs keep the cores busy, as threads that wait for each other then measure those; and seconds of one core, with one
thread on each side.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.row import Row
from remnant import plan
from remnant.engine import num_cores
from remnant.execute import Progress, run
from remnant.lab.cohort import rules
from remnant.store import Store
from remnant.trial import Recipe, Trial

if TYPE_CHECKING:
    from remnant.lab.data import Dataset

_PLAIN = Recipe("", "", batch_size=128, learning_rate=0.1, weight_decay=5e-4, nesterov=True, schedule="constant")
_ESTIMATOR = replace(_PLAIN, architecture="mlp-512-256", epochs=10, weight_decay=0.0, nesterov=False)


@dataclass(frozen=True)
class Case:
    """A recipe, and how many models are trained of it."""

    name: str
    recipe: Recipe
    source: str
    """Data set, of which `examples` training examples are taken."""
    examples: int
    loops: int
    """Models that the loop trains."""
    ours: int
    goal: float
    published: bool = False
    """Whether the baseline is the loop of the published estimator instead of the one with a DataLoader."""


CASES = (
    Case("digits MLP", replace(_PLAIN, architecture="mlp", epochs=20), "digits", 1437, 8, 128, 10),
    Case("28x28 MLP, published loop", _ESTIMATOR, "fashion-mnist", 4000, 2, 32, 1.0, published=True),
    Case(
        "28x28 CNN",
        replace(_PLAIN, architecture="cnn", epochs=8, precision="bfloat16", warmup=0.1),
        "fashion-mnist",
        4000,
        3,
        8,
        3,
    ),
    Case(
        "32x32 ResNet-8",
        replace(_PLAIN, architecture="resnet8", epochs=6, precision="bfloat16", warmup=0.1),
        "cifar10",
        2000,
        2,
        6,
        2.5,
    ),
)


def training() -> list[Row]:
    """Seconds for a model, with the accuracy on the test set and the arithmetic beside the machine's."""
    rows = []
    busy = os.getloadavg()[0] > num_cores() / 2  # before this benchmark adds to it
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            root = Path(name, case.recipe.architecture)
            root.mkdir(exist_ok=True)
            recipe = replace(case.recipe, dataset=_data(case, root))
            loop = _loop(case, recipe, root, busy)
            ours = _ours(case, recipe, root, busy)
            rows += _rows(case, ours, loop, busy)
    return rows


def _rows(case: Case, ours: dict, loop: dict, busy: bool) -> list[Row]:
    peak = _peak()
    low, high = _difference(ours["accuracy"], loop["accuracy"])
    rate = ours["flops"] / ours["core"] / 1e9
    print(
        f"{case.name}: accuracy {statistics.fmean(ours['accuracy']):.4f} of {len(ours['accuracy'])} models, "
        f"{statistics.fmean(loop['accuracy']):.4f} of {len(loop['accuracy'])} of the loop, difference "
        f"[{low:+.4f}, {high:+.4f}]; {rate:.1f} GFLOP/s of a core, the loop {ours['flops'] / loop['core'] / 1e9:.1f}; "
        f"products of 1024 x 1024 matrices: {peak['float32']:.0f} in float32, {peak['bfloat16']:.0f} in bfloat16",
        file=sys.stderr,
    )
    against = "the published loop" if case.published else "a loop with DataLoader"
    equal = low <= 0 <= high
    ratio = loop["core"] / ours["core"]
    name = f"training, {case.name}"
    rows = [Row(f"{name}, one core", ours["core"], "s", f"faster than {against}", ratio > 1, loop["core"], ratio)]
    if not busy:
        baseline, mine = loop["wall"], ours["wall"]
        met = baseline / mine >= case.goal and equal
        goal = f">= {case.goal:g} x {against}, equal accuracy"
        rows.insert(0, Row(name, mine, "s", goal, met, baseline, baseline / mine))
    if case.published:
        share = rate / peak["float32"]
        rows.append(Row(f"{name}, share of the matrix rate", share, "", ">= 0.5", share >= 0.5))
    return rows


def _data(case: Case, root: Path) -> str:
    """The data of a case as an archive in `root`: the first training examples of the source, and 1,000 to test on."""
    if case.source == "digits":
        return "digits"
    from remnant.lab import data

    try:
        source = data.load(case.source)
    except FileNotFoundError:
        source = data.load(f"arrays:{case.source}.npz")
    arrays = {}
    for split, count in (("train", case.examples), ("test", 1000)):
        part = getattr(source, split)
        arrays[f"{split}_images"] = part.images[:count].permute(0, 2, 3, 1).numpy()
        arrays[f"{split}_labels"] = part.labels[:count].numpy()
    np.savez(root / "part.npz", **arrays)
    return "arrays:part.npz"


def _ours(case: Case, recipe: Recipe, root: Path, busy: bool) -> dict:
    """Seconds, accuracies and floating-point operations for a model of remnant."""
    trials = plan.subsets(recipe, case.ours)
    found: dict = {"core": _one_core(trials, root)}
    store = Store(root / "one-core")
    if not busy:
        found["wall"] = _all_cores(trials, root)
    manifest = store.manifest(trials[0])
    kept = round(0.7 * case.examples)
    steps = round(recipe.epochs * (kept // recipe.batch_size))
    seen, asked = steps * recipe.batch_size, case.examples + (360 if recipe.dataset == "digits" else 1000)
    flops = manifest["footprint"]["flops"]
    # The backward pass has two products for each of the forward pass; but for the inputs there is no gradient, which is
    # counted in networks whose first layer is linear and left aside in others, where it is a few percent.
    first = next((w for name, w in store.read(trials[0], "weights").items() if name == "1.weight"), np.empty(0))
    spared = 2 * first.size if first.ndim == 2 else 0
    found["flops"] = seen * (3 * flops - spared) + asked * flops
    found["accuracy"] = [store.manifest(trial)["accuracy"]["test"] for trial in trials if trial in store]
    return found


def _one_core(trials: list[Trial], root: Path) -> float:
    """Processor seconds for a trial with the engine "serial", after one cohort that warms up."""
    store = Store(root / "one-core")
    warm = rules.size(trials[0])
    run(trials[:warm], store, engine="serial", root=str(root))
    start = time.process_time()
    new = run(trials[: 4 * warm], store, engine="serial", root=str(root))
    return (time.process_time() - start) / new


def _all_cores(trials: list[Trial], root: Path) -> float:
    """Wall-clock seconds for a trial with worker processes."""
    outcomes: list[Progress] = []
    run(trials, Store(root / "all-cores"), root=str(root), progress=outcomes.append)
    # The first cohort of each worker waits for its imports.
    warm = outcomes[num_cores() :]
    count = sum(len(state.outcome.cohort) for state in warm)
    return sum(state.outcome.seconds for state in warm) / count / num_cores()


def _loop(case: Case, recipe: Recipe, root: Path, busy: bool) -> dict:
    """Seconds and accuracies for a model of a loop, in a process of its own."""
    folder = "digits" if recipe.dataset == "digits" else str(root)
    command = [sys.executable, "-m", "benchmarks.training", folder, str(CASES.index(case)), str(int(busy))]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(found.splitlines()[-1])


def _difference(ours: list[float], loop: list[float]) -> tuple[float, float]:
    """95 % interval of the difference of mean accuracies (Welch)."""
    from scipy import stats

    found = stats.ttest_ind(ours, loop, equal_var=False).confidence_interval()
    return float(found.low), float(found.high)


def _peak() -> dict[str, float]:
    """GFLOP/s of torch's products of two 1024 x 1024 matrices on one core."""
    import torch

    threads, found = torch.get_num_threads(), {}
    torch.set_num_threads(1)
    for name in ("float32", "bfloat16"):
        matrix = torch.randn(1024, 1024).to(getattr(torch, name))
        seconds = []
        for _ in range(10):
            start = time.process_time()
            torch.mm(matrix, matrix)
            seconds.append(time.process_time() - start)
        found[name] = 2 * 1024**3 / min(seconds) / 1e9
    torch.set_num_threads(threads)
    return found


def _loops(case: Case, folder: str, busy: bool) -> dict:
    """Train models as a user would, or as the published estimator does, one after another."""
    import torch

    from remnant.lab import data

    dataset = data.load("digits") if folder == "digits" else data.load("arrays:part.npz", folder)
    found: dict = {"accuracy": []}
    if not busy:
        found["wall"] = statistics.fmean(_one(case, dataset, seed)[0] for seed in range(case.loops))
    torch.set_num_threads(1)
    _one(case, dataset, 0)
    core = []
    for seed in range(case.loops):
        start = time.process_time()
        found["accuracy"].append(_one(case, dataset, seed)[1])
        core.append(time.process_time() - start)
    return {**found, "core": statistics.fmean(core)}


def _one(case: Case, dataset: "Dataset", seed: int) -> tuple[float, float]:
    """(wall-clock seconds of the training and the answers on the test set, accuracy) of one model."""
    import torch
    from torch.utils.data import TensorDataset

    from remnant.lab.models import build

    mean, std = dataset.mean.view(1, -1, 1, 1), dataset.std.view(1, -1, 1, 1)
    inputs, tests = (
        ((part.images.float() / 255 - mean) / std).contiguous()  # pyright: ignore[reportAttributeAccessIssue]
        for part in (dataset.train, dataset.test)
    )
    torch.manual_seed(seed)
    chosen = torch.randperm(len(inputs))[: round(0.7 * len(inputs))]
    model = build(case.recipe.architecture, dataset.input_shape, dataset.num_classes, np.random.default_rng(seed))
    start = time.perf_counter()
    train = _published if case.published else _usual
    train(model, TensorDataset(inputs[chosen], dataset.train.labels[chosen]), case.recipe)
    model.eval()
    with torch.no_grad():
        right = torch.cat([model(part).argmax(1) for part in tests.split(500)]) == dataset.test.labels
    return time.perf_counter() - start, right.float().mean().item()


def _usual(model, subset, recipe: Recipe) -> None:
    """A DataLoader, and the steps of every tutorial."""
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(subset, batch_size=recipe.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=True,
        weight_decay=recipe.weight_decay,
    )  # fmt: skip
    steps = round(recipe.epochs * len(loader))
    rise = math.ceil(recipe.warmup * steps) or 1
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / rise))
    model.train()
    for _ in range(round(recipe.epochs)):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            schedule.step()


def _published(model, subset, recipe: Recipe) -> None:
    """The loop of Feldman & Zhang's MNIST example: arrays in memory, a permutation for each epoch, slices of it."""
    import torch

    images, labels = subset.tensors
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    for _ in range(round(recipe.epochs)):
        order = torch.randperm(len(labels))
        for start in range(0, len(order) - recipe.batch_size + 1, recipe.batch_size):
            batch = order[start : start + recipe.batch_size]
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    print(json.dumps(_loops(CASES[int(sys.argv[2])], sys.argv[1], sys.argv[3] == "1")))
