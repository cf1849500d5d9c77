"""A population of ImageNet size in a store: 60 models x 50,000 examples x 1,000 classes of float16 logits, 6 GB."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.row import PEAK_GIBIBYTES, Row
from remnant.plan import grid
from remnant.schemes import Float16, MagnitudePruning
from remnant.store import Store
from remnant.stored_array import pack_text
from remnant.trial import Recipe

ANALYSES = ("mismatches", "exemplars", "classes")


def population() -> list[Row]:
    """Mismatches, exemplars with their permutation null, and classes, with the report, in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        store, report = Path(name) / "store", Path(name) / "report"
        fill(Store(store))
        seconds, processor, memory = run(store, report)
    size = "60 x 50,000 x 1,000 float16"
    return [
        Row(f"audit {size}, time", seconds, "s", "<= 90 s on 2 cores", seconds <= 90),
        Row(f"audit {size}, time of all cores", processor, "s", "none", True),
        Row(f"audit {size}, memory", memory, "GiB", "<= 2 GiB", memory <= 2),
    ]


def run(store: Path, report: Path, only: tuple[str, ...] = ANALYSES) -> tuple[float, float, float]:
    """Seconds, seconds of all cores and peak GiB of the command in a process of its own."""
    code = (
        "import time; start = time.perf_counter()\n"
        "from remnant.cli import main\n"
        f"main(['audit', {str(store)!r}, '--out', {str(report)!r}, '--json', '--only', *{list(only)!r}])\n"
        f"print(time.perf_counter() - start, time.process_time(), {PEAK_GIBIBYTES})"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    seconds, processor, memory = map(float, out.strip().splitlines()[-1].split())
    return seconds, processor, memory


def fill(store: Store, num_seeds: int = 20, num_examples: int = 50_000, num_classes: int = 1_000) -> None:
    """`num_seeds` seeds of three schemes: a common signal that is right on 76 % of the examples, and noise."""
    num_train = 1_281_167
    rng = np.random.default_rng(0)
    labels = rng.integers(num_classes, size=num_examples)
    train_labels = rng.integers(num_classes, size=num_train)
    signal = rng.standard_normal((num_examples, num_classes), np.float32)
    signal[np.arange(num_examples), labels] += 4.2
    examples = {
        "classes": pack_text(f"class {i}" for i in range(num_classes)),
        "test_labels": labels,
        "train_labels": train_labels,
        "test_ids": pack_text(f"test-{i}" for i in range(num_examples)),
        "train_ids": pack_text(f"train-{i}" for i in range(num_train)),
    }
    store.publish_dataset("bench", {"examples": examples}, {"name": "simulated"})
    footprint = {"parameters": 1000, "nonzeros": 900, "flops": 2000, "effective_flops": 1800, "latency": 1e-6}
    for trial in grid(Recipe("simulated", "mlp"), [MagnitudePruning(0.9), Float16()], range(num_seeds)):
        noise = rng.standard_normal(signal.shape, np.float32)
        noise *= 0.4 if isinstance(trial.scheme, MagnitudePruning) else 0.3
        noise += signal
        predictions = {
            "logits": noise.astype(np.float16),
            "prediction": noise.argmax(axis=1).astype(np.int16),
            "train_prediction": train_labels.astype(np.uint16),
            "train_margin": np.ones(num_train, np.float16),
            "included": np.packbits(np.ones(num_train, bool)),
        }
        record = {"dataset": "bench", "footprint": {"bytes": {"float32": 4000, "float16": 2000}, **footprint}}
        store.publish(trial, {"predictions": predictions}, record)
