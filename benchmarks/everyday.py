"""What a user waits for every day: the import, the demo, an audit of stored trials."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.row import Row
from remnant.plan import grid
from remnant.schemes import Float16, MagnitudePruning
from remnant.store import Store
from remnant.stored_array import pack_text
from remnant.trial import Recipe


def importing() -> list[Row]:
    """`import remnant` in a fresh process, beside `import numpy`."""
    ours, numpy = _import_seconds("remnant"), _import_seconds("numpy")
    torch_free = _run("import remnant, sys; sys.exit('torch' in sys.modules)") == 0
    return [Row("import remnant", ours, "s", "< 0.3 s, without torch", ours < 0.3 and torch_free, numpy, ours / numpy)]


def demo() -> list[Row]:
    """The whole demo, and the memory of all its processes together."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "-m", "remnant.cli", "demo", "--out", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        memory = 0.0
        while process.poll() is None:
            memory = max(memory, _memory_of_tree(process.pid))
            time.sleep(0.5)
        seconds = time.perf_counter() - start
    done = process.returncode == 0
    return [
        Row("demo, time", seconds, "s", "<= 90 s on 2 cores", done and seconds <= 90),
        Row("demo, memory", memory, "GiB", "<= 2 GiB", done and memory <= 2),
    ]


def audit() -> list[Row]:
    """All analyses on 60 stored trials of 10,000 examples x 10 classes, with the report."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Store(folder))
        code = (
            "import sys, time; start = time.perf_counter()\n"
            "from remnant.cli import main\n"
            f"main(['audit', {folder!r}, '--out', {folder + '/report'!r}, '--json'])\n"
            "print(time.perf_counter() - start, time.process_time(), 'torch' in sys.modules)"
        )
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    seconds, processor, torch_loaded = out.strip().splitlines()[-1].split()
    good = float(seconds) < 5 and torch_loaded == "False"
    return [
        Row("audit 60 x 10,000 x 10", float(seconds), "s", "< 5 s, without torch", good),
        Row("audit 60 x 10,000 x 10, time of all cores", float(processor), "s", "none", True),
    ]


def _fill(store: Store, num_examples: int = 10_000, num_train: int = 10_000) -> None:
    """20 seeds of three schemes whose logits are a common signal and noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_examples) % 10
    signal = rng.normal(0, 0.5, (num_examples, 10))
    signal[np.arange(num_examples), labels] += rng.uniform(0, 6, num_examples)
    examples = {
        "classes": pack_text(map(str, range(10))),
        "test_labels": labels,
        "train_labels": np.arange(num_train) % 10,
        "test_ids": pack_text(f"test-{i}" for i in range(num_examples)),
        "train_ids": pack_text(f"train-{i}" for i in range(num_train)),
    }
    store.publish_dataset("bench", {"examples": examples}, {"name": "simulated"})
    encodings = {"float32": 4000, "float16": 2000, "int8": 1000, "float32 bitmask": 900, "float32 csr": 900}
    footprint = {"parameters": 1000, "nonzeros": 900, "flops": 2000, "effective_flops": 1800, "latency": 1e-6}
    for trial in grid(Recipe("simulated", "mlp"), [MagnitudePruning(0.9), Float16()], range(20)):
        noise = 1.2 if isinstance(trial.scheme, MagnitudePruning) else 1.0
        predictions = {
            "logits": (signal + rng.normal(0, noise, signal.shape)).astype(np.float32),
            "train_prediction": rng.integers(0, 10, num_train).astype(np.uint8),
            "train_margin": rng.normal(size=num_train).astype(np.float16),
            "included": np.packbits(np.ones(num_train, bool)),
        }
        record = {"dataset": "bench", "footprint": {"bytes": encodings, **footprint}}
        store.publish(trial, {"predictions": predictions}, record)


def _memory_of_tree(pid: int) -> float:
    """Memory of a process and its children in GiB; pages that they share count once (Linux: Pss)."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 2**20
        return own + sum(_memory_of_tree(int(child)) for child in children.read_text().split())
    except (OSError, ProcessLookupError):
        return 0.0


def _import_seconds(module: str) -> float:
    code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    return statistics.median(float(run.stdout) for run in runs)


def _run(code: str) -> int:
    return subprocess.run([sys.executable, "-c", code], check=False).returncode
